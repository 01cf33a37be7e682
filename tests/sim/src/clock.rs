//! The one virtual clock: every delay and every timestamp of the simulated world comes from here.
//! Knows nothing of what waits on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// Virtual time. Runs `scale` times as fast as the wall clock, or stands still until [`Clock::advance`] (manual mode).
///
/// Moments are given as the virtual time since the start of the simulation ([`Clock::elapsed`]); [`Clock::now`] is the
/// same moment as a UTC timestamp. Clones share the clock.
#[derive(Clone, Debug)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Timestamp,
    pace: Mutex<Pace>,
    changed: watch::Sender<u64>,
}

/// The virtual time at one wall moment, and how it goes on from there.
#[derive(Clone, Copy, Debug)]
struct Pace {
    wall: Instant,
    elapsed: Duration,
    scale: f64,
    manual: bool,
}

/// The slowest and the fastest pace that [`Clock::set_scale`] accepts.
const SCALE_RANGE: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

impl Clock {
    /// A clock that shows `start` now. `scale` is clamped to 0.001..=1 000 000.
    #[must_use]
    pub fn new(start: Timestamp, scale: f64, manual: bool) -> Self {
        let pace = Pace { wall: Instant::now(), elapsed: Duration::ZERO, scale: clamped(scale), manual };
        Self { shared: Arc::new(Shared { start, pace: Mutex::new(pace), changed: watch::Sender::new(0) }) }
    }

    /// The virtual time since the simulation started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.pace().elapsed_now()
    }

    /// The virtual moment as a UTC timestamp.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(self.elapsed())
    }

    /// The UTC timestamp of a moment given as virtual time since the start.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Timestamp {
        let since = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        self.shared.start.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    /// Virtual seconds per wall second.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.pace().scale
    }

    /// Whether time stands still until [`Clock::advance`].
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.pace().manual
    }

    /// Goes on at another pace (clamped to 0.001..=1 000 000).
    pub fn set_scale(&self, scale: f64) {
        self.change(|pace| pace.scale = clamped(scale));
    }

    /// Stops (`true`) or starts (`false`) the automatic flow of time.
    pub fn set_manual(&self, manual: bool) {
        self.change(|pace| pace.manual = manual);
    }

    /// Jumps forward by a virtual duration, in either mode.
    pub fn advance(&self, by: Duration) {
        self.change(|pace| pace.elapsed = pace.elapsed.saturating_add(by));
    }

    /// Waits for a virtual duration.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.elapsed().saturating_add(duration)).await;
    }

    /// Waits until the virtual time since the start has reached `moment`.
    pub async fn sleep_until(&self, moment: Duration) {
        let mut changed = self.shared.changed.subscribe();
        loop {
            let pace = self.pace();
            let Some(left) = moment.checked_sub(pace.elapsed_now()).filter(|left| !left.is_zero()) else { return };
            let wall = Duration::try_from_secs_f64(left.as_secs_f64() / pace.scale).unwrap_or(Duration::MAX);
            tokio::select! {
                () = tokio::time::sleep(wall), if !pace.manual => {}
                // The sender lives in `self`, so this cannot fail; if it did, there would be nobody to change the pace.
                _ = changed.changed() => {}
            }
        }
    }

    /// A request's own latency: [`Clock::sleep`], but nothing in manual mode, where no request could ever be answered.
    pub async fn latency(&self, duration: Duration) {
        if !self.is_manual() {
            self.sleep(duration).await;
        }
    }

    /// A receiver that is notified whenever the pace changes or time jumps.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn pace(&self) -> Pace {
        *self.shared.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, edit: impl FnOnce(&mut Pace)) {
        {
            let mut pace = self.shared.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.elapsed = pace.elapsed_now();
            pace.wall = Instant::now();
            edit(&mut pace);
        }
        self.shared.changed.send_modify(|count| *count += 1);
    }
}

impl Pace {
    fn elapsed_now(&self) -> Duration {
        if self.manual {
            return self.elapsed;
        }
        let run = self.wall.elapsed().as_secs_f64() * self.scale;
        self.elapsed.saturating_add(Duration::try_from_secs_f64(run).unwrap_or(Duration::ZERO))
    }
}

fn clamped(scale: f64) -> f64 {
    if scale.is_finite() { scale.clamp(*SCALE_RANGE.start(), *SCALE_RANGE.end()) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_time_moves_only_by_advance() {
        let clock = Clock::new(Timestamp::UNIX_EPOCH, 1.0, true);
        let sleeper = clock.sleep(Duration::from_secs(3600));
        tokio::pin!(sleeper);
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_secs(3599));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now().as_second(), 3600);
    }

    #[tokio::test]
    async fn a_fast_clock_sleeps_short() {
        let clock = Clock::new(Timestamp::UNIX_EPOCH, 100_000.0, false);
        let wall = Instant::now();
        clock.sleep(Duration::from_secs(600)).await;
        assert!(wall.elapsed() < Duration::from_secs(5));
        assert!(clock.elapsed() >= Duration::from_secs(600));
    }

    #[test]
    fn nonsense_scales_are_refused() {
        for scale in [f64::NAN, f64::INFINITY, -3.0, 0.0] {
            assert!(SCALE_RANGE.contains(&Clock::new(Timestamp::UNIX_EPOCH, scale, false).scale()));
        }
    }
}
