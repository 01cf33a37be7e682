//! Pause, resume, and wishes about the upload: the wish is stored, the agent carries it out at a safe point, and only its events say so.

use gantry_proto::{Code, v1};

use super::{Jobs, short};
use crate::{
    refusal::Refusal,
    store::{JobRow, OrderKind, Wish, Wished},
};

/// Chunks that an agent has in flight, at most.
const IN_FLIGHT_MAX: u32 = 16;

impl Jobs {
    /// Asks for a job to be held at its next safe point.
    ///
    /// # Errors
    /// [`Code::JobFinished`], or [`Code::JobState`] when it was cancelled or is being moved.
    pub async fn pause(&self, row: &JobRow, by: &str, reason: &str, request: &str) -> Result<JobRow, Refusal> {
        let reason = reason.chars().take(500).collect();
        let kind = v1::order::Kind::Pause(v1::PauseOrder { by: by.to_owned(), reason });
        self.hold(row, OrderKind::Pause, kind, request).await
    }

    /// Lets a held job go on.
    ///
    /// # Errors
    /// [`Code::JobFinished`], or [`Code::JobState`] when it was cancelled or is being moved.
    pub async fn resume(&self, row: &JobRow, by: &str, request: &str) -> Result<JobRow, Refusal> {
        let kind = v1::order::Kind::Resume(v1::ResumeOrder { by: by.to_owned() });
        self.hold(row, OrderKind::Resume, kind, request).await
    }

    /// Steers the upload of a job, which may be before it or at work.
    ///
    /// # Errors
    /// [`Code::BadRequest`] without a wish or with one that no agent can fulfil; else as for a pause.
    pub async fn tune_upload(
        &self,
        row: &JobRow,
        wishes: v1::TuneUploadOrder,
        request: &str,
    ) -> Result<JobRow, Refusal> {
        if wishes.limit_bytes_per_s.is_none() && wishes.in_flight.is_none() && wishes.paused.is_none() {
            return Err(Refusal::new(Code::BadRequest, "nothing is wished for: a limit, chunks in flight, or a pause"));
        }
        if wishes.in_flight.is_some_and(|count| count > IN_FLIGHT_MAX) {
            let message = format!("at most {IN_FLIGHT_MAX} chunks can be in flight");
            return Err(Refusal::new(Code::BadRequest, message));
        }
        self.hold(row, OrderKind::TuneUpload, v1::order::Kind::TuneUpload(wishes), request).await
    }

    async fn hold(
        &self,
        row: &JobRow,
        kind: OrderKind,
        order: v1::order::Kind,
        request: &str,
    ) -> Result<JobRow, Refusal> {
        not_stopping(row)?;
        match self.wish(row, kind, order, request).await? {
            Wished::Stored(row) => Ok(row),
            Wished::Ended(row) | Wished::Answered(row) => Err(ended(&row)),
        }
    }

    /// Stores a wish and wakes the job's agent.
    pub(super) async fn wish(
        &self,
        row: &JobRow,
        kind: OrderKind,
        order: v1::order::Kind,
        request: &str,
    ) -> Result<Wished, Refusal> {
        let order = self.order(row.id, &row.site, order);
        let wish = Wish { job: row.id, request: short(request), kind, order };
        let wished = self.give(&[&row.agent], |store| async move { store.wish(wish).await }).await?;
        let wished = wished.ok_or_else(|| Refusal::new(Code::JobNotFound, "the job is gone"))?;
        if let Wished::Stored(row) = &wished {
            tracing::info!(job = %row.id, ?kind, "order stored");
            self.changed(row);
        }
        Ok(wished)
    }
}

/// A job that stops, or that its agent is about to let go of, is not told anything else.
pub(super) fn not_stopping(row: &JobRow) -> Result<(), Refusal> {
    if row.finished() {
        return Ok(());
    }
    if row.cancel != v1::CancelStage::Unspecified {
        let message = format!("job {} was cancelled: it stops and is undone, and takes no other order", row.id);
        return Err(Refusal::new(Code::JobState, message));
    }
    match &row.moving_to {
        Some(to) => {
            let message =
                format!("job {} is on its way to agent {to}: wait until it is there (`ctl watch {}`)", row.id, row.id);
            Err(Refusal::new(Code::JobState, message))
        }
        None => Ok(()),
    }
}

pub(super) fn ended(row: &JobRow) -> Refusal {
    Refusal::new(Code::JobFinished, format!("job {} has ended: see `ctl show {}`", row.id, row.id))
}
