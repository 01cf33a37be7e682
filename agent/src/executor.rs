//! Walks the table of steps: forward, attempts, undo newest first, and the one last event. Knows no step by name.
//!
//! Where a job stands is read from its journal alone, so that a job taken up after a restart goes on at the first step
//! that is not done, or with the undo that was begun. Steps look before they make anything.

mod ask;
mod place;
mod undo;

use std::{future::Future, io, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures_util::FutureExt as _;
use gantry_proto::{
    AgentId, Body, Failure, JobId, JobOutcome, JobView, Level, Plan, Redactor, Secrets, StepId, StepInfo, TakenOver,
    UndoState, plan::Stage, trace::TraceContext,
};
use gantry_telemetry::ATTEMPT;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    config::Settings,
    facts::Facts,
    joblog::JobLog,
    outside::Outside,
    pipeline::{self, Pipeline},
    result::{self, Told},
    step::{Step, StepCx, StepError},
};
use ask::Choice;
use place::Place;

/// Everything that one job works with.
pub struct Job {
    /// The job.
    pub id: JobId,
    /// This agent.
    pub agent: AgentId,
    /// What is to be deployed.
    pub plan: Arc<Plan>,
    /// The plan's secrets.
    pub secrets: Arc<Secrets>,
    /// The agent's settings.
    pub settings: Arc<Settings>,
    /// Knows the job's secrets.
    pub redactor: Redactor,
    /// The outside world.
    pub outside: Arc<Outside>,
    /// Where events and facts go.
    pub log: Arc<JobLog>,
    /// Keep what was made when the job fails.
    pub keep_on_failure: bool,
    /// Steps that an earlier epoch has done and that are not done again.
    pub kept: Vec<StepId>,
    /// No step is walked: what the job has made is removed.
    pub undo_only: bool,
    /// In this epoch the job comes from another agent: no step is known to be done, and any may have made something.
    pub taken_over: Option<TakenOver>,
    /// The job's spans continue it.
    pub trace: TraceContext,
    /// Cancelled by an operator's cancel and together with `stop`.
    pub cancel: CancellationToken,
    /// Cancelled when the job is to stop as it is: the agent stops, or another one gets the job.
    pub stop: CancellationToken,
    /// What the journal says.
    pub view: JobView,
}

/// How an execution ends.
#[derive(Debug)]
pub enum Ended {
    /// [`Body::JobFinished`] is in the journal.
    Finished(JobOutcome),
    /// The job has come to rest as it is: it goes on at the agent's next start, or at another agent.
    Stopped,
    /// The journal cannot be read or written: nothing may go on before the next start.
    Broken(io::Error),
}

/// Carries the job out, or goes on where the journal says.
pub async fn execute(job: Job, pipeline: Pipeline) -> Ended {
    let (log, span) = (job.log.clone(), job_span(&job));
    let walk = async {
        let mut walk = match Walk::new(job, pipeline) {
            Ok(walk) => walk,
            Err(error) => return Ended::Broken(error),
        };
        match walk.run().await {
            Ok(outcome) => Ended::Finished(outcome),
            Err(Halt::Broken(error)) => Ended::Broken(error),
            // `run` leaves nothing else over.
            Err(_) => Ended::Stopped,
        }
    };
    let files = async {
        log.write_progress().await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        ended = Box::pin(walk.instrument(span)) => ended,
        never = files => never,
    }
}

/// Ends a job that cannot be carried on, and not be undone either: what it made is listed.
pub async fn give_up(
    log: &JobLog,
    agent: &AgentId,
    pipeline: Pipeline,
    plan: &Plan,
    view: &JobView,
    taken_over: Option<TakenOver>,
    failure: Failure,
) -> Ended {
    let known = Value::Object(view.facts.clone().into_iter().collect());
    let mut facts: Facts = serde_json::from_value(known).unwrap_or_default();
    facts.leave_ours();
    let undo = if facts.leftovers.is_empty() { UndoState::Nothing } else { UndoState::RollbackIncomplete };
    let failed = (None, failure.clone());
    // Nothing was opened, so the port of the settings never mattered.
    let base_url = format!("https://{}", plan.cloudtower.ip);
    let told = Told { failed: Some(&failed), stage: None, total_s: 0.0, logs: log.log_files(&facts), base_url };
    let result = serde_json::to_value(result::build(plan, &facts, &Default::default(), told)).unwrap_or_default();
    let (outcome, leftovers) = (JobOutcome::Failed, facts.leftovers);
    let last = Body::JobFinished { outcome, undo, failure: Some(failure), leftovers, result };
    let told = async {
        if !log.journal().tail().started {
            let (agent, agent_version) = (agent.clone(), env!("CARGO_PKG_VERSION").to_owned());
            let steps = pipeline::chosen(pipeline, plan).iter().map(|step| step.info()).collect();
            log.append(Body::JobStarted { agent, agent_version, steps, kept: Vec::new(), taken_over }).await?;
        }
        log.append(last).await.map(drop)
    };
    match told.await {
        Ok(()) => Ended::Finished(outcome),
        Err(error) => Ended::Broken(error),
    }
}

/// Why the walk does not go on.
enum Halt {
    /// A step failed for good.
    Failed { step: StepId, failure: Box<Failure> },
    /// An operator wants it stopped; the step that was at work.
    Cancelled { step: Option<StepId> },
    /// The agent is stopping.
    Stopped,
    /// The journal cannot be written.
    Broken(io::Error),
}

/// Code of the failure of a cancelled step.
const CANCELLED: &str = "cancelled";

/// How it goes on with a step.
enum Next {
    /// It is done.
    Done,
    /// This attempt failed: another one follows once it is undone.
    Retry(Failure),
    /// It is run again as it is.
    Again,
}

struct Walk {
    job: Job,
    pipeline: Vec<&'static dyn Step>,
    table: Vec<StepInfo>,
    facts: Facts,
    place: Place,
    began: Timestamp,
}

impl Walk {
    fn new(job: Job, pipeline: Pipeline) -> io::Result<Self> {
        let pipeline = pipeline::chosen(pipeline, &job.plan);
        let timing = &job.settings.timing;
        let usual = |weight: u32| (timing.scaled(f64::from(weight)).as_secs_f64().ceil() as u32).max(1);
        let table: Vec<StepInfo> = pipeline
            .iter()
            .map(|step| step.info())
            .map(|info| StepInfo { weight: usual(info.weight), ..info })
            .collect();
        let known = Value::Object(job.view.facts.clone().into_iter().collect());
        let mut facts: Facts = serde_json::from_value(known).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the journal's facts cannot be read: {error}"))
        })?;
        let begun = job.log.journal().tail().started;
        if !begun {
            // Objects that an earlier epoch left over are the job's again; those that it had given up stay listed.
            facts.take_back();
        }
        let mut place = match begun {
            true => Place::of(&job.view, &table),
            false => Place::beginning(&table, &job.kept),
        };
        let nothing_walked = !begun || job.view.steps.iter().all(|step| step.attempt == 0);
        if job.taken_over.is_some() && nothing_walked {
            facts.leave_home();
        }
        if job.taken_over.is_some() || job.log.journal().tail().epoch > 1 {
            // A step that this epoch never comes to may have made something in an earlier one.
            place.touch_all();
        }
        let began = job.view.started.filter(|_| begun).unwrap_or_else(Timestamp::now);
        Ok(Self { job, pipeline, table, facts, place, began })
    }

    async fn run(&mut self) -> Result<JobOutcome, Halt> {
        self.begin().await?;
        if self.job.undo_only {
            return self.sweep().await;
        }
        let (outcome, step, failure) = match self.forward().await {
            Ok(()) => return self.finish(JobOutcome::Succeeded, UndoState::Nothing, None).await,
            Err(Halt::Failed { step, failure }) => (JobOutcome::Failed, Some(step), *failure),
            Err(Halt::Cancelled { step }) => (JobOutcome::Cancelled, step, self.cancel_failure()),
            Err(halt) => return Err(halt),
        };
        told(&Span::current(), &failure);
        let known = self.facts.clone();
        let undo = if self.keeps(&failure) { self.kept() } else { self.undo_all().await? };
        // What was known when it failed stays in the result (R63), but for what is still there.
        let leftovers = std::mem::replace(&mut self.facts, known).leftovers;
        self.facts.leftovers = leftovers;
        self.finish(outcome, undo, Some((step, failure))).await
    }

    /// Removes what earlier epochs have left.
    async fn sweep(&mut self) -> Result<JobOutcome, Halt> {
        // Whatever step may have made something in an earlier epoch; a step that made nothing removes nothing.
        self.place.touch_all();
        let undo = self.undo_all().await?;
        let (code, message) = match &self.job.taken_over {
            None => ("swept", "what the job had left was swept up".to_owned()),
            Some(TakenOver { from, .. }) => {
                let message =
                    format!("the job was to be undone when it was moved here from agent {from}: that is done");
                ("moved_in_undo", message)
            }
        };
        let failure = Failure { code: code.to_owned(), message, ..Failure::default() };
        self.finish(JobOutcome::Cancelled, undo, Some((None, failure))).await
    }

    /// The first event of the epoch, or a word that the job goes on.
    async fn begin(&mut self) -> Result<(), Halt> {
        // Beside the job's other log records, so that whoever gets its bundle has them.
        tracing::info!(settings = %self.job.settings.differing(), "the agent's settings that are not the defaults");
        if self.job.log.journal().tail().started {
            let next = self.table.get(self.place.next).map(|info| info.id.to_string());
            let message = match (&self.place.halted, next) {
                (Some(_), _) => "the agent was restarted; the job goes on with its undo".to_owned(),
                (None, Some(step)) => format!("the agent was restarted; the job goes on with {step}"),
                (None, None) => "the agent was restarted after the last step".to_owned(),
            };
            self.note(Level::Warning, "taken_up", message).await?;
            if self.job.taken_over.is_some() {
                // The restart may have come before they were saved.
                self.save_facts().await?;
            }
        } else {
            let (agent, agent_version) = (self.job.agent.clone(), env!("CARGO_PKG_VERSION").to_owned());
            let (steps, kept, taken_over) = (self.table.clone(), self.job.kept.clone(), self.job.taken_over.clone());
            self.append(Body::JobStarted { agent, agent_version, steps, kept, taken_over }).await?;
            self.save_facts().await?;
        }
        self.job.log.tell_cancel().await.map_err(Halt::Broken)
    }

    async fn forward(&mut self) -> Result<(), Halt> {
        if let Some((step, failure)) = self.place.halted.clone() {
            return Err(match step {
                Some(step) if failure.code != CANCELLED => Halt::Failed { step, failure: Box::new(failure) },
                step => Halt::Cancelled { step },
            });
        }
        for index in self.place.next..self.pipeline.len() {
            self.job.log.hold_here(&self.job.cancel).await.map_err(Halt::Broken)?;
            self.safe_point()?;
            self.step(index).await?;
        }
        Ok(())
    }

    /// One step with all its attempts, in one span.
    async fn step(&mut self, index: usize) -> Result<(), Halt> {
        let span = self.step_span("step", &self.table[index].id);
        Box::pin(self.attempts(index).instrument(span)).await
    }

    async fn attempts(&mut self, index: usize) -> Result<(), Halt> {
        let (mut attempt, failed) = self.place.attempt(index);
        let mut next = match (self.open_question(index), failed) {
            (Some(question), _) => self.answered(index, attempt, question).await?,
            (None, Some(failure)) => Next::Retry(failure),
            (None, None) => self.attempt(index, attempt).await?,
        };
        loop {
            match next {
                Next::Done => return Ok(()),
                Next::Retry(failure) => {
                    self.undo_between(index, attempt, failure).await?;
                    self.safe_point()?;
                }
                Next::Again => {}
            }
            attempt += 1;
            next = self.attempt(index, attempt).await?;
            if !matches!(next, Next::Done) {
                self.safe_point()?;
            }
        }
    }

    /// One attempt.
    async fn attempt(&mut self, index: usize, attempt: u32) -> Result<Next, Halt> {
        let (step, id) = (self.pipeline[index], self.table[index].id.clone());
        self.place.touch(index);
        self.append(Body::StepStarted { step: id.clone(), attempt }).await?;
        self.settle_stages(index);
        self.save(&id).await?;
        Span::current().record("attempts", attempt);
        let (cx, began) = (self.cx(&id, self.job.cancel.clone()), Instant::now());
        let ended = guarded(step.run(&cx, &mut self.facts)).await;
        self.save(&id).await?;
        let Err(error) = ended else {
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.append(Body::StepSucceeded { step: id, elapsed_ms }).await?;
            return Ok(Next::Done);
        };
        let last = attempt >= self.table[index].attempts;
        let choice = matches!(error, StepError::HandsOff(_)).then_some(Choice::Keep);
        let (failure, will_retry) = match error {
            StepError::Stopping => return Err(Halt::Stopped),
            StepError::Journal(error) => return Err(Halt::Broken(error)),
            StepError::Cancelled if self.job.log.is_stopping() => return Err(Halt::Stopped),
            StepError::Cancelled => (self.cancel_failure(), false),
            StepError::Again(failure) => (*failure, !last),
            StepError::Permanent(failure) | StepError::HandsOff(failure) => (*failure, false),
            StepError::Undecided(failure) => return self.ask(index, attempt, *failure).await,
        };
        self.failed(&id, attempt, failure, will_retry, choice).await
    }

    /// What earlier stages have made is finished with the first step of a stage that comes after the deployment: no
    /// failure and no cancel from here on removes it (`flow.md` 5).
    fn settle_stages(&mut self, index: usize) {
        let stage = self.pipeline[index].stage().filter(|stage| *stage > Stage::DeployCloudtower);
        let Some(stage) = stage else { return };
        for earlier in self.job.plan.deployment.stages.iter().filter(|earlier| **earlier < stage) {
            if !self.facts.finished_stages.contains(earlier) {
                self.facts.finished_stages.push(*earlier);
            }
        }
    }

    /// Tells that an attempt has failed, and what follows. `choice`: what is to become of what was made, when that does not
    /// follow from the policy.
    async fn failed(
        &mut self,
        id: &StepId,
        attempt: u32,
        failure: Failure,
        will_retry: bool,
        choice: Option<Choice>,
    ) -> Result<Next, Halt> {
        let mut failure = self.job.log.clean(failure);
        if let Some(choice) = choice {
            // The word itself may make the details too long: then they are replaced, and it stands beside what is left.
            failure = choice.noted(failure);
            failure = choice.noted(self.job.log.clean(failure));
        }
        let (code, message) = (failure.code.as_str(), failure.message.as_str());
        tracing::info!(target: ATTEMPT, attempt, error.type = code, will_retry, "attempt failed: {message}");
        if !will_retry {
            told(&Span::current(), &failure);
        }
        let body = Body::StepFailed { step: id.clone(), attempt, failure: failure.clone(), will_retry };
        self.append(body).await?;
        match will_retry {
            true => Ok(Next::Retry(failure)),
            false if failure.code == CANCELLED => Err(Halt::Cancelled { step: Some(id.clone()) }),
            false => Err(Halt::Failed { step: id.clone(), failure: Box::new(failure) }),
        }
    }

    /// The last event of the epoch.
    async fn finish(
        &mut self,
        outcome: JobOutcome,
        undo: UndoState,
        failed: Option<(Option<StepId>, Failure)>,
    ) -> Result<JobOutcome, Halt> {
        let timing = &self.job.settings.timing;
        let real = Timestamp::now().duration_since(self.began);
        let total_s = timing.told(real.unsigned_abs());
        if outcome == JobOutcome::Succeeded && total_s > timing.total_warn_s {
            let (minutes, usual) = (total_s / 60.0, timing.total_warn_s / 60.0);
            let message =
                format!("the deployment took {minutes:.0} minutes, longer than the {usual:.0} that are aimed at");
            self.note(Level::Warning, "slow_deployment", message).await?;
        }
        let logs = self.job.log.log_files(&self.facts);
        let base_url = self.job.outside.tower.base_url().to_owned();
        let told = Told { failed: failed.as_ref(), stage: self.stage_of(failed.as_ref()), total_s, logs, base_url };
        let uuid = self.facts.image.as_ref().map(|image| image.image_uuid.as_str()).unwrap_or_default();
        let document = result::build(&self.job.plan, &self.facts, &self.job.log.chunks(uuid), told);
        let result = serde_json::to_value(document).map_err(|error| Halt::Broken(error.into()))?;
        let (leftovers, failure) = (self.facts.leftovers.clone(), failed.map(|(_, failure)| failure));
        self.append(Body::JobFinished { outcome, undo, failure, leftovers, result }).await?;
        Ok(outcome)
    }

    /// The stage that failed.
    fn stage_of(&self, failed: Option<&(Option<StepId>, Failure)>) -> Option<Stage> {
        let step = failed?.0.as_ref()?;
        let index = self.table.iter().position(|info| info.id == *step)?;
        self.pipeline[index].stage()
    }

    /// Whether nothing is to be removed after this failure: by an operator's word, or else by the policy.
    fn keeps(&self, failure: &Failure) -> bool {
        Choice::of(failure).map_or(self.job.keep_on_failure, |choice| choice == Choice::Keep)
    }

    /// Nothing is removed; says whether there is anything.
    fn kept(&self) -> UndoState {
        if self.facts.ours().is_empty() && !self.facts.has_kept_image() { UndoState::Nothing } else { UndoState::Kept }
    }

    fn safe_point(&self) -> Result<(), Halt> {
        if self.job.log.is_stopping() {
            return Err(Halt::Stopped);
        }
        if self.job.cancel.is_cancelled() { Err(Halt::Cancelled { step: None }) } else { Ok(()) }
    }

    fn cancel_failure(&self) -> Failure {
        let by = self.job.log.cancelled();
        let message = match &by {
            Some(cancel) if cancel.reason.is_empty() => format!("the job was cancelled by {}", cancel.by),
            Some(cancel) => format!("the job was cancelled by {}: {}", cancel.by, cancel.reason),
            None => "the job was cancelled".to_owned(),
        };
        Failure { code: CANCELLED.to_owned(), message, ..Failure::default() }
    }

    fn cx(&self, step: &StepId, cancel: CancellationToken) -> StepCx {
        let job = &self.job;
        StepCx {
            job: job.id,
            step: step.clone(),
            plan: job.plan.clone(),
            secrets: job.secrets.clone(),
            settings: job.settings.clone(),
            redactor: job.redactor.clone(),
            outside: job.outside.clone(),
            log: job.log.clone(),
            cancel,
        }
    }

    fn step_span(&self, kind: &'static str, step: &StepId) -> Span {
        tracing::info_span!(
            "step",
            otel.name = format!("{kind} {step}"),
            job.id = %self.job.id,
            step.id = %step,
            attempts = Empty,
            otel.status_code = Empty,
            error.type = Empty,
            error = Empty,
        )
    }

    async fn append(&self, body: Body) -> Result<u64, Halt> {
        self.job.log.append(body).await.map_err(Halt::Broken)
    }

    /// What the beginning of an epoch has changed in the facts belongs to its first step.
    async fn save_facts(&self) -> Result<(), Halt> {
        match self.table.first() {
            Some(first) => self.save(&first.id).await,
            None => Ok(()),
        }
    }

    async fn save(&self, step: &StepId) -> Result<(), Halt> {
        self.job.log.save(step, &self.facts).await.map_err(Halt::Broken)
    }

    async fn note(&self, level: Level, code: &str, message: String) -> Result<(), Halt> {
        let note = Body::Note { step: None, level, code: code.to_owned(), message, extra: Default::default() };
        self.append(note).await.map(drop)
    }
}

/// A step that panics has a defect: it fails for good, and what it made is undone like anything else.
async fn guarded<T>(step: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    let caught = AssertUnwindSafe(step).catch_unwind().await;
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        let detail = json!({"panic": text});
        Err(StepError::Permanent(Box::new(Failure {
            code: "internal".to_owned(),
            message: "the step broke off: this is a defect of the agent".to_owned(),
            remedy: "report it with the job's log; the job may be started again".to_owned(),
            detail: detail.as_object().cloned().unwrap_or_default(),
            ..Failure::default()
        })))
    })
}

/// What a span says of a failure: its code, which `ctl explain` knows, and its words.
fn told(span: &Span, failure: &Failure) {
    span.record("otel.status_code", "ERROR").record("error.type", failure.code.as_str());
    span.record("error", failure.message.as_str());
}

fn job_span(job: &Job) -> Span {
    let span = tracing::info_span!(
        "job",
        otel.name = "job",
        job.id = %job.id,
        agent.id = %job.agent,
        otel.status_code = Empty,
        error.type = Empty,
        error = Empty,
    );
    gantry_telemetry::set_parent(&span, &job.trace);
    span
}
