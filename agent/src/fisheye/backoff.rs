//! The waits between attempts. Pure.

use std::time::Duration;

use tokio_retry::strategy::{ExponentialBackoff, jitter};

/// Delays that double from `first` to `cap`, each with jitter over its upper half.
pub(crate) fn backoff(first: Duration, cap: Duration) -> impl Iterator<Item = Duration> {
    let first = u64::try_from(first.as_millis()).unwrap_or(u64::MAX).max(1);
    let doubling = ExponentialBackoff::from_millis(2).factor(first.div_ceil(2)).max_delay(cap);
    doubling.map(|delay| delay / 2 + jitter(delay / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_stay_under_the_cap() {
        let delays: Vec<_> = backoff(Duration::from_secs(1), Duration::from_secs(5)).take(5).collect();
        for (delay, most) in delays.iter().zip([1, 2, 4, 5, 5]) {
            let most = Duration::from_secs(most);
            assert!(*delay >= most / 2 && *delay <= most, "{delay:?} {most:?}");
        }
    }
}
