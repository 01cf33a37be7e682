//! The words for states, the same in tables, lines and JSON.

use gantry_proto::{
    JobOutcome, UndoState,
    v1::{CancelStage, Job, JobState, OnFailure},
    view::StepState,
};

pub(crate) fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unknown",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::NeedsOperator => "needs_operator",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

pub(crate) fn cancel_stage(stage: CancelStage) -> Option<&'static str> {
    match stage {
        CancelStage::Unspecified => None,
        CancelStage::Requested => Some("requested"),
        CancelStage::Delivered => Some("delivered"),
        CancelStage::Stopped => Some("stopped"),
        CancelStage::Undone => Some("undone"),
        CancelStage::TooLate => Some("too_late"),
    }
}

/// What a cancel stage means, for people.
pub(crate) fn cancel_sentence(stage: CancelStage) -> Option<&'static str> {
    match stage {
        CancelStage::Unspecified => None,
        CancelStage::Requested => Some("asked for; the agent has not got it yet"),
        CancelStage::Delivered => Some("the agent has it; the job stops at its next safe point"),
        CancelStage::Stopped => Some("no step is running any more"),
        CancelStage::Undone => Some("done; what the job had made is removed, or listed as left over"),
        CancelStage::TooLate => Some("too late; the job had ended before"),
    }
}

/// Where a job is on its way to, for people.
pub(crate) fn moving_sentence(job: &Job) -> Option<String> {
    let (from, to) = (&job.agent_id, &job.moving_to);
    (!to.is_empty()).then(|| format!("agent {to}, as soon as agent {from} has let go of the job"))
}

pub(crate) fn outcome(outcome: JobOutcome) -> &'static str {
    match outcome {
        JobOutcome::Succeeded => "succeeded",
        JobOutcome::Failed => "failed",
        JobOutcome::Cancelled => "cancelled",
    }
}

pub(crate) fn undo(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Nothing => "nothing",
        UndoState::RolledBack => "rolled_back",
        UndoState::RollbackIncomplete => "rollback_incomplete",
        UndoState::Kept => "kept",
    }
}

/// What an undo state means, for people.
pub(crate) fn undo_sentence(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Nothing => "there was nothing to undo",
        UndoState::RolledBack => "everything that the job had made is removed (a complete ISO image stays, for reuse)",
        UndoState::RollbackIncomplete => "something could not be removed and is left over",
        UndoState::Kept => "what the job had made is kept, as asked for",
    }
}

pub(crate) fn on_failure(policy: OnFailure) -> &'static str {
    match policy {
        OnFailure::Unspecified => "default",
        OnFailure::Undo => "undo",
        OnFailure::Keep => "keep",
    }
}

pub(crate) fn step_state(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => "waiting",
        StepState::Running => "running",
        StepState::Retrying => "will retry",
        StepState::Done => "done",
        StepState::Failed => "failed",
        StepState::Undoing => "undoing",
        StepState::Undone => "undone",
        StepState::UndoFailed => "undo failed",
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
