//! What will happen when.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Phase;

/// Things that may be scheduled at a time; the earliest are kept.
const MAX_EFFECTS: usize = 100_000;

/// Something that happens to the world by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A job leaves the queue.
    JobBegins {
        /// Its id.
        job: String,
    },
    /// A job ends.
    JobEnds {
        /// Its id.
        job: String,
    },
    /// A job's record is dropped.
    JobForgotten {
        /// Its id.
        job: String,
    },
    /// A VM under creation appears in lists.
    VmShows {
        /// The VM.
        vm: String,
    },
    /// A guest enters a phase of its boot.
    GuestPhase {
        /// The VM.
        vm: String,
        /// The boot it was planned in.
        boot: u64,
        /// The phase.
        phase: Phase,
    },
    /// A VM loses power.
    PowerLoss {
        /// The VM.
        vm: String,
        /// The boot it was planned in.
        boot: u64,
    },
    /// The guest agent stops or runs.
    Agent {
        /// The VM.
        vm: String,
        /// The boot it was planned in.
        boot: u64,
        /// Running.
        running: bool,
    },
    /// The guest shows its address.
    GuestShowsAddress {
        /// The VM.
        vm: String,
        /// The boot it was planned in.
        boot: u64,
    },
    /// The MD5 of an image is listed.
    ImageListed {
        /// The image.
        image: String,
    },
    /// An unfinished image is dropped, unless a chunk came meanwhile.
    ImageExpired {
        /// The image.
        image: String,
        /// Its count of stored chunks when this was planned.
        activity: u64,
    },
    /// An address answers again.
    AddressUp {
        /// The address.
        address: IpAddr,
    },
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
