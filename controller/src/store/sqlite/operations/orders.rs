//! Orders on their way: numbered, sent, reported on, closed.

use async_trait::async_trait;
use gantry_proto::{AgentId, JobId, v1};
use prost::Message as _;
use sqlx::Row as _;

use crate::store::{
    JobRow, OrderKind, OrderReport, StoreError,
    sqlite::{
        rows::{self, signed},
        writer::{Group, Operation},
    },
};

/// See [`crate::store::Store::sending`].
pub(in crate::store::sqlite) struct Sending(pub(in crate::store::sqlite) AgentId, pub(in crate::store::sqlite) u64);

#[async_trait]
impl Operation for Sending {
    type Answer = bool;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE orders SET sent = 1 WHERE agent_id = ?1 AND number = ?2 AND stage < 2")
            .bind(self.0.as_str())
            .bind(signed(self.1))
            .execute(&mut *cx.connection)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// See [`crate::store::Store::number_above`].
pub(in crate::store::sqlite) struct NumberAbove(pub(in crate::store::sqlite) AgentId, pub(in crate::store::sqlite) u64);

#[async_trait]
impl Operation for NumberAbove {
    type Answer = ();

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError> {
        let Self(agent, last) = self;
        let raised = sqlx::query("UPDATE agents SET next_order = ?2 + 1 WHERE id = ?1 AND next_order <= ?2")
            .bind(agent.as_str())
            .bind(signed(*last))
            .execute(&mut *cx.connection)
            .await?;
        if raised.rows_affected() == 0 {
            return Ok(());
        }
        // All of them, so that they keep their order.
        let waiting = sqlx::query(
            "SELECT number, body FROM orders WHERE agent_id = ?1 AND sent = 0 AND stage < 2 ORDER BY number",
        )
        .bind(agent.as_str())
        .fetch_all(&mut *cx.connection)
        .await?;
        for row in waiting {
            let old: i64 = row.try_get("number")?;
            let order = v1::Order::decode(row.try_get::<&[u8], _>("body")?);
            cx.renumber(agent, old, order.map_err(|_| StoreError::Corrupt("order"))?).await?;
        }
        tracing::warn!(%agent, last, "the agent has carried out orders that this store does not know: was it restored from \
            a copy? new orders get numbers above theirs");
        Ok(())
    }
}

/// See [`crate::store::Store::order_report`].
pub(in crate::store::sqlite) struct Report(
    pub(in crate::store::sqlite) AgentId,
    pub(in crate::store::sqlite) OrderReport,
);

#[async_trait]
impl Operation for Report {
    type Answer = Option<JobRow>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<JobRow>, StoreError> {
        let Self(agent, report) = self;
        let found =
            sqlx::query("SELECT job_id, kind, stage, sent, epoch FROM orders WHERE agent_id = ?1 AND number = ?2")
                .bind(agent.as_str())
                .bind(signed(report.number))
                .fetch_optional(&mut *cx.connection)
                .await?;
        let Some(found) = found else { return Ok(None) };
        let (before, stage) = (found.try_get::<i32, _>("stage")?, i32::from(report.stage));
        let over = before >= i32::from(v1::OrderStage::Done);
        if over || stage <= before || found.try_get::<i64, _>("sent")? == 0 {
            return Ok(None);
        }
        let kind = rows::order_kind(found.try_get("kind")?)?;
        let job = rows::job_id(found.try_get("job_id")?)?;
        cx.set_stage(agent, report.number, report.stage).await?;
        let Some(mut row) = cx.job(job).await? else { return Ok(None) };
        if row.finished() {
            return Ok(None);
        }
        if report.stage == v1::OrderStage::Refused {
            cx.set_refusal(&mut row, &report.why).await?;
        }
        match (kind, report.stage) {
            (OrderKind::Retry, v1::OrderStage::Refused) if row.epoch == rows::small(found.try_get("epoch")?) => {
                Ok(Some(cx.step_back(row).await?))
            }
            (OrderKind::Surrender, v1::OrderStage::Refused) if cx.awaits_surrender(job, report.number).await? => {
                Ok(Some(cx.drop_move(row, &report.why).await?))
            }
            (
                OrderKind::Pause
                | OrderKind::Resume
                | OrderKind::TuneUpload
                | OrderKind::Decide
                | OrderKind::Surrender
                | OrderKind::TakeOver,
                v1::OrderStage::Refused,
            ) => Ok(Some(row)),
            (OrderKind::Start, v1::OrderStage::Refused) if row.progress.last_seq == 0 => {
                Ok(Some(cx.end(row, report.refused.clone()).await?))
            }
            (OrderKind::Cancel, v1::OrderStage::Delivered | v1::OrderStage::Applied | v1::OrderStage::Done)
                if row.cancel == v1::CancelStage::Requested =>
            {
                let row = JobRow { cancel: v1::CancelStage::Delivered, ..row };
                cx.set_cancel(&row).await?;
                Ok(Some(row))
            }
            _ => Ok(None),
        }
    }
}

/// The question that an order answers, if it is a decision.
pub(super) fn question_of(order: &v1::Order) -> Option<u64> {
    match &order.kind {
        Some(v1::order::Kind::Decide(decision)) => Some(decision.question),
        _ => None,
    }
}

impl Group<'_> {
    async fn next_number(&mut self, agent: &AgentId) -> Result<i64, StoreError> {
        let query = "UPDATE agents SET next_order = next_order + 1 WHERE id = ?1 RETURNING next_order - 1";
        Ok(sqlx::query(query).bind(agent.as_str()).fetch_one(&mut *self.connection).await?.try_get(0)?)
    }

    /// Gives an order that was not sent a new number, and tells a move that waits for it.
    async fn renumber(&mut self, agent: &AgentId, old: i64, mut order: v1::Order) -> Result<(), StoreError> {
        let number = self.next_number(agent).await?;
        order.number = rows::unsigned(number);
        sqlx::query("UPDATE orders SET number = ?3, body = ?4 WHERE agent_id = ?1 AND number = ?2")
            .bind(agent.as_str())
            .bind(old)
            .bind(number)
            .bind(order.encode_to_vec())
            .execute(&mut *self.connection)
            .await?;
        sqlx::query("UPDATE moves SET surrender = ?3 WHERE from_agent = ?1 AND surrender = ?2 AND pending = 1")
            .bind(agent.as_str())
            .bind(old)
            .bind(number)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    pub(super) async fn insert_order(
        &mut self,
        row: &JobRow,
        kind: OrderKind,
        request: &str,
        mut order: v1::Order,
    ) -> Result<u64, StoreError> {
        let number = self.next_number(&row.agent).await?;
        order.number = rows::unsigned(number);
        order.epoch = row.epoch;
        let question = question_of(&order).unwrap_or(0);
        sqlx::query(
            "INSERT INTO orders (agent_id, number, job_id, epoch, kind, body, sent, stage, request, question)
             VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?)",
        )
        .bind(row.agent.as_str())
        .bind(number)
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch))
        .bind(rows::order_kind_text(kind))
        .bind(order.encode_to_vec())
        .bind(request)
        .bind(signed(question))
        .execute(&mut *self.connection)
        .await?;
        Ok(order.number)
    }

    /// Moves an order on; one of which nothing more comes loses its body, and with it the sealed secrets.
    pub(super) async fn set_stage(
        &mut self,
        agent: &AgentId,
        number: u64,
        stage: v1::OrderStage,
    ) -> Result<(), StoreError> {
        let over = i32::from(stage) >= i32::from(v1::OrderStage::Done);
        sqlx::query("UPDATE orders SET stage = ?3, body = iif(?4, x'', body) WHERE agent_id = ?1 AND number = ?2")
            .bind(agent.as_str())
            .bind(signed(number))
            .bind(i32::from(stage))
            .bind(over)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// A job that has ended, or that its agent has let go of, needs no order any more.
    pub(super) async fn close_orders(&mut self, job: JobId) -> Result<(), StoreError> {
        let done = i32::from(v1::OrderStage::Done);
        sqlx::query("UPDATE orders SET stage = ?2, body = x'' WHERE job_id = ?1 AND stage < ?2")
            .bind(job.to_string())
            .bind(done)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// Whether an order of this job came from this request.
    pub(super) async fn knows_request(&mut self, job: JobId, request: &str) -> Result<bool, StoreError> {
        if request.is_empty() {
            return Ok(false);
        }
        let query = "SELECT 1 FROM orders WHERE job_id = ?1 AND request = ?2 LIMIT 1";
        let found = sqlx::query(query).bind(job.to_string()).bind(request).fetch_optional(&mut *self.connection);
        Ok(found.await?.is_some())
    }
}
