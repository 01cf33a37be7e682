//! One picture of a job at work, as lines of at most the terminal's width. Pure: the screen only draws it.

use std::time::Duration;

use gantry_proto::{
    Sample,
    eta::Eta,
    v1::{CancelStage, JobState},
    view::{Phase, StepState, StepView},
};
use jiff::Timestamp;
use serde_json::Value;

use super::{jobs, paint::Paint, question, text, units, words};
use crate::follow::Known;

/// Wider lines are harder to read, not easier.
const WIDEST: usize = 110;
/// Cells of a bar.
const BAR: usize = 14;
/// Lines of the installer's log below its step.
const TAIL: usize = 4;

/// What a picture is made of.
pub(crate) struct Scene<'a> {
    /// What is known.
    pub(crate) known: &'a Known,
    /// How long until the broken line to the controller is tried again.
    pub(crate) broken: Option<Duration>,
    /// Now, by our clock.
    pub(crate) now: Timestamp,
    /// Columns and rows of the terminal.
    pub(crate) size: (usize, usize),
    /// Colour.
    pub(crate) paint: Paint,
}

/// A part at the right of a line. Those with the highest rank are left out first; rank 0 stays.
struct Part(u8, String);

impl Scene<'_> {
    /// The lines, from the top.
    pub(crate) fn lines(&self) -> Vec<String> {
        let around = [self.head(), self.overall()].len() + self.states().len();
        let mut lines = vec![self.head()];
        lines.extend(self.steps(self.size.1.saturating_sub(around + 1)));
        lines.extend(self.states());
        lines.push(self.overall());
        lines
    }

    fn width(&self) -> usize {
        self.size.0.clamp(20, WIDEST)
    }

    fn head(&self) -> String {
        let Some(job) = &self.known.job else { return self.paint.head("job") };
        let short = jobs::short(&job.job_id);
        let mut line = format!("job {short}  {}  {}", job.vm_name, job.cloudtower_ip);
        if !job.cluster.is_empty() {
            line.push_str("  on ");
            line.push_str(&job.cluster);
        }
        self.paint.head(&text::cut(&text::clean(&line), self.width()))
    }

    /// The steps within so many rows: what is done and what waits is counted instead of listed when it is too much.
    fn steps(&self, rows: usize) -> Vec<String> {
        let steps = &self.known.view.steps;
        let blocks: Vec<_> = steps.iter().map(|step| (step.state, self.step(step))).collect();
        let lines = |blocks: &[(StepState, Vec<String>)]| blocks.iter().map(|(_, lines)| lines.len()).sum::<usize>();
        let (mut from, mut to) = (0, blocks.len());
        let fits = |from: usize, to: usize| {
            lines(&blocks[from..to]) + usize::from(from > 0) + usize::from(to < blocks.len()) <= rows.max(3)
        };
        while !fits(from, to) && from < to && blocks[from].0 == StepState::Done {
            from += 1;
        }
        while !fits(from, to) && from < to && blocks[to - 1].0 == StepState::Waiting {
            to -= 1;
        }
        let mut all = Vec::new();
        if from > 0 {
            all.push(self.paint.good(&format!("✓ {} done", words::count(from, "step"))));
        }
        all.extend(blocks[from..to].iter().flat_map(|(_, lines)| lines.iter().cloned()));
        if to < blocks.len() {
            all.push(self.paint.dim(&format!("· {} more to come", words::count(blocks.len() - to, "step"))));
        }
        all
    }

    /// One step: its line, and below it what is going on.
    fn step(&self, step: &StepView) -> Vec<String> {
        let paint = self.paint;
        let sign = match step.state {
            StepState::Waiting => paint.dim("·"),
            StepState::Running => paint.busy("▸"),
            StepState::Retrying => paint.warn("↻"),
            StepState::Done => paint.good("✓"),
            StepState::Failed => paint.bad("✗"),
            StepState::Undoing => paint.busy("◂"),
            StepState::Undone => paint.warn("↶"),
            StepState::UndoFailed => paint.bad("!"),
        };
        let title = text::clean(&step.info.title).into_owned();
        let title = if step.state == StepState::Waiting { paint.dim(&title) } else { title };
        let mut lines = vec![self.compose(&format!("{sign} {title}"), self.parts(step))];
        if matches!(step.state, StepState::Running | StepState::Undoing)
            && let Some(sample) = &step.sample
        {
            let said = said(sample);
            lines.extend(
                said.iter().map(|said| paint.dim(&text::cut(&format!("    {}", text::clean(said)), self.width()))),
            );
        }
        lines
    }

    fn parts(&self, step: &StepView) -> Vec<Part> {
        let spent = step.started.map(|from| units::between(from, step.finished.unwrap_or(self.now)));
        let spent = spent.map(units::duration).unwrap_or_default();
        let word = || words::step_state(step.state).to_owned();
        let mut parts = match step.state {
            StepState::Waiting => Vec::new(),
            StepState::Running => match &step.sample {
                Some(sample) => measured(sample, spent),
                None => {
                    let learned = self.known.expected.get(&step.info.id).map(|time| time.seconds);
                    let usual = learned.unwrap_or_else(|| f64::from(step.info.weight));
                    vec![Part(3, format!("usually {}", units::duration(usual))), Part(0, spent)]
                }
            },
            StepState::Done => vec![Part(0, spent)],
            StepState::Retrying => vec![Part(0, self.paint.warn(&word()))],
            StepState::Failed | StepState::UndoFailed => vec![Part(0, self.paint.bad(&word()))],
            StepState::Undoing | StepState::Undone => vec![Part(0, word())],
        };
        if step.attempt > 1 {
            let of = step.info.attempts.max(step.attempt);
            parts.insert(0, Part(1, self.paint.warn(&format!("attempt {} of {of}", step.attempt))));
        }
        parts
    }

    /// What stands between the job and its work, and is no failure.
    fn states(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(left) = self.broken {
            let left = left.as_secs_f64().ceil();
            all.push(format!("no line to the controller, trying again in {left} s; the job goes on"));
        }
        if let Some(job) = &self.known.job {
            all.extend(contact(job, self.now).filter(|_| self.known.view.phase != Phase::Finished));
            all.extend(words::cancel_sentence(job.cancel()).map(|words| format!("cancel: {words}")));
            match job.state() {
                JobState::Queued if job.agent_in_contact => {
                    all.push("queued: waiting for the agent to begin".to_owned())
                }
                JobState::Paused => all.push("paused".to_owned()),
                JobState::NeedsOperator => all.extend(self.question(&job.job_id)),
                _ => {}
            }
            all.extend(words::moving_sentence(job).map(|words| format!("on its way to {words}")));
            if !job.refusal.is_empty() {
                all.push(format!("refused: {}", job.refusal));
            }
            if job.cancel() == CancelStage::Unspecified && self.known.view.cancelled_by.is_some() {
                all.push("cancel: the agent has it; the job stops at its next safe point".to_owned());
            }
        }
        all.iter().flat_map(|line| text::wrap(&text::clean(line), self.width())).map(|l| self.paint.warn(&l)).collect()
    }

    /// What an operator has to decide, and how.
    fn question(&self, job_id: &str) -> Vec<String> {
        let Some(asked) = self.known.question() else { return vec!["waiting for an operator".to_owned()] };
        let why = asked.failure.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let mut all = vec![format!("waiting for an operator{why}")];
        all.extend(asked.choices.iter().map(|choice| format!("{}: {}", choice.id, choice.text)));
        all.push(format!("answer: {}", question::command(jobs::short(job_id).as_str(), "CHOICE")));
        all
    }

    fn overall(&self) -> String {
        let view = &self.known.view;
        let mut parts = vec![Part(3, bar(view.percent() / 100.0)), Part(0, percent(view.percent()))];
        if let (Some(eta), None) = (self.known.eta(self.now), self.broken) {
            parts.push(Part(1, format!("about {} left", units::about(eta.seconds))));
            parts.extend(range(eta).map(|range| Part(4, range)));
        }
        if view.phase == Phase::Undoing {
            parts.push(Part(0, self.paint.warn("undoing")));
        }
        if let Some(from) = view.started {
            let so_far = units::duration(units::between(from, view.finished.unwrap_or(self.now)));
            parts.push(Part(2, format!("{so_far} so far")));
        }
        self.compose("overall", parts)
    }

    /// Left text, then the parts at the right edge; what does not fit is left out by rank, then the left text is cut.
    fn compose(&self, left: &str, mut parts: Vec<Part>) -> String {
        let width = self.width();
        let room = text::width(left).min(width * 2 / 5);
        let taken = |parts: &[Part]| parts.iter().map(|part| text::width(&part.1) + 2).sum::<usize>();
        while taken(&parts) + room > width {
            let Some(worst) = (0..parts.len()).filter(|i| parts[*i].0 > 0).max_by_key(|i| parts[*i].0) else { break };
            parts.remove(worst);
        }
        let left = text::column(left, width.saturating_sub(taken(&parts)));
        let right: String = parts.iter().map(|part| format!("  {}", part.1)).collect();
        text::cut(format!("{left}{right}").trim_end(), width).into_owned()
    }
}

/// What is going on: the last lines of the installer's log, or else the one line of the sample.
fn said(sample: &Sample) -> Vec<&str> {
    let tail = sample.extra.get("tail").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let tail: Vec<&str> = tail.filter(|line| !line.is_empty()).collect();
    let tail = &tail[tail.len().saturating_sub(TAIL)..];
    if tail.is_empty() {
        Some(sample.text.as_str()).filter(|text| !text.is_empty()).into_iter().collect()
    } else {
        tail.to_vec()
    }
}

/// From when to when, unless that is the same to a reader.
fn range(eta: Eta) -> Option<String> {
    let (low, high) = (units::about(eta.low), units::about(eta.high));
    (low != high).then(|| format!("({low} to {high})"))
}

/// That the agent is out of contact, which is a state and no failure.
pub(crate) fn contact(job: &gantry_proto::v1::Job, now: Timestamp) -> Option<String> {
    if job.agent_in_contact || job.agent_id.is_empty() || gantry_proto::ended::is_final(job.state()) {
        return None;
    }
    let since = match units::from_micros(job.agent_seen_micros) {
        Some(seen) => format!("out of contact for {}", units::duration(units::between(seen, now))),
        None => "not been in contact yet".to_owned(),
    };
    let goes_on = match job.state() {
        JobState::Queued => "the job begins when it is",
        _ => "the job goes on there, its events will follow",
    };
    let verb = if since.starts_with("out") { "is" } else { "has" };
    Some(format!("agent {} {verb} {since}; {goes_on}", job.agent_id))
}

/// How far a step is, from its newest sample.
fn measured(sample: &Sample, spent: String) -> Vec<Part> {
    let mut parts = Vec::new();
    if sample.total > 0 {
        let share = (sample.done as f64 / sample.total as f64).clamp(0.0, 1.0);
        parts.push(Part(4, bar(share)));
        parts.push(Part(0, percent(share * 100.0)));
    }
    parts.extend(amount(sample).map(|amount| Part(5, amount)));
    if sample.unit == "bytes" && sample.per_second > 0.0 {
        parts.push(Part(2, units::speed(sample.per_second)));
    }
    match left(sample) {
        Some(left) => parts.push(Part(1, format!("{} left", units::duration(left)))),
        None => parts.push(Part(u8::from(sample.total > 0), spent)),
    }
    parts
}

/// `3.1/7.4 GiB`, `120 lines`; nothing for seconds, which the time tells.
pub(crate) fn amount(sample: &Sample) -> Option<String> {
    match (sample.unit.as_str(), sample.total) {
        ("bytes", 0) => Some(units::bytes(sample.done)),
        ("bytes", total) => Some(units::part_of(sample.done, total)),
        ("lines", 0) => Some(words::count(usize::try_from(sample.done).unwrap_or(usize::MAX), "line")),
        ("lines", total) => Some(format!("{}/{total} lines", sample.done)),
        _ => None,
    }
}

/// Seconds left of a step, once its speed is measured.
pub(crate) fn left(sample: &Sample) -> Option<f64> {
    let known = sample.per_second > 0.0 && sample.total > sample.done;
    known.then(|| ((sample.total - sample.done) as f64 / sample.per_second).ceil())
}

/// ` 42 %`; 100 only when it is.
pub(crate) fn percent(percent: f64) -> String {
    format!("{:>3} %", percent.clamp(0.0, 100.0).floor())
}

fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).floor() as usize;
    "█".repeat(full) + &"░".repeat(BAR - full)
}

#[cfg(test)]
mod tests;
