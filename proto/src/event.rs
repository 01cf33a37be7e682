//! What a job tells. [`Event`] is numbered, journaled and never lost; [`Sample`] is the newest progress and may be.
//!
//! The JSON form (serde) is what the journal, the stage log and `ctl -o ndjson` hold; `wire.rs` turns it into
//! `gantry.v1` and back. No event holds a secret: the journal redacts each one before it is written.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentId, JobId, StepId};

/// Details for programs.
pub type Extra = Map<String, Value>;

/// One numbered event of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the job's log: from 1, without gaps, over all epochs.
    pub seq: u64,
    /// The epoch in which it happened.
    pub epoch: u32,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Body {
    /// The first event of an epoch.
    JobStarted {
        agent: AgentId,
        agent_version: String,
        steps: Vec<StepInfo>,
        /// Steps that were done in an earlier epoch and are not done again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<StepId>,
        /// The job comes from another agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        taken_over: Option<TakenOver>,
    },
    /// A step begins, or begins again; `attempt` counts from 1.
    StepStarted { step: StepId, attempt: u32 },
    /// A step is done.
    StepSucceeded { step: StepId, elapsed_ms: u64 },
    /// An attempt failed.
    StepFailed { step: StepId, attempt: u32, failure: Failure, will_retry: bool },
    /// Something worth telling: a check, a warning, a retry, a change of state.
    Note { step: Option<StepId>, level: Level, code: String, message: String, extra: Extra },
    /// A call that changes the outside world is about to be made.
    Intent { step: StepId, id: u64, call: String, detail: Extra },
    /// What became of an intent.
    IntentOutcome { step: StepId, intent: u64, result: IntentResult, detail: Extra },
    /// Something the job found or made; `None`: it no longer holds.
    Fact { step: StepId, key: String, value: Option<Value> },
    /// The agent has taken up a cancel.
    CancelAccepted { by: String, reason: String },
    /// The job is held at a safe point.
    Paused { by: String, reason: String },
    /// The job goes on.
    Resumed { by: String },
    /// The job cannot decide by itself: it waits for an operator.
    OperatorNeeded { step: StepId, failure: Failure, choices: Vec<Choice> },
    /// An operator has answered the event `question`, and the job goes by it.
    OperatorDecided { question: u64, choice: String, by: String, reason: String },
    /// The agent has let go of the job: its last event of the epoch, after which it touches nothing.
    Surrendered { by: String, to: AgentId },
    /// The effects of a step are about to be removed.
    UndoStarted { step: StepId },
    /// The effects of a step have been removed, or not.
    UndoFinished { step: StepId, failure: Option<Failure>, removed: Vec<String> },
    /// The last event of its epoch, exactly once.
    JobFinished {
        outcome: JobOutcome,
        undo: UndoState,
        failure: Option<Failure>,
        leftovers: Vec<Leftover>,
        result: Value,
    },
    /// From a newer peer: counted and skipped.
    #[serde(other)]
    Unknown,
}

/// One row of the step table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInfo {
    /// Stable id.
    pub id: StepId,
    /// Title for people.
    pub title: String,
    /// Usual seconds: percent and ETA come from it.
    pub weight: u32,
    /// How many times the step is tried in all.
    pub attempts: u32,
}

/// A job that was moved to the agent that tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// The agent that had it.
    pub from: AgentId,
    /// Who moved it.
    pub by: String,
    /// That agent has confirmed that it stopped; false: the operator has vouched that it is off.
    pub confirmed: bool,
}

/// One answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Stable word, such as `look-again`.
    pub id: String,
    /// What follows from it.
    pub text: String,
}

/// Why something failed, told so that a person can act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable word, such as `fisheye_credentials_rejected`.
    pub code: String,
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// What to do; may be empty.
    pub remedy: String,
    /// Details for programs.
    pub detail: Extra,
}

/// How loud a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the engineer.
    Debug,
    /// Normal course.
    Info,
    /// Somebody should look; the job goes on.
    Warning,
    /// Part of a failure.
    Error,
}

/// What is known about an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentResult {
    /// It had its effect.
    Done,
    /// It certainly had no effect.
    Failed,
    /// Only a look-up can tell.
    Unknown,
}

/// Something we made and could not remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// `image`, `vm` or `volume`.
    pub kind: String,
    /// Its id in the outside world; empty when unknown.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What a person does to remove it.
    pub remedy: String,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// Everything done.
    Succeeded,
    /// A step failed for good.
    Failed,
    /// An operator stopped it.
    Cancelled,
}

/// What became of what a failed or cancelled job had made (`flow.md` 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoState {
    /// There was nothing to undo.
    Nothing,
    /// Everything was removed; a complete ISO image stays.
    RolledBack,
    /// Something is left over; it is listed.
    RollbackIncomplete,
    /// Kept by policy.
    Kept,
}

/// The newest progress of a step. A newer one replaces it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The job.
    pub job: JobId,
    /// The step.
    pub step: StepId,
    /// When.
    pub at: Timestamp,
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is in all; 0 when unknown.
    pub total: u64,
    /// `bytes`, `seconds` or `lines`.
    pub unit: String,
    /// Rate in `unit` per second over about the last ten seconds; 0 until measured, always finite.
    pub per_second: f64,
    /// What is going on, one line.
    pub text: String,
    /// Further fields, such as those of `flow.md` 8.2.
    pub extra: Extra,
}

impl Body {
    /// The step that it concerns.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepStarted { step, .. }
            | Self::StepSucceeded { step, .. }
            | Self::StepFailed { step, .. }
            | Self::Intent { step, .. }
            | Self::IntentOutcome { step, .. }
            | Self::Fact { step, .. }
            | Self::OperatorNeeded { step, .. }
            | Self::UndoStarted { step }
            | Self::UndoFinished { step, .. } => Some(step),
            Self::Note { step, .. } => step.as_ref(),
            Self::JobStarted { .. }
            | Self::CancelAccepted { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::OperatorDecided { .. }
            | Self::Surrendered { .. }
            | Self::JobFinished { .. }
            | Self::Unknown => None,
        }
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        match self {
            Self::Note { level, .. } => *level,
            Self::StepFailed { will_retry: true, .. } => Level::Warning,
            Self::StepFailed { .. } | Self::UndoFinished { failure: Some(_), .. } => Level::Error,
            Self::JobFinished { outcome: JobOutcome::Failed, .. } => Level::Error,
            Self::JobFinished { outcome: JobOutcome::Cancelled, .. }
            | Self::CancelAccepted { .. }
            | Self::Paused { .. }
            | Self::OperatorNeeded { .. }
            | Self::OperatorDecided { .. }
            | Self::Surrendered { .. } => Level::Warning,
            Self::Intent { .. } | Self::IntentOutcome { .. } | Self::Fact { .. } | Self::Unknown => Level::Debug,
            _ => Level::Info,
        }
    }
}
