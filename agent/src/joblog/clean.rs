//! Takes secrets out of events before they are written, and cuts what is longer than anyone reads. Ids, codes and the
//! names of facts are our own vocabulary and stay.

use gantry_proto::{Body, Failure, JobOutcome, Leftover, Redactor, Sample, event::Extra};
use serde_json::Value;

use crate::journal;

/// The longest text of an event, characters.
const TEXT_MAX: usize = 8_000;
/// The longest JSON of details, bytes; a longer one is replaced by a note of its length.
const DETAIL_MAX: usize = 32 << 10;
/// The longest list of causes or sentences.
const LIST_MAX: usize = 50;

/// The longest event, bytes of JSON: with room to spare below the longest line of the journal.
const EVENT_MAX: usize = journal::LINE_MAX / 2;
/// How a longer one is made shorter: the longest text (characters) and the longest list, more strictly each time. Ids,
/// hashes and our own words are never longer than the last.
const SHORTER: [(usize, usize); 3] = [(1_024, 64), (256, 16), (64, 8)];

/// What events are cleaned with.
pub(super) struct Cleaner<'a> {
    /// Knows every secret of the process.
    pub(super) all: &'a Redactor,
    /// Knows those that are not also plain words of the plan: facts must come back from the journal as they were.
    pub(super) facts: &'a Redactor,
}

impl Cleaner<'_> {
    pub(super) fn body(&self, body: Body) -> Body {
        bounded(self.redacted(body))
    }

    fn redacted(&self, body: Body) -> Body {
        match body {
            Body::StepFailed { step, attempt, failure, will_retry } => {
                Body::StepFailed { step, attempt, failure: self.failure(failure), will_retry }
            }
            Body::Note { step, level, code, message, extra } => {
                Body::Note { step, level, code, message: self.text(&message), extra: self.extra(extra) }
            }
            Body::Intent { step, id, call, detail } => Body::Intent { step, id, call, detail: self.extra(detail) },
            Body::IntentOutcome { step, intent, result, detail } => {
                Body::IntentOutcome { step, intent, result, detail: self.extra(detail) }
            }
            Body::Fact { step, key, value } => {
                let value = value.map(|mut value| {
                    self.facts.json(&mut value);
                    value
                });
                Body::Fact { step, key, value }
            }
            Body::CancelAccepted { by, reason } => {
                Body::CancelAccepted { by: self.text(&by), reason: self.text(&reason) }
            }
            Body::Paused { by, reason } => Body::Paused { by: self.text(&by), reason: self.text(&reason) },
            Body::Resumed { by } => Body::Resumed { by: self.text(&by) },
            Body::OperatorNeeded { step, failure, choices } => {
                Body::OperatorNeeded { step, failure: self.failure(failure), choices }
            }
            Body::OperatorDecided { question, choice, by, reason } => {
                Body::OperatorDecided { question, choice, by: self.text(&by), reason: self.text(&reason) }
            }
            Body::Surrendered { by, to } => Body::Surrendered { by: self.text(&by), to },
            Body::UndoFinished { step, failure, removed } => Body::UndoFinished {
                step,
                failure: failure.map(|failure| self.failure(failure)),
                removed: removed.iter().take(LIST_MAX).map(|text| self.text(text)).collect(),
            },
            Body::JobFinished { outcome, undo, failure, leftovers, result } => {
                self.finished(outcome, undo, failure, leftovers, result)
            }
            same @ (Body::JobStarted { .. }
            | Body::StepStarted { .. }
            | Body::StepSucceeded { .. }
            | Body::UndoStarted { .. }
            | Body::Unknown) => same,
        }
    }

    pub(super) fn sample(&self, mut sample: Sample) -> Sample {
        sample.text = self.text(&sample.text);
        sample.extra = self.extra(sample.extra);
        sample
    }

    pub(super) fn failure(&self, failure: Failure) -> Failure {
        Failure {
            code: failure.code,
            message: self.text(&failure.message),
            causes: failure.causes.iter().take(LIST_MAX).map(|text| self.text(text)).collect(),
            remedy: self.text(&failure.remedy),
            detail: self.extra(failure.detail),
        }
    }

    fn finished(
        &self,
        outcome: JobOutcome,
        undo: gantry_proto::UndoState,
        failure: Option<Failure>,
        leftovers: Vec<Leftover>,
        mut result: Value,
    ) -> Body {
        // The failure inside the result has been cleaned before; the rest comes from plan and facts.
        self.facts.json(&mut result);
        Body::JobFinished { outcome, undo, failure: failure.map(|failure| self.failure(failure)), leftovers, result }
    }

    fn text(&self, text: &str) -> String {
        let clean = self.all.text(text);
        match clean.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean.into_owned(),
        }
    }

    fn extra(&self, extra: Extra) -> Extra {
        let mut value = Value::Object(extra);
        self.all.json(&mut value);
        let length = value.to_string().len();
        match value {
            Value::Object(extra) if length <= DETAIL_MAX => extra,
            _ => [("left_out_bytes".to_owned(), length.into())].into_iter().collect(),
        }
    }
}

/// The event as it is, or shorter when no line would hold it: a job whose events cannot be written could never end.
fn bounded(body: Body) -> Body {
    let length = |body: &Body| serde_json::to_vec(body).map_or(0, |json| json.len());
    if length(&body) <= EVENT_MAX {
        return body;
    }
    tracing::warn!(bytes = length(&body), "an event is too long for the journal: its texts and lists are cut");
    let mut shorter = body;
    for (text, list) in SHORTER {
        let Ok(mut json) = serde_json::to_value(&shorter) else { break };
        shorten(&mut json, text, list);
        match serde_json::from_value(json) {
            Ok(cut) if length(&cut) <= EVENT_MAX => return cut,
            Ok(cut) => shorter = cut,
            Err(_) => break,
        }
    }
    match shorter {
        // Not known is a value that every fact may have.
        Body::Fact { step, key, .. } => Body::Fact { step, key, value: None },
        same => same,
    }
}

/// Keeps the shape, so that facts can be read again after a restart.
fn shorten(value: &mut Value, text_max: usize, list_max: usize) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(text_max) {
                text.truncate(end);
            }
        }
        Value::Array(items) => {
            items.truncate(list_max);
            items.iter_mut().for_each(|item| shorten(item, text_max, list_max));
        }
        Value::Object(map) => map.values_mut().for_each(|item| shorten(item, text_max, list_max)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use gantry_proto::{Level, REDACTED, Secret};
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_details_lose_their_secrets_while_facts_keep_the_words_of_the_plan() {
        let (all, facts) = (Redactor::new(), Redactor::new());
        all.register(&Secret::new("cloudtower"));
        all.register(&Secret::new("hunter22"));
        facts.register(&Secret::new("hunter22"));
        let cleaner = Cleaner { all: &all, facts: &facts };

        let extra: Extra =
            [("a".to_owned(), json!("x hunter22")), ("token".to_owned(), json!("t"))].into_iter().collect();
        let note = Body::Note {
            step: None,
            level: Level::Info,
            code: "c".into(),
            message: "login cloudtower/hunter22".into(),
            extra,
        };
        let Body::Note { message, extra, .. } = cleaner.body(note) else { panic!("another body") };
        assert_eq!(message, format!("login {REDACTED}/{REDACTED}"));
        assert_eq!((extra["a"].clone(), extra["token"].clone()), (json!(format!("x {REDACTED}")), json!(REDACTED)));

        let value = Some(json!({"name": "cloudtower", "seen": "hunter22"}));
        let fact = Body::Fact { step: "create-vm".into(), key: "vm".into(), value };
        let Body::Fact { value: Some(value), key, .. } = cleaner.body(fact) else { panic!("another body") };
        assert_eq!((key.as_str(), value), ("vm", json!({"name": "cloudtower", "seen": REDACTED})));
    }

    #[test]
    fn what_nobody_reads_is_cut() {
        let redactor = Redactor::new();
        let cleaner = Cleaner { all: &redactor, facts: &redactor };
        let detail: Extra = [("body".to_owned(), json!("x".repeat(DETAIL_MAX)))].into_iter().collect();
        let failure = Failure {
            message: "é".repeat(TEXT_MAX + 1),
            causes: vec![String::new(); LIST_MAX + 1],
            detail,
            ..Failure::default()
        };
        let cut = cleaner.failure(failure);
        assert_eq!((cut.message.chars().count(), cut.causes.len()), (TEXT_MAX + 1, LIST_MAX));
        assert!(cut.detail.contains_key("left_out_bytes"));
    }

    #[test]
    fn an_event_of_any_length_fits_in_a_line() {
        let redactor = Redactor::new();
        let cleaner = Cleaner { all: &redactor, facts: &redactor };
        let length = |body: &Body| serde_json::to_vec(body).unwrap().len();
        let fact = |value: Value| Body::Fact { step: "create-vm".into(), key: "vm".into(), value: Some(value) };

        let vm = json!({"uuid": "0f0e0d0c-1111-4222-8333-000000000001", "name": "名".repeat(1 << 20), "volumes": []});
        let cut = cleaner.body(fact(vm));
        let Body::Fact { value: Some(value), .. } = &cut else { panic!("another body") };
        assert_eq!(value["uuid"], "0f0e0d0c-1111-4222-8333-000000000001", "what is short stays");
        assert_eq!(value["name"].as_str().map(|name| name.chars().count()), Some(1_024));
        assert!(length(&cut) <= EVENT_MAX);

        let wide: serde_json::Map<String, Value> = (0..100_000).map(|n| (n.to_string(), json!("x"))).collect();
        assert!(matches!(cleaner.body(fact(Value::Object(wide))), Body::Fact { value: None, .. }));

        // As many and as long causes as a failure may have, in the event and once more in its result.
        let long = "名".repeat(TEXT_MAX + 1);
        let failure = Failure { message: long.clone(), causes: vec![long; LIST_MAX], ..Failure::default() };
        let left = Leftover { kind: "vm".into(), id: "i".into(), name: "n".repeat(1 << 20), remedy: String::new() };
        let last = Body::JobFinished {
            outcome: JobOutcome::Failed,
            undo: gantry_proto::UndoState::RollbackIncomplete,
            result: json!({"error": failure}),
            failure: Some(failure),
            leftovers: vec![left; 100],
        };
        let cut = cleaner.body(last);
        assert!(length(&cut) <= EVENT_MAX);
        assert!(
            matches!(cut, Body::JobFinished { outcome: JobOutcome::Failed, leftovers, .. } if !leftovers.is_empty())
        );
    }
}
