//! What has come in: counted as it comes, so that whoever kills a client half way sees where half way is.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::{Deserialize, Serialize};

/// The counters at one moment, as `GET /stats` gives them. Bytes are those of files, without the multipart around them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests of every kind over TLS.
    pub requests: u64,
    /// Chunks that were stored for the first time.
    pub chunks_ok: u64,
    /// Chunks that had been stored before.
    pub chunks_dup: u64,
    /// Chunks that were refused for their form, or cut short.
    pub chunks_bad: u64,
    /// Chunks that were refused because another one was in flight (`--serial`).
    pub chunks_refused: u64,
    /// Bytes that came in: stored, doubled and lost ones.
    pub bytes: u64,
    /// Bytes of bad and refused chunks.
    pub lost_bytes: u64,
    /// Bytes of chunks that had been stored before.
    pub dup_bytes: u64,
    /// Chunks that are being received or answered now.
    pub in_flight: u64,
    /// Most of them at a time.
    pub max_in_flight: u64,
    /// Connections over TLS.
    pub connections: u64,
    /// How many connections agreed on which cipher suite.
    pub suites: BTreeMap<String, u64>,
    /// CPU seconds of the sink itself.
    pub cpu_s: f64,
}

/// The live counters.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) ok: AtomicU64,
    pub(super) bad: AtomicU64,
    pub(super) refused: AtomicU64,
    bytes: AtomicU64,
    dup: AtomicU64,
    lost_bytes: AtomicU64,
    dup_bytes: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    connections: AtomicU64,
    slow: Mutex<Slow>,
}

/// What changes seldom.
#[derive(Debug, Default)]
struct Slow {
    suites: BTreeMap<String, u64>,
    cpu_before_s: f64,
}

/// A chunk in flight, for as long as it lives. Its bytes count as lost until it is said what became of them.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    counters: &'a Counters,
    bytes: u64,
    settled: bool,
}

impl Counters {
    /// Adds one.
    pub(super) fn tick(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// A connection has shaken hands.
    pub(super) fn connected(&self, suite: String) {
        Self::tick(&self.connections);
        *self.slow().suites.entry(suite).or_default() += 1;
    }

    /// A chunk begins; `None` when `serial` and another one is in flight.
    pub(super) fn take_off(&self, serial: bool) -> Option<Flight<'_>> {
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        if serial && now > 1 {
            self.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        self.max_in_flight.fetch_max(now, Relaxed);
        Some(Flight { counters: self, bytes: 0, settled: false })
    }

    /// Bytes came in that nobody wants.
    pub(super) fn wasted(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.lost_bytes.fetch_add(bytes, Relaxed);
    }

    /// Everything but what is in flight begins again at 0.
    pub(super) fn reset(&self) {
        let all = [&self.requests, &self.ok, &self.bad, &self.refused, &self.bytes, &self.dup, &self.lost_bytes];
        for counter in all.into_iter().chain([&self.dup_bytes, &self.max_in_flight, &self.connections]) {
            counter.store(0, Relaxed);
        }
        *self.slow() = Slow { suites: BTreeMap::new(), cpu_before_s: own_cpu_s() };
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        let slow = self.slow();
        Stats {
            requests: value(&self.requests),
            chunks_ok: value(&self.ok),
            chunks_dup: value(&self.dup),
            chunks_bad: value(&self.bad),
            chunks_refused: value(&self.refused),
            bytes: value(&self.bytes),
            lost_bytes: value(&self.lost_bytes),
            dup_bytes: value(&self.dup_bytes),
            in_flight: value(&self.in_flight),
            max_in_flight: value(&self.max_in_flight),
            connections: value(&self.connections),
            suites: slow.suites.clone(),
            cpu_s: (own_cpu_s() - slow.cpu_before_s).max(0.0),
        }
    }

    fn slow(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight<'_> {
    /// Bytes of the file came in.
    pub(super) fn took(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.counters.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The chunk is complete; `first`: it was not stored before.
    pub(super) fn settle(&mut self, first: bool) {
        self.settled = true;
        if first {
            Counters::tick(&self.counters.ok);
        } else {
            Counters::tick(&self.counters.dup);
            self.counters.dup_bytes.fetch_add(self.bytes, Relaxed);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.settled {
            Counters::tick(&self.counters.bad);
            self.counters.lost_bytes.fetch_add(self.bytes, Relaxed);
        }
        self.counters.in_flight.fetch_sub(1, Relaxed);
    }
}

/// CPU seconds of this process; 0 where the kernel does not tell.
fn own_cpu_s() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(0.0, |used| (used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_stored_doubled_or_lost() {
        let counters = Counters::default();
        for (bytes, first) in [(10, Some(true)), (20, Some(false)), (30, None)] {
            let mut flight = counters.take_off(false).unwrap();
            flight.took(bytes);
            if let Some(first) = first {
                flight.settle(first);
            }
        }
        counters.wasted(5);
        let stats = counters.stats();
        assert_eq!((stats.chunks_ok, stats.chunks_dup, stats.chunks_bad), (1, 1, 1));
        assert_eq!((stats.bytes, stats.dup_bytes, stats.lost_bytes), (65, 20, 35));
        counters.reset();
        // The CPU time goes on.
        assert_eq!(Stats { cpu_s: 0.0, ..counters.stats() }, Stats::default());
    }

    #[test]
    fn flights_are_counted_while_they_last_and_a_serial_sink_has_one() {
        let counters = Counters::default();
        let (one, two) = (counters.take_off(false), counters.take_off(false));
        assert_eq!((counters.stats().in_flight, counters.stats().max_in_flight), (2, 2));
        assert!(counters.take_off(true).is_none());
        drop((one, two));
        assert_eq!((counters.stats().in_flight, counters.stats().max_in_flight), (0, 2));
        let alone = counters.take_off(true);
        assert!(alone.is_some() && counters.take_off(true).is_none());
    }
}
