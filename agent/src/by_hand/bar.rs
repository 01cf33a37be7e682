//! How far a long read is, on stderr: one line that is drawn again on a terminal, else a plain line now and then.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use crate::doctor::size;

/// How often the line on a terminal is drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const WRITTEN: Duration = Duration::from_secs(5);
/// Characters of the bar: with the rest of the line they fit into 80 columns.
const WIDTH: u64 = 24;

/// Tells of `read` of `total` bytes while the work is done.
pub(super) async fn watch<T>(total: u64, read: &AtomicU64, work: impl Future<Output = T>) -> T {
    let terminal = io::stderr().is_terminal();
    let (begun, every) = (Instant::now(), if terminal { DRAWN } else { WRITTEN });
    let mut work = std::pin::pin!(work);
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {
                let told = told(read.load(Ordering::Relaxed), total, begun.elapsed());
                let _ = if terminal {
                    write!(io::stderr(), "\r\x1b[K{} {told}", drawn(read.load(Ordering::Relaxed), total))
                } else {
                    writeln!(io::stderr(), "{told}")
                };
            }
        }
    };
    if terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    done
}

fn drawn(done: u64, total: u64) -> String {
    let full = part(done, total, WIDTH);
    (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect()
}

fn told(done: u64, total: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let left = total.saturating_sub(done) as f64 / rate.max(1.0);
    let percent = part(done, total, 100);
    // Nobody waits for longer than some days.
    let left = if done > 0 { format!(", {:.0} s left", left.min(1e6)) } else { String::new() };
    format!("{percent:>3} % of {}, {:.0} MiB/s{left}", size(total), rate / f64::from(1 << 20))
}

/// So much of `whole` as `done` is of `total`.
fn part(done: u64, total: u64, whole: u64) -> u64 {
    let part = u128::from(done.min(total)) * u128::from(whole) / u128::from(total.max(1));
    u64::try_from(part).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        let second = Duration::from_secs(1);
        assert_eq!(told(1 << 30, 4 << 30, second * 2), " 25 % of 4.0 GiB, 512 MiB/s, 6 s left");
        assert_eq!(told(4 << 30, 4 << 30, second), "100 % of 4.0 GiB, 4096 MiB/s, 0 s left");
        assert_eq!(told(0, 4 << 30, second), "  0 % of 4.0 GiB, 0 MiB/s");
        assert_eq!(told(9, 0, second), "  0 % of 0 bytes, 0 MiB/s, 0 s left");
        assert_eq!(drawn(1, 2), "############............");
        let longest = format!("{} {}", drawn(1, 2), told(1, u64::MAX, second));
        assert!(longest.len() < 80, "{longest}");
    }
}
