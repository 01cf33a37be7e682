//! The next epoch of a job that has ended, and the way back when its agent will not begin it.

use async_trait::async_trait;
use gantry_proto::v1;
use prost::Message as _;

use crate::store::{
    Again, Begun, JobRow, OrderKind, Progress, StoreError,
    sqlite::writer::{Group, Operation},
};

/// See [`crate::store::Store::again`].
pub(in crate::store::sqlite) struct BeginAgain(pub(in crate::store::sqlite) Again);

#[async_trait]
impl Operation for BeginAgain {
    type Answer = Option<Begun>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<Begun>, StoreError> {
        let Again { row, plan, request, order } = &self.0;
        let Some(stored) = cx.job(row.id).await? else { return Ok(None) };
        if cx.knows_request(row.id, request).await? {
            return Ok(Some(Begun::Known(stored)));
        }
        if !stored.finished() || stored.epoch + 1 != row.epoch {
            return Ok(Some(Begun::Overtaken(stored)));
        }
        if let Some(busy) = cx.busy(&row.cloudtower_ip, &row.target).await? {
            return Ok(Some(Begun::TargetBusy(busy)));
        }
        // The numbering goes on where the log ends.
        let row =
            JobRow { progress: Progress { last_seq: stored.progress.last_seq, ..Progress::queued() }, ..row.clone() };
        cx.renew_row(&row, plan).await?;
        cx.insert_order(&row, OrderKind::Retry, request, order.clone()).await?;
        Ok(Some(Begun::Stored(row)))
    }
}

impl Group<'_> {
    /// The row of a job in its next epoch.
    async fn renew_row(&mut self, row: &JobRow, plan: &v1::PlanDocument) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET epoch = ?2, file_name = ?3, plan = ?4, plan_sha256 = ?5, cluster = ?6, vm_name = ?7,
                             cloudtower_ip = ?8, target = ?9, keep_on_failure = ?10, undo_only = ?11, refusal = ''
             WHERE id = ?1",
        )
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch))
        .bind(&row.file_name)
        .bind(plan.encode_to_vec())
        .bind(&row.plan_sha256)
        .bind(&row.cluster)
        .bind(&row.vm_name)
        .bind(&row.cloudtower_ip)
        .bind(&row.target)
        .bind(i64::from(row.keep_on_failure))
        .bind(i64::from(row.undo_only))
        .execute(&mut *self.connection)
        .await?;
        self.update_row(row, None).await
    }

    /// The agent would not begin the new epoch: the job is again what its log says.
    pub(super) async fn step_back(&mut self, mut row: JobRow) -> Result<JobRow, StoreError> {
        let (progress, result) = self
            .fold(row.id, &[], |view| (Progress::of(view), view.result.as_ref().map(|json| json.to_string())))
            .await?;
        row.epoch -= 1;
        row.undo_only = false;
        row.cancel = v1::CancelStage::Unspecified;
        row.progress = progress;
        sqlx::query("UPDATE jobs SET epoch = ?2, undo_only = 0 WHERE id = ?1")
            .bind(row.id.to_string())
            .bind(i64::from(row.epoch))
            .execute(&mut *self.connection)
            .await?;
        self.update_row(&row, result).await?;
        self.close_orders(row.id).await?;
        Ok(row)
    }
}
