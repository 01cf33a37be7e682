//! The way back: between two attempts of one step, and over all steps, newest first. Does not listen to a cancel, but a
//! second one ends its waiting; has a deadline of its own for each step.

use std::time::Duration;

use gantry_proto::{Body, Failure, UndoState};
use tracing::Instrument as _;

use super::{Halt, Walk, guarded, told};
use crate::step::StepError;

/// After the deadline, or a second cancel, an undo may take so long to reach a safe point; then it is dropped where it is.
const GRACE: Duration = Duration::from_secs(15);

impl Walk {
    /// Undoes every step that may have made something. A failed undo is told and the rest go on.
    pub(super) async fn undo_all(&mut self) -> Result<UndoState, Halt> {
        let mut failed = false;
        // What a finished stage has made is the customer's.
        let finished = &self.facts.finished_stages;
        let is_finished = |index: &usize| self.pipeline[*index].stage().is_some_and(|stage| finished.contains(&stage));
        let to_undo: Vec<usize> = self.place.to_undo().into_iter().filter(|index| !is_finished(index)).collect();
        for index in to_undo {
            failed |= self.undo(index).await?.is_err();
        }
        if failed {
            // An undo that did not come to its end may not have listed what it left.
            self.facts.leave_ours();
        }
        Ok(match (failed || !self.facts.leftovers.is_empty(), self.place.removed) {
            (true, _) => UndoState::RollbackIncomplete,
            (false, true) => UndoState::RolledBack,
            (false, false) => UndoState::Nothing,
        })
    }

    /// Undoes a step that will be tried again. When that does not work the step is not tried again: what is left would
    /// be in its way, or be made twice.
    pub(super) async fn undo_between(&mut self, index: usize, attempt: u32, failure: Failure) -> Result<(), Halt> {
        let step = self.table[index].id.clone();
        if self.place.resumed_between.take() == Some(index) {
            // After a restart the view must know again that this undo belongs to a retry.
            let (step, failure) = (step.clone(), failure.clone());
            self.append(Body::StepFailed { step, attempt, failure, will_retry: true }).await?;
        }
        let Err(cause) = self.undo(index).await? else { return Ok(()) };
        let mut failure = failure;
        failure.causes.push(format!("it was not tried again because its undo failed: {}", cause.message));
        self.append(Body::StepFailed { step: step.clone(), attempt, failure: failure.clone(), will_retry: false })
            .await?;
        Err(Halt::Failed { step, failure: Box::new(failure) })
    }

    async fn undo(&mut self, index: usize) -> Result<Result<(), Failure>, Halt> {
        if self.job.log.is_stopping() {
            return Err(Halt::Stopped);
        }
        let (step, id) = (self.pipeline[index], self.table[index].id.clone());
        self.append(Body::UndoStarted { step: id.clone() }).await?;
        let token = self.job.stop.child_token();
        let (cx, span) = (self.cx(&id, token.clone()), self.step_span("undo", &id));
        let limit = self.job.settings.timing.scaled(self.job.settings.timing.undo_limit_s);
        let no_waiting = self.job.log.no_waiting().clone();
        let mut undo = Box::pin(guarded(step.undo(&cx, &mut self.facts)).instrument(span.clone()));
        let in_time = async {
            tokio::select! {
                biased;
                () = no_waiting.cancelled() => None,
                ended = tokio::time::timeout(limit, &mut undo) => ended.ok(),
            }
        };
        let ended = match in_time.await {
            Some(ended) => ended,
            None => {
                token.cancel();
                tokio::time::timeout(GRACE, &mut undo).await.unwrap_or(Err(StepError::Cancelled))
            }
        };
        drop(undo);
        self.save(&id).await?;
        let failure = match ended {
            Ok(removed) => {
                self.place.removed |= !removed.is_empty();
                self.place.undone(index);
                self.append(Body::UndoFinished { step: id, failure: None, removed }).await?;
                return Ok(Ok(()));
            }
            Err(StepError::Journal(error)) => return Err(Halt::Broken(error)),
            Err(StepError::Stopping | StepError::Cancelled) if self.job.log.is_stopping() => return Err(Halt::Stopped),
            Err(StepError::Stopping | StepError::Cancelled) if no_waiting.is_cancelled() => cut_short(),
            // Nobody else cancels the token of an undo.
            Err(StepError::Stopping | StepError::Cancelled) => too_late(limit),
            // An undo never asks: what it cannot tell, it lists.
            Err(
                StepError::Again(failure)
                | StepError::Permanent(failure)
                | StepError::HandsOff(failure)
                | StepError::Undecided(failure),
            ) => *failure,
        };
        told(&span, &failure);
        let failure = self.job.log.clean(failure);
        self.append(Body::UndoFinished { step: id, failure: Some(failure.clone()), removed: Vec::new() }).await?;
        Ok(Err(failure))
    }
}

fn cut_short() -> Failure {
    Failure {
        code: "undo_cut_short".to_owned(),
        message: "the undo was not waited for: the job was cancelled a second time".to_owned(),
        remedy: "look at the leftovers and remove them by hand".to_owned(),
        ..Failure::default()
    }
}

fn too_late(limit: Duration) -> Failure {
    Failure {
        code: "undo_timeout".to_owned(),
        message: format!("the undo was not done after {} s", limit.as_secs()),
        remedy: "look at the leftovers and remove them by hand".to_owned(),
        ..Failure::default()
    }
}
