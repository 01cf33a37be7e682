//! What the events of a job say in figures. Counted when they are stored, so that one that comes twice counts once.

use gantry_proto::v1::{self, event::Body};
use jiff::Timestamp;
use opentelemetry::KeyValue;
use serde_json::Value;

use super::{Metrics, metrics, word};

/// Clocks of agents may be wrong: no lag is longer, and none is below zero.
const LAG_MAX: f64 = 7.0 * 86_400.0;

/// What some events say, taken down before they go into the store.
#[derive(Debug)]
pub(crate) struct Seen(Vec<(u64, i64, Fact)>);

#[derive(Debug)]
enum Fact {
    Started,
    StepDone { step: String, seconds: f64 },
    StepFailed { step: String, retried: bool },
    ChunkAgain,
    Uploaded { bytes: u64, resent: u64, seconds: f64 },
    Ended { outcome: v1::JobOutcome, undo: v1::UndoState },
    Other,
}

impl Seen {
    /// What they say.
    pub(crate) fn of(events: &[v1::Event]) -> Self {
        Self(events.iter().map(|event| (event.seq, event.at_micros, fact(event.body.as_ref()))).collect())
    }

    /// The last `new` of them were stored. `began`: when the job's epoch began.
    pub(crate) fn stored(self, new: u64, began: Option<Timestamp>) {
        let (metrics, now) = (metrics(), Timestamp::now());
        let known = self.0.len().saturating_sub(usize::try_from(new).unwrap_or(usize::MAX));
        for (_, at, fact) in self.0.into_iter().skip(known) {
            let lag = (now.as_microsecond() - at) as f64 / 1e6;
            metrics.event_lag.record(lag.clamp(0.0, LAG_MAX), &[]);
            metrics.events.add(1, &[]);
            metrics.count(fact, at, began);
        }
    }
}

impl Metrics {
    fn count(&self, fact: Fact, at: i64, began: Option<Timestamp>) {
        match fact {
            Fact::Started | Fact::Other => {}
            Fact::StepDone { step, seconds } => self.step_duration.record(seconds, &[self.bounded("step", &step)]),
            Fact::StepFailed { step, retried } => {
                self.step_failures.add(1, &[self.bounded("step", &step), KeyValue::new("retried", retried)]);
            }
            Fact::ChunkAgain => self.upload_retries.add(1, &[]),
            Fact::Uploaded { bytes, resent, seconds } => {
                self.upload_bytes.add(bytes, &[]);
                self.upload_resent.add(resent, &[]);
                if seconds > 0.0 {
                    self.upload_rate.record(bytes as f64 / seconds, &[]);
                }
            }
            Fact::Ended { outcome, undo } => {
                let outcome = word("outcome", outcome_word(outcome));
                self.jobs_ended.add(1, &[outcome.clone(), word("undo", undo_word(undo))]);
                if let Some(began) = began {
                    let seconds = (at - began.as_microsecond()) as f64 / 1e6;
                    self.job_duration.record(seconds.max(0.0), &[outcome]);
                }
            }
        }
    }
}

fn fact(body: Option<&Body>) -> Fact {
    match body {
        Some(Body::JobStarted(_)) => Fact::Started,
        Some(Body::StepSucceeded(done)) => {
            Fact::StepDone { step: done.step.clone(), seconds: done.elapsed_ms as f64 / 1e3 }
        }
        Some(Body::StepFailed(failed)) => Fact::StepFailed { step: failed.step.clone(), retried: failed.will_retry },
        Some(Body::Note(note)) if note.code == "chunk_retry" => Fact::ChunkAgain,
        Some(Body::Note(note)) if note.code == "upload_sent" => uploaded(&note.extra_json).unwrap_or(Fact::Other),
        Some(Body::JobFinished(end)) => Fact::Ended { outcome: end.outcome(), undo: end.undo() },
        _ => Fact::Other,
    }
}

fn uploaded(extra: &str) -> Option<Fact> {
    let extra: Value = serde_json::from_str(extra).ok()?;
    let number = |key: &str| extra.get(key)?.as_u64();
    let seconds = extra.get("seconds")?.as_f64()?;
    Some(Fact::Uploaded { bytes: number("sent_bytes")?, resent: number("resent_bytes")?, seconds })
}

fn outcome_word(outcome: v1::JobOutcome) -> &'static str {
    match outcome {
        v1::JobOutcome::Unspecified => "other",
        v1::JobOutcome::Succeeded => "succeeded",
        v1::JobOutcome::Failed => "failed",
        v1::JobOutcome::Cancelled => "cancelled",
    }
}

fn undo_word(undo: v1::UndoState) -> &'static str {
    match undo {
        v1::UndoState::Unspecified => "other",
        v1::UndoState::Nothing => "nothing",
        v1::UndoState::RolledBack => "rolled_back",
        v1::UndoState::Incomplete => "rollback_incomplete",
        v1::UndoState::Kept => "kept",
    }
}
