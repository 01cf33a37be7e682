//! Whether a job has ended, and how: from its events as far as they are known, else from what the controller says of it.

use crate::{
    Failure, JobOutcome, JobView, UndoState, told,
    v1::{self, JobState},
};

/// The end of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub outcome: JobOutcome,
    /// What became of what the job had made.
    pub undo: Option<UndoState>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

impl Ended {
    /// The end, if it has come. A job that was cancelled before it began has no last event, only a state.
    pub fn of(view: &JobView, job: Option<&v1::Job>) -> Option<Self> {
        if !has_ended(view, job) {
            return None;
        }
        Some(Self {
            outcome: view.outcome.or_else(|| job.and_then(told::outcome)).or_else(|| job.and_then(by_state))?,
            undo: view.undo.or_else(|| job.and_then(told::undo)),
            failure: view.failure.clone().or_else(|| Some(job?.failure.clone()?.into())),
        })
    }
}

/// Whether nothing more will happen. The log may end with the last event of an older epoch of a job that was retried, so
/// the log alone does not tell.
pub fn has_ended(view: &JobView, job: Option<&v1::Job>) -> bool {
    let job_ended = job.is_some_and(|job| is_final(job.state()));
    // The end of an older epoch is not the end of a job that was taken up again.
    let newest = job.is_none_or(|job| view.epoch >= job.epoch);
    let log_ended = view.outcome.is_some() && newest;
    match job {
        Some(job) if log_ended => job_ended || view.last_seq >= job.last_seq,
        Some(_) => job_ended,
        None => log_ended,
    }
}

/// Whether a job in this state has ended.
pub fn is_final(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

fn by_state(job: &v1::Job) -> Option<JobOutcome> {
    match job.state() {
        JobState::Succeeded => Some(JobOutcome::Succeeded),
        JobState::Failed => Some(JobOutcome::Failed),
        JobState::Cancelled => Some(JobOutcome::Cancelled),
        _ => None,
    }
}
