//! When to dial again after a session: full jitter below a ceiling that doubles, on top of what the controller asked for.
//! Pure: the jitter is handed in.

use std::time::Duration;

use crate::config;

/// How long the agent waits between sessions.
pub(super) struct Backoff {
    first: Duration,
    cap: Duration,
    healthy: Duration,
    asked_cap: Duration,
    /// Sessions since the last healthy one.
    tries: u32,
}

impl Backoff {
    pub(super) fn new(settings: &config::Link) -> Self {
        let ms = Duration::from_millis;
        Self {
            first: ms(settings.retry_first_ms.max(1)),
            cap: ms(settings.retry_cap_ms),
            healthy: ms(settings.healthy_ms),
            asked_cap: ms(settings.goodbye_cap_ms),
            tries: 0,
        }
    }

    /// The wait after a session that was live for so long (`None`: it never was). The controller's delay is a least
    /// wait; the jitter, which makes anything between nothing and its argument, comes on top.
    pub(super) fn after(
        &mut self,
        live: Option<Duration>,
        asked: Duration,
        jitter: impl FnOnce(Duration) -> Duration,
    ) -> Duration {
        if live.is_some_and(|live| live >= self.healthy) {
            self.tries = 0;
        }
        let ceiling = self.first.saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        asked.min(self.asked_cap) + jitter(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use tokio_retry::strategy::jitter;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn backoff() -> Backoff {
        Backoff::new(&config::Link::default())
    }

    #[test]
    fn the_ceiling_doubles_from_the_first_to_the_cap_and_stays_there() {
        let mut backoff = backoff();
        let ceilings: Vec<_> = (0..8).map(|_| backoff.after(None, Duration::ZERO, |most| most).as_millis()).collect();
        assert_eq!(ceilings, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        // A line that was down for a year.
        (0..1_000_000).for_each(|_| assert!(backoff.after(None, Duration::ZERO, |most| most) == MS(30_000)));
    }

    #[test]
    fn the_jitter_is_full_anything_from_nothing_to_the_ceiling_and_evenly() {
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let mut backoff = Backoff { tries: 20, ..backoff() };
            let wait = backoff.after(None, Duration::ZERO, jitter);
            assert!(wait < MS(30_000), "{wait:?}");
            tenths[usize::try_from(wait.as_millis() / 3_000).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1_200).contains(count)), "{tenths:?}");
    }

    #[test]
    fn what_the_controller_asks_for_is_the_least_and_has_a_bound() {
        assert_eq!(backoff().after(None, MS(7_000), |_| Duration::ZERO), MS(7_000));
        assert_eq!(backoff().after(None, MS(7_000), |most| most), MS(7_500));
        assert_eq!(backoff().after(None, MS(u64::MAX / 2), |_| Duration::ZERO), MS(300_000));
    }

    #[test]
    fn only_a_session_that_was_live_for_long_makes_the_waits_short_again() {
        let mut backoff = backoff();
        let wait = |backoff: &mut Backoff, live| backoff.after(live, Duration::ZERO, |most| most);
        (0..10).for_each(|_| assert!(wait(&mut backoff, None) > Duration::ZERO));
        assert_eq!(wait(&mut backoff, Some(MS(59_999))), MS(30_000));
        assert_eq!(wait(&mut backoff, Some(MS(60_000))), MS(500));
    }
}
