//! The next epoch of a job that has ended: a retry that keeps what is done, or a sweep that removes what is left.

use std::collections::BTreeMap;

use gantry_proto::{
    Code, Event, JobOutcome, JobView, Plan, Problem, StepId, UndoState,
    retry::{self, Fate},
    v1,
};

use super::{
    Jobs, short,
    submit::{Checked, checked, seal_to, target},
};
use crate::{
    refusal::Refusal,
    store::{Again, Begun, JobRow, Progress},
};

/// Events that are read at once.
const PAGE: u32 = 512;
/// Longest file name that is kept, characters.
const FILE_NAME_MAX: usize = 255;

/// A wish to take a job up again.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    /// Begin with this step; empty: with the first one that is not done.
    pub from: String,
    /// A corrected workbook; empty: the plan and the secrets that the agent has.
    pub workbook: Vec<u8>,
    /// Its name.
    pub file_name: String,
    /// Values that win over the workbook.
    pub overrides: BTreeMap<String, String>,
    /// Keep what was made when the job fails again; `None`: as before.
    pub keep_on_failure: Option<bool>,
    /// Only tell what would become of each step.
    pub dry_run: bool,
    /// The operator, by the certificate.
    pub by: String,
    /// Chosen by who asks: the same one twice is one wish.
    pub request: String,
}

/// What became of a [`Retry`].
#[derive(Clone, Debug)]
pub enum Retried {
    /// What becomes of each step; stored, unless a step is in the way or it was a dry run.
    Judged {
        /// The job.
        job: Box<v1::Job>,
        /// Every step.
        steps: Vec<(StepId, Fate)>,
        /// The new epoch is stored.
        accepted: bool,
        /// Warnings and notices about the workbook.
        problems: Vec<Problem>,
    },
    /// The workbook gives no plan; nothing was stored.
    Rejected(Checked),
}

impl Jobs {
    /// Takes a job up again that failed or was cancelled.
    ///
    /// # Errors
    /// [`Code::JobNotFinished`], [`Code::JobState`], [`Code::BadRequest`], [`Code::TargetBusy`]; nothing is stored then.
    pub async fn retry(&self, row: &JobRow, wish: Retry) -> Result<Retried, Refusal> {
        if self.store.requested(row.id, short(&wish.request)).await? {
            // The answer was lost. What became of the steps can be told as long as the agent has not begun anew.
            let view = self.view(row).await?;
            let from = (!wish.from.is_empty()).then(|| StepId::from(wish.from.as_str()));
            let steps = match view.outcome {
                Some(_) => retry::assess(&view, from.as_ref(), None).unwrap_or_default(),
                None => Vec::new(),
            };
            let job = Box::new(self.describe(row));
            return Ok(Retried::Judged { job, steps, accepted: true, problems: Vec::new() });
        }
        if !row.finished() {
            let message = format!("job {} has not ended: it can be cancelled, or paused and resumed", row.id);
            return Err(Refusal::new(Code::JobNotFinished, message));
        }
        if row.progress.outcome == Some(JobOutcome::Succeeded) {
            let message = format!("job {} has succeeded: there is nothing to do again", row.id);
            return Err(Refusal::new(Code::JobState, message));
        }
        let view = self.view(row).await?;
        if view.steps.is_empty() {
            let message = format!("job {} never began at its agent: deploy the workbook as a new job", row.id);
            return Err(Refusal::new(Code::JobState, message));
        }
        let old = self.plan(row.id).await?.ok_or_else(|| Refusal::new(Code::JobNotFound, "the job is gone"))?;
        let (mut document, mut secrets, mut problems, mut next) = (old.clone(), None, Vec::new(), row.clone());
        if !wish.workbook.is_empty() {
            let (mut outcome, _held) = self.planned(wish.workbook, wish.overrides).await?;
            let checked = checked(&mut outcome)?;
            let (Some(plan), Some(new), Some(found)) = (outcome.plan, &checked.plan, outcome.secrets) else {
                return Ok(Retried::Rejected(checked));
            };
            let agent = self.agents.choose(row.agent.as_str(), "", &[]).await?;
            (document, secrets) = (new.clone(), Some(seal_to(&agent, &found, row.id)?));
            problems = checked.problems;
            describe(&mut next, &plan, &document);
            next.file_name = wish.file_name.chars().take(FILE_NAME_MAX).collect();
        }
        let from = (!wish.from.is_empty()).then(|| StepId::from(wish.from.as_str()));
        let plans = secrets.is_some().then(|| (json(&old), json(&document)));
        let plans = plans.as_ref().map(|(old, new)| (old, new));
        let steps = retry::assess(&view, from.as_ref(), plans);
        let steps = steps.map_err(|message| Refusal::new(Code::BadRequest, message))?;
        let blocked = steps.iter().any(|(_, fate)| matches!(fate, Fate::Blocked(_)));
        if blocked || wish.dry_run {
            return Ok(Retried::Judged { job: Box::new(self.describe(row)), steps, accepted: false, problems });
        }
        let kept = steps.iter().filter(|(_, fate)| *fate == Fate::Kept).map(|(step, _)| step.to_string()).collect();
        next.keep_on_failure = wish.keep_on_failure.unwrap_or(row.keep_on_failure);
        let order = v1::RetryJob {
            plan: secrets.is_some().then(|| document.clone()),
            secrets,
            keep_on_failure: next.keep_on_failure,
            by: wish.by,
            kept,
            undo_only: false,
        };
        let row = self.begin_again(next, document, order, &wish.request).await?;
        Ok(Retried::Judged { job: Box::new(self.describe(&row)), steps, accepted: true, problems })
    }

    /// Removes what a job that has ended left behind.
    ///
    /// # Errors
    /// [`Code::JobNotFinished`], or [`Code::JobState`] when there is nothing to remove.
    pub async fn sweep(&self, row: &JobRow, by: &str, request: &str) -> Result<JobRow, Refusal> {
        if self.store.requested(row.id, short(request)).await? {
            return Ok(row.clone());
        }
        if !row.finished() {
            let message = format!("job {} has not ended: cancel it instead (`ctl cancel {}`)", row.id, row.id);
            return Err(Refusal::new(Code::JobNotFinished, message));
        }
        if !matches!(row.progress.undo, Some(UndoState::Kept | UndoState::RollbackIncomplete)) {
            let message = format!("job {} has left nothing behind that could be removed", row.id);
            return Err(Refusal::new(Code::JobState, message));
        }
        let document = self.plan(row.id).await?.ok_or_else(|| Refusal::new(Code::JobNotFound, "the job is gone"))?;
        let order = v1::RetryJob { by: by.to_owned(), undo_only: true, ..Default::default() };
        self.begin_again(row.clone(), document, order, request).await
    }

    async fn begin_again(
        &self,
        mut next: JobRow,
        plan: v1::PlanDocument,
        retry: v1::RetryJob,
        request: &str,
    ) -> Result<JobRow, Refusal> {
        let undo_only = retry.undo_only;
        let order = self.order(next.id, &next.site, v1::order::Kind::Retry(retry));
        next.epoch += 1;
        next.cancel = v1::CancelStage::Unspecified;
        next.refusal = String::new();
        next.undo_only = undo_only;
        next.progress = Progress::queued();
        let request = short(request);
        let (agent, again) = (next.agent.clone(), Again { row: next, plan, request, order });
        match self.give(&[&agent], |store| async move { store.again(again).await }).await? {
            Some(Begun::Stored(row)) => {
                tracing::info!(job = %row.id, epoch = row.epoch, agent = %row.agent, "a new epoch is stored");
                self.changed(&row);
                Ok(row)
            }
            Some(Begun::Known(row)) => Ok(row),
            Some(Begun::Overtaken(row)) => {
                let message = format!("job {} was taken up again by somebody else: see `ctl show {}`", row.id, row.id);
                Err(Refusal::new(Code::JobNotFinished, message))
            }
            Some(Begun::TargetBusy(busy)) => Err(Refusal::new(
                Code::TargetBusy,
                format!(
                    "job {} is at work on the same CloudTower {}: wait for it or cancel it",
                    busy.id, busy.cloudtower_ip
                ),
            )),
            None => Err(Refusal::new(Code::JobNotFound, "the job is gone")),
        }
    }

    /// What the log of a job adds up to.
    async fn view(&self, row: &JobRow) -> Result<JobView, Refusal> {
        let mut view = JobView::default();
        loop {
            let page = self.store.events(row.id, view.last_seq, PAGE).await?;
            let last = page.len() < PAGE as usize;
            for event in page {
                let event = Event::try_from(event);
                let unreadable = |_| Refusal::new(Code::Internal, "the store holds an unreadable event");
                view.apply(&event.map_err(unreadable)?);
            }
            if last {
                return Ok(view);
            }
        }
    }
}

/// What a row says of its plan.
fn describe(row: &mut JobRow, plan: &Plan, document: &v1::PlanDocument) {
    row.plan_sha256.clone_from(&document.sha256);
    row.cluster = plan.cluster.name.clone().unwrap_or_default();
    row.vm_name.clone_from(&plan.cloudtower.vm_name);
    row.cloudtower_ip = plan.cloudtower.ip.to_string();
    row.target = target(plan);
}

fn json(document: &v1::PlanDocument) -> serde_json::Value {
    serde_json::from_slice(&document.json).unwrap_or_default()
}
