//! How jobs and agents are told in JSON, by `ctl` and by the web pages alike. Keys and words are stable: scripts depend on
//! them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Failure, JobOutcome, UndoState,
    v1::{self, OnFailure},
    words,
};

/// A job.
pub fn job(job: &v1::Job) -> Value {
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
pub fn question(asked: &v1::OperatorQuestion) -> Value {
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
pub fn agent(agent: &v1::Agent) -> Value {
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
        "seen": time(agent.seen_micros),
        "version": agent.version,
        "active_jobs": agent.active_jobs,
        "remote_address": agent.remote_address,
        "revoked": agent.revoked,
        "certificate_until": time(agent.expires_micros),
        "telemetry": {
            "waiting_bytes": agent.telemetry_waiting_bytes,
            "lost": {
                "spans": agent.telemetry_lost.unwrap_or_default().spans,
                "log_records": agent.telemetry_lost.unwrap_or_default().log_records,
                "data_points": agent.telemetry_lost.unwrap_or_default().data_points,
            },
        },
        "asks_to_return": (!agent.asks_to_return.is_empty()).then_some(&agent.asks_to_return),
        "isos": agent.isos.iter().map(iso).collect::<Vec<_>>(),
    })
}

/// How the controller says that a job has ended.
pub fn outcome(job: &v1::Job) -> Option<JobOutcome> {
    match job.outcome() {
        v1::JobOutcome::Unspecified => None,
        v1::JobOutcome::Succeeded => Some(JobOutcome::Succeeded),
        v1::JobOutcome::Failed => Some(JobOutcome::Failed),
        v1::JobOutcome::Cancelled => Some(JobOutcome::Cancelled),
    }
}

/// What became of what a job had made.
pub fn undo(job: &v1::Job) -> Option<UndoState> {
    match job.undo() {
        v1::UndoState::Unspecified => None,
        v1::UndoState::Nothing => Some(UndoState::Nothing),
        v1::UndoState::RolledBack => Some(UndoState::RolledBack),
        v1::UndoState::Incomplete => Some(UndoState::RollbackIncomplete),
        v1::UndoState::Kept => Some(UndoState::Kept),
    }
}

/// A time of the wire; 0 means never.
fn time(micros: i64) -> Option<String> {
    if micros <= 0 { None } else { Timestamp::from_microsecond(micros).ok().map(|at| at.to_string()) }
}
