//! Pause and resume: the wish is stored, the agent carries it out at a safe point, and only its events say so.

use gantry_proto::{Code, v1};

use super::Jobs;
use crate::{
    refusal::Refusal,
    store::{Hold, JobRow, OrderKind},
};

impl Jobs {
    /// Asks for a job to be held at its next safe point.
    ///
    /// # Errors
    /// [`Code::JobFinished`], or [`Code::JobState`] when it was cancelled.
    pub async fn pause(&self, row: &JobRow, by: &str, reason: &str, request: &str) -> Result<JobRow, Refusal> {
        let reason = reason.chars().take(500).collect();
        let kind = v1::order::Kind::Pause(v1::PauseOrder { by: by.to_owned(), reason });
        self.hold(row, OrderKind::Pause, kind, request).await
    }

    /// Lets a held job go on.
    ///
    /// # Errors
    /// [`Code::JobFinished`], or [`Code::JobState`] when it was cancelled.
    pub async fn resume(&self, row: &JobRow, by: &str, request: &str) -> Result<JobRow, Refusal> {
        let kind = v1::order::Kind::Resume(v1::ResumeOrder { by: by.to_owned() });
        self.hold(row, OrderKind::Resume, kind, request).await
    }

    async fn hold(
        &self,
        row: &JobRow,
        kind: OrderKind,
        order: v1::order::Kind,
        request: &str,
    ) -> Result<JobRow, Refusal> {
        if row.cancel != v1::CancelStage::Unspecified && !row.finished() {
            let message = format!("job {} was cancelled: it stops and is undone, and is not held", row.id);
            return Err(Refusal::new(Code::JobState, message));
        }
        let order = v1::Order {
            job_id: row.id.to_string(),
            kind: Some(order),
            trace: gantry_telemetry::inject().into_iter().collect(),
            ..Default::default()
        };
        let request = request.chars().take(64).collect();
        let row = self.store.hold(Hold { job: row.id, request, kind, order }).await?;
        let row = row.ok_or_else(|| Refusal::new(Code::JobNotFound, "the job is gone"))?;
        if row.finished() {
            let message = format!("job {} has ended: see `ctl show {}`", row.id, row.id);
            return Err(Refusal::new(Code::JobFinished, message));
        }
        tracing::info!(job = %row.id, ?kind, "order stored");
        self.changed(&row);
        self.agents.wake(&row.agent);
        Ok(row)
    }
}
