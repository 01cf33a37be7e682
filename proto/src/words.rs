//! The words for states, the same in tables, lines, JSON and web pages.

use crate::{
    JobOutcome, UndoState,
    v1::{CancelStage, JobState, OnFailure, StepFate},
};

/// The state of a job.
pub fn job_state(state: JobState) -> &'static str {
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

/// How far a cancel has come; `None`: nobody has asked.
pub fn cancel_stage(stage: CancelStage) -> Option<&'static str> {
    match stage {
        CancelStage::Unspecified => None,
        CancelStage::Requested => Some("requested"),
        CancelStage::Delivered => Some("delivered"),
        CancelStage::Stopped => Some("stopped"),
        CancelStage::Undone => Some("undone"),
        CancelStage::TooLate => Some("too_late"),
    }
}

/// How a job ended.
pub fn outcome(outcome: JobOutcome) -> &'static str {
    match outcome {
        JobOutcome::Succeeded => "succeeded",
        JobOutcome::Failed => "failed",
        JobOutcome::Cancelled => "cancelled",
    }
}

/// What became of what a job had made.
pub fn undo(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Nothing => "nothing",
        UndoState::RolledBack => "rolled_back",
        UndoState::RollbackIncomplete => "rollback_incomplete",
        UndoState::Kept => "kept",
    }
}

/// What happens to what a failed job has made.
pub fn on_failure(policy: OnFailure) -> &'static str {
    match policy {
        OnFailure::Unspecified => "default",
        OnFailure::Undo => "undo",
        OnFailure::Keep => "keep",
    }
}

/// What a retry makes of a step.
pub fn step_fate(fate: StepFate) -> &'static str {
    match fate {
        StepFate::Unspecified => "unknown",
        StepFate::Kept => "kept",
        StepFate::Redone => "redone",
        StepFate::Blocked => "blocked",
    }
}
