//! A job moves to another agent: the wish, and the commit that gives it its new epoch.

use async_trait::async_trait;
use gantry_proto::{AgentId, JobId, JobOutcome, v1};
use prost::Message as _;
use sqlx::Row as _;
use v1::{CancelStage, order::Kind};

use super::WITHDRAWN;
use crate::store::{
    JobRow, OrderKind, Progress, Relocate, Relocated, StoreError,
    moving::Carry,
    sqlite::{
        rows::{self, signed},
        writer::{Group, Operation},
    },
};

/// See [`crate::store::Store::relocate`].
pub(in crate::store::sqlite) struct MoveJob(pub(in crate::store::sqlite) Relocate);

#[async_trait]
impl Operation for MoveJob {
    type Answer = Option<Relocated>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<Relocated>, StoreError> {
        let wish = &self.0;
        let Some(row) = cx.job(wish.job).await? else { return Ok(None) };
        if cx.knows_request(row.id, &wish.request).await? {
            return Ok(Some(Relocated::Known(row)));
        }
        let succeeded = row.progress.outcome == Some(JobOutcome::Succeeded);
        if row.agent != wish.from || row.epoch != wish.epoch || succeeded {
            return Ok(Some(Relocated::Overtaken(row)));
        }
        if row.finished()
            && let Some(busy) = cx.busy(&row.cloudtower_ip, &row.target).await?
        {
            return Ok(Some(Relocated::TargetBusy(busy)));
        }
        let unbegun = cx.unbegun(&row).await?.is_some();
        if wish.to == row.agent && !unbegun {
            return Ok(Some(Relocated::Overtaken(row)));
        }
        let came = if unbegun { cx.came_from(&row).await? } else { None };
        // An agent that never began has nothing to confirm; whoever had the job before it has confirmed, or not.
        let (from, confirmed) = came.unwrap_or_else(|| (row.agent.clone(), unbegun || row.finished()));
        let (to, request, order) = (wish.to.clone(), wish.request.clone(), wish.take_over.clone());
        let moving = Moving { from, to, confirmed, request, order };
        if unbegun || row.finished() || wish.old_agent_is_off {
            return Ok(Some(Relocated::Moved(cx.hand_over(row, moving).await?)));
        }
        match &row.moving_to {
            Some(to) if *to == wish.to => return Ok(Some(Relocated::Asked(row))),
            Some(_) => return Ok(Some(Relocated::Elsewhere(row))),
            None => {}
        }
        let surrender = cx.insert_order(&row, OrderKind::Surrender, &wish.request, wish.surrender.clone()).await?;
        cx.put_move(&row, &Moving { confirmed: true, ..moving }, Some(surrender)).await?;
        let mut row = JobRow { moving_to: Some(wish.to.clone()), ..row };
        cx.set_refusal(&mut row, "").await?;
        Ok(Some(Relocated::Asked(row)))
    }
}

/// A move that is due or waits for the agent that has the job.
struct Moving {
    from: AgentId,
    to: AgentId,
    /// `from` is known to have stopped.
    confirmed: bool,
    request: String,
    /// To be filled in from the log.
    order: v1::Order,
}

impl Group<'_> {
    /// The kind of the order that begins this epoch, when no agent has begun by it or ever will: it was not sent, was
    /// withdrawn, or the agent refused to take the job over.
    pub(super) async fn unbegun(&mut self, row: &JobRow) -> Result<Option<OrderKind>, StoreError> {
        let query = "SELECT kind FROM orders WHERE job_id = ?1 AND epoch = ?2 AND agent_id = ?3
                         AND kind IN ('start', 'retry', 'take_over')
                         AND ((sent = 0 AND stage = 0) OR stage = ?4 OR (kind = 'take_over' AND stage = ?5)) LIMIT 1";
        let found = sqlx::query(query)
            .bind(row.id.to_string())
            .bind(i64::from(row.epoch))
            .bind(row.agent.as_str())
            .bind(WITHDRAWN)
            .bind(i32::from(v1::OrderStage::Refused))
            .fetch_optional(&mut *self.connection)
            .await?;
        found.map(|found| rows::order_kind(found.try_get(0)?)).transpose()
    }

    /// What an agent told is `Surrendered`: the move that has waited for that is made.
    pub(super) async fn complete_move(&mut self, row: JobRow) -> Result<JobRow, StoreError> {
        let query = "SELECT * FROM moves WHERE job_id = ?1 AND pending = 1";
        let found = sqlx::query(query).bind(row.id.to_string()).fetch_optional(&mut *self.connection).await?;
        let Some(found) = found else { return Ok(row) };
        let moving = Moving {
            from: rows::agent_id(found.try_get("from_agent")?)?,
            to: rows::agent_id(found.try_get("to_agent")?)?,
            confirmed: true,
            request: found.try_get("request")?,
            order: v1::Order::decode(found.try_get::<&[u8], _>("body")?).map_err(|_| StoreError::Corrupt("move"))?,
        };
        self.hand_over(row, moving).await
    }

    /// A move that waits is given up; the job says why.
    pub(super) async fn drop_move(&mut self, mut row: JobRow, why: &str) -> Result<JobRow, StoreError> {
        sqlx::query("DELETE FROM moves WHERE job_id = ?1 AND pending = 1")
            .bind(row.id.to_string())
            .execute(&mut *self.connection)
            .await?;
        row.moving_to = None;
        self.set_refusal(&mut row, why).await?;
        Ok(row)
    }

    /// Whether this order tells an agent to let go of the job for a move that waits for it.
    pub(super) async fn awaits_surrender(&mut self, job: JobId, number: u64) -> Result<bool, StoreError> {
        let query = "SELECT 1 FROM moves WHERE job_id = ?1 AND pending = 1 AND surrender = ?2";
        let found = sqlx::query(query).bind(job.to_string()).bind(signed(number));
        Ok(found.fetch_optional(&mut *self.connection).await?.is_some())
    }

    /// From whom the job came in this epoch, and whether that agent is known to have stopped.
    async fn came_from(&mut self, row: &JobRow) -> Result<Option<(AgentId, bool)>, StoreError> {
        let query = "SELECT from_agent, confirmed FROM moves WHERE job_id = ?1 AND epoch = ?2 AND pending = 0";
        let found = sqlx::query(query).bind(row.id.to_string()).bind(i64::from(row.epoch));
        let Some(found) = found.fetch_optional(&mut *self.connection).await? else { return Ok(None) };
        Ok(Some((rows::agent_id(found.try_get(0)?)?, found.try_get::<i64, _>(1)? != 0)))
    }

    /// The job in its next epoch, at its next agent. The log and its numbering go on.
    async fn hand_over(&mut self, row: JobRow, mut moving: Moving) -> Result<JobRow, StoreError> {
        let mut carry = Carry::default();
        self.each_event(row.id, |event| carry.apply(event)).await?;
        let cancelled = self.is_being_cancelled(&row, &carry).await?;
        let undo_only = !row.finished() && (row.undo_only || cancelled || carry.undoing);
        self.close_orders(row.id).await?;
        let Some(Kind::TakeOver(order)) = &mut moving.order.kind else { return Err(StoreError::Corrupt("move")) };
        carry.fill(order);
        order.undo_only = undo_only;
        let from = order.from.get_or_insert_default();
        (from.from_agent, from.confirmed) = (moving.from.to_string(), moving.confirmed);
        let next = JobRow {
            epoch: row.epoch + 1,
            agent: moving.to.clone(),
            // No step runs any more; what was made is still to be removed.
            cancel: if cancelled { CancelStage::Stopped } else { CancelStage::Unspecified },
            refusal: String::new(),
            moving_to: None,
            undo_only,
            progress: Progress { last_seq: row.progress.last_seq, ..Progress::queued() },
            ..row.clone()
        };
        sqlx::query("UPDATE jobs SET epoch = ?2, agent_id = ?3, refusal = '', undo_only = ?4 WHERE id = ?1")
            .bind(next.id.to_string())
            .bind(i64::from(next.epoch))
            .bind(next.agent.as_str())
            .bind(i64::from(next.undo_only))
            .execute(&mut *self.connection)
            .await?;
        self.update_row(&next, None).await?;
        self.put_move(&row, &moving, None).await?;
        self.insert_order(&next, OrderKind::TakeOver, &moving.request, moving.order).await?;
        Ok(next)
    }

    /// Whether the job was asked to stop and the wish still stands: it was not refused.
    async fn is_being_cancelled(&mut self, row: &JobRow, carry: &Carry) -> Result<bool, StoreError> {
        let asked = matches!(row.cancel, CancelStage::Requested | CancelStage::Delivered | CancelStage::Stopped);
        if row.finished() || !asked {
            return Ok(false);
        }
        // A move has carried it into this epoch, the agent has taken it up, or it is on its way.
        Ok(row.undo_only || carry.view.cancelled_by.is_some() || !self.cancels(row).await?.is_empty())
    }

    /// The move into the next epoch; it replaces one that waits. Without a surrender order it is made.
    async fn put_move(&mut self, row: &JobRow, moving: &Moving, surrender: Option<u64>) -> Result<(), StoreError> {
        let body = if surrender.is_some() { moving.order.encode_to_vec() } else { Vec::new() };
        sqlx::query(
            "INSERT OR REPLACE INTO moves (job_id, epoch, from_agent, to_agent, confirmed, pending, surrender, request, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch) + 1)
        .bind(moving.from.as_str())
        .bind(moving.to.as_str())
        .bind(i64::from(moving.confirmed))
        .bind(i64::from(surrender.is_some()))
        .bind(signed(surrender.unwrap_or(0)))
        .bind(&moving.request)
        .bind(body)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}
