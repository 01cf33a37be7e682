//! The only conversion between events and `gantry.v1`. What cannot be read becomes [`Body::Unknown`]: an event from a
//! newer peer still counts in the numbering.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Problem, Severity, Verdict,
    event::{
        Body, Choice, Event, Extra, Failure, IntentResult, JobOutcome, Leftover, Level, Sample, StepInfo, TakenOver,
        UndoState,
    },
    v1,
};

/// A message that does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message has an unusable field \"{0}\"")]
pub struct WireError(pub &'static str);

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        Self {
            seq: event.seq,
            epoch: event.epoch,
            at_micros: event.at.as_microsecond(),
            body: body_to_wire(&event.body),
        }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = WireError;

    fn try_from(event: v1::Event) -> Result<Self, WireError> {
        let at = Timestamp::from_microsecond(event.at_micros).map_err(|_| WireError("at_micros"))?;
        let body = event.body.and_then(body_from_wire).unwrap_or(Body::Unknown);
        Ok(Self { seq: event.seq, epoch: event.epoch, at, body })
    }
}

impl From<&Sample> for v1::Sample {
    fn from(sample: &Sample) -> Self {
        Self {
            job_id: sample.job.to_string(),
            step: sample.step.0.clone(),
            at_micros: sample.at.as_microsecond(),
            done: sample.done,
            total: sample.total,
            unit: sample.unit.clone(),
            per_second: sample.per_second,
            text: sample.text.clone(),
            extra_json: object_text(&sample.extra),
        }
    }
}

impl TryFrom<v1::Sample> for Sample {
    type Error = WireError;

    fn try_from(sample: v1::Sample) -> Result<Self, WireError> {
        Ok(Self {
            job: sample.job_id.parse().map_err(|_| WireError("job_id"))?,
            step: sample.step.as_str().into(),
            at: Timestamp::from_microsecond(sample.at_micros).map_err(|_| WireError("at_micros"))?,
            done: sample.done,
            total: sample.total,
            unit: sample.unit,
            per_second: if sample.per_second.is_finite() { sample.per_second } else { 0.0 },
            text: sample.text,
            extra: object(&sample.extra_json),
        })
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code.clone(),
            message: failure.message.clone(),
            causes: failure.causes.clone(),
            remedy: failure.remedy.clone(),
            detail_json: object_text(&failure.detail),
        }
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        Self {
            code: failure.code,
            message: failure.message,
            causes: failure.causes,
            remedy: failure.remedy,
            detail: object(&failure.detail_json),
        }
    }
}

impl From<&StepInfo> for v1::StepInfo {
    fn from(info: &StepInfo) -> Self {
        Self { id: info.id.0.clone(), title: info.title.clone(), weight: info.weight, attempts: info.attempts }
    }
}

impl From<v1::StepInfo> for StepInfo {
    fn from(info: v1::StepInfo) -> Self {
        Self { id: info.id.as_str().into(), title: info.title, weight: info.weight, attempts: info.attempts }
    }
}

impl From<&Leftover> for v1::Leftover {
    fn from(left: &Leftover) -> Self {
        let Leftover { kind, id, name, remedy } = left.clone();
        Self { kind, id, name, remedy }
    }
}

impl From<v1::Leftover> for Leftover {
    fn from(v1::Leftover { kind, id, name, remedy }: v1::Leftover) -> Self {
        Self { kind, id, name, remedy }
    }
}

impl From<Choice> for v1::Choice {
    fn from(Choice { id, text }: Choice) -> Self {
        Self { id, text }
    }
}

impl From<v1::Choice> for Choice {
    fn from(v1::Choice { id, text }: v1::Choice) -> Self {
        Self { id, text }
    }
}

impl From<&TakenOver> for v1::TakenOver {
    fn from(TakenOver { from, by, confirmed }: &TakenOver) -> Self {
        Self { from_agent: from.to_string(), by: by.clone(), confirmed: *confirmed }
    }
}

impl TryFrom<v1::TakenOver> for TakenOver {
    type Error = WireError;

    fn try_from(v1::TakenOver { from_agent, by, confirmed }: v1::TakenOver) -> Result<Self, WireError> {
        Ok(Self { from: from_agent.parse().map_err(|_| WireError("from_agent"))?, by, confirmed })
    }
}

impl From<&Problem> for v1::Problem {
    fn from(problem: &Problem) -> Self {
        let severity = match problem.severity {
            Severity::Error => v1::Severity::Error,
            Severity::Warning => v1::Severity::Warning,
            Severity::Notice => v1::Severity::Notice,
        };
        let Problem { code, rule, sheet, cell, related, label, value, message, remedy, .. } = problem.clone();
        let (sheet, cell) = (sheet.unwrap_or_default(), cell.unwrap_or_default());
        Self { severity: severity.into(), code, rule, sheet, cell, related, label, value, message, remedy }
    }
}

impl From<v1::Problem> for Problem {
    fn from(problem: v1::Problem) -> Self {
        let severity = match problem.severity() {
            v1::Severity::Warning => Severity::Warning,
            v1::Severity::Notice => Severity::Notice,
            v1::Severity::Error | v1::Severity::Unspecified => Severity::Error,
        };
        let some = |text: String| (!text.is_empty()).then_some(text);
        let v1::Problem { code, rule, sheet, cell, related, label, value, message, remedy, .. } = problem;
        Self { severity, code, rule, sheet: some(sheet), cell: some(cell), related, label, value, message, remedy }
    }
}

impl From<Verdict> for v1::PlanVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Ok => Self::Ok,
            Verdict::Invalid => Self::Invalid,
            Verdict::Unreadable => Self::Unreadable,
        }
    }
}

impl TryFrom<v1::PlanVerdict> for Verdict {
    type Error = WireError;

    fn try_from(verdict: v1::PlanVerdict) -> Result<Self, WireError> {
        match verdict {
            v1::PlanVerdict::Ok => Ok(Self::Ok),
            v1::PlanVerdict::Invalid => Ok(Self::Invalid),
            v1::PlanVerdict::Unreadable => Ok(Self::Unreadable),
            v1::PlanVerdict::Unspecified => Err(WireError("verdict")),
        }
    }
}

impl From<JobOutcome> for v1::JobOutcome {
    fn from(outcome: JobOutcome) -> Self {
        match outcome {
            JobOutcome::Succeeded => Self::Succeeded,
            JobOutcome::Failed => Self::Failed,
            JobOutcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<UndoState> for v1::UndoState {
    fn from(undo: UndoState) -> Self {
        match undo {
            UndoState::Nothing => Self::Nothing,
            UndoState::RolledBack => Self::RolledBack,
            UndoState::RollbackIncomplete => Self::Incomplete,
            UndoState::Kept => Self::Kept,
        }
    }
}

fn body_to_wire(body: &Body) -> Option<v1::event::Body> {
    use v1::event::Body as W;
    Some(match body.clone() {
        Body::JobStarted { agent, agent_version, steps, kept, taken_over } => W::JobStarted(v1::JobStarted {
            agent_id: agent.to_string(),
            agent_version,
            steps: steps.iter().map(Into::into).collect(),
            kept: kept.into_iter().map(|step| step.0).collect(),
            taken_over: taken_over.as_ref().map(Into::into),
        }),
        Body::StepStarted { step, attempt } => W::StepStarted(v1::StepStarted { step: step.0, attempt }),
        Body::StepSucceeded { step, elapsed_ms } => W::StepSucceeded(v1::StepSucceeded { step: step.0, elapsed_ms }),
        Body::StepFailed { step, attempt, failure, will_retry } => {
            W::StepFailed(v1::StepFailed { step: step.0, attempt, failure: Some((&failure).into()), will_retry })
        }
        Body::Note { step, level, code, message, extra } => W::Note(v1::Note {
            step: step.map(|s| s.0).unwrap_or_default(),
            level: level_to_wire(level).into(),
            code,
            message,
            extra_json: object_text(&extra),
        }),
        Body::Intent { step, id, call, detail } => {
            W::Intent(v1::Intent { step: step.0, id, call, detail_json: object_text(&detail) })
        }
        Body::IntentOutcome { step, intent, result, detail } => W::IntentOutcome(v1::IntentOutcome {
            step: step.0,
            intent,
            result: result_to_wire(result).into(),
            detail_json: object_text(&detail),
        }),
        Body::Fact { step, key, value } => {
            W::Fact(v1::Fact { step: step.0, key, value_json: value.map(|v| v.to_string()).unwrap_or_default() })
        }
        Body::CancelAccepted { by, reason } => W::CancelAccepted(v1::CancelAccepted { by, reason }),
        Body::Paused { by, reason } => W::Paused(v1::Paused { by, reason }),
        Body::Resumed { by } => W::Resumed(v1::Resumed { by }),
        Body::OperatorNeeded { step, failure, choices } => W::OperatorNeeded(v1::OperatorNeeded {
            step: step.0,
            failure: Some((&failure).into()),
            choices: choices.into_iter().map(Into::into).collect(),
        }),
        Body::OperatorDecided { question, choice, by, reason } => {
            W::OperatorDecided(v1::OperatorDecided { question, choice, by, reason })
        }
        Body::Surrendered { by, to } => W::Surrendered(v1::Surrendered { by, to_agent: to.to_string() }),
        Body::UndoStarted { step } => W::UndoStarted(v1::UndoStarted { step: step.0 }),
        Body::UndoFinished { step, failure, removed } => {
            W::UndoFinished(v1::UndoFinished { step: step.0, failure: failure.as_ref().map(Into::into), removed })
        }
        Body::JobFinished { outcome, undo, failure, leftovers, result } => W::JobFinished(v1::JobFinished {
            outcome: v1::JobOutcome::from(outcome).into(),
            undo: v1::UndoState::from(undo).into(),
            failure: failure.as_ref().map(Into::into),
            leftovers: leftovers.iter().map(Into::into).collect(),
            result_json: result.to_string().into_bytes(),
        }),
        Body::Unknown => return None,
    })
}

fn body_from_wire(body: v1::event::Body) -> Option<Body> {
    use v1::event::Body as W;
    Some(match body {
        W::JobStarted(m) => Body::JobStarted {
            agent: m.agent_id.parse().ok()?,
            agent_version: m.agent_version,
            steps: m.steps.into_iter().map(Into::into).collect(),
            kept: m.kept.iter().map(|step| step.as_str().into()).collect(),
            taken_over: m.taken_over.and_then(|from| from.try_into().ok()),
        },
        W::StepStarted(m) => Body::StepStarted { step: m.step.as_str().into(), attempt: m.attempt },
        W::StepSucceeded(m) => Body::StepSucceeded { step: m.step.as_str().into(), elapsed_ms: m.elapsed_ms },
        W::StepFailed(m) => Body::StepFailed {
            step: m.step.as_str().into(),
            attempt: m.attempt,
            failure: m.failure.map(Into::into).unwrap_or_default(),
            will_retry: m.will_retry,
        },
        W::Note(m) => Body::Note {
            step: (!m.step.is_empty()).then(|| m.step.as_str().into()),
            level: level_from_wire(m.level()),
            extra: object(&m.extra_json),
            code: m.code,
            message: m.message,
        },
        W::Intent(m) => {
            Body::Intent { step: m.step.as_str().into(), id: m.id, detail: object(&m.detail_json), call: m.call }
        }
        W::IntentOutcome(m) => Body::IntentOutcome {
            step: m.step.as_str().into(),
            intent: m.intent,
            result: result_from_wire(m.result()),
            detail: object(&m.detail_json),
        },
        W::Fact(m) => Body::Fact {
            step: m.step.as_str().into(),
            value: if m.value_json.is_empty() { None } else { Some(serde_json::from_str(&m.value_json).ok()?) },
            key: m.key,
        },
        W::CancelAccepted(m) => Body::CancelAccepted { by: m.by, reason: m.reason },
        W::Paused(m) => Body::Paused { by: m.by, reason: m.reason },
        W::Resumed(m) => Body::Resumed { by: m.by },
        W::OperatorNeeded(m) => Body::OperatorNeeded {
            step: m.step.as_str().into(),
            failure: m.failure.map(Into::into).unwrap_or_default(),
            choices: m.choices.into_iter().map(Into::into).collect(),
        },
        W::OperatorDecided(m) => {
            Body::OperatorDecided { question: m.question, choice: m.choice, by: m.by, reason: m.reason }
        }
        W::Surrendered(m) => Body::Surrendered { by: m.by, to: m.to_agent.parse().ok()? },
        W::UndoStarted(m) => Body::UndoStarted { step: m.step.as_str().into() },
        W::UndoFinished(m) => {
            Body::UndoFinished { step: m.step.as_str().into(), failure: m.failure.map(Into::into), removed: m.removed }
        }
        W::JobFinished(m) => Body::JobFinished {
            outcome: outcome_from_wire(m.outcome())?,
            undo: undo_from_wire(m.undo())?,
            failure: m.failure.map(Into::into),
            leftovers: m.leftovers.into_iter().map(Into::into).collect(),
            result: serde_json::from_slice(&m.result_json).unwrap_or(Value::Null),
        },
    })
}

fn outcome_from_wire(outcome: v1::JobOutcome) -> Option<JobOutcome> {
    match outcome {
        v1::JobOutcome::Succeeded => Some(JobOutcome::Succeeded),
        v1::JobOutcome::Failed => Some(JobOutcome::Failed),
        v1::JobOutcome::Cancelled => Some(JobOutcome::Cancelled),
        v1::JobOutcome::Unspecified => None,
    }
}

fn undo_from_wire(undo: v1::UndoState) -> Option<UndoState> {
    match undo {
        v1::UndoState::Nothing => Some(UndoState::Nothing),
        v1::UndoState::RolledBack => Some(UndoState::RolledBack),
        v1::UndoState::Incomplete => Some(UndoState::RollbackIncomplete),
        v1::UndoState::Kept => Some(UndoState::Kept),
        v1::UndoState::Unspecified => None,
    }
}

fn level_to_wire(level: Level) -> v1::Level {
    match level {
        Level::Debug => v1::Level::Debug,
        Level::Info => v1::Level::Info,
        Level::Warning => v1::Level::Warning,
        Level::Error => v1::Level::Error,
    }
}

fn level_from_wire(level: v1::Level) -> Level {
    match level {
        v1::Level::Debug => Level::Debug,
        v1::Level::Info | v1::Level::Unspecified => Level::Info,
        v1::Level::Warning => Level::Warning,
        v1::Level::Error => Level::Error,
    }
}

fn result_to_wire(result: IntentResult) -> v1::IntentResult {
    match result {
        IntentResult::Done => v1::IntentResult::Done,
        IntentResult::Failed => v1::IntentResult::Failed,
        IntentResult::Unknown => v1::IntentResult::Unknown,
    }
}

fn result_from_wire(result: v1::IntentResult) -> IntentResult {
    match result {
        v1::IntentResult::Done => IntentResult::Done,
        v1::IntentResult::Failed => IntentResult::Failed,
        v1::IntentResult::Unknown | v1::IntentResult::Unspecified => IntentResult::Unknown,
    }
}

fn object_text(object: &Extra) -> String {
    if object.is_empty() {
        return String::new();
    }
    Value::Object(object.clone()).to_string()
}

fn object(text: &str) -> Extra {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => Extra::new(),
    }
}
