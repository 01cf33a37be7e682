//! Faults: what they match, when they strike, what they do, and the registry that counts them.
//! Applying an action is the business of the face it strikes.

mod action;
mod matcher;
mod registry;

pub use action::{Action, Answer, Cut, Edit, JobFault, WorldAction};
pub use matcher::{Call, ChunkMatch, Face, Match};
pub use registry::{Armed, Faults, Fired};

use serde::{Deserialize, Serialize};

/// One fault: `{id, match, when, times, skip, every, probability, action}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its name, shown in the transcript wherever it fires.
    pub id: String,
    /// Which calls it may strike; every given condition must hold.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// Relative to the effect of the call.
    #[serde(default)]
    pub when: When,
    /// Fires this often, then never again; absent = until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// The first matching calls that pass unharmed.
    #[serde(default)]
    pub skip: u64,
    /// Of the calls after `skip` only every n-th is struck (1st, n+1st, ...).
    #[serde(default)]
    pub every: Option<u64>,
    /// Strikes with this probability, by seed.
    #[serde(default)]
    pub probability: Option<f64>,
    /// What happens.
    pub action: Action,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Instead of the call: it has no effect.
    #[default]
    Before,
    /// The effect happened; the answer is altered or lost.
    After,
    /// Part of the way into the request or the response.
    During,
}

impl Fault {
    /// A fault that strikes every call of `matches`, before its effect.
    #[must_use]
    pub fn new(id: &str, matches: Match, action: Action) -> Self {
        let when = When::default();
        Self { id: id.into(), matches, when, times: None, skip: 0, every: None, probability: None, action }
    }

    /// The same, after the effect.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.when = When::After;
        self
    }

    /// The same, part of the way.
    #[must_use]
    pub fn during(mut self) -> Self {
        self.when = When::During;
        self
    }

    /// The same, this many times only.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, sparing the first matching calls.
    #[must_use]
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// The same, striking every n-th matching call only.
    #[must_use]
    pub fn every(mut self, every: u64) -> Self {
        self.every = Some(every);
        self
    }
}
