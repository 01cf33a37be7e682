//! The deployment, readable in one screen. The executor, the progress view and the tests read this table.

use crate::step::Step;

/// A table of steps, in the order in which they are walked.
pub type Pipeline = &'static [&'static dyn Step];

/// The deployment of a CloudTower (`flow.md` 3).
pub const PIPELINE: Pipeline = &[];
