//! The set of jobs: submit, list, cancel, watch, and what agents tell about them. It decides; who may ask has been
//! decided before, and what an agent does is the agent's.

mod again;
mod decide;
mod diff;
mod ending;
mod hold;
mod moving;
mod speeds;
mod submit;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gantry_proto::{AgentId, Code, JobId, Redactor, eta, order, v1};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, watch as signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

pub use again::{Retried, Retry};
pub use decide::Decision;
pub use diff::{DiffWish, Diffed, Looked};
pub use moving::{Move, Moved};
pub use speeds::Speed;
pub use submit::{Checked, Submission, Submitted};
pub use watch::WatchStream;

use self::speeds::Speeds;
use crate::{
    agents::Agents,
    config::Config,
    metrics::Seen,
    refusal::Refusal,
    store::{Appended, Cancel, Cancelled, JobFilter, JobRow, OrderReport, Position, Store, StoreError},
};

/// Jobs in one list, unless the caller asks for another number.
const LIST_DEFAULT: u32 = 100;
/// Jobs in one list at most.
const LIST_MAX: u32 = 1000;

/// The jobs.
pub struct Jobs {
    store: Arc<dyn Store>,
    agents: Arc<Agents>,
    config: Arc<Config>,
    redactor: Redactor,
    planning: Semaphore,
    watchers: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// One entry for each job that is at work or watched.
    live: Mutex<HashMap<JobId, Live>>,
}

/// What is known about a job beyond its log.
struct Live {
    agent: AgentId,
    ended: bool,
    changed: signal::Sender<Change>,
    speeds: Speeds,
}

/// Wakes watchers. The log itself is read from the store.
#[derive(Clone, Debug, Default)]
struct Change {
    revision: u64,
    sample: Option<v1::Sample>,
}

impl Jobs {
    /// The jobs of a store. Watch streams run in `tasks` and end with `stop`.
    pub fn new(
        store: Arc<dyn Store>,
        agents: Arc<Agents>,
        config: Arc<Config>,
        redactor: Redactor,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let planning = Semaphore::new(config.limits.planning);
        let watchers = Arc::new(Semaphore::new(config.limits.watchers));
        Self { store, agents, config, redactor, planning, watchers, tasks, stop, live: Mutex::default() }
    }

    /// The job that is meant: a whole id, a unique beginning of one, or its last eight digits.
    ///
    /// # Errors
    /// [`Code::BadRequest`], [`Code::JobNotFound`] or [`Code::JobAmbiguous`].
    pub async fn find(&self, text: &str) -> Result<JobRow, Refusal> {
        let text = text.trim().to_ascii_lowercase();
        let usable = |c: char| c.is_ascii_hexdigit() || c == '-';
        if text.is_empty() || text.len() > 36 || !text.chars().all(usable) {
            let message = "that is no job id: expected a UUID or the beginning of one, as `ctl jobs` shows it";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let ids = self.store.jobs_beginning(text.clone()).await?;
        if ids.len() > 1 {
            let message = format!("several jobs begin with \"{text}\": write more of the id, see `ctl jobs`");
            return Err(Refusal::new(Code::JobAmbiguous, message));
        }
        let row = match ids.first() {
            Some(id) => self.store.job(*id).await?,
            None => None,
        };
        row.ok_or_else(|| Refusal::new(Code::JobNotFound, format!("there is no job \"{text}\": see `ctl jobs`")))
    }

    /// A job as operators see it.
    pub fn describe(&self, row: &JobRow) -> v1::Job {
        let progress = &row.progress;
        let (in_contact, seen) = self.agents.contact(&row.agent);
        let on_failure = if row.keep_on_failure { v1::OnFailure::Keep } else { v1::OnFailure::Undo };
        let micros = |at: Option<jiff::Timestamp>| at.map_or(0, jiff::Timestamp::as_microsecond);
        v1::Job {
            job_id: row.id.to_string(),
            epoch: row.epoch,
            state: progress.state.into(),
            site: row.site.clone(),
            agent_id: row.agent.to_string(),
            agent_in_contact: in_contact,
            agent_seen_micros: micros(seen),
            created_micros: row.created.as_microsecond(),
            started_micros: micros(progress.started),
            finished_micros: micros(progress.finished),
            last_seq: progress.last_seq,
            submitted_by: row.submitted_by.clone(),
            file_name: row.file_name.clone(),
            plan_sha256: submit::hex(&row.plan_sha256),
            cluster: row.cluster.clone(),
            vm_name: row.vm_name.clone(),
            cloudtower_ip: row.cloudtower_ip.clone(),
            cancel: row.cancel.into(),
            outcome: progress.outcome.map_or(v1::JobOutcome::Unspecified, Into::into).into(),
            undo: progress.undo.map_or(v1::UndoState::Unspecified, Into::into).into(),
            failure: row.failure().map(Into::into),
            percent: self.percent(row),
            current_step: progress.current_step.clone(),
            on_failure: on_failure.into(),
            refusal: row.refusal.clone(),
            question: progress.question.clone(),
            moving_to: row.moving_to.as_ref().map(ToString::to_string).unwrap_or_default(),
            expected: Vec::new(),
        }
    }

    /// What the steps have taken before, at this site or else at all of them. An estimate is a comfort: without it the job
    /// is told of all the same.
    pub async fn expected(&self, site: &str) -> Vec<v1::StepTime> {
        match self.store.step_times(site).await {
            Ok((at_home, elsewhere)) => eta::to_wire(&eta::learn(at_home.iter().map(pair), elsewhere.iter().map(pair))),
            Err(error) => {
                tracing::warn!(site, error = %error, "what steps have taken before cannot be read");
                Vec::new()
            }
        }
    }

    /// Jobs, newest first. A limit of 0 means the usual one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, mut filter: JobFilter) -> Result<Vec<v1::Job>, Refusal> {
        filter.limit = if filter.limit == 0 { LIST_DEFAULT } else { filter.limit.min(LIST_MAX) };
        let rows = self.store.list_jobs(filter).await?;
        Ok(rows.iter().map(|row| self.describe(row)).collect())
    }

    /// The plan of a job.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn plan(&self, job: JobId) -> Result<Option<v1::PlanDocument>, Refusal> {
        Ok(self.store.plan(job).await?)
    }

    /// The result document of a job.
    ///
    /// # Errors
    /// [`Code::JobNotFinished`] before the end.
    pub async fn result(&self, row: &JobRow) -> Result<Vec<u8>, Refusal> {
        if !row.finished() {
            let message = format!("job {} has not ended yet: follow it with `ctl watch {}`", row.id, row.id);
            return Err(Refusal::new(Code::JobNotFinished, message));
        }
        Ok(self.store.result(row.id).await?.unwrap_or_default())
    }

    /// Asks for a job to be stopped and undone. Asking again (with another `request`) ends the waiting of an undo that is
    /// at work, and changes nothing before.
    ///
    /// A start that was never sent is withdrawn here and the job is over at once. Otherwise the order goes to the agent
    /// behind the start, and only the agent's own events say what became of it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cancel(&self, row: &JobRow, by: &str, reason: &str, request: &str) -> Result<Cancelled, Refusal> {
        let reason: String = reason.chars().take(500).collect();
        let kind = v1::order::Kind::Cancel(v1::CancelOrder { by: by.to_owned(), reason: reason.clone() });
        let order = self.order(row.id, &row.site, kind);
        let unstarted = ending::cancelled(by, &reason, self.store.plan(row.id).await?.as_ref());
        let wish = Cancel { job: row.id, request: short(request), order, unstarted };
        let cancelled = self.give(&[&row.agent], |store| async move { store.cancel(wish).await }).await?;
        let cancelled = cancelled.ok_or_else(|| Refusal::new(Code::JobNotFound, "the job is gone"))?;
        let Cancelled { row, cut_short } = &cancelled;
        tracing::info!(job = %row.id, by, stage = row.cancel.as_str_name(), cut_short, "cancel asked for");
        self.changed(row);
        Ok(cancelled)
    }

    /// Changes the store and wakes the agents to which this gives an order. In a task of its own: a caller that goes
    /// away in between would leave an order that nobody looks for.
    async fn give<T, F>(&self, to: &[&AgentId], change: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (agents, to) = (self.agents.clone(), to.iter().copied().cloned().collect::<Vec<_>>());
        let change = change(self.store.clone());
        let given = async move {
            let given = change.await;
            to.iter().for_each(|agent| agents.wake(agent));
            given
        };
        let broke_off =
            |_| Refusal::new(Code::Internal, "the store's change broke off: look into the controller's log");
        Ok(self.tasks.spawn(given.in_current_span()).await.map_err(broke_off)??)
    }

    /// Appends what an agent tells; watchers see it after the commit.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn append(&self, agent: &AgentId, job: JobId, events: Vec<v1::Event>) -> Result<Appended, Refusal> {
        let seen = Seen::of(&events);
        let appended = self.store.append(job, agent.clone(), events).await?;
        if let Appended::Stored { row, new } = &appended
            && *new > 0
        {
            seen.stored(*new as u64, row.progress.started);
            if row.agent == *agent {
                self.changed(row);
            } else {
                self.has_moved(row, agent);
            }
            if row.finished() {
                tracing::info!(job = %row.id, state = row.progress.state.as_str_name(), "job ended");
            }
        }
        Ok(appended)
    }

    /// An order that is wished now: it holds for `link.order_life_h`. Number and epoch are given by the store.
    fn order(&self, job: JobId, site: &str, kind: v1::order::Kind) -> v1::Order {
        let life = SignedDuration::from_hours(self.config.link.order_life_h.into());
        let until = Timestamp::now().checked_add(life).unwrap_or(Timestamp::MAX);
        v1::Order {
            job_id: job.to_string(),
            site: site.to_owned(),
            expires_micros: until.as_microsecond(),
            kind: Some(kind),
            trace: gantry_telemetry::inject().into_iter().collect(),
            ..Default::default()
        }
    }

    /// Ends an order that never left and is past its time: it is refused here, as the agent would.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn expired(&self, agent: &AgentId, given: &v1::Order) -> Result<(), Refusal> {
        let until =
            Timestamp::from_microsecond(given.expires_micros).map_or_else(|_| String::new(), |at| at.to_string());
        let message = format!(
            "the order was to be begun until {until}, and agent \"{agent}\" was out of contact until after that \
             (link.order_life_h)"
        );
        let stage = v1::OrderStage::Refused.into();
        let update = v1::OrderUpdate { number: given.number, stage, code: order::EXPIRED.to_owned(), message };
        self.order_update(agent, update).await
    }

    /// Takes in how far an order has come at the agent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn order_update(&self, agent: &AgentId, update: v1::OrderUpdate) -> Result<(), Refusal> {
        let stage = update.stage();
        let Some(job) = self.store.order_job(agent.clone(), update.number).await? else {
            tracing::warn!(%agent, order = update.number, "the agent speaks of an order that was never given");
            return Ok(());
        };
        if stage == v1::OrderStage::Refused {
            let (code, message) = (&update.code, &update.message);
            tracing::warn!(%agent, %job, order = update.number, %code, %message, "the agent refused an order");
        }
        let plan = if stage == v1::OrderStage::Refused { self.store.plan(job).await? } else { None };
        let refused = ending::refused(&update.code, &update.message, plan.as_ref());
        let why = update.message.chars().take(500).collect();
        let report = OrderReport { number: update.number, stage, refused, why };
        if let Some(row) = self.store.order_report(agent.clone(), report).await? {
            self.changed(&row);
        }
        Ok(())
    }

    /// Takes in the newest progress of a step, for whoever watches. Dropped unless the job is the agent's and at work.
    pub fn sample(&self, agent: &AgentId, job: JobId, sample: v1::Sample) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = live.get_mut(&job).filter(|live| live.agent == *agent && !live.ended) {
            live.speeds.take(&sample);
            live.changed.send_modify(|change| {
                change.revision += 1;
                change.sample = Some(sample);
            });
        }
    }

    /// How fast a job at work has uploaded so far, as far as this controller has seen it.
    pub fn speeds(&self, job: JobId) -> Vec<Speed> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(&job).map(|live| live.speeds.points()).unwrap_or_default()
    }

    /// What keeps secrets out of everything that is told.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Where the controller stands with jobs that an agent speaks of, its own or not; its own at work are ready for
    /// samples afterwards.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn positions(&self, agent: &AgentId, jobs: Vec<JobId>) -> Result<Vec<Position>, Refusal> {
        let positions = self.store.positions(jobs).await?;
        let active = JobFilter { limit: LIST_MAX, active_only: true, ..JobFilter::default() };
        for row in self.store.list_jobs(active).await?.iter().filter(|row| row.agent == *agent) {
            self.track(row);
        }
        Ok(positions)
    }

    fn changed(&self, row: &JobRow) {
        self.track(row);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = live.get_mut(&row.id) else { return };
        entry.ended = row.finished();
        if entry.ended {
            entry.speeds = Speeds::default();
        }
        let moved = entry.agent != row.agent;
        entry.agent.clone_from(&row.agent);
        entry.changed.send_modify(|change| {
            change.revision += 1;
            if row.finished() || moved {
                change.sample = None;
            }
        });
        if entry.ended && entry.changed.receiver_count() == 0 {
            live.remove(&row.id);
        }
    }

    fn track(&self, row: &JobRow) -> signal::Receiver<Change> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = live.entry(row.id).or_insert_with(|| Live {
            agent: row.agent.clone(),
            ended: row.finished(),
            changed: signal::Sender::new(Change::default()),
            speeds: Speeds::default(),
        });
        entry.changed.subscribe()
    }

    fn forget_if_ended(&self, job: JobId) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.get(&job).is_some_and(|entry| entry.ended && entry.changed.receiver_count() == 0) {
            live.remove(&job);
        }
    }

    /// Percent by the log, plus the share of the step at work by its newest progress.
    fn percent(&self, row: &JobRow) -> f64 {
        let progress = &row.progress;
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = live.get(&row.id).and_then(|entry| entry.changed.borrow().sample.clone());
        let share = sample.filter(|sample| sample.step == progress.current_step && sample.total > 0);
        let share = share.map_or(0.0, |sample| (sample.done as f64 / sample.total as f64).clamp(0.0, 1.0));
        (progress.percent + share * progress.current_share).clamp(0.0, 100.0)
    }
}

/// A request's name as it is stored.
fn short(request: &str) -> String {
    request.chars().take(64).collect()
}

fn pair((step, seconds): &(String, f64)) -> (&str, f64) {
    (step, *seconds)
}
