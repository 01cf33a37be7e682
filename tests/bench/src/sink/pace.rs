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
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            *due = (*due).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
            *due
        };
        if due > Instant::now() + BURST {
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_connections_share_one_pace() {
        let pace = Pace::new(1_000_000.0);
        let begin = Instant::now();
        let send = || async {
            for _ in 0..100 {
                pace.wait(10_000).await;
            }
        };
        tokio::join!(send(), send());
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(1_980) && took < Duration::from_millis(2_020), "{took:?}");
    }
}
