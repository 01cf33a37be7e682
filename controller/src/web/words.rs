//! The JSON of the pages: keys and words as `ctl -o json` has them.

use gantry_proto::{
    Event, Failure, JobView, Problem,
    eta::Expected,
    v1::{self, CancelStage, JobState},
};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn job(job: &v1::Job) -> Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "job_id": job.job_id,
        "epoch": job.epoch,
        "refusal": some(&job.refusal),
        "state": job_state(job.state()),
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
        "cancel": cancel_stage(job.cancel()),
        "failure": job.failure.clone().map(Failure::from),
        "percent": job.percent,
        "current_step": some(&job.current_step),
        "question": job.question.as_ref().map(question),
        "moving_to": some(&job.moving_to),
    })
}

fn question(asked: &v1::OperatorQuestion) -> Value {
    let choice = |choice: &v1::Choice| json!({ "id": choice.id, "text": choice.text });
    json!({
        "seq": asked.seq,
        "step": asked.step,
        "failure": asked.failure.clone().map(Failure::from),
        "choices": asked.choices.iter().map(choice).collect::<Vec<_>>(),
        "answered": asked.answered,
    })
}

pub(super) fn agent(agent: &v1::Agent) -> Value {
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
        "asks_to_return": (!agent.asks_to_return.is_empty()).then_some(&agent.asks_to_return),
        "isos": agent.isos.iter().map(iso).collect::<Vec<_>>(),
    })
}

pub(super) fn problems(problems: Vec<v1::Problem>) -> Vec<Problem> {
    problems.into_iter().map(Into::into).collect()
}

pub(super) fn verdict(verdict: v1::PlanVerdict) -> &'static str {
    match verdict {
        v1::PlanVerdict::Ok => "ok",
        v1::PlanVerdict::Invalid => "invalid",
        v1::PlanVerdict::Unreadable | v1::PlanVerdict::Unspecified => "unreadable",
    }
}

/// One event of the log. The result document is large and has a call of its own.
pub(super) fn event(event: &Event) -> Value {
    without(json!(event), &["result"])
}

/// What a screen shows of a view.
pub(super) fn view(view: &JobView, expected: &Expected, now: Timestamp) -> Value {
    let mut told = without(json!(view), &["facts", "open_intents", "notes", "result"]);
    told["percent"] = json!(view.percent());
    let eta = view.eta(expected, now);
    told["eta_seconds"] = json!(eta.map(|eta| eta.seconds));
    told["eta_range"] = json!(eta.map(|eta| [eta.low, eta.high]));
    told
}

fn without(mut value: Value, keys: &[&str]) -> Value {
    if let Some(fields) = value.as_object_mut() {
        keys.iter().for_each(|key| {
            fields.remove(*key);
        });
    }
    value
}

/// A time of the wire; 0 means never.
fn time(micros: i64) -> Option<String> {
    if micros <= 0 { None } else { Timestamp::from_microsecond(micros).ok().map(|at| at.to_string()) }
}

fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unknown",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::NeedsOperator => "needs_operator",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

fn cancel_stage(stage: CancelStage) -> Option<&'static str> {
    match stage {
        CancelStage::Unspecified => None,
        CancelStage::Requested => Some("requested"),
        CancelStage::Delivered => Some("delivered"),
        CancelStage::Stopped => Some("stopped"),
        CancelStage::Undone => Some("undone"),
        CancelStage::TooLate => Some("too_late"),
    }
}
