//! The deployment, readable in one screen. The executor, the progress view and the tests read this table.

use crate::{
    step::Step,
    steps::{
        configure_services::ConfigureServices, finish::Finish, initial_setup::InitialSetup, install::Install,
        verify_https::VerifyHttps,
    },
};

/// A table of steps, in the order in which they are walked.
pub type Pipeline = &'static [&'static dyn Step];

/// The deployment of a CloudTower (`flow.md` 3).
pub const PIPELINE: Pipeline = &[&Install, &VerifyHttps, &InitialSetup, &ConfigureServices, &Finish];
