//! Owns the jobs of this agent: accepts, starts, cancels, takes up again after a restart, stops. Knows no step and no
//! line: the link asks it for positions, events and samples, and hands it orders.

mod accept;
mod contact;
mod entry;
mod gate;
mod hold;
mod seen;
mod surrender;
mod survey;
mod take_over;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gantry_proto::{JobId, Plan, Redactor, Sample, trace::TraceContext, v1};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Settings,
    identity::Identity,
    joblog::{Wake, dir_of},
    journal::{self, Disk, Folded, Journal},
    pipeline::Pipeline,
};
pub use accept::Refused;
use contact::Contact;
use entry::Entry;
use seen::Seen;
use survey::Surveys;

/// Updates of orders that wait for the link, at most; the oldest go, and are told again when the order comes again.
const UPDATES_MAX: usize = 1_000;

/// The jobs of this agent.
pub struct Runner {
    settings: Arc<Settings>,
    identity: Arc<Identity>,
    redactor: Redactor,
    pipeline: Pipeline,
    disk: Arc<dyn Disk>,
    jobs: Mutex<BTreeMap<JobId, Arc<Entry>>>,
    /// Which orders were carried out.
    seen: Seen,
    /// One order at a time.
    accepting: tokio::sync::Mutex<()>,
    /// Jobs at work at the same time.
    at_work: Semaphore,
    /// The controller has said, in this process, which jobs other agents have by now.
    asked: watch::Sender<bool>,
    updates: Mutex<BTreeMap<u64, v1::OrderUpdate>>,
    surveys: Mutex<Surveys>,
    wake: Wake,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runner {
    /// Takes up the jobs that are on disk. Those that have not ended go on once the controller has said that they are still
    /// this agent's ([`Self::in_contact`]), or after `jobs.ask_first_s`.
    pub async fn start(
        settings: Arc<Settings>,
        identity: Arc<Identity>,
        redactor: Redactor,
        pipeline: Pipeline,
        disk: Arc<dyn Disk>,
    ) -> io::Result<Arc<Self>> {
        let dir = settings.data_dir.clone();
        let seen = spawn_blocking(move || Seen::open(&dir)).await.map_err(io::Error::other)??;
        let runner = Arc::new(Self {
            at_work: Semaphore::new(settings.jobs.concurrent.max(1)),
            asked: watch::Sender::new(false),
            settings,
            identity,
            redactor,
            pipeline,
            disk,
            jobs: Mutex::default(),
            seen,
            accepting: tokio::sync::Mutex::default(),
            updates: Mutex::default(),
            surveys: Mutex::default(),
            wake: Wake::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let (settings, disk) = (runner.settings.clone(), runner.disk.clone());
        let found = spawn_blocking(move || on_disk(&settings, &disk)).await.map_err(io::Error::other)??;
        for (id, journal, folded) in found {
            runner.take_up(id, journal, folded);
        }
        runner.forget_oldest().await;
        Ok(runner)
    }

    /// Where every job stands, for Hello.
    pub fn positions(&self) -> Vec<v1::JobPosition> {
        let position = |(id, entry): (&JobId, &Arc<Entry>)| {
            let tail = entry.journal.tail();
            v1::JobPosition {
                job_id: id.to_string(),
                epoch: tail.epoch,
                last_seq: tail.last_seq,
                acked_seq: tail.acked,
                finished: tail.is_over(),
            }
        };
        self.jobs().iter().map(position).collect()
    }

    /// The journal of every job.
    pub fn journals(&self) -> Vec<(JobId, Arc<Journal>)> {
        self.jobs().iter().map(|(id, entry)| (*id, entry.journal.clone())).collect()
    }

    /// The trace that a job's order came in.
    pub fn trace(&self, job: JobId) -> TraceContext {
        self.entry(job).map(|entry| entry.trace()).unwrap_or_default()
    }

    /// The newest progress of every job at work.
    pub fn samples(&self) -> Vec<Sample> {
        let newest = |entry: &Arc<Entry>| {
            let log = entry.log().filter(|_| !entry.journal.tail().is_over())?;
            log.samples().borrow().clone()
        };
        self.jobs().values().filter_map(newest).collect()
    }

    /// The controller has stored a job up to `seq`.
    pub async fn acked(&self, job: JobId, seq: u64) -> io::Result<()> {
        let Some(entry) = self.entry(job) else { return Ok(()) };
        entry.journal.on_disk(move |journal| journal.acked(seq)).await?;
        if told_in_full(&entry.journal) {
            self.forget_oldest().await;
        }
        Ok(())
    }

    /// How far orders have come since they were asked for last.
    pub fn take_updates(&self) -> Vec<v1::OrderUpdate> {
        std::mem::take(&mut *lock(&self.updates)).into_values().collect()
    }

    /// Sees whenever there is something new for the link.
    pub fn news(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    /// Lets every job come to its next safe point; true when all of them did within `limit`. What has not ended goes on
    /// at the next start.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Entry>>> {
        lock(&self.jobs)
    }

    fn entry(&self, job: JobId) -> Option<Arc<Entry>> {
        self.jobs().get(&job).cloned()
    }

    fn update(&self, update: v1::OrderUpdate) {
        let mut updates = lock(&self.updates);
        updates.insert(update.number, update);
        while updates.len() > UPDATES_MAX {
            updates.pop_first();
        }
        drop(updates);
        self.wake.wake();
    }

    /// Keeps no more than `jobs.keep_finished` finished jobs. Job ids sort by time: the oldest go first, and only those
    /// that the controller has in full.
    async fn forget_oldest(&self) {
        let gone = self.take_oldest();
        if gone.is_empty() {
            return;
        }
        let removed = spawn_blocking(move || gone.iter().for_each(|dir| remove(dir))).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "old jobs' directories are not removed");
        }
    }

    /// Takes the jobs out that are to go; their directories.
    fn take_oldest(&self) -> Vec<PathBuf> {
        let mut jobs = self.jobs();
        // One whose task is still closing its files goes the next time.
        let over = jobs.iter().filter(|(_, entry)| told_in_full(&entry.journal) && !entry.is_at_work());
        let over: Vec<JobId> = over.map(|(id, _)| *id).collect();
        let spare = over.len().saturating_sub(self.settings.jobs.keep_finished);
        let gone = over.into_iter().take(spare);
        gone.filter(|id| jobs.remove(id).is_some()).map(|id| dir_of(&self.settings, id)).collect()
    }

    /// A job that was found on disk.
    fn take_up(self: &Arc<Self>, id: JobId, journal: Arc<Journal>, folded: Folded) {
        let entry = Arc::new(Entry::new(journal, &folded, self.stop.child_token()));
        self.jobs().insert(id, entry.clone());
        if folded.is_over() {
            return;
        }
        if folded.surrender.is_some() {
            tracing::info!(job = %id, "a job that another agent gets is not taken up again");
            self.let_go(id, entry);
        } else {
            tracing::info!(job = %id, last_seq = folded.view.last_seq, "a job that has not ended is taken up again");
            self.spawn(id, entry, folded, Contact::AskFirst);
        }
    }
}

/// The jobs on disk. One whose journal is damaged stays where it is and concerns nobody else.
fn on_disk(settings: &Settings, disk: &Arc<dyn Disk>) -> io::Result<Vec<(JobId, Arc<Journal>, Folded)>> {
    let dir = settings.data_dir.join("jobs");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut jobs = Vec::new();
    for entry in std::fs::read_dir(&dir)? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        match Journal::open_on(&dir.join(&name), disk.clone()) {
            // The agent died before the order was on disk: it will come again.
            Ok((_, folded)) if folded.start.is_none() => {}
            Ok((journal, folded)) => jobs.push((id, journal, folded)),
            Err(error) => {
                let causes = gantry_proto::error::causes(&error).join(": ");
                tracing::error!(job = %id, error = %causes, "a job cannot be taken up");
            }
        }
    }
    jobs.sort_by_key(|(id, ..)| *id);
    Ok(jobs)
}

/// Whether the job has ended and the controller has all its events, or wants none of them.
fn told_in_full(journal: &Journal) -> bool {
    let tail = journal.tail();
    tail.moved || (tail.finished && tail.acked == tail.last_seq)
}

fn remove(dir: &Path) {
    if let Err(error) = journal::remove(dir) {
        tracing::warn!(dir = %dir.display(), %error, "an old job's directory cannot be removed");
    }
}

/// What makes two jobs exclude each other.
fn target(plan: &Plan) -> String {
    plan.cloudtower.ip.to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
