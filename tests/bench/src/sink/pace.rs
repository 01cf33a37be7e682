//! A limit on what comes in, over all connections together.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How much may come at once before anybody waits.
const BURST: Duration = Duration::from_millis(5);

/// Bytes in a second, shared by all.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_s: f64,
    /// When everything so far would have come in at this pace.
    due: Mutex<Instant>,
}

impl Pace {
    /// `bytes_per_s` must be above 0.
    pub(super) fn new(bytes_per_s: f64) -> Self {
        Self { bytes_per_s, due: Mutex::new(Instant::now()) }
    }

    /// Waits until these bytes may have come.
    pub(super) async fn wait(&self, bytes: usize) {
        let now = Instant::now();
        let due = self.book(now, bytes);
        if due > now + BURST {
            sleep_until(due).await;
        }
    }

    /// When these bytes, which came now, may have come.
    fn book(&self, now: Instant, bytes: usize) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(now) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        *due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_share_one_pace_and_a_pause_is_not_made_up_for() {
        let pace = Pace::new(1_000_000.0);
        let begin = Instant::now();
        let after = |pause: u64, due: Instant| (due - begin - Duration::from_millis(pause)).as_millis();
        for n in 1..=100 {
            assert!((10 * n..=10 * n + 1).contains(&after(0, pace.book(begin, 10_000))), "{n}");
        }
        let later = begin + Duration::from_secs(60);
        assert_eq!(after(60_000, pace.book(later, 10_000)), 10);
    }
}
