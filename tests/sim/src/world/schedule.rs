//! What will happen when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Things that may be scheduled at a time; the earliest are kept.
const MAX_EFFECTS: usize = 100_000;

/// Something that happens to the world by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing.
    None,
}

/// Effects by virtual time since the start; equal times in the order they were put in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Schedule(Vec<(Duration, Effect)>);

impl Schedule {
    /// Plans an effect.
    pub fn put(&mut self, at: Duration, effect: Effect) {
        let place = self.0.partition_point(|(when, _)| *when <= at);
        self.0.insert(place, (at, effect));
        self.0.truncate(MAX_EFFECTS);
    }

    /// Takes the earliest effect that is due.
    pub fn due(&mut self, now: Duration) -> Option<(Duration, Effect)> {
        (self.next_at()? <= now).then(|| self.0.remove(0))
    }

    /// When the next effect is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }
}
