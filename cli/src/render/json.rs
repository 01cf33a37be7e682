//! The JSON forms of what the controller says. Keys and words are stable: scripts depend on them.

pub(crate) use gantry_proto::told::{agent, job, question};
use gantry_proto::{Event, Problem, Sample, Verdict, event::Extra, v1};
use serde_json::{Value, json};

use crate::follow::Known;

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
