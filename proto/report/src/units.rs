//! Numbers for people: binary sizes, durations, times. Times are UTC, so that all sites mean the same.

use jiff::Timestamp;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `7.4 GiB`.
pub fn bytes(count: u64) -> String {
    let (value, unit) = scaled(count as f64);
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `3.1/7.4 GiB`: both in the unit of the larger.
pub fn part_of(done: u64, total: u64) -> String {
    let (value, unit) = scaled(total as f64);
    if unit == 0 {
        return format!("{done}/{total} B");
    }
    format!("{:.1}/{value:.1} {}", done as f64 / 1024_f64.powi(unit as i32), UNITS[unit])
}

/// `38.2 MiB/s`.
pub fn speed(per_second: f64) -> String {
    let (value, unit) = scaled(per_second.max(0.0));
    format!("{value:.1} {}/s", UNITS[unit])
}

/// `0.4 s`, `52 s`, `1m 52s`, `2h 05m`, `3d 4h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// An estimate, no more exact than it can be: `40 s`, `23 min`, `2h 05m`.
pub fn about(seconds: f64) -> String {
    match seconds {
        0.0..90.0 => format!("{} s", (seconds / 10.0).ceil() * 10.0),
        90.0..3_600.0 => format!("{} min", (seconds / 60.0).round()),
        _ => duration(seconds),
    }
}

/// From one time to another; a clock that goes backwards gives zero.
pub fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// `2031-01-02T03:04:05Z`.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `03:04:05`.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

/// A time of the wire; 0 means never.
pub fn from_micros(micros: i64) -> Option<Timestamp> {
    if micros <= 0 { None } else { Timestamp::from_microsecond(micros).ok() }
}

fn scaled(mut value: f64) -> (f64, usize) {
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    (value, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1 << 20), bytes(7_952_123_904)],
            ["0 B", "1023 B", "1.0 MiB", "7.4 GiB"]
        );
        assert_eq!(part_of(3 << 30, 7_952_123_904), "3.0/7.4 GiB");
        assert_eq!(part_of(5, 9), "5/9 B");
        assert_eq!(speed(40_055_603.2), "38.2 MiB/s");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn durations_are_as_exact_as_people_need() {
        let all = [0.0, 9.9, 9.97, 59.4, 112.0, 7_500.0, 273_600.0, f64::NAN, -1.0].map(duration);
        assert_eq!([0.0, 41.0, 100.0, 1_409.0, 7_500.0].map(about), ["0 s", "50 s", "2 min", "23 min", "2h 05m"]);
        assert_eq!(all, ["0.0 s", "9.9 s", "10 s", "59 s", "1m 52s", "2h 05m", "3d 4h", "-", "-"]);
    }
}
