//! The wish to stop a job.

use async_trait::async_trait;
use gantry_proto::v1;
use sqlx::Row as _;

use super::WITHDRAWN;
use crate::store::{
    Cancel, Cancelled, JobRow, OrderKind, StoreError,
    moving::end_with_leftovers,
    sqlite::writer::{Group, Operation},
};

/// See [`crate::store::Store::cancel`].
pub(in crate::store::sqlite) struct CancelJob(pub(in crate::store::sqlite) Cancel);

#[async_trait]
impl Operation for CancelJob {
    type Answer = Option<Cancelled>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<Cancelled>, StoreError> {
        let Some(mut row) = cx.job(self.0.job).await? else { return Ok(None) };
        let answer = |row, cut_short| Ok(Some(Cancelled { row, cut_short }));
        let asked = row.cancel != v1::CancelStage::Unspecified;
        if row.finished() {
            if !asked {
                row.cancel = v1::CancelStage::TooLate;
                cx.set_cancel(&row).await?;
            }
            return answer(row, false);
        }
        // A start that reached nobody is withdrawn, and a job that its next agent refuses has nobody who could undo it. One
        // that is on its way to an agent may have made something: that agent undoes it.
        let nobody = match cx.unbegun(&row).await? {
            Some(OrderKind::Start) => true,
            Some(OrderKind::TakeOver) => !row.refusal.is_empty(),
            _ => false,
        };
        if nobody {
            row.cancel = row.cancel.max(v1::CancelStage::Requested);
            cx.withdraw(&row).await?;
            let mut log = Vec::new();
            cx.each_event(row.id, |event| log.push(event.clone())).await?;
            let end = end_with_leftovers(self.0.unstarted.clone(), &log);
            return answer(cx.end(row, end).await?, false);
        }
        let given = cx.cancels(&row).await?;
        if !given.is_empty() {
            // No step runs any more: what is left to end is the undo's waiting. One order for that is enough.
            let undoing = row.cancel == v1::CancelStage::Stopped;
            let repeated = !self.0.request.is_empty() && given.contains(&self.0.request);
            if undoing && given.len() == 1 && !repeated {
                cx.insert_order(&row, OrderKind::Cancel, &self.0.request, self.0.order.clone()).await?;
                return answer(row, true);
            }
            return answer(row, given.len() > 1);
        }
        // A stage into which a move has brought the job stays.
        if !asked {
            row.cancel = v1::CancelStage::Requested;
            cx.set_cancel(&row).await?;
        }
        cx.insert_order(&row, OrderKind::Cancel, &self.0.request, self.0.order.clone()).await?;
        answer(row, false)
    }
}

impl Group<'_> {
    /// The order that begins this epoch is no longer to be sent.
    async fn withdraw(&mut self, row: &JobRow) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE orders SET stage = ?3, body = x''
             WHERE job_id = ?1 AND epoch = ?2 AND kind IN ('start', 'take_over') AND sent = 0 AND stage = 0",
        )
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch))
        .bind(WITHDRAWN)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    pub(super) async fn set_cancel(&mut self, row: &JobRow) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET cancel = ?2 WHERE id = ?1")
            .bind(row.id.to_string())
            .bind(i32::from(row.cancel))
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// The requests of this epoch's cancels that are on their way or taken; a refused one is not, and may be asked for again.
    pub(super) async fn cancels(&mut self, job: &JobRow) -> Result<Vec<String>, StoreError> {
        let query = "SELECT request FROM orders WHERE job_id = ?1 AND epoch = ?2 AND kind = 'cancel' AND stage <> ?3";
        let rows = sqlx::query(query)
            .bind(job.id.to_string())
            .bind(i64::from(job.epoch))
            .bind(i32::from(v1::OrderStage::Refused))
            .fetch_all(&mut *self.connection)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
