//! Where the time of an upload went, by slot: a lane in which one chunk after the other is sent.

use std::{
    collections::BTreeMap,
    ops::AddAssign,
    time::{Duration, Instant},
};

/// Where time went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Reading the file.
    pub disk: Duration,
    /// Hashing what was read.
    pub hashing: Duration,
    /// Nothing to do: no chunk, no session, a limit, a pause, the time between two attempts.
    pub waiting: Duration,
    /// Connecting, TLS, and handing bytes to the system.
    pub network: Duration,
    /// From the last byte to the answer.
    pub server: Duration,
}

impl Times {
    /// All of it.
    pub fn sum(&self) -> Duration {
        self.disk + self.hashing + self.waiting + self.network + self.server
    }

    /// Seconds by kind, for results.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        let kinds = [
            ("disk_s", self.disk),
            ("hashing_s", self.hashing),
            ("waiting_s", self.waiting),
            ("network_s", self.network),
            ("server_s", self.server),
        ];
        let rounded = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
        kinds.into_iter().map(|(kind, time)| (kind.to_owned(), rounded(time))).collect()
    }
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        self.disk += other.disk;
        self.hashing += other.hashing;
        self.waiting += other.waiting;
        self.network += other.network;
        self.server += other.server;
    }
}

/// A clock that gives each stretch of time to one of the kinds.
#[derive(Debug)]
pub(super) struct Laps {
    last: Instant,
    pub(super) times: Times,
}

impl Laps {
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), times: Times::default() }
    }

    /// The time since the last lap was of this kind; gives it.
    pub(super) fn lap(&mut self, kind: impl FnOnce(&mut Times) -> &mut Duration) -> Duration {
        let now = Instant::now();
        let lap = now.duration_since(self.last);
        *kind(&mut self.times) += lap;
        self.last = now;
        lap
    }
}
