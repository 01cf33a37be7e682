//! How fast a job has uploaded so far: a bounded ring of points in memory. It is a comfort for screens that are opened
//! late: no log has it, and it goes with the job's end.

use gantry_proto::v1;

/// Points that are kept; when there are more, every second one goes, so that the curve keeps its whole length.
const KEPT: usize = 300;
/// How far apart the first points are, microseconds. Each thinning doubles it.
const APART: i64 = 1_000_000;
/// The unit of a sample that tells an upload.
const BYTES: &str = "bytes";

/// A point: when, microseconds since 1970-01-01 UTC, and bytes a second.
pub type Speed = (i64, f64);

/// The points of one job.
#[derive(Clone, Debug)]
pub(super) struct Speeds {
    points: Vec<Speed>,
    apart: i64,
}

impl Default for Speeds {
    fn default() -> Self {
        Self { points: Vec::new(), apart: APART }
    }
}

impl Speeds {
    /// Takes in a sample, unless it tells no speed or comes too soon behind the last point.
    pub(super) fn take(&mut self, sample: &v1::Sample) {
        if sample.unit != BYTES || !sample.per_second.is_finite() {
            return;
        }
        let point = (sample.at_micros, sample.per_second.max(0.0));
        if self.points.last().is_some_and(|last| point.0.saturating_sub(last.0) < self.apart) {
            return;
        }
        self.points.push(point);
        if self.points.len() > KEPT {
            let mut number = 0;
            self.points.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.apart = self.apart.saturating_mul(2);
        }
    }

    /// All of them, oldest first.
    pub(super) fn points(&self) -> Vec<Speed> {
        self.points.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, unit: &str, per_second: f64) -> v1::Sample {
        v1::Sample { at_micros: second * 1_000_000, unit: unit.to_owned(), per_second, ..Default::default() }
    }

    #[test]
    fn the_curve_keeps_its_whole_length_in_bounded_room() {
        let mut speeds = Speeds::default();
        for second in 0..100_000 {
            speeds.take(&sample(second, "bytes", second as f64));
        }
        let points = speeds.points();
        assert!(points.len() <= KEPT && points.len() >= KEPT / 2, "{}", points.len());
        assert_eq!(points[0].0, 0);
        assert!(points.last().is_some_and(|last| last.0 > 99_000_000_000), "{:?}", points.last());
        assert!(points.windows(2).all(|pair| pair[1].0 > pair[0].0));
    }

    #[test]
    fn only_what_tells_a_speed_is_a_point() {
        let mut speeds = Speeds::default();
        for other in [sample(1, "lines", 3.0), sample(2, "bytes", f64::NAN), sample(3, "bytes", f64::INFINITY)] {
            speeds.take(&other);
        }
        assert!(speeds.points().is_empty());
        speeds.take(&sample(4, "bytes", -1.0));
        // A clock that goes backwards makes no loop in the curve.
        speeds.take(&sample(3, "bytes", 7.0));
        assert_eq!(speeds.points(), [(4_000_000, 0.0)]);
    }
}
