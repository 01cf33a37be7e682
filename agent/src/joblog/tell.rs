//! An event as one line of the stage log (`flow.md` 8.1): a sentence for people and the extra fields for programs.

use gantry_proto::{Body, Event, Failure, JobId, JobOutcome, Sample, UndoState, event::Extra};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// The stage that all steps belong to.
const STAGE: &str = "deploy_cloudtower";

/// One line of the stage log.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    deployment_id: JobId,
    /// `None` for progress, which carries no number.
    seq: Option<u64>,
    at: Timestamp,
    stage: &'static str,
    step: Option<&'a str>,
    level: gantry_proto::Level,
    message: String,
    extra: Extra,
}

impl<'a> Line<'a> {
    pub(super) fn event(job: JobId, event: &'a Event) -> Self {
        let (message, extra) = tell(&event.body);
        Self {
            deployment_id: job,
            seq: Some(event.seq),
            at: event.at,
            stage: STAGE,
            step: event.body.step().map(|step| step.as_str()),
            level: event.body.level(),
            message,
            extra,
        }
    }

    pub(super) fn sample(sample: &'a Sample) -> Self {
        Self {
            deployment_id: sample.job,
            seq: None,
            at: sample.at,
            stage: STAGE,
            step: Some(sample.step.as_str()),
            level: gantry_proto::Level::Info,
            message: if sample.text.is_empty() { "progress".to_owned() } else { sample.text.clone() },
            extra: sample.extra.clone(),
        }
    }
}

/// What an event says, and its fields.
pub(super) fn tell(body: &Body) -> (String, Extra) {
    match body {
        Body::JobStarted { agent, agent_version, kept, taken_over, .. } => {
            let extra = json!({
                "agent": agent, "agent_version": agent_version, "kept": kept, "taken_over": taken_over,
            });
            ("the deployment begins".to_owned(), fields(extra))
        }
        Body::StepStarted { step, attempt } => (format!("{step} begins"), fields(json!({"attempt": attempt}))),
        Body::StepSucceeded { step, elapsed_ms } => {
            (format!("{step} is done"), fields(json!({"elapsed": *elapsed_ms as f64 / 1000.0})))
        }
        Body::StepFailed { attempt, failure, will_retry, .. } => {
            let mut extra = failed(failure);
            extra.extend(fields(json!({"attempt": attempt, "will_retry": will_retry})));
            (failure.message.clone(), extra)
        }
        Body::Note { message, code, extra, .. } => {
            let mut extra = extra.clone();
            extra.entry("code").or_insert_with(|| code.as_str().into());
            (message.clone(), extra)
        }
        Body::Intent { id, call, detail, .. } => (
            format!("about to {}", call.replace('_', " ")),
            fields(json!({"intent": id, "call": call, "detail": detail})),
        ),
        Body::IntentOutcome { intent, result, detail, .. } => {
            ("outcome of an intent".to_owned(), fields(json!({"intent": intent, "result": result, "detail": detail})))
        }
        Body::Fact { key, value, .. } => (format!("fact {key}"), fields(json!({"key": key, "value": value}))),
        Body::CancelAccepted { by, reason } => {
            (format!("{by} cancels the deployment"), fields(json!({"by": by, "reason": reason})))
        }
        Body::Paused { by, reason } => {
            (format!("{by} holds the deployment"), fields(json!({"by": by, "reason": reason})))
        }
        Body::Resumed { by } => (format!("{by} lets the deployment go on"), fields(json!({"by": by}))),
        Body::OperatorNeeded { failure, choices, .. } => {
            let mut extra = failed(failure);
            extra.extend(fields(json!({"choices": choices})));
            (format!("an operator has to decide: {}", failure.message), extra)
        }
        Body::OperatorDecided { question, choice, by, reason } => (
            format!("{by} decides: {choice}"),
            fields(json!({"question": question, "choice": choice, "by": by, "reason": reason})),
        ),
        Body::Surrendered { by, to } => (
            format!("the agent has let go of the deployment, which {by} moves to agent {to}"),
            fields(json!({"by": by, "to": to})),
        ),
        Body::UndoStarted { step } => (format!("{step} is being undone"), Extra::new()),
        Body::UndoFinished { step, failure: None, removed } => {
            (format!("{step} is undone"), fields(json!({"removed": removed})))
        }
        Body::UndoFinished { failure: Some(failure), .. } => (failure.message.clone(), failed(failure)),
        Body::JobFinished { outcome, undo, failure, leftovers, result } => {
            let mut extra = fields(json!({"outcome": outcome, "undo": undo, "leftovers": leftovers}));
            extra.extend(failure.as_ref().map(failed).unwrap_or_default());
            extra.extend(summary(result));
            (ended(*outcome, *undo), extra)
        }
        Body::Unknown => ("an event of another version".to_owned(), Extra::new()),
    }
}

fn ended(outcome: JobOutcome, undo: UndoState) -> String {
    let how = match outcome {
        JobOutcome::Succeeded => return "the deployment is done: CloudTower is ready".to_owned(),
        JobOutcome::Failed => "the deployment failed",
        JobOutcome::Cancelled => "the deployment was cancelled",
    };
    let undone = match undo {
        UndoState::Nothing => "there was nothing to undo",
        UndoState::RolledBack => "everything was undone",
        UndoState::RollbackIncomplete => "something is left over",
        UndoState::Kept => "what was made is kept",
    };
    format!("{how}; {undone}")
}

/// The final summary (R20).
fn summary(result: &Value) -> Extra {
    let at = |path: &str| result.pointer(path).cloned().unwrap_or(Value::Null);
    fields(json!({
        "ip": at("/deploy_cloudtower/ip"),
        "base_url": at("/deploy_cloudtower/base_url"),
        "serial": at("/deploy_cloudtower/cloudtower/license/license_serial"),
        "path": at("/deploy_cloudtower/logs/stage"),
        "elapsed": at("/deploy_cloudtower/timings/total_s"),
    }))
}

/// The failure under the word that the requirement names (R63).
fn failed(failure: &Failure) -> Extra {
    fields(json!({"error": failure}))
}

fn fields(value: Value) -> Extra {
    match value {
        Value::Object(fields) => fields,
        _ => Extra::new(),
    }
}
