//! The log of one job at the agent: numbers events, journals them, tells them on, keeps the files of `flow.md` 8.3.
//! Knows no step by name and no controller.

mod ask;
mod clean;
mod files;
mod keep;
mod looking;
mod tell;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gantry_proto::{
    Body, Event, Failure, JobId, Level, Redactor, Sample, Secrets, StepId, TakenOver, event::Extra, view::Phase,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    facts::Facts,
    journal::{CancelRecord, Chunks, DecideRecord, Folded, HoldRecord, Journal, JournalError, OpenIntent},
    step::{IntentId, StepError},
    upload::Tuning,
};
use clean::Cleaner;
use files::Files;

/// Code of the note about a second cancel.
const CANCELLED_AGAIN: &str = "cancelled_again";
/// Where the log files lie, relative to the job's directory.
const LOGS: &str = "logs";

/// A chunk that the server has acknowledged (R38).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its number, from 0.
    pub chunk_num: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// Told whenever a job has something new for the link.
#[derive(Clone, Default)]
pub struct Wake(Arc<watch::Sender<()>>);

impl Wake {
    /// Something is new.
    pub fn wake(&self) {
        self.0.send_replace(());
    }

    /// Sees every wake from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// Cancels that were asked for, and how many of them have been told.
#[derive(Default)]
struct Cancels {
    first: Option<CancelRecord>,
    first_told: bool,
    /// Ends the waiting of an undo (`flow.md` 5).
    second: Option<CancelRecord>,
    second_told: bool,
}

/// The log of one job.
pub struct JobLog {
    job: JobId,
    journal: Arc<Journal>,
    wake: Wake,
    redactor: Redactor,
    /// For facts and the result, see [`JobLog::protect`].
    facts_redactor: OnceLock<Redactor>,
    /// Facts as they were written before, by field.
    saved: Mutex<Map<String, Value>>,
    /// One [`JobLog::save`] at a time.
    saving: tokio::sync::Mutex<()>,
    chunks: Mutex<Chunks>,
    open_intents: BTreeMap<u64, OpenIntent>,
    next_intent: AtomicU64,
    sample: watch::Sender<Option<Sample>>,
    /// Time of the newest progress that is in the files.
    sample_written: Mutex<Option<Timestamp>>,
    progress_every: Duration,
    files: Arc<Files>,
    files_failed: Arc<AtomicBool>,
    cancels: Mutex<Cancels>,
    /// The newest pause or resume.
    hold: watch::Sender<Option<HoldRecord>>,
    /// The newest wishes about the upload.
    tuning: watch::Sender<Tuning>,
    /// The newest answer to a question.
    decision: watch::Sender<Option<DecideRecord>>,
    /// [`Body::Paused`] is the last word about it.
    held_told: AtomicBool,
    /// The agent that had the job before, if there was one.
    taken_over: Option<TakenOver>,
    /// Cancelled once the undo is to wait for nothing more.
    no_waiting: CancellationToken,
    stop: CancellationToken,
    /// Of who only looks: nothing is written.
    only_looks: bool,
}

impl JobLog {
    /// Opens or creates the log in `data_dir/jobs/<job>` (blocking).
    pub fn open(settings: &Settings, job: JobId, redactor: &Redactor) -> Result<Self, JournalError> {
        let dir = dir_of(settings, job);
        let (journal, folded) = Journal::open(&dir)?;
        Ok(Self::new(settings, job, redactor, journal, &folded, Wake::default(), CancellationToken::new()))
    }

    /// The log over a journal that is open already. `stop` is cancelled when the job is to stop as it is.
    pub fn new(
        settings: &Settings,
        job: JobId,
        redactor: &Redactor,
        journal: Arc<Journal>,
        folded: &Folded,
        wake: Wake,
        stop: CancellationToken,
    ) -> Self {
        Self::in_dir(&dir_of(settings, job), settings, job, redactor, journal, folded, wake, stop)
    }

    /// The same with log files below this directory.
    pub(crate) fn in_dir(
        dir: &Path,
        settings: &Settings,
        job: JobId,
        redactor: &Redactor,
        journal: Arc<Journal>,
        folded: &Folded,
        wake: Wake,
        stop: CancellationToken,
    ) -> Self {
        Self {
            job,
            journal,
            wake,
            redactor: redactor.clone(),
            facts_redactor: OnceLock::new(),
            saved: Mutex::new(folded.view.facts.clone().into_iter().collect()),
            saving: tokio::sync::Mutex::default(),
            chunks: Mutex::new(folded.chunks.clone()),
            open_intents: folded.open_intents.clone(),
            next_intent: AtomicU64::new(folded.last_intent.saturating_add(1)),
            sample: watch::Sender::new(None),
            sample_written: Mutex::default(),
            progress_every: Duration::try_from_secs_f64(settings.timing.progress_every_s).unwrap_or_default(),
            files: Arc::new(Files::new(dir.join(LOGS))),
            files_failed: Arc::default(),
            cancels: Mutex::new(Cancels {
                first: folded.cancels.first().cloned(),
                first_told: folded.started() && folded.view.cancelled_by.is_some(),
                second: folded.cancels.get(1).cloned(),
                second_told: folded.view.notes.iter().any(|note| note.code == CANCELLED_AGAIN),
            }),
            hold: watch::Sender::new(folded.hold.clone()),
            tuning: watch::Sender::new(folded.tune.as_ref().map(|tune| tune.tuning.clone()).unwrap_or_default()),
            decision: watch::Sender::new(folded.decision.clone()),
            held_told: AtomicBool::new(folded.started() && folded.view.phase == Phase::Paused),
            taken_over: folded.taken_over.clone(),
            no_waiting: CancellationToken::new(),
            stop,
            only_looks: false,
        }
    }

    /// Facts must come back from the journal as they were: a secret that is also a plain word of the plan (a password
    /// equal to the VM's name) is replaced in all texts, but not in facts.
    pub fn protect(&self, secrets: &Secrets, plan: &str) {
        let redactor = Redactor::new();
        let all = [&secrets.root_password, &secrets.fisheye_password, &secrets.ssh_password];
        let all = all.into_iter().chain(secrets.root_password_encoded.as_ref());
        all.filter(|secret| !plan.contains(secret.expose())).for_each(|secret| redactor.register(secret));
        // Set once for each time that the job is taken up; a second one is the same.
        let _ = self.facts_redactor.set(redactor);
    }

    /// Gives the event the next number and the time, redacts it, writes it to the journal (fsync) and to the stage log,
    /// and wakes the link. Gives its number.
    pub async fn append(&self, body: Body) -> io::Result<u64> {
        if self.only_looks {
            return Ok(0);
        }
        let body = self.cleaner().body(body);
        let (job, files, failed) = (self.job, self.files.clone(), self.files_failed.clone());
        let write = move |journal: &Journal| {
            let event = journal.event(body)?;
            // The stage log is for people: it must not stop a job whose journal is whole.
            let line = files.stage(&tell::Line::event(job, &event));
            complain(job, line, &failed);
            Ok(event)
        };
        let event = self.journal.on_disk(write).await?;
        self.wake.wake();
        self.trace(&event);
        Ok(event.seq)
    }

    /// Appends a fact for each field that differs from what was written before.
    pub async fn save(&self, step: &StepId, facts: &Facts) -> io::Result<()> {
        let _one_at_a_time = self.saving.lock().await;
        let (now, empty) = (fields(facts)?, fields(&Facts::default())?);
        for (key, value) in now {
            let nothing = empty.get(&key) == Some(&value);
            let before = lock(&self.saved).get(&key).cloned();
            if before.as_ref() == Some(&value) || (before.is_none() && nothing) {
                continue;
            }
            let told = (!nothing).then(|| value.clone());
            self.append(Body::Fact { step: step.clone(), key: key.clone(), value: told }).await?;
            let mut saved = lock(&self.saved);
            if nothing {
                saved.remove(&key)
            } else {
                saved.insert(key, value)
            };
        }
        Ok(())
    }

    /// Replaces the newest progress; upload progress also goes to `upload_cloudtower.json` and the stage log.
    pub fn sample(&self, sample: Sample) {
        self.sample.send_replace(Some(self.cleaner().sample(sample)));
    }

    /// The newest progress; sees each later one that is not replaced before it looks.
    pub fn samples(&self) -> watch::Receiver<Option<Sample>> {
        self.sample.subscribe()
    }

    /// The next number for an intent.
    pub fn next_intent(&self) -> IntentId {
        IntentId(self.next_intent.fetch_add(1, Ordering::Relaxed))
    }

    /// Intents that had no outcome when the job was taken up.
    pub fn open_intents(&self) -> &BTreeMap<u64, OpenIntent> {
        &self.open_intents
    }

    /// Keeps the progress files up to date for as long as it is polled.
    pub async fn write_progress(&self) {
        let mut samples = self.sample.subscribe();
        // What was told before counts as new.
        if samples.borrow().is_some() {
            samples.mark_changed();
        }
        let mut next = Instant::now();
        // The sender lives as long as `self`.
        while samples.changed().await.is_ok() {
            let done = |sample: &Option<Sample>| sample.as_ref().is_some_and(|s| s.total > 0 && s.done >= s.total);
            let _at_the_latest = tokio::time::timeout_at(next, samples.wait_for(done)).await.is_ok();
            let newest = samples.borrow_and_update().clone();
            self.write_sample(newest).await;
            next = Instant::now() + self.progress_every;
        }
    }

    /// Writes what was held back, and closes the journal until somebody needs it again.
    pub async fn finish(&self) -> io::Result<()> {
        let newest = self.sample.borrow().clone();
        self.write_sample(newest).await;
        let (files, redactor) = (self.files.clone(), self.redactor.clone());
        let flush = move |journal: &Journal| files.flush(&redactor).and(journal.close());
        self.journal.on_disk(flush).await
    }

    /// A failure as it may be told.
    pub fn clean(&self, failure: Failure) -> Failure {
        self.cleaner().failure(failure)
    }

    /// The journal below.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Notes that the job is to be cancelled; the token is the caller's.
    pub fn request_cancel(&self, cancel: CancelRecord) {
        let mut cancels = lock(&self.cancels);
        match &cancels.first {
            None => cancels.first = Some(cancel),
            Some(first) if first.order == cancel.order => {}
            Some(_) => {
                cancels.second.get_or_insert(cancel);
            }
        }
    }

    /// The cancel that was asked for.
    pub fn cancelled(&self) -> Option<CancelRecord> {
        lock(&self.cancels).first.clone()
    }

    /// An operator's wishes about the upload.
    pub fn tune(&self, tuning: Tuning) {
        self.tuning.send_replace(tuning);
    }

    /// The wishes about the upload, and every change of them.
    pub fn tuning(&self) -> watch::Receiver<Tuning> {
        self.tuning.subscribe()
    }

    /// Whether the job is to be held at its next safe point.
    pub fn wants_hold(&self) -> bool {
        self.hold.borrow().as_ref().is_some_and(|newest| newest.hold)
    }

    /// Holds the job at its next safe point, or lets it go on.
    pub fn request_hold(&self, hold: HoldRecord) {
        self.hold.send_replace(Some(hold));
    }

    /// The safe point of a pause: waits for as long as the job is to be held. Ends at once when `cancel` is cancelled.
    pub async fn hold_here(&self, cancel: &CancellationToken) -> io::Result<()> {
        let mut news = self.hold.subscribe();
        loop {
            let newest = news.borrow_and_update().clone();
            let Some(HoldRecord { by, reason, .. }) = newest.clone().filter(|newest| newest.hold) else {
                if self.held_told.swap(false, Ordering::AcqRel) {
                    self.append(Body::Resumed { by: newest.map(|newest| newest.by).unwrap_or_default() }).await?;
                }
                return Ok(());
            };
            if cancel.is_cancelled() {
                return Ok(());
            }
            if !self.held_told.swap(true, Ordering::AcqRel) {
                self.append(Body::Paused { by, reason }).await?;
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                // The sender lives as long as `self`.
                _ = news.changed() => {}
            }
        }
    }

    /// Cancelled once the job was cancelled a second time: an undo waits for nothing more (`flow.md` 5).
    pub fn no_waiting(&self) -> &CancellationToken {
        &self.no_waiting
    }

    /// Whether the job is to stop as it is: the agent is stopping, or another one gets the job.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells once that the cancel has been taken up, if there is one; the same for a second one, which takes effect then.
    pub async fn tell_cancel(&self) -> io::Result<()> {
        let (first, second, hurry) = {
            let mut cancels = lock(&self.cancels);
            let first = cancels.first.clone().filter(|_| !cancels.first_told);
            let second = cancels.second.clone().filter(|_| !cancels.second_told);
            cancels.first_told |= first.is_some();
            cancels.second_told |= second.is_some();
            (first, second, cancels.second.is_some())
        };
        let told = async {
            if let Some(CancelRecord { by, reason, .. }) = first {
                self.append(Body::CancelAccepted { by, reason }).await?;
            }
            let Some(CancelRecord { by, .. }) = second else { return Ok(()) };
            let message = format!("{by} cancelled again: the undo waits for nothing more, and lists what may be left");
            let (code, extra) = (CANCELLED_AGAIN.to_owned(), Extra::default());
            self.append(Body::Note { step: None, level: Level::Warning, code, message, extra }).await.map(drop)
        };
        let told = told.await;
        if hurry {
            self.no_waiting.cancel();
        }
        told
    }

    /// [`StepError::Cancelled`] or [`StepError::Stopping`], whichever the token was cancelled for.
    pub fn why_stopped(&self) -> StepError {
        if self.is_stopping() { StepError::Stopping } else { StepError::Cancelled }
    }

    /// Whether the job may have made something that no fact tells: another agent had it and has not confirmed that it
    /// stopped, so its last events may be lost. Then what bears the job's mark is looked for.
    pub fn may_lack_facts(&self) -> bool {
        self.taken_over.as_ref().is_some_and(|from| !from.confirmed)
    }

    async fn write_sample(&self, sample: Option<Sample>) {
        // Progress of the upload is what has the fields of `flow.md` 8.2.
        let Some(sample) = sample.filter(|sample| sample.extra.contains_key("progress_percent")) else { return };
        if lock(&self.sample_written).replace(sample.at) == Some(sample.at) {
            return;
        }
        let files = self.files.clone();
        let write = move |_: &Journal| {
            files.upload(&sample.extra)?;
            files.stage(&tell::Line::sample(&sample))
        };
        complain(self.job, self.journal.on_disk(write).await, &self.files_failed);
    }

    fn cleaner(&self) -> Cleaner<'_> {
        Cleaner { all: &self.redactor, facts: self.facts_redactor.get().unwrap_or(&self.redactor) }
    }

    /// The event in the agent's own log.
    fn trace(&self, event: &Event) {
        let (message, extra) = tell::tell(&event.body);
        let (job, seq, extra) = (self.job, event.seq, Value::Object(extra));
        let step = event.body.step().map(StepId::as_str).unwrap_or_default();
        match event.body.level() {
            Level::Debug => tracing::debug!(%job, seq, step, %extra, "{message}"),
            Level::Info => tracing::info!(%job, seq, step, "{message}"),
            Level::Warning => tracing::warn!(%job, seq, step, %extra, "{message}"),
            Level::Error => tracing::error!(%job, seq, step, %extra, "{message}"),
        }
    }
}

/// The job's directory.
pub fn dir_of(settings: &Settings, job: JobId) -> PathBuf {
    settings.data_dir.join("jobs").join(job.to_string())
}

fn fields(facts: &Facts) -> io::Result<Map<String, Value>> {
    match serde_json::to_value(facts)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(io::Error::other("the facts are not an object")),
    }
}

/// Says once that a log file cannot be written.
fn complain(job: JobId, written: io::Result<()>, failed: &AtomicBool) {
    if let Err(error) = written
        && !failed.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%job, %error, "a log file of the job cannot be written; the journal is whole, the job goes on");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
