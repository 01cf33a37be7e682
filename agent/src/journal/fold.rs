//! What the lines of a journal add up to. Pure.

use std::collections::BTreeMap;

use gantry_proto::{Body, Event, JobView, StepId, event::Extra, view::Phase};

use super::record::{CancelRecord, Chunks, DecideRecord, HoldRecord, Record, StartRecord};

/// A job as its journal tells it.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// The accepted order of the newest epoch; `None` when the agent died before it was on disk.
    pub start: Option<StartRecord>,
    /// The events, folded: steps, facts, outcome.
    pub view: JobView,
    /// Acknowledged chunks, by volume and number.
    pub chunks: Chunks,
    /// Intents without outcome, by number: only a look-up tells whether they happened.
    pub open_intents: BTreeMap<u64, OpenIntent>,
    /// The highest number of an intent.
    pub last_intent: u64,
    /// Cancel orders of the newest epoch, oldest first.
    pub cancels: Vec<CancelRecord>,
    /// The newest pause or resume of the newest epoch.
    pub hold: Option<HoldRecord>,
    /// The newest answer to a question of the newest epoch.
    pub decision: Option<DecideRecord>,
    /// Everything up to here is stored at the controller.
    pub acked: u64,
}

/// An intent without outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenIntent {
    /// The step.
    pub step: StepId,
    /// The kind of call.
    pub call: String,
    /// What a look-up needs.
    pub detail: Extra,
}

impl Folded {
    /// Takes the next line in; says what does not fit.
    pub fn apply(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Start(start) => {
                if self.start.as_ref().is_some_and(|old| old.epoch >= start.epoch) {
                    return Err(format!("a second beginning of epoch {}", start.epoch));
                }
                self.cancels.clear();
                self.hold = None;
                self.decision = None;
                self.start = Some(*start);
            }
            Record::Event(event) => self.event(&event)?,
            Record::Acked(seq) => self.acked = self.acked.max(seq.min(self.view.last_seq)),
            Record::Chunk(line) => {
                self.chunks.entry(line.image_uuid).or_default().insert(line.chunk.chunk_num, line.chunk);
            }
            Record::Cancel(cancel) => self.cancels.push(cancel),
            Record::Hold(hold) => self.hold = Some(hold),
            Record::Decide(decision) => self.decision = Some(decision),
        }
        Ok(())
    }

    /// Whether the newest epoch has ended.
    pub fn finished(&self) -> bool {
        self.started() && self.view.phase == Phase::Finished
    }

    /// Whether the newest epoch has begun to tell.
    pub fn started(&self) -> bool {
        self.view.last_seq > 0 && self.start.as_ref().is_some_and(|start| start.epoch == self.view.epoch)
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        if event.seq != self.view.last_seq + 1 {
            return Err(format!("event {} after event {}", event.seq, self.view.last_seq));
        }
        match &event.body {
            Body::Intent { step, id, call, detail } => {
                self.last_intent = self.last_intent.max(*id);
                let (step, call, detail) = (step.clone(), call.clone(), detail.clone());
                self.open_intents.insert(*id, OpenIntent { step, call, detail });
            }
            Body::IntentOutcome { intent, .. } => {
                self.open_intents.remove(intent);
            }
            _ => {}
        }
        self.view.apply(event);
        Ok(())
    }
}
