//! The JSON forms of what the controller says. Keys and words are stable: scripts depend on them.

use gantry_proto::{
    Event, Failure, JobOutcome, Problem, Sample, UndoState, Verdict,
    event::Extra,
    v1::{self, OnFailure},
};
use serde_json::{Value, json};

use super::{units, words};
use crate::follow::Known;

/// A job as `jobs`, `show`, `cancel` and `watch` give it.
pub(crate) fn job(job: &v1::Job) -> Value {
    let time = |micros| units::from_micros(micros).map(|at| at.to_string());
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "job_id": job.job_id,
        "epoch": job.epoch,
        "refusal": some(&job.refusal),
        "state": words::job_state(job.state()),
        "site": job.site,
        "agent_id": job.agent_id,
        "agent_in_contact": job.agent_in_contact,
        "agent_seen": time(job.agent_seen_micros),
        "created": time(job.created_micros),
        "started": time(job.started_micros),
        "finished": time(job.finished_micros),
        "last_seq": job.last_seq,
        "submitted_by": job.submitted_by,
        "file_name": job.file_name,
        "plan_sha256": job.plan_sha256,
        "cluster": job.cluster,
        "vm_name": job.vm_name,
        "cloudtower_ip": job.cloudtower_ip,
        "cancel": words::cancel_stage(job.cancel()),
        "outcome": outcome(job).map(words::outcome),
        "undo": undo(job).map(words::undo),
        "failure": job.failure.clone().map(Failure::from),
        "percent": job.percent,
        "current_step": some(&job.current_step),
        "question": job.question.as_ref().map(question),
        "moving_to": some(&job.moving_to),
        "on_failure": (job.on_failure() != OnFailure::Unspecified).then(|| words::on_failure(job.on_failure())),
    })
}

/// What a job cannot decide.
pub(crate) fn question(asked: &v1::OperatorQuestion) -> Value {
    let choice = |choice: &v1::Choice| json!({ "id": choice.id, "text": choice.text });
    json!({
        "seq": asked.seq,
        "step": asked.step,
        "failure": asked.failure.clone().map(Failure::from),
        "choices": asked.choices.iter().map(choice).collect::<Vec<_>>(),
        "answered": asked.answered,
    })
}

/// An agent.
pub(crate) fn agent(agent: &v1::Agent) -> Value {
    let iso = |iso: &v1::IsoFile| {
        json!({
            "name": iso.name, "size": iso.size, "version": iso.version, "os": iso.os, "arch": iso.arch,
            "sha256": (!iso.sha256.is_empty()).then_some(&iso.sha256),
        })
    };
    json!({
        "agent_id": agent.agent_id,
        "site": agent.site,
        "in_contact": agent.in_contact,
        "seen": units::from_micros(agent.seen_micros).map(|at| at.to_string()),
        "version": agent.version,
        "active_jobs": agent.active_jobs,
        "remote_address": agent.remote_address,
        "revoked": agent.revoked,
        "certificate_until": units::from_micros(agent.expires_micros).map(|at| at.to_string()),
        "asks_to_return": (!agent.asks_to_return.is_empty()).then_some(&agent.asks_to_return),
        "isos": agent.isos.iter().map(iso).collect::<Vec<_>>(),
    })
}

/// A workbook that was rejected, in the form of `ctl plan check -o json`.
pub(crate) fn rejected(verdict: Verdict, problems: &[Problem]) -> Value {
    json!({ "outcome": verdict, "plan": null, "problems": problems })
}

/// A job and what its events add up to: the document of `show`, and of `watch -o json` at the end.
pub(crate) fn known(known: &Known) -> Value {
    json!({ "job": known.job.as_ref().map(job), "view": known.view })
}

/// One line of `watch -o ndjson`: an event in its own form.
pub(crate) fn event_line(event: &Event) -> Value {
    serde_json::to_value(event).unwrap_or(Value::Null)
}

/// One line of `watch -o ndjson`: progress. The key `event` tells the lines apart.
pub(crate) fn sample_line(sample: &Sample) -> Value {
    let mut line = Extra::new();
    line.insert("event".to_owned(), "sample".into());
    if let Ok(Value::Object(fields)) = serde_json::to_value(sample) {
        line.extend(fields);
    }
    Value::Object(line)
}

/// One line of `watch -o ndjson`: the job has changed.
pub(crate) fn job_line(changed: &v1::Job) -> Value {
    json!({ "event": "job", "job": job(changed) })
}

/// How the controller says that a job has ended.
pub(crate) fn outcome(job: &v1::Job) -> Option<JobOutcome> {
    match job.outcome() {
        v1::JobOutcome::Unspecified => None,
        v1::JobOutcome::Succeeded => Some(JobOutcome::Succeeded),
        v1::JobOutcome::Failed => Some(JobOutcome::Failed),
        v1::JobOutcome::Cancelled => Some(JobOutcome::Cancelled),
    }
}

/// What became of what a job had made.
pub(crate) fn undo(job: &v1::Job) -> Option<UndoState> {
    match job.undo() {
        v1::UndoState::Unspecified => None,
        v1::UndoState::Nothing => Some(UndoState::Nothing),
        v1::UndoState::RolledBack => Some(UndoState::RolledBack),
        v1::UndoState::Incomplete => Some(UndoState::RollbackIncomplete),
        v1::UndoState::Kept => Some(UndoState::Kept),
    }
}
