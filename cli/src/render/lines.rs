//! A job in lines of text: for pipes and CI, and above the live screen. Only what people care about; progress at most
//! once for ten percent or half a minute.

use gantry_proto::{
    Body, Event, Level, Sample, StepId, TakenOver,
    v1::{self, JobState},
};
use jiff::Timestamp;

use super::{frame, text, units, words};
use crate::follow::{Heard, Known};

/// Progress is told again after so many percent, or so many seconds.
const PERCENT_STEP: f64 = 10.0;
const SECONDS_STEP: f64 = 30.0;

/// A line to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it happened.
    pub(crate) at: Timestamp,
    /// How loud.
    pub(crate) level: Level,
    /// What happened.
    pub(crate) text: String,
}

impl Line {
    /// With its time in front.
    pub(crate) fn stamped(&self) -> String {
        let loud = match self.level {
            Level::Warning => "warning: ",
            Level::Error => "error: ",
            Level::Debug | Level::Info => "",
        };
        format!("{} {loud}{}", units::time(self.at), self.text)
    }
}

/// Remembers what has been told.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    progress: Option<Told>,
    contact: Option<bool>,
    state: Option<JobState>,
    cancel: Option<v1::CancelStage>,
    agent: Option<String>,
    moving_to: String,
    refusal: String,
    still_broken: u32,
}

#[derive(Debug)]
struct Told {
    step: StepId,
    percent: f64,
    at: Timestamp,
}

impl Teller {
    /// The line for what was heard, if people care. `known` has taken it in already.
    pub(crate) fn tell(&mut self, heard: &Heard, known: &Known, now: Timestamp) -> Option<Line> {
        let (at, level, text) = match heard {
            Heard::Event(event) => (event.at, event.body.level(), self.event(event, known)?),
            Heard::Sample(sample) => (sample.at, Level::Info, self.sample(sample, known)?),
            Heard::Job(job) => (now, Level::Info, self.job(job, now)?),
            Heard::Broken { why, tries, pause } => {
                (now, Level::Warning, self.broken(why, *tries, pause.as_secs_f64())?)
            }
            Heard::Back(after) => {
                self.still_broken = 0;
                (now, Level::Info, format!("the line to the controller is back; going on after event {after}"))
            }
            Heard::End => return None,
        };
        Some(Line { at, level, text: text::clean(&text).into_owned() })
    }

    fn event(&mut self, event: &Event, known: &Known) -> Option<String> {
        let step = |id: &StepId| step_name(known, id);
        Some(match &event.body {
            Body::JobStarted { agent, agent_version, steps, kept, taken_over } => {
                let kept = if kept.is_empty() { String::new() } else { format!(", {} kept", kept.len()) };
                let steps = words::count(steps.len(), "step");
                let begins = format!("agent {agent} (version {agent_version}) begins: {steps}{kept}");
                match taken_over {
                    None => begins,
                    Some(TakenOver { from, by, confirmed: true }) => {
                        format!("{begins}; moved here by {by} from agent {from}, which has let go of the job")
                    }
                    Some(TakenOver { from, by, confirmed: false }) => {
                        format!("{begins}; moved here by {by} from agent {from}, which {by} says is off")
                    }
                }
            }
            Body::StepStarted { step: id, attempt } => {
                self.progress = None;
                let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                format!("{}: begun{again}", step(id))
            }
            Body::StepSucceeded { step: id, elapsed_ms } => {
                format!("{}: done in {}", step(id), units::duration(*elapsed_ms as f64 / 1000.0))
            }
            Body::StepFailed { step: id, attempt, failure, will_retry } => {
                let next = if *will_retry { ", will be tried again" } else { "" };
                let attempt = if *attempt > 1 || *will_retry { format!("attempt {attempt} ") } else { String::new() };
                format!("{}: {attempt}failed{next}: {}", step(id), failure.message)
            }
            Body::Note { level: Level::Debug, .. } | Body::Intent { .. } | Body::IntentOutcome { .. } => return None,
            Body::Fact { .. } | Body::Unknown => return None,
            Body::Note { step: Some(id), message, .. } => format!("{}: {message}", step(id)),
            Body::Note { message, .. } => message.clone(),
            Body::CancelAccepted { by, reason } if reason.is_empty() => format!("cancelled by {by}"),
            Body::CancelAccepted { by, reason } => format!("cancelled by {by}: {reason}"),
            Body::Paused { by, reason } if reason.is_empty() => format!("held by {by}"),
            Body::Paused { by, reason } => format!("held by {by}: {reason}"),
            Body::Resumed { by } => format!("{by} lets the job go on"),
            Body::OperatorNeeded { step: id, failure, choices } => {
                let choices: Vec<String> =
                    choices.iter().map(|choice| format!("{}: {}", choice.id, choice.text)).collect();
                format!("{}: an operator has to decide: {}; choices: {}", step(id), failure.message, choices.join("; "))
            }
            Body::OperatorDecided { choice, by, reason, .. } if reason.is_empty() => format!("{by} decides: {choice}"),
            Body::OperatorDecided { choice, by, reason, .. } => format!("{by} decides: {choice} ({reason})"),
            Body::Surrendered { by, to } => format!("the agent has let go of the job, which {by} moves to agent {to}"),
            Body::UndoStarted { step: id } => format!("{}: undoing", step(id)),
            Body::UndoFinished { step: id, failure: Some(failure), .. } => {
                format!("{}: undo failed: {}", step(id), failure.message)
            }
            Body::UndoFinished { step: id, removed, .. } if removed.is_empty() => format!("{}: undone", step(id)),
            Body::UndoFinished { step: id, removed, .. } => format!("{}: undone: {}", step(id), removed.join("; ")),
            Body::JobFinished { outcome, .. } => format!("the job has {}", finished(*outcome)),
        })
    }

    fn sample(&mut self, sample: &Sample, known: &Known) -> Option<String> {
        let percent = if sample.total > 0 { 100.0 * sample.done as f64 / sample.total as f64 } else { 0.0 };
        let due = match &self.progress {
            Some(told) if told.step == sample.step => {
                percent >= told.percent + PERCENT_STEP || units::between(told.at, sample.at) >= SECONDS_STEP
            }
            _ => true,
        };
        if !due {
            return None;
        }
        // Steps of ten are counted from a multiple of ten: 10, 20, 30, not 13, 24, 35.
        let floor = (percent / PERCENT_STEP).floor() * PERCENT_STEP;
        self.progress = Some(Told { step: sample.step.clone(), percent: floor, at: sample.at });
        let mut parts = Vec::new();
        if sample.total > 0 {
            parts.push(frame::percent(percent).trim_start().to_owned());
        }
        parts.extend(frame::amount(sample));
        if sample.unit == "bytes" && sample.per_second > 0.0 {
            parts.push(units::speed(sample.per_second));
        }
        parts.extend(frame::left(sample).map(|left| format!("{} left", units::duration(left))));
        if !sample.text.is_empty() {
            parts.push(sample.text.clone());
        }
        (!parts.is_empty()).then(|| format!("{}: {}", step_name(known, &sample.step), parts.join(", ")))
    }

    /// What has changed about the job that is no event.
    fn job(&mut self, job: &v1::Job, now: Timestamp) -> Option<String> {
        let mut told = Vec::new();
        if self.agent.replace(job.agent_id.clone()).is_some_and(|before| before != job.agent_id) {
            told.push(format!("agent {} has the job now", job.agent_id));
            told.extend(frame::contact(job, now));
            self.contact = Some(job.agent_in_contact);
        }
        if self.contact.replace(job.agent_in_contact) != Some(job.agent_in_contact) {
            match frame::contact(job, now) {
                Some(out) => told.push(out),
                None if self.state.is_some() => told.push(format!("agent {} is in contact again", job.agent_id)),
                None => {}
            }
        }
        let cancel = job.cancel();
        if self.cancel.replace(cancel) != Some(cancel) {
            told.extend(words::cancel_sentence(cancel).map(|words| format!("cancel: {words}")));
        }
        let state = job.state();
        let before = self.state.replace(state);
        if before != Some(state) {
            match state {
                JobState::Queued => told.push("the job is stored; waiting for the agent to begin".to_owned()),
                JobState::Paused => told.push("the job is paused".to_owned()),
                JobState::NeedsOperator => told.push("the job waits for an operator".to_owned()),
                _ => {}
            }
        }
        if self.moving_to != job.moving_to {
            self.moving_to.clone_from(&job.moving_to);
            told.extend(words::moving_sentence(job).map(|words| format!("on its way to {words}")));
        }
        if self.refusal != job.refusal {
            self.refusal.clone_from(&job.refusal);
            if !job.refusal.is_empty() {
                told.push(format!("refused: {}", job.refusal));
            }
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// A broken line is told when it breaks, and then at growing distances.
    fn broken(&mut self, why: &str, tries: u32, pause: f64) -> Option<String> {
        if tries == 0 {
            self.still_broken = 0;
            return Some(format!(
                "the line to the controller broke ({why}); the job goes on, trying again in {}",
                units::duration(pause)
            ));
        }
        self.still_broken += 1;
        let due = self.still_broken.is_power_of_two() && self.still_broken >= 4;
        due.then(|| format!("still no line to the controller after {}: {why}", words::count(tries as usize, "attempt")))
    }
}

/// `[2/9] Upload the ISO`, or the id of a step that is not in the table.
pub(crate) fn step_name(known: &Known, id: &StepId) -> String {
    let steps = &known.view.steps;
    match steps.iter().position(|step| step.info.id == *id) {
        Some(index) => format!("[{}/{}] {}", index + 1, steps.len(), steps[index].info.title),
        None => id.to_string(),
    }
}

fn finished(outcome: gantry_proto::JobOutcome) -> &'static str {
    match outcome {
        gantry_proto::JobOutcome::Succeeded => "succeeded",
        gantry_proto::JobOutcome::Failed => "failed",
        gantry_proto::JobOutcome::Cancelled => "been cancelled",
    }
}
