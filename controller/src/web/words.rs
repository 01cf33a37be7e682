//! What only the pages are told in JSON: a view, an event, findings. Jobs and agents are told as `ctl -o json` tells them.

use gantry_proto::{Event, JobView, Problem, eta::Expected, v1, words::step_fate};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::jobs::Speed;

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

/// What happens to what a failed job has made, as a form says it.
pub(super) fn policy(word: &str) -> v1::OnFailure {
    match word {
        "undo" => v1::OnFailure::Undo,
        "keep" => v1::OnFailure::Keep,
        _ => v1::OnFailure::Unspecified,
    }
}

/// What a retry makes of a step.
pub(super) fn fate(step: &v1::StepVerdict) -> Value {
    json!({ "step": step.step, "fate": step_fate(step.fate()), "reason": step.reason })
}

/// One event of the log. The result document is large and has a call of its own.
pub(super) fn event(event: &Event) -> Value {
    without(json!(event), &["result"])
}

/// A curve: times as everywhere, bytes a second.
pub(super) fn speeds(speeds: &[Speed]) -> Value {
    let point = |(at, per_second): &Speed| {
        let at = Timestamp::from_microsecond(*at).ok()?.to_string();
        Some(json!({ "at": at, "per_second": per_second }))
    };
    json!({ "points": speeds.iter().filter_map(point).collect::<Vec<_>>() })
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
