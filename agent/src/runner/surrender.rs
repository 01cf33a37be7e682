//! Lets go of a job that another agent gets: stops it as it is, undoes nothing, and tells so as its last event.

use std::{io, sync::Arc};

use gantry_proto::{AgentId, Body, Code, JobId, v1};
use v1::{OrderStage, order::Kind};

use super::{
    Runner,
    accept::{Refused, all_of, other_epoch, refused, update, words},
    entry::Entry,
};
use crate::{
    joblog::JobLog,
    journal::{Folded, Journal, SurrenderRecord},
};

impl Runner {
    /// What becomes of an order for a job that goes to another agent, or has gone there: one that was taken before is
    /// done, any other is refused. `None`: the job is not such a one, or the order is about that very move.
    pub(super) fn let_go_of(&self, job: JobId, order: &v1::Order) -> Result<Option<OrderStage>, Refused> {
        let Some(entry) = self.entry(job) else { return Ok(None) };
        if matches!(order.kind, Some(Kind::Surrender(_) | Kind::TakeOver(_))) {
            return Ok(None);
        }
        match gone(&entry) {
            None => Ok(None),
            Some(_) if entry.journal.tail().surrendered && entry.knows(order.number) => Ok(Some(OrderStage::Done)),
            Some(refused) => Err(refused),
        }
    }

    /// Stops the job and lets go of it; on disk before it takes effect. A job that ends before it can stop is not let go
    /// of, and the order is done.
    pub(super) async fn surrender(
        self: &Arc<Self>,
        id: JobId,
        order: u64,
        epoch: u32,
        surrender: v1::SurrenderOrder,
    ) -> Result<OrderStage, Refused> {
        let entry = self.entry(id).ok_or_else(|| refused(Code::JobNotFound, "the agent does not have this job"))?;
        let tail = entry.journal.tail();
        if epoch != tail.epoch {
            return Err(other_epoch(epoch, tail.epoch));
        }
        if tail.finished && (!tail.surrendered || entry.knows(order)) {
            return Ok(OrderStage::Done);
        }
        if tail.is_over() {
            return Err(gone(&entry).unwrap_or_else(moved));
        }
        if entry.knows(order) {
            return Ok(OrderStage::Applied);
        }
        let to: AgentId =
            surrender.to_agent.parse().map_err(|error| refused(Code::BadRequest, format!("the new agent: {error}")))?;
        if to == self.identity.agent {
            return Err(refused(Code::BadRequest, "the job is at this agent already"));
        }
        let record = SurrenderRecord { order, epoch, by: words(&surrender.by), to };
        let write = record.clone();
        let written = entry.journal.on_disk(move |journal| journal.surrender(write)).await;
        written.map_err(|error| refused(Code::Internal, format!("the order cannot be written down: {error}")))?;
        tracing::info!(job = %id, order, by = %record.by, to = %record.to, "a job is to go to another agent");
        let first = entry.surrender().is_none();
        entry.note_surrender(record);
        if first {
            self.let_go(id, entry);
        }
        Ok(OrderStage::Applied)
    }

    /// Waits until nobody is at work on the job, and tells then that it is let go of.
    pub(super) fn let_go(self: &Arc<Self>, id: JobId, entry: Arc<Entry>) {
        let runner = self.clone();
        self.tasks.spawn(async move {
            entry.closed().await;
            entry.set_at_work(true);
            let told = runner.tell_surrendered(id, &entry).await;
            entry.set_at_work(false);
            match told {
                Ok(()) => {
                    entry.orders().into_iter().for_each(|order| runner.update(update(order, OrderStage::Done, None)));
                    runner.forget_oldest().await;
                }
                Err(error) => {
                    tracing::error!(job = %id, %error, "the journal cannot be used: that the job is let go of \
                    is told at the agent's next start; look at the disk under data_dir first")
                }
            }
        });
    }

    /// The last event, unless the job has ended meanwhile, or the controller wants to hear no more of it.
    async fn tell_surrendered(&self, id: JobId, entry: &Entry) -> io::Result<()> {
        let read = |journal: &Journal| journal.folded().map_err(io::Error::other);
        let folded: Folded = entry.journal.on_disk(read).await?;
        let Some(surrender) = entry.surrender().filter(|_| !folded.is_over()) else { return Ok(()) };
        // An operator's words are told: what must not be seen is known to the redactor, where it can be opened.
        let secrets = folded.start.as_ref().and_then(|start| self.open(id, start).ok());
        let _held = secrets.map(|secrets| self.redactor.hold(all_of(&secrets)));
        let (journal, wake, stop) = (entry.journal.clone(), self.wake.clone(), entry.stop.clone());
        let log = JobLog::new(&self.settings, id, &self.redactor, journal, &folded, wake, stop);
        // A cancel that was never told would be lost with the job.
        log.tell_cancel().await?;
        log.append(Body::Surrendered { by: surrender.by, to: surrender.to }).await?;
        if let Err(error) = log.finish().await {
            tracing::warn!(job = %id, %error, "the job's log files were not closed in order");
        }
        Ok(())
    }
}

/// Why a job takes no more orders, when another agent has it, or gets it.
fn gone(entry: &Entry) -> Option<Refused> {
    let tail = entry.journal.tail();
    if tail.moved {
        return Some(moved());
    }
    let to = entry.surrender()?.to;
    match (tail.finished, tail.surrendered) {
        (true, true) => Some(refused(Code::JobState, format!("the job has moved to agent {to}: give the order there"))),
        (true, false) => None,
        (false, _) => {
            let message = format!("the job is about to move to agent {to}: give the order again once it is there");
            Some(refused(Code::JobState, message))
        }
    }
}

fn moved() -> Refused {
    refused(Code::JobState, "the job has moved to another agent: give the order there")
}
