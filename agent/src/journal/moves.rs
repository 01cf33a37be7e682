//! What a journal holds of a job that goes to another agent, or comes from one.

use std::collections::BTreeMap;

use gantry_proto::{AgentId, TakenOver};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OpenIntent;

/// The order to let go of a job. The newest one holds, until it has been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurrenderRecord {
    /// The order's number.
    pub order: u64,
    /// The epoch for which it holds.
    pub epoch: u32,
    /// Who moves the job.
    pub by: String,
    /// The agent that gets it.
    pub to: AgentId,
}

/// What the controller's log says of a job that another agent had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// From whom, and who moved it.
    pub from: TakenOver,
    /// The last event of the epochs before.
    pub last_seq: u64,
    /// The highest number of an intent so far.
    pub last_intent: u64,
    /// What the job has found or made so far, by key.
    pub facts: BTreeMap<String, Value>,
    /// Intents without outcome, by number.
    pub open_intents: BTreeMap<u64, OpenIntent>,
}
