//! How well the end is foretold, before and after learning.

use jiff::SignedDuration;

use super::*;
use crate::{Body, Event, Sample, StepInfo};

/// A table as the real one: what waits, what is measured, what is quick.
const TABLE: [(&str, u32); 6] = [
    ("preflight", 20),
    ("upload-iso", 600),
    ("create-vm", 10),
    ("wait-guest-agent", 700),
    ("install", 1_200),
    ("configure-services", 15),
];
const BEGIN: i64 = 1_000;

/// A small generator (splitmix64): the same runs each time.
struct Draw(u64);

impl Draw {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }

    /// What the steps of one job take: the site's own usual time, 30 % more or less.
    fn job(&mut self, usual: &[f64]) -> Vec<f64> {
        usual.iter().map(|seconds| seconds * (0.7 + 0.6 * self.next())).collect()
    }
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_second(BEGIN).unwrap() + SignedDuration::from_secs_f64(seconds)
}

/// The view of a job so many seconds after its begin.
fn view(taken: &[f64], now: f64) -> JobView {
    let info = |(id, weight): (&str, u32)| StepInfo { id: id.into(), title: id.into(), weight, attempts: 1 };
    let steps = TABLE.map(info).to_vec();
    let (agent, agent_version) = ("a".parse().unwrap(), "1".to_owned());
    let mut bodies = vec![(0.0, Body::JobStarted { agent, agent_version, steps, kept: Vec::new(), taken_over: None })];
    let mut begin = 0.0;
    for ((id, _), seconds) in TABLE.iter().zip(taken) {
        bodies.push((begin, Body::StepStarted { step: (*id).into(), attempt: 1 }));
        begin += seconds;
        bodies.push((begin, Body::StepSucceeded { step: (*id).into(), elapsed_ms: (seconds * 1_000.0) as u64 }));
    }
    let told = (1..).zip(bodies).filter(|(_, (when, _))| *when <= now);
    JobView::of(&told.map(|(seq, (when, body))| Event { seq, epoch: 1, at: at(when), body }).collect::<Vec<_>>())
}

/// Errors of the estimates after a quarter of the job, as a share of what was left; and how often it was in the range.
fn errors(usual: &[f64], known: &Expected, draw: &mut Draw) -> (f64, f64) {
    let mut errors = Vec::new();
    let mut within = 0;
    for _ in 0..200 {
        let taken = draw.job(usual);
        let total: f64 = taken.iter().sum();
        let eta = view(&taken, total / 4.0).eta(known, at(total / 4.0)).unwrap();
        let left = total * 0.75;
        errors.push((eta.seconds - left).abs() / left);
        within += u32::from(eta.low <= left && left <= eta.high);
    }
    errors.sort_by(f64::total_cmp);
    (errors[errors.len() / 2], f64::from(within) / 200.0)
}

#[test]
fn after_a_quarter_of_a_job_the_median_error_is_at_most_a_fifth() {
    let mut draw = Draw(7);
    let by_table: Vec<f64> = TABLE.iter().map(|(_, weight)| f64::from(*weight)).collect();
    let (error, within) = errors(&by_table, &Expected::new(), &mut draw);
    assert!(error <= 0.2, "by the table alone {error:.3}");
    assert!(within >= 0.8, "{within} in the range");

    // A site that is nothing like the table: a slow line, and fast disks.
    let site = [25.0, 4_000.0, 8.0, 650.0, 500.0, 12.0];
    let (blind, _) = errors(&site, &Expected::new(), &mut draw);
    let past: Vec<Vec<f64>> = (0..8).map(|_| draw.job(&site)).collect();
    let samples = past.iter().flat_map(|job| TABLE.iter().map(|(id, _)| *id).zip(job.iter().copied()));
    let known = learn(samples, [("install", 9_000.0)]);
    let (error, within) = errors(&site, &known, &mut draw);
    assert!(error <= 0.2, "learned {error:.3}");
    assert!(within >= 0.6, "{within} in the range");
    assert!(blind > 0.2 && blind > 2.0 * error, "without learning {blind:.3}");
}

#[test]
fn a_measured_speed_beats_what_was_learned() {
    let mut view = view(&[20.0, 600.0, 10.0, 700.0, 1_200.0, 15.0], 120.0);
    let sample = Sample {
        job: crate::JobId::new(),
        step: "upload-iso".into(),
        at: at(120.0),
        done: 100,
        total: 1_100,
        unit: "bytes".into(),
        per_second: 1.0,
        text: String::new(),
        extra: serde_json::Map::new(),
    };
    view.sample(&sample);
    let others = 10.0 + 700.0 + 1_200.0 + 15.0;
    assert_eq!(view.eta(&Expected::new(), at(120.0)).unwrap().seconds, 1_000.0 + others);
    view.sample(&Sample { per_second: f64::MIN_POSITIVE, at: at(121.0), ..sample });
    assert_eq!(view.eta(&Expected::new(), at(121.0)), None, "no end in sight");
}

#[test]
fn few_runs_at_home_are_filled_up_from_elsewhere() {
    let known = learn([("a", 10.0), ("a", 10.0), ("a", 10.0), ("b", 5.0)], [("a", 90.0), ("b", 7.0), ("c", 3.0)]);
    let of = |step: &str| known[&StepId::from(step)];
    assert_eq!((of("a").seconds, of("a").runs), (10.0, 3));
    assert_eq!((of("b").runs, of("c").runs), (2, 1));
    assert!(learn([("a", f64::NAN), ("a", -1.0)], []).is_empty());
    assert_eq!(expected(&to_wire(&known)), known);
    let wrong = v1::StepTime { step: "a".into(), seconds: f64::INFINITY, ..v1::StepTime::default() };
    assert!(expected(&[wrong]).is_empty());
}

#[test]
fn what_takes_longer_than_ever_is_not_over() {
    let usual = StepTime { seconds: 100.0, low: 80.0, high: 120.0, runs: 9 };
    let late = usual.after(500.0);
    assert_eq!((late.seconds, late.low), (5.0, 0.0));
    assert!(late.high >= late.seconds);
}
