//! A pause, a resume or a decision: stored once for each request, and carried out by the agent.

use async_trait::async_trait;
use gantry_proto::v1;

use super::orders::question_of;
use crate::store::{
    JobRow, StoreError, Wish, Wished,
    sqlite::{
        rows::signed,
        writer::{Group, Operation},
    },
};

/// See [`crate::store::Store::wish`].
pub(in crate::store::sqlite) struct TakeWish(pub(in crate::store::sqlite) Wish);

#[async_trait]
impl Operation for TakeWish {
    type Answer = Option<Wished>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<Wished>, StoreError> {
        let Wish { job, request, kind, order } = &self.0;
        let Some(mut row) = cx.job(*job).await? else { return Ok(None) };
        if row.finished() {
            return Ok(Some(Wished::Ended(row)));
        }
        if cx.knows_request(row.id, request).await? {
            return Ok(Some(Wished::Stored(row)));
        }
        if let Some(question) = question_of(order) {
            let open = row.progress.question.as_ref().is_some_and(|open| open.seq == question);
            if !open || cx.is_answered(&row, question).await? {
                return Ok(Some(Wished::Answered(row)));
            }
        }
        cx.insert_order(&row, *kind, request, order.clone()).await?;
        cx.set_refusal(&mut row, "").await?;
        Ok(Some(Wished::Stored(row)))
    }
}

impl Group<'_> {
    /// Whether a decision of this question is on its way or taken; a refused one is not, and another may follow.
    async fn is_answered(&mut self, job: &JobRow, question: u64) -> Result<bool, StoreError> {
        let query = "SELECT 1 FROM orders WHERE job_id = ?1 AND epoch = ?2 AND kind = 'decide' AND question = ?3
                                            AND stage <> ?4 LIMIT 1";
        let found = sqlx::query(query)
            .bind(job.id.to_string())
            .bind(i64::from(job.epoch))
            .bind(signed(question))
            .bind(i32::from(v1::OrderStage::Refused))
            .fetch_optional(&mut *self.connection)
            .await?;
        Ok(found.is_some())
    }
}
