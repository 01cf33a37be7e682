//! What a step is: [`Step`], the surroundings it works in ([`StepCx`]), and how it fails ([`StepError`]).
//! Knows no step by name.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gantry_proto::{
    Body, Failure, JobId, Level, Plan, Redactor, Sample, Secrets, StepId, StepInfo,
    event::{Extra, IntentResult},
    plan::Stage,
};
use gantry_telemetry::ATTEMPT;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{config::Settings, diff::Diff, facts::Facts, joblog::JobLog, outside::Outside};

/// One step of the deployment. May be run again at any time, so it looks before it creates.
#[async_trait]
pub trait Step: Send + Sync {
    /// Its row of the step table.
    fn info(&self) -> StepInfo;

    /// The stage of the journey that it belongs to; `None`: it is walked whatever stages are chosen.
    fn stage(&self) -> Option<Stage> {
        Some(Stage::DeployCloudtower)
    }

    /// Does the work. Writes what it finds or makes into `facts` and calls [`StepCx::save`] at once.
    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError>;

    /// Looks what the step would do, by reads alone and with the step's own look-ups, and says so in `diff`. What it finds,
    /// or would have made, goes into `facts` for the steps that come after. An error is why the step would fail.
    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError>;

    /// Removes what this step made, by `facts` alone; what is already gone counts as removed. What cannot be removed
    /// goes into `facts.leftovers`. Returns what was removed, one sentence each.
    async fn undo(&self, _cx: &StepCx, _facts: &mut Facts) -> Result<Vec<String>, StepError> {
        Ok(Vec::new())
    }
}

/// What a step works with. Made anew by the executor for each step; cheap to clone.
#[derive(Clone)]
pub struct StepCx {
    /// The job.
    pub job: JobId,
    /// The step at work.
    pub step: StepId,
    /// What is to be deployed.
    pub plan: Arc<Plan>,
    /// The plan's secrets.
    pub secrets: Arc<Secrets>,
    /// The agent's settings.
    pub settings: Arc<Settings>,
    /// Knows the job's secrets.
    pub redactor: Redactor,
    /// Fisheye, the guest and CloudTower.
    pub outside: Arc<Outside>,
    /// Where events, facts and log files go.
    pub log: Arc<JobLog>,
    /// Cancelled when the job is to stop. While undoing: only at its deadline and by a second cancel.
    pub cancel: CancellationToken,
}

/// How a step ends when it does not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The cancel was seen at a safe point.
    #[error("the job was cancelled")]
    Cancelled,
    /// The agent is stopping, or another one gets the job: it stays as it is and goes on at the next start, or there.
    #[error("the job stops as it is")]
    Stopping,
    /// It may work if the step is undone and tried again.
    #[error("{}", .0.message)]
    Again(Box<Failure>),
    /// Trying again cannot help.
    #[error("{}", .0.message)]
    Permanent(Box<Failure>),
    /// Trying again cannot help, and nothing may be removed: somebody else may own it (`flow.md` 5.1).
    #[error("{}", .0.message)]
    HandsOff(Box<Failure>),
    /// It cannot be told what is true, or whose something is: an operator has to decide how it goes on.
    #[error("{}", .0.message)]
    Undecided(Box<Failure>),
    /// The journal cannot be written: nothing may go on.
    #[error("the journal cannot be written")]
    Journal(#[source] std::io::Error),
}

/// Number of an intent within its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentId(pub u64);

/// Progress of the step at work; the log adds job, step and time.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is in all; 0 when unknown.
    pub total: u64,
    /// `bytes`, `seconds` or `lines`.
    pub unit: &'static str,
    /// Rate in `unit` per second.
    pub per_second: f64,
    /// One line for people.
    pub text: String,
    /// Further fields, such as those of `flow.md` 8.2.
    pub extra: Extra,
}

impl StepCx {
    /// The safe point: an error when the job is to stop.
    pub fn check(&self) -> Result<(), StepError> {
        if self.cancel.is_cancelled() { Err(self.log.why_stopped()) } else { Ok(()) }
    }

    /// The safe point at which a job may also be held for a while: only where no deadline runs.
    pub async fn safe_point(&self) -> Result<(), StepError> {
        self.log.hold_here(&self.cancel).await.map_err(StepError::Journal)?;
        self.check()
    }

    /// Waits, in the settings' time scale already; ends at once when the job is to stop.
    pub async fn sleep(&self, wait: Duration) -> Result<(), StepError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(self.log.why_stopped()),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Writes down (fsync) that a call is about to be made which changes the outside world. `detail`: what a look-up
    /// needs to find out whether it happened; no secret. Refused with [`StepError::Stopping`] when the job is to stop as
    /// it is, in an undo, too: another agent may have the job, so that not one more call may be made.
    pub async fn intend(&self, call: &str, detail: Extra) -> Result<IntentId, StepError> {
        if self.log.only_looks() {
            return Err(StepError::Permanent(Box::new(Failure {
                code: "internal".to_owned(),
                message: format!("a survey came to the call {call}, which changes something: it is not made"),
                remedy: "report it: a survey must not get so far".to_owned(),
                ..Failure::default()
            })));
        }
        if self.log.is_stopping() {
            return Err(StepError::Stopping);
        }
        let id = self.log.next_intent();
        let (step, call) = (self.step.clone(), call.to_owned());
        self.log.append(Body::Intent { step, id: id.0, call, detail }).await.map_err(StepError::Journal)?;
        if self.log.is_stopping() {
            // The word came while it was written down.
            let detail = Extra::from_iter([("not_called".to_owned(), true.into())]);
            self.outcome(id, IntentResult::Failed, detail).await?;
            return Err(StepError::Stopping);
        }
        Ok(id)
    }

    /// Writes down what became of an intent.
    pub async fn outcome(&self, intent: IntentId, result: IntentResult, detail: Extra) -> Result<(), StepError> {
        let body = Body::IntentOutcome { step: self.step.clone(), intent: intent.0, result, detail };
        self.log.append(body).await.map(drop).map_err(StepError::Journal)
    }

    /// Tells something worth telling.
    pub async fn note(
        &self,
        level: Level,
        code: &str,
        message: impl Into<String> + Send,
        extra: Extra,
    ) -> Result<(), StepError> {
        let (step, code, message) = (Some(self.step.clone()), code.to_owned(), message.into());
        if level == Level::Warning {
            // On the step's span, beside its calls: most of them say that something is tried again.
            tracing::info!(target: ATTEMPT, note = code, "{message}");
        }
        let body = Body::Note { step, level, code, message, extra };
        self.log.append(body).await.map(drop).map_err(StepError::Journal)
    }

    /// Writes down every fact that differs from what was written before.
    pub async fn save(&self, facts: &Facts) -> Result<(), StepError> {
        self.log.save(&self.step, facts).await.map_err(StepError::Journal)
    }

    /// Tells the newest progress. Never journaled; a newer one replaces it.
    pub fn progress(&self, progress: Progress) {
        let Progress { done, total, unit, per_second, text, extra } = progress;
        let per_second = if per_second.is_finite() { per_second } else { 0.0 };
        let (job, step, at, unit) = (self.job, self.step.clone(), Timestamp::now(), unit.to_owned());
        self.log.sample(Sample { job, step, at, done, total, unit, per_second, text, extra });
    }
}

impl StepError {
    /// The failure to tell, when there is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Again(failure) | Self::Permanent(failure) | Self::HandsOff(failure) | Self::Undecided(failure) => {
                Some(failure)
            }
            Self::Cancelled | Self::Stopping | Self::Journal(_) => None,
        }
    }
}
