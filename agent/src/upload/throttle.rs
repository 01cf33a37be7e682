//! How fast the chunks in flight may go together: a limit in bytes a second, or not at all. Shared by threads.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

/// How soon a waiting thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);
/// So much may be caught up on after a pause of the line.
const BURST: Duration = Duration::from_millis(50);

/// One for an upload.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Nothing to wait for: the usual case costs no lock.
    free: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Bytes a second.
    limit: Option<u64>,
    frozen: bool,
    /// When the next bytes may go.
    next: Instant,
}

impl Throttle {
    /// Without any limit.
    pub(super) fn new() -> Self {
        let state = State { limit: None, frozen: false, next: Instant::now() };
        Self { free: AtomicBool::new(true), state: Mutex::new(state), changed: Condvar::new() }
    }

    /// From now on so many bytes a second; `frozen`: none at all.
    pub(super) fn set(&self, limit: Option<u64>, frozen: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if (state.limit, state.frozen) == (limit, frozen) {
            return;
        }
        (state.limit, state.frozen, state.next) = (limit, frozen, Instant::now());
        self.free.store(limit.is_none() && !frozen, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits until so many bytes may go, or `stop`. Whether it had to wait.
    pub(super) fn take(&self, bytes: usize, stop: &CancellationToken) -> bool {
        if self.free.load(Ordering::Acquire) {
            return false;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waited = false;
        while !stop.is_cancelled() {
            let now = Instant::now();
            let wait = match (state.frozen, state.limit) {
                (true, _) => TICK,
                (false, None) => return waited,
                (false, Some(limit)) => {
                    let from = state.next.max(now.checked_sub(BURST).unwrap_or(now));
                    let wait = from.saturating_duration_since(now);
                    if wait.is_zero() {
                        state.next = from + Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64);
                        return waited;
                    }
                    wait.min(TICK)
                }
            };
            waited = true;
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn bytes_go_at_the_limit_whoever_sends_them() {
        let (throttle, stop) = (Arc::new(Throttle::new()), CancellationToken::new());
        assert!(!throttle.take(1 << 40, &stop), "no limit, no wait");
        throttle.set(Some(1 << 20), false);
        let begin = Instant::now();
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let (throttle, stop) = (throttle.clone(), stop.clone());
                thread::spawn(move || {
                    (0..8).for_each(|_| {
                        throttle.take(16 << 10, &stop);
                    })
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        // 512 KiB at 1 MiB/s: at least the half of a second, but for the burst and the last piece.
        assert!(begin.elapsed() >= Duration::from_millis(420), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_frozen_sender_goes_on_when_it_may_and_ends_when_it_must() {
        let (throttle, stop) = (Arc::new(Throttle::new()), CancellationToken::new());
        throttle.set(None, true);
        let waiting = || {
            let (throttle, stop) = (throttle.clone(), stop.clone());
            thread::spawn(move || throttle.take(1, &stop))
        };
        let first = waiting();
        throttle.set(None, false);
        first.join().unwrap();
        throttle.set(None, true);
        let second = waiting();
        stop.cancel();
        second.join().unwrap();
    }
}
