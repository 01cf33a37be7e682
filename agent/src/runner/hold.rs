//! Orders that hold a job, let it go on, steer its upload, or answer its question: on disk, then in effect.

use gantry_proto::{
    Code, JobId,
    error::causes,
    v1::{self, OrderStage},
};

use super::{
    Runner,
    accept::{Refused, other_epoch, refused, words},
};
use crate::journal::{DecideRecord, HoldRecord, TuneRecord};

impl Runner {
    /// A pause or a resume: on disk, then in effect at the next safe point.
    pub(super) async fn hold(&self, id: JobId, record: HoldRecord) -> Result<OrderStage, Refused> {
        let entry = self.entry(id).ok_or_else(|| refused(Code::JobNotFound, "the agent does not have this job"))?;
        let tail = entry.journal.tail();
        if record.epoch != tail.epoch {
            return Err(other_epoch(record.epoch, tail.epoch));
        }
        if tail.finished {
            return Ok(OrderStage::Done);
        }
        if entry.newest_hold() >= record.order {
            return Ok(OrderStage::Applied);
        }
        let write = record.clone();
        let written = entry.journal.on_disk(move |journal| journal.hold(write)).await;
        written.map_err(|error| refused(Code::Internal, format!("the order cannot be written down: {error}")))?;
        tracing::info!(job = %id, order = record.order, hold = record.hold, by = %record.by, "a job is held or goes on");
        entry.note_hold(record);
        Ok(OrderStage::Applied)
    }

    /// Wishes about the upload, beside the earlier ones: on disk, then in effect at once.
    pub(super) async fn tune(
        &self,
        id: JobId,
        (order, epoch): (u64, u32),
        wishes: v1::TuneUploadOrder,
    ) -> Result<OrderStage, Refused> {
        let entry = self.entry(id).ok_or_else(|| refused(Code::JobNotFound, "the agent does not have this job"))?;
        let tail = entry.journal.tail();
        if epoch != tail.epoch {
            return Err(other_epoch(epoch, tail.epoch));
        }
        if tail.finished {
            return Ok(OrderStage::Done);
        }
        let (newest, mut tuning) = entry.tuning();
        if newest >= order {
            return Ok(OrderStage::Applied);
        }
        tuning.limit_bytes_per_s = wishes.limit_bytes_per_s.or(tuning.limit_bytes_per_s);
        tuning.in_flight = wishes.in_flight.or(tuning.in_flight);
        tuning.paused = wishes.paused.unwrap_or(tuning.paused);
        tuning.by = words(&wishes.by);
        let record = TuneRecord { order, epoch, tuning };
        let write = record.clone();
        let written = entry.journal.on_disk(move |journal| journal.tune(write)).await;
        written.map_err(|error| refused(Code::Internal, format!("the order cannot be written down: {error}")))?;
        tracing::info!(job = %id, order, tuning = %record.tuning, by = %record.tuning.by, "an upload is steered");
        entry.note_tuning(record);
        Ok(OrderStage::Applied)
    }

    /// The answer to the question that the job asks now.
    pub(super) async fn decide(&self, id: JobId, record: DecideRecord) -> Result<OrderStage, Refused> {
        let entry = self.entry(id).ok_or_else(|| refused(Code::JobNotFound, "the agent does not have this job"))?;
        let tail = entry.journal.tail();
        if record.epoch != tail.epoch {
            return Err(other_epoch(record.epoch, tail.epoch));
        }
        if entry.knows_decision(record.order) {
            return Ok(if tail.finished { OrderStage::Done } else { OrderStage::Applied });
        }
        let folded = entry.journal.on_disk(|journal| journal.folded().map_err(std::io::Error::other)).await;
        let folded = folded.map_err(|error| refused(Code::Internal, causes(&error).join(": ")))?;
        let asked = folded.view.question.filter(|asked| asked.seq == record.question && asked.decided.is_none());
        let asked = asked.ok_or_else(|| refused(Code::JobState, "the job does not ask that, or not any more"))?;
        if let Some(before) = folded.decision.filter(|before| before.question == record.question) {
            let message = format!("{} has answered that already: {}", before.by, before.choice);
            return Err(refused(Code::JobState, message));
        }
        if !asked.choices.iter().any(|choice| choice.id == record.choice) {
            return Err(refused(Code::JobState, format!("\"{}\" is none of the choices", record.choice)));
        }
        let write = record.clone();
        let written = entry.journal.on_disk(move |journal| journal.decide(write)).await;
        written.map_err(|error| refused(Code::Internal, format!("the order cannot be written down: {error}")))?;
        tracing::info!(job = %id, order = record.order, choice = record.choice, by = %record.by, "a question is answered");
        entry.note_decision(record);
        Ok(OrderStage::Applied)
    }
}
