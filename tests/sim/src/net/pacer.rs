//! A speed limit in virtual time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Lets bytes pass at a limited speed; shared by whoever shares the line.
#[derive(Debug)]
pub struct Pacer {
    bytes_per_s: u64,
    free_at: Mutex<Duration>,
}

impl Pacer {
    /// Bytes per virtual second; 0 = unlimited.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, free_at: Mutex::default() }
    }

    /// Waits until the line has carried `bytes` more.
    pub async fn pass(&self, clock: &Clock, bytes: usize) {
        if self.bytes_per_s == 0 {
            return;
        }
        clock.sleep_until(self.reserve(clock.elapsed(), bytes)).await;
    }

    #[expect(clippy::cast_precision_loss, reason = "a speed need not be exact to the byte")]
    fn reserve(&self, now: Duration, bytes: usize) -> Duration {
        let takes = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_s as f64).unwrap_or(Duration::ZERO);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = free_at.max(now).saturating_add(takes);
        *free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_busy_as_long_as_the_bytes_take() {
        let pacer = Pacer::new(1000);
        assert_eq!(pacer.reserve(Duration::from_secs(1), 500), Duration::from_millis(1500));
        assert_eq!(pacer.reserve(Duration::from_secs(1), 500), Duration::from_secs(2));
        assert_eq!(pacer.reserve(Duration::from_secs(9), 1000), Duration::from_secs(10));
    }
}
