//! How long is left of a job: by its step table first, and by what the same steps have taken before. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    JobView, StepId, v1,
    view::{Phase, StepState, StepView},
};

/// So many runs of a step at the job's own site count more than those of all sites together.
const ENOUGH: usize = 3;
/// How far a step may be from its row of the step table, as long as nothing is known of it: a factor.
const UNKNOWN_SPREAD: f64 = 2.0;
/// A step that takes longer than usual is not about to end just because its time is up: what is left of it at least.
const LEFT_AT_LEAST: f64 = 0.05;
/// How far a speed that is measured may change, either way.
const SPEED_SPREAD: f64 = 0.15;

/// What one step has taken before, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// The median.
    pub seconds: f64,
    /// One in ten was faster.
    pub low: f64,
    /// One in ten was slower.
    pub high: f64,
    /// How many there were.
    pub runs: u32,
}

/// What the steps have taken before, by step.
pub type Expected = BTreeMap<StepId, StepTime>;

/// How long is left, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Eta {
    /// Most likely.
    pub seconds: f64,
    /// Hardly less.
    pub low: f64,
    /// Hardly more.
    pub high: f64,
}

/// Learns from what steps have taken: `at_home`, at the job's own site; `elsewhere`, at all others.
pub fn learn<'a>(
    at_home: impl IntoIterator<Item = (&'a str, f64)>,
    elsewhere: impl IntoIterator<Item = (&'a str, f64)>,
) -> Expected {
    let mut taken: BTreeMap<&str, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let sane = |(_, seconds): &(&str, f64)| seconds.is_finite() && *seconds >= 0.0;
    at_home.into_iter().filter(sane).for_each(|(step, seconds)| taken.entry(step).or_default().0.push(seconds));
    elsewhere.into_iter().filter(sane).for_each(|(step, seconds)| taken.entry(step).or_default().1.push(seconds));
    let judged = taken.into_iter().filter_map(|(step, (mut own, other))| {
        if own.len() < ENOUGH {
            own.extend(other);
        }
        Some((StepId::from(step), StepTime::of(own)?))
    });
    judged.collect()
}

impl StepTime {
    /// Of what was measured; `None` of nothing.
    fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_by(f64::total_cmp);
        let last = seconds.len().checked_sub(1)?;
        let at = |share: f64| seconds[((last as f64 * share).round() as usize).min(last)];
        let runs = u32::try_from(seconds.len()).unwrap_or(u32::MAX);
        Some(Self { seconds: at(0.5), low: at(0.1), high: at(0.9), runs })
    }

    /// Of a row of the step table.
    fn by_weight(weight: u32) -> Self {
        let seconds = f64::from(weight);
        Self { seconds, low: seconds / UNKNOWN_SPREAD, high: seconds * UNKNOWN_SPREAD, runs: 0 }
    }

    /// What is left of it after so many seconds.
    fn after(self, spent: f64) -> Eta {
        let left = |of: f64, at_least: f64| (of - spent).max(at_least);
        let least = self.seconds * LEFT_AT_LEAST;
        let seconds = left(self.seconds, least);
        Eta { seconds, low: left(self.low, 0.0).min(seconds), high: left(self.high, least).max(seconds) }
    }
}

impl JobView {
    /// How long is left; `None` when nothing is running, or so slowly that there is no end. `expected`: what is known of
    /// the steps from other jobs.
    pub fn eta(&self, expected: &Expected, now: Timestamp) -> Option<Eta> {
        if self.phase != Phase::Running {
            return None;
        }
        let (mut all, mut below, mut above) = (0.0, 0.0, 0.0);
        for step in &self.steps {
            let left = left(step, expected, now);
            all += left.seconds;
            // Steps are slow and fast each for itself: what they miss by adds up less than they do.
            below += (left.seconds - left.low).powi(2);
            above += (left.high - left.seconds).powi(2);
        }
        let eta = Eta { seconds: all, low: (all - below.sqrt()).max(0.0), high: all + above.sqrt() };
        eta.high.is_finite().then_some(eta)
    }
}

fn left(step: &StepView, expected: &Expected, now: Timestamp) -> Eta {
    let usual = expected.get(&step.info.id).copied().unwrap_or_else(|| StepTime::by_weight(step.info.weight));
    match step.state {
        StepState::Waiting | StepState::Retrying => usual.after(0.0),
        StepState::Running => {
            if let Some(sample) = step.sample.as_ref().filter(|s| s.per_second > 0.0 && s.total >= s.done) {
                let seconds = (sample.total - sample.done) as f64 / sample.per_second;
                return Eta { seconds, low: seconds * (1.0 - SPEED_SPREAD), high: seconds * (1.0 + SPEED_SPREAD) };
            }
            usual.after(step.started.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0)))
        }
        _ => Eta::default(),
    }
}

/// From the wire; what cannot be is left out.
pub fn expected(wire: &[v1::StepTime]) -> Expected {
    let sane = |time: &&v1::StepTime| {
        let all = [time.low_s, time.seconds, time.high_s];
        all.iter().all(|seconds| seconds.is_finite() && *seconds >= 0.0)
    };
    let read = |time: &v1::StepTime| {
        let known = StepTime { seconds: time.seconds, low: time.low_s, high: time.high_s, runs: time.runs };
        (StepId::from(time.step.as_str()), known)
    };
    wire.iter().filter(sane).map(read).collect()
}

/// To the wire.
pub fn to_wire(expected: &Expected) -> Vec<v1::StepTime> {
    let write = |(step, time): (&StepId, &StepTime)| v1::StepTime {
        step: step.to_string(),
        seconds: time.seconds,
        low_s: time.low,
        high_s: time.high,
        runs: time.runs,
    };
    expected.iter().map(write).collect()
}

#[cfg(test)]
mod tests;
