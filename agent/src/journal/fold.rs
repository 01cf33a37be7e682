//! What the lines of a journal add up to. Pure.

use std::collections::BTreeMap;

use gantry_proto::{Body, Event, JobView, StepId, TakenOver, event::Extra, view::Phase};
use serde::{Deserialize, Serialize};

use super::{
    Carried, SurrenderRecord, Tail,
    record::{CancelRecord, Chunks, DecideRecord, HoldRecord, Record, StartRecord, TuneRecord},
};

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
    /// The newest wishes about the upload.
    pub tune: Option<TuneRecord>,
    /// The newest answer to a question of the newest epoch.
    pub decision: Option<DecideRecord>,
    /// The newest order to let go of the newest epoch.
    pub surrender: Option<SurrenderRecord>,
    /// That has been told.
    pub surrendered: bool,
    /// Another agent has the newest epoch's job.
    pub moved: bool,
    /// The job comes from another agent, in this epoch or an earlier one.
    pub taken_over: Option<TakenOver>,
    /// The last event that the other agent has told.
    pub before: u64,
    /// Everything up to here is stored at the controller.
    pub acked: u64,
}

/// An intent without outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
                if let Some(carried) = &start.carried {
                    if self.start.is_some() {
                        return Err("a job that is here already comes from another agent".to_owned());
                    }
                    self.carry(carried);
                }
                self.cancels.clear();
                (self.hold, self.decision, self.surrender) = (None, None, None);
                (self.surrendered, self.moved) = (false, false);
                self.start = Some(*start);
            }
            Record::Event(event) => self.event(&event)?,
            Record::Acked(seq) => self.acked = self.acked.max(seq.min(self.view.last_seq)),
            Record::Chunk(line) => {
                self.chunks.entry(line.image_uuid).or_default().insert(line.chunk.chunk_num, line.chunk);
            }
            Record::Cancel(cancel) => self.cancels.push(cancel),
            Record::Hold(hold) => self.hold = Some(hold),
            Record::Tune(tune) => self.tune = Some(tune),
            Record::Decide(decision) => self.decision = Some(decision),
            Record::Surrender(surrender) => self.surrender = Some(surrender),
            Record::Moved(epoch) => self.moved = self.start.as_ref().is_some_and(|start| start.epoch == epoch),
        }
        Ok(())
    }

    /// Whether the newest epoch has told its last event.
    pub fn finished(&self) -> bool {
        self.surrendered || (self.started() && self.view.phase == Phase::Finished)
    }

    /// Whether nothing more is to be done for the job here, in its newest epoch.
    pub fn is_over(&self) -> bool {
        self.finished() || self.moved
    }

    /// Whether the newest epoch has begun to tell.
    pub fn started(&self) -> bool {
        self.view.last_seq > 0 && self.start.as_ref().is_some_and(|start| start.epoch == self.view.epoch)
    }

    pub(super) fn tail(&self, len: u64) -> Tail {
        Tail {
            epoch: self.start.as_ref().map_or(0, |start| start.epoch),
            last_seq: self.view.last_seq,
            acked: self.acked,
            started: self.started(),
            finished: self.finished(),
            surrendered: self.surrendered,
            moved: self.moved,
            before: self.before,
            len,
        }
    }

    /// The job goes on from what the controller's log says.
    fn carry(&mut self, carried: &Carried) {
        let Carried { from, last_seq, last_intent, facts, open_intents } = carried.clone();
        self.view.open_intents = open_intents.iter().map(|(id, intent)| (*id, intent.call.clone())).collect();
        (self.view.last_seq, self.view.facts) = (last_seq, facts);
        (self.before, self.acked) = (last_seq, last_seq);
        (self.last_intent, self.open_intents, self.taken_over) = (last_intent, open_intents, Some(from));
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        if self.view.last_seq.checked_add(1) != Some(event.seq) {
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
            Body::Surrendered { .. } => self.surrendered = true,
            _ => {}
        }
        self.view.apply(event);
        Ok(())
    }
}
