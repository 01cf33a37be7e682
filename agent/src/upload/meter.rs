//! Speed and remaining time of an upload, and the progress fields of `flow.md` 8.2. Pure: time is given to it.

use std::{collections::VecDeque, time::Duration};

use gantry_proto::event::Extra;
use serde_json::{Value, json};

/// Over how long the speed is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// Marks within the window, at most.
const MOST_MARKS: usize = 64;
/// Before so much time has passed there is no speed.
const LEAST: Duration = Duration::from_millis(200);

/// What an upload has done so far.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Time and bytes moved, oldest first.
    marks: VecDeque<(Duration, u64)>,
}

/// How far a volume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Acknowledged chunks, and how many there are.
    pub chunks: u64,
    pub total_chunks: u64,
    /// Acknowledged bytes, and how many there are.
    pub bytes: u64,
    pub total_bytes: u64,
}

impl Meter {
    /// Notes how many bytes had moved at a time since the start.
    pub fn mark(&mut self, at: Duration, moved: u64) {
        let too_close =
            self.marks.iter().rev().nth(1).is_some_and(|(before, _)| at - *before < WINDOW / MOST_MARKS as u32);
        if too_close {
            self.marks.pop_back();
        }
        self.marks.push_back((at, moved));
        while self.marks.len() > 2 && self.marks.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= WINDOW)
        {
            self.marks.pop_front();
        }
        while self.marks.len() > MOST_MARKS * 2 {
            self.marks.pop_front();
        }
    }

    /// Bytes per second over about the last ten seconds; 0 until measured, always finite.
    pub fn speed(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.marks.front(), self.marks.back()) else { return 0.0 };
        let span = to.saturating_sub(*from);
        if span < LEAST { 0.0 } else { after.saturating_sub(*before) as f64 / span.as_secs_f64() }
    }

    /// The progress fields of `flow.md` 8.2. `speed_bps` is bytes per second in spite of its name (C53).
    pub fn fields(&self, position: Position) -> Extra {
        let Position { chunks, total_chunks, bytes, total_bytes } = position;
        let speed = self.speed();
        let eta = (speed > 0.0).then(|| total_bytes.saturating_sub(bytes) as f64 / speed).map(f64::ceil);
        let percent = percent(bytes, total_bytes);
        let fields = json!({
            "chunk": chunks,
            "total_chunks": total_chunks,
            "remaining_chunks": total_chunks.saturating_sub(chunks),
            "uploaded_bytes": bytes,
            "total_bytes": total_bytes,
            "uploaded_human": human(bytes as f64),
            "total_human": human(total_bytes as f64),
            "progress_percent": percent,
            "percentage": self::percent(chunks, total_chunks),
            "speed_bps": speed.round(),
            "speed_human": format!("{}/s", human(speed)),
            "eta_seconds": eta,
            "eta": eta.map(clock),
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Extra::new(),
        }
    }
}

/// Percent with two decimals, rounded down: 100 only when complete.
fn percent(done: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let hundredths = u128::from(done.min(total)) * 10_000 / u128::from(total);
    hundredths as f64 / 100.0
}

/// Bytes in binary units.
pub(crate) fn human(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes.max(0.0);
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

/// Seconds as `h:mm:ss`.
fn clock(seconds: f64) -> String {
    let all = seconds.clamp(0.0, 359_999.0) as u64;
    format!("{}:{:02}:{:02}", all / 3600, all / 60 % 60, all % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn the_speed_is_that_of_the_last_ten_seconds() {
        let mut meter = Meter::default();
        assert_eq!(meter.speed(), 0.0);
        for tenth in 0..=600 {
            meter.mark(seconds(f64::from(tenth) / 10.0), u64::try_from(tenth).unwrap() * 1000);
        }
        assert!((meter.speed() - 10_000.0).abs() < 1.0, "{}", meter.speed());
        for tenth in 601..=750 {
            meter.mark(seconds(f64::from(tenth) / 10.0), 600_000);
        }
        assert_eq!(meter.speed(), 0.0);
        assert!(meter.marks.len() <= MOST_MARKS * 2);
    }

    #[test]
    fn marks_at_the_same_moment_do_not_divide_by_zero() {
        let mut meter = Meter::default();
        meter.mark(seconds(0.0), 0);
        meter.mark(seconds(0.0), 1 << 30);
        assert_eq!(meter.speed(), 0.0);
    }

    #[test]
    fn fields_are_honest_before_and_after() {
        let meter = Meter::default();
        let fields = meter.fields(Position { chunks: 0, total_chunks: 3, bytes: 0, total_bytes: 5000 });
        assert_eq!(
            (&fields["speed_bps"], &fields["eta_seconds"], &fields["eta"]),
            (&json!(0.0), &json!(null), &json!(null))
        );
        let fields = meter.fields(Position { chunks: 3, total_chunks: 3, bytes: 5000, total_bytes: 5000 });
        assert_eq!(
            (&fields["progress_percent"], &fields["percentage"], &fields["remaining_chunks"]),
            (&json!(100.0), &json!(100.0), &json!(0))
        );
    }

    #[test]
    fn only_the_whole_is_a_hundred_percent() {
        assert_eq!(percent(99_999_999, 100_000_000), 99.99);
        assert_eq!(percent(1, 3), 33.33);
        assert_eq!(percent(0, 0), 0.0);
        assert_eq!(percent(u64::MAX, u64::MAX), 100.0);
    }

    #[test]
    fn sizes_and_times_for_people() {
        assert_eq!(human(7_952_123_904.0), "7.41 GiB");
        assert_eq!(human(5.0), "5 B");
        assert_eq!(clock(3_725.0), "1:02:05");
    }

    #[test]
    fn the_remaining_time_follows_the_speed() {
        let mut meter = Meter::default();
        meter.mark(seconds(0.0), 0);
        meter.mark(seconds(2.0), 2000);
        let fields = meter.fields(Position { chunks: 1, total_chunks: 4, bytes: 1000, total_bytes: 4000 });
        assert_eq!(
            (&fields["speed_bps"], &fields["eta_seconds"], &fields["eta"]),
            (&json!(1000.0), &json!(3.0), &json!("0:00:03"))
        );
    }
}
