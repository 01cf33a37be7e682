//! What agents tell: appended to the log, and added up in the job's row in the same transaction.

use async_trait::async_trait;
use gantry_proto::{AgentId, Body, Event, JobId, v1};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::Row as _;

use crate::store::{
    Appended, JobRow, Progress, StoreError, cancel_stage,
    sqlite::{
        rows::{self, signed},
        step_times,
        writer::{Group, Operation},
    },
};

/// See [`crate::store::Store::append`].
pub(in crate::store::sqlite) struct Append {
    pub(in crate::store::sqlite) job: JobId,
    pub(in crate::store::sqlite) agent: AgentId,
    pub(in crate::store::sqlite) events: Vec<(v1::Event, Event)>,
}

#[async_trait]
impl Operation for Append {
    type Answer = Appended;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Appended, StoreError> {
        let Some(row) = cx.job(self.job).await? else { return Ok(Appended::UnknownJob) };
        if row.agent != self.agent {
            return Ok(Appended::NotOwner);
        }
        let stored = row.progress.last_seq;
        let (known, fresh): (Vec<_>, Vec<_>) = self.events.iter().cloned().partition(|(event, _)| event.seq <= stored);
        if let Some((event, _)) = known.last()
            && cx.epoch_of(row.id, event.seq).await? != Some(event.epoch)
        {
            // An agent that was said to be off has told on under numbers that its successor has used.
            return Ok(Appended::OtherEpoch { job: row.epoch, got: event.epoch });
        }
        for (expected, (event, _)) in (stored + 1..).zip(&fresh) {
            if event.epoch != row.epoch {
                return Ok(Appended::OtherEpoch { job: row.epoch, got: event.epoch });
            }
            if event.seq != expected {
                return Ok(Appended::Gap { stored: expected - 1, got: event.seq });
            }
        }
        let new = fresh.len();
        let mut row = if fresh.is_empty() { row } else { cx.append(row, &fresh).await? };
        if fresh.iter().any(|(_, event)| matches!(event.body, Body::Surrendered { .. })) {
            row = cx.complete_move(row).await?;
        }
        Ok(Appended::Stored { row: Box::new(row), new })
    }
}

impl Group<'_> {
    /// Appends events that follow the log without a gap, and brings the row up to date.
    pub(super) async fn append(
        &mut self,
        mut row: JobRow,
        events: &[(v1::Event, Event)],
    ) -> Result<JobRow, StoreError> {
        let id = row.id.to_string();
        for (wire, _) in events {
            sqlx::query("INSERT INTO events (job_id, seq, epoch, at, body) VALUES (?, ?, ?, ?, ?)")
                .bind(&id)
                .bind(signed(wire.seq))
                .bind(i64::from(wire.epoch))
                .bind(wire.at_micros)
                .bind(wire.encode_to_vec())
                .execute(&mut *self.connection)
                .await?;
        }
        step_times::keep(&mut *self.connection, &row.site, events.iter().map(|(_, event)| event)).await?;
        let folded: Vec<Event> = events.iter().map(|(_, event)| event.clone()).collect();
        let asked = row.cancel;
        let (progress, cancel, result) = self
            .fold(row.id, &folded, |view| {
                (Progress::of(view), cancel_stage(asked, view), view.result.as_ref().map(|json| json.to_string()))
            })
            .await?;
        row.progress = progress;
        row.cancel = cancel;
        self.update_row(&row, result).await?;
        if row.finished() {
            self.close_orders(row.id).await?;
            if let Some(to) = row.moving_to.take() {
                let why = format!("the job ended before agent {} let go of it: it was not moved to {to}", row.agent);
                return self.drop_move(row, &why).await;
            }
        }
        Ok(row)
    }

    /// The epoch of a stored event.
    async fn epoch_of(&mut self, job: JobId, seq: u64) -> Result<Option<u32>, StoreError> {
        let found = sqlx::query("SELECT epoch FROM events WHERE job_id = ?1 AND seq = ?2")
            .bind(job.to_string())
            .bind(signed(seq))
            .fetch_optional(&mut *self.connection)
            .await?;
        found.map(|row| Ok(rows::small(row.try_get(0)?))).transpose()
    }

    /// Ends a job whose agent has written nothing: the controller writes the log's one event.
    pub(super) async fn end(&mut self, row: JobRow, body: Body) -> Result<JobRow, StoreError> {
        let event = Event { seq: row.progress.last_seq + 1, epoch: row.epoch, at: Timestamp::now(), body };
        self.append(row, &[(v1::Event::from(&event), event)]).await
    }
}
