//! A pause, a resume or a decision: stored once for each request, and carried out by the agent.

use super::orders::question_of;
use crate::store::{
    StoreError, Wish, Wished,
    sqlite::writer::{Group, Operation},
};
use async_trait::async_trait;

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
            // A refused answer is none, and another may follow.
            let open = row.progress.question.as_mut().filter(|open| open.seq == question && !open.answered);
            let Some(open) = open else { return Ok(Some(Wished::Answered(row))) };
            open.answered = true;
        }
        cx.insert_order(&row, *kind, request, order.clone()).await?;
        cx.set_refusal(&mut row, "").await?;
        Ok(Some(Wished::Stored(row)))
    }
}
