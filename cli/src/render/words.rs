//! The words for states, the same in tables, lines and JSON.

pub(crate) use gantry_proto::words::{job_state, on_failure, outcome, undo};
use gantry_proto::{
    UndoState,
    v1::{CancelStage, Job},
    view::StepState,
};

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

/// What an undo state means, for people.
pub(crate) fn undo_sentence(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Nothing => "there was nothing to undo",
        UndoState::RolledBack => "everything that the job had made is removed (a complete ISO image stays, for reuse)",
        UndoState::RollbackIncomplete => "something could not be removed and is left over",
        UndoState::Kept => "what the job had made is kept, as asked for",
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
