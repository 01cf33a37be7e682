//! Orders: what is refused and why, what is written down before it takes effect, and the task of a job.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use gantry_proto::{
    Code, Failure, JobId, Plan, Secret, Secrets,
    error::causes,
    trace::{TraceContext, admit},
    v1,
};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use v1::{OrderStage, order::Kind};

use super::{Runner, contact::Contact, entry::Entry, gate::leads_nowhere_else, target};
use crate::{
    executor::{self, Ended, Job},
    joblog::{JobLog, dir_of},
    journal::{self, CancelRecord, DecideRecord, Folded, HoldRecord, Journal, Record, SealedText, StartRecord, hex},
    outside::Outside,
};

/// The longest name or reason that is taken from an order, characters.
const WORDS_MAX: usize = 500;

/// Steps of a retry that are kept, at most.
const KEPT_MAX: usize = 100;

/// How long the files of an epoch that has ended may take to be closed before a retry is refused.
const CLOSING: Duration = Duration::from_secs(5);

/// Why an order is refused. Nothing has happened.
#[derive(Debug)]
pub struct Refused {
    /// A stable word.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// What every order that begins an epoch says of it.
pub(super) struct Begin {
    pub order: u64,
    pub epoch: u32,
    pub trace: TraceContext,
}

pub(super) fn refused(code: Code, message: impl Into<String>) -> Refused {
    Refused { code: code.word(), message: message.into() }
}

impl Runner {
    /// Takes an order. The same order twice is the same as once; the answer is how far it has come. `None`: the agent is
    /// stopping and leaves the order to its next start.
    pub async fn order(self: &Arc<Self>, order: v1::Order) -> Option<v1::OrderUpdate> {
        let number = order.number;
        let _one_at_a_time = self.accepting.lock().await;
        if self.stop.is_cancelled() {
            return None;
        }
        Some(match self.apply(order).await {
            Ok(stage) => {
                if let Err(error) = self.seen.note(number).await {
                    tracing::error!(order = number, %error, "that the order was carried out is not on disk; look at the disk \
                        under data_dir");
                }
                update(number, stage, None)
            }
            Err(refused) => {
                tracing::warn!(order = number, code = refused.code, reason = %refused.message, "an order is refused");
                update(number, OrderStage::Refused, Some(refused))
            }
        })
    }

    async fn apply(self: &Arc<Self>, order: v1::Order) -> Result<OrderStage, Refused> {
        let job: JobId = order.job_id.parse().map_err(|error| refused(Code::BadRequest, format!("{error}")))?;
        if order.epoch == 0 {
            return Err(refused(Code::BadRequest, "the order has no epoch"));
        }
        if let Some(stage) = self.let_go_of(job, &order)? {
            return Ok(stage);
        }
        self.pass(job, &order)?;
        match order.kind {
            Some(Kind::Start(start)) => {
                let trace = admit(order.trace);
                self.accept(job, order.number, order.epoch, start, trace).await
            }
            Some(Kind::Cancel(cancel)) => self.cancel(job, order.number, order.epoch, cancel).await,
            Some(Kind::Pause(pause)) => {
                let (by, reason) = (words(&pause.by), words(&pause.reason));
                let record = HoldRecord { order: order.number, epoch: order.epoch, hold: true, by, reason };
                self.hold(job, record).await
            }
            Some(Kind::Resume(resume)) => {
                let (by, reason) = (words(&resume.by), String::new());
                let record = HoldRecord { order: order.number, epoch: order.epoch, hold: false, by, reason };
                self.hold(job, record).await
            }
            Some(Kind::TuneUpload(wishes)) => self.tune(job, (order.number, order.epoch), wishes).await,
            Some(Kind::Retry(retry)) => {
                let trace = admit(order.trace);
                self.retry(job, order.number, order.epoch, retry, trace).await
            }
            Some(Kind::Decide(decide)) => {
                let (question, choice) = (decide.question, words(&decide.choice));
                let (order, epoch, by, reason) = (order.number, order.epoch, words(&decide.by), words(&decide.reason));
                self.decide(job, DecideRecord { order, epoch, question, choice, by, reason }).await
            }
            Some(Kind::Surrender(surrender)) => self.surrender(job, order.number, order.epoch, surrender).await,
            Some(Kind::TakeOver(take_over)) => {
                let trace = admit(order.trace);
                self.take_over(job, order.number, order.epoch, take_over, trace).await
            }
            None => Err(refused(Code::Incompatible, "this agent does not know the order: update the agent")),
        }
    }

    async fn accept(
        self: &Arc<Self>,
        id: JobId,
        order: u64,
        epoch: u32,
        start: v1::StartJob,
        trace: TraceContext,
    ) -> Result<OrderStage, Refused> {
        let document = start.plan.ok_or_else(|| refused(Code::BadRequest, "the order has no plan"))?;
        if let Some(entry) = self.entry(id) {
            return known(&entry, epoch, &document);
        }
        let sealed = start.secrets.ok_or_else(|| refused(Code::BadRequest, "the order has no secrets"))?;
        let (plan, record) = self.look_at(id, Begin { order, epoch, trace }, &document, &sealed)?;
        let record =
            StartRecord { keep_on_failure: start.keep_on_failure, submitted_by: words(&start.submitted_by), ..record };
        self.begin(id, record, &plan).await?;
        tracing::info!(job = %id, order, epoch, "a job is accepted");
        Ok(OrderStage::Applied)
    }

    /// Reads the plan of an order, and makes sure that the job could be carried out. The plan comes with the record that
    /// an epoch of it begins with: one that undoes on failure and keeps nothing of an earlier epoch.
    pub(super) fn look_at(
        &self,
        id: JobId,
        begin: Begin,
        document: &v1::PlanDocument,
        sealed: &v1::SealedSecrets,
    ) -> Result<(Plan, StartRecord), Refused> {
        let plan =
            Plan::from_document(document).map_err(|error| refused(Code::BadRequest, causes(&error).join(": ")))?;
        leads_nowhere_else(&plan, &self.settings)?;
        self.room_for(&plan)?;
        // Opened now, so that a job whose secrets do not open is refused before anything is on disk.
        let secrets = self.identity.sealing.open(id, &self.identity.agent, sealed);
        secrets.map_err(|error| refused(Code::BadRequest, error.to_string()))?;
        let text = String::from_utf8(document.json.clone());
        let record = StartRecord {
            order: begin.order,
            epoch: begin.epoch,
            at: Timestamp::now(),
            schema: document.schema.clone(),
            plan: text.map_err(|_| refused(Code::BadRequest, "the plan is not UTF-8"))?,
            sha256: hex(&document.sha256),
            sealed: SealedText::from(sealed),
            keep_on_failure: false,
            submitted_by: String::new(),
            trace: begin.trace,
            kept: Vec::new(),
            undo_only: false,
            carried: None,
        };
        Ok((plan, record))
    }

    /// A job that is new here: on disk, then at work.
    pub(super) async fn begin(self: &Arc<Self>, id: JobId, record: StartRecord, plan: &Plan) -> Result<(), Refused> {
        let (journal, folded) = self.write_start(id, record).await?;
        let entry = Arc::new(Entry::new(journal, &folded, self.stop.child_token()));
        entry.set_target(target(plan));
        self.jobs().insert(id, entry.clone());
        self.spawn(id, entry, folded, Contact::Here);
        Ok(())
    }

    /// The next epoch of a job that has ended.
    async fn retry(
        self: &Arc<Self>,
        id: JobId,
        order: u64,
        epoch: u32,
        retry: v1::RetryJob,
        trace: TraceContext,
    ) -> Result<OrderStage, Refused> {
        let gone = "the agent no longer has this job: deploy the workbook as a new job";
        let entry = self.entry(id).ok_or_else(|| refused(Code::JobNotFound, gone))?;
        let tail = entry.journal.tail();
        if epoch == tail.epoch && entry.start_order() == order {
            return Ok(if tail.finished { OrderStage::Done } else { OrderStage::Applied });
        }
        if !tail.finished {
            return Err(refused(Code::JobNotFinished, "the job is still at work at the agent"));
        }
        if tail.epoch.checked_add(1) != Some(epoch) {
            return Err(other_epoch(epoch, tail.epoch));
        }
        closed(&entry).await?;
        let journal = entry.journal.clone();
        let folded = journal.on_disk(|journal| journal.folded().map_err(std::io::Error::other)).await;
        let folded = folded.map_err(|error| refused(Code::Internal, causes(&error).join(": ")))?;
        let before = folded.start.clone().ok_or_else(|| refused(Code::Internal, "its journal has no beginning"))?;
        let (document, sealed) = match (retry.plan, retry.secrets) {
            (Some(document), Some(sealed)) => (document, sealed),
            (None, None) => (before.document(), (&before.sealed).into()),
            _ => return Err(refused(Code::BadRequest, "a new plan and its secrets go together")),
        };
        let (plan, record) = self.look_at(id, Begin { order, epoch, trace }, &document, &sealed)?;
        let record = StartRecord {
            keep_on_failure: retry.keep_on_failure,
            submitted_by: words(&retry.by),
            kept: retry.kept.iter().take(KEPT_MAX).map(|step| words(step).as_str().into()).collect(),
            undo_only: retry.undo_only,
            ..record
        };
        let write = record.clone();
        let folded = journal.on_disk(move |journal| {
            journal.start(write)?;
            journal.folded().map_err(std::io::Error::other)
        });
        let folded = folded.await.map_err(|error| {
            refused(Code::Internal, format!("the retry cannot be written down: {}", causes(&error).join(": ")))
        })?;
        let entry = Arc::new(Entry::new(entry.journal.clone(), &folded, self.stop.child_token()));
        entry.set_target(target(&plan));
        self.jobs().insert(id, entry.clone());
        tracing::info!(job = %id, order, epoch, undo_only = record.undo_only, "a job is taken up again");
        self.spawn(id, entry, folded, Contact::Here);
        Ok(OrderStage::Applied)
    }

    /// On disk before it is said.
    async fn write_start(&self, id: JobId, record: StartRecord) -> Result<(Arc<Journal>, Folded), Refused> {
        let (dir, disk) = (dir_of(&self.settings, id), self.disk.clone());
        let written = spawn_blocking(move || {
            let (journal, mut folded) = Journal::open_on(&dir, disk).map_err(|error| causes(&error).join(": "))?;
            if folded.start.is_some() {
                return Err("its journal is on disk but was not taken up: restart the agent".to_owned());
            }
            if let Err(error) = journal.start(record.clone()) {
                // Refused and yet on disk would be a job that nobody expects at the next start.
                let removed =
                    journal::remove(&dir).map_err(|error| format!("; remove {} by hand: {error}", dir.display()));
                return Err(format!("{error}{}", removed.err().unwrap_or_default()));
            }
            // What comes from another agent is in the record.
            folded.apply(Record::Start(Box::new(record)))?;
            Ok((journal, folded))
        });
        let written = written.await.unwrap_or_else(|error| Err(error.to_string()));
        written.map_err(|why| refused(Code::Internal, format!("the job cannot be written down: {why}")))
    }

    pub(super) fn room_for(&self, plan: &Plan) -> Result<(), Refused> {
        let jobs = self.jobs();
        let unfinished: Vec<_> = jobs.iter().filter(|(_, entry)| !entry.journal.tail().is_over()).collect();
        if let Some((other, _)) = unfinished.iter().find(|(_, entry)| entry.target() == target(plan)) {
            let message = format!("job {other} deploys to {} already: wait for it or cancel it", target(plan));
            return Err(refused(Code::TargetBusy, message));
        }
        let limit = self.settings.jobs.unfinished;
        if unfinished.len() >= limit {
            return Err(refused(Code::Busy, format!("{limit} jobs have not ended, which is the agent's limit")));
        }
        Ok(())
    }

    async fn cancel(&self, id: JobId, order: u64, epoch: u32, cancel: v1::CancelOrder) -> Result<OrderStage, Refused> {
        let entry = self.entry(id).ok_or_else(|| refused(Code::JobNotFound, "the agent does not have this job"))?;
        let tail = entry.journal.tail();
        if epoch != tail.epoch {
            return Err(other_epoch(epoch, tail.epoch));
        }
        if tail.finished {
            return Ok(OrderStage::Done);
        }
        if entry.knows_cancel(order) {
            return Ok(OrderStage::Applied);
        }
        let record = CancelRecord { order, epoch, by: words(&cancel.by), reason: words(&cancel.reason) };
        let write = record.clone();
        let written = entry.journal.on_disk(move |journal| journal.cancel(write)).await;
        written.map_err(|error| refused(Code::Internal, format!("the cancel cannot be written down: {error}")))?;
        tracing::info!(job = %id, order, by = %record.by, "a job is to be cancelled");
        entry.note_cancel(record);
        // Before the first event the executor tells it, right after that event.
        let told = match entry.log().filter(|log| log.journal().tail().started) {
            Some(log) => log.tell_cancel().await,
            None => Ok(()),
        };
        if entry.journal.tail().finished {
            tracing::info!(job = %id, order, "the job has ended meanwhile: there is nothing to cancel");
            return Ok(OrderStage::Done);
        }
        if let Err(error) = told {
            tracing::error!(job = %id, %error, "the cancel is on disk but cannot be told");
        }
        entry.token.cancel();
        Ok(OrderStage::Applied)
    }

    /// The job's task. Ends when the job has ended, or at a safe point when it is to stop as it is.
    pub(super) fn spawn(self: &Arc<Self>, id: JobId, entry: Arc<Entry>, folded: Folded, contact: Contact) {
        let runner = self.clone();
        entry.set_at_work(true);
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(runner.carry_out(id, &entry, folded, contact)).catch_unwind().await;
            entry.set_log(None);
            entry.set_at_work(false);
            match ended {
                Ok(Ok(Ended::Finished(outcome))) => {
                    tracing::info!(job = %id, ?outcome, "a job has ended");
                    entry.orders().into_iter().for_each(|order| runner.update(update(order, OrderStage::Done, None)));
                    runner.forget_oldest().await;
                }
                Ok(Ok(Ended::Stopped)) => {
                    tracing::info!(job = %id, "a job has come to rest as it is");
                    // One that another agent has may be forgotten from now on.
                    runner.forget_oldest().await;
                }
                Ok(Ok(Ended::Broken(error))) => {
                    tracing::error!(job = %id, %error, "the journal cannot be used: the job waits for the agent's next \
                        start; look at the disk under data_dir first");
                }
                Ok(Err(why)) => tracing::error!(job = %id, why, "a job cannot be taken up"),
                Err(_) => tracing::error!(job = %id, "the job's task broke off: it waits for the agent's next start"),
            }
        });
    }

    async fn carry_out(&self, id: JobId, entry: &Entry, folded: Folded, contact: Contact) -> Result<Ended, String> {
        let record = folded.start.clone().ok_or("its journal has no beginning")?;
        let plan = Plan::from_document(&record.document()).map_err(|error| causes(&error).join(": "))?;
        entry.set_target(target(&plan));
        if contact == Contact::AskFirst {
            self.ask_first(id, entry).await;
        }
        if entry.stop.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        let (settings, wake, stop) = (self.settings.clone(), self.wake.clone(), entry.stop.clone());
        let log = JobLog::new(&settings, id, &self.redactor, entry.journal.clone(), &folded, wake, stop);
        let log = Arc::new(log);
        let secrets = match self.open(id, &record) {
            Ok(secrets) => secrets,
            Err(failure) => {
                let (agent, view) = (&self.identity.agent, &folded.view);
                return Ok(
                    executor::give_up(&log, agent, self.pipeline, &plan, view, record.taken_over(), *failure).await
                );
            }
        };
        // Until the last line of the job has been written.
        let _held = self.redactor.hold(all_of(&secrets));
        log.protect(&secrets, &record.plan);
        entry.set_log(Some(log.clone()));
        // A cancel or a pause may have come between reading the journal and now.
        entry.brief(&log);
        let _permit = tokio::select! {
            permit = self.at_work.acquire() => permit.ok(),
            // A cancelled job needs no turn of its own to end.
            () = entry.token.cancelled() => None,
        };
        if entry.stop.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        let outside = Arc::new(Outside::new(&plan, &secrets, &settings, &self.redactor));
        let job = Job {
            id,
            agent: self.identity.agent.clone(),
            plan: Arc::new(plan),
            secrets: Arc::new(secrets),
            settings,
            redactor: self.redactor.clone(),
            outside,
            log: log.clone(),
            keep_on_failure: record.keep_on_failure,
            taken_over: record.taken_over(),
            kept: record.kept,
            undo_only: record.undo_only,
            trace: record.trace,
            cancel: entry.token.clone(),
            stop: entry.stop.clone(),
            view: folded.view,
        };
        let ended = executor::execute(job, self.pipeline).await;
        if let Err(error) = log.finish().await {
            tracing::warn!(job = %id, %error, "the job's log files were not closed in order");
        }
        Ok(ended)
    }

    pub(super) fn open(&self, id: JobId, record: &StartRecord) -> Result<Secrets, Box<Failure>> {
        let sealed = v1::SealedSecrets::from(&record.sealed);
        self.identity.sealing.open(id, &self.identity.agent, &sealed).map_err(|error| {
            Box::new(Failure {
                code: "secrets_lost".to_owned(),
                message: format!("the job cannot be taken up after the agent's restart: {error}"),
                remedy: "remove by hand what is listed as left over, then submit the workbook again".to_owned(),
                ..Failure::default()
            })
        })
    }
}

/// What must not be seen in any output while a job is at work.
pub(super) fn all_of(secrets: &Secrets) -> Vec<Secret> {
    let all = [&secrets.root_password, &secrets.fisheye_password, &secrets.ssh_password];
    all.into_iter().chain(secrets.root_password_encoded.as_ref()).cloned().collect()
}

/// The last event is told before the epoch's files are closed.
pub(super) async fn closed(entry: &Entry) -> Result<(), Refused> {
    if tokio::time::timeout(CLOSING, entry.closed()).await.is_err() {
        return Err(refused(Code::Busy, "the job's last epoch is still closing its files: ask again in a moment"));
    }
    Ok(())
}

/// The job is here already.
fn known(entry: &Entry, epoch: u32, document: &v1::PlanDocument) -> Result<OrderStage, Refused> {
    let tail = entry.journal.tail();
    if epoch != tail.epoch {
        return Err(other_epoch(epoch, tail.epoch));
    }
    if hex(&document.sha256) != entry.sha256() {
        return Err(refused(Code::JobConflict, "the agent has this job with another plan"));
    }
    Ok(if tail.finished { OrderStage::Done } else { OrderStage::Applied })
}

pub(super) fn other_epoch(asked: u32, here: u32) -> Refused {
    let message = if asked < here {
        format!("the order is for epoch {asked}, the job is in epoch {here}")
    } else {
        format!("the job is in epoch {here}; this agent cannot take it on to epoch {asked}")
    };
    refused(Code::JobConflict, message)
}

pub(super) fn update(number: u64, stage: OrderStage, refused: Option<Refused>) -> v1::OrderUpdate {
    let (code, message) = refused.map(|refused| (refused.code.to_owned(), refused.message)).unwrap_or_default();
    v1::OrderUpdate { number, stage: stage.into(), code, message }
}

pub(super) fn words(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}
