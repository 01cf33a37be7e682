//! What the controller remembers: one trait, so that a second engine can follow. It holds no rule about who may do
//! what, and secrets only in sealed form.
//!
//! Every change is one operation that is committed before it is answered. An event log is append-only: an event that is
//! there is not written again, and one that would leave a gap is refused.

mod fold;
mod identity;
mod moving;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use gantry_proto::{
    AgentId, Body, Failure, JobId,
    audit::{Entry, Head, Record},
    v1,
};
use jiff::Timestamp;

pub use fold::{Progress, cancel_stage};
pub use identity::{
    EnrolledRow, IdentityChange, IdentityChanged, IdentityRefused, Joining, OperatorRow, SiteRow, TokenRow,
};
pub use moving::{Relocate, Relocated};
pub use sqlite::{SqliteStore, Stats};

/// The store did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error("the store failed")]
    Engine(#[source] Arc<sqlx::Error>),
    /// A record that this version cannot read.
    #[error("the store holds an unreadable {0}")]
    Corrupt(&'static str),
    /// Written by a newer version.
    #[error("the store has form {found}, this version reads up to {known}: start the newer controller again")]
    Newer {
        /// Form of the file.
        found: i64,
        /// The newest form that is known here.
        known: i64,
    },
    /// The controller is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Engine(Arc::new(error))
    }
}

/// An agent as it last presented itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRow {
    /// Its id, from its certificate.
    pub id: AgentId,
    /// Its site, from its certificate.
    pub site: String,
    /// Its version.
    pub version: String,
    /// Of the process that said the last Hello.
    pub boot_id: String,
    /// Public key for sealed secrets.
    pub sealing_key: Vec<u8>,
    /// The ISO files that it offers.
    pub isos: Vec<v1::IsoFile>,
    /// Address from which it last dialled.
    pub remote_address: String,
    /// When it was last heard.
    pub seen: Timestamp,
}

/// A job with what its log adds up to.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its epoch: events of an older one are refused.
    pub epoch: u32,
    /// The site.
    pub site: String,
    /// The agent that carries it out.
    pub agent: AgentId,
    /// When it was stored.
    pub created: Timestamp,
    /// The operator.
    pub submitted_by: String,
    /// The workbook's file name.
    pub file_name: String,
    /// Hash of the plan.
    pub plan_sha256: Vec<u8>,
    /// The cluster's name.
    pub cluster: String,
    /// The VM's name.
    pub vm_name: String,
    /// CloudTower's address.
    pub cloudtower_ip: String,
    /// The VM on its cluster: two unfinished jobs never share one.
    pub target: String,
    /// Keep what was made when the job fails.
    pub keep_on_failure: bool,
    /// How far a cancel has come.
    pub cancel: v1::CancelStage,
    /// Why the agent refused the newest order; empty when it did not.
    pub refusal: String,
    /// The agent that gets it as soon as the one that has it has let go of it.
    pub moving_to: Option<AgentId>,
    /// This epoch walks no step: it only removes what was made.
    pub undo_only: bool,
    /// What the log adds up to.
    pub progress: Progress,
}

/// A job to be stored, with the order that starts it.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The job; its progress is that of an empty log.
    pub row: JobRow,
    /// The plan.
    pub plan: v1::PlanDocument,
    /// The order; its number is given by the store.
    pub start: v1::Order,
}

/// What became of a [`NewJob`].
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// Stored with its order.
    Stored(JobRow),
    /// The same job with the same plan was there.
    Known(JobRow),
    /// The id belongs to a job with another plan.
    Conflict,
    /// This unfinished job has the same CloudTower or VM.
    TargetBusy(JobRow),
}

/// What became of events.
#[derive(Clone, Debug, PartialEq)]
pub enum Appended {
    /// Everything up to here is stored; `new` events had not been there before.
    Stored {
        /// The job after it.
        row: Box<JobRow>,
        /// Events that were new.
        new: usize,
    },
    /// Between the log and the first new event one is missing; nothing was stored.
    Gap {
        /// The highest stored number.
        stored: u64,
        /// The number that came.
        got: u64,
    },
    /// An event of another epoch than the job's; nothing was stored.
    OtherEpoch {
        /// The job's.
        job: u32,
        /// The event's.
        got: u32,
    },
    /// The job belongs to another agent.
    NotOwner,
    /// No such job.
    UnknownJob,
}

/// A wish to stop a job.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The job.
    pub job: JobId,
    /// Chosen by who asks: the same one twice is one wish; empty is always a new one.
    pub request: String,
    /// The order; number and epoch are given by the store.
    pub order: v1::Order,
    /// How the log ends when no agent has the job, so that none need be asked. What is left over is added by the log.
    pub unstarted: Body,
}

/// What became of a [`Cancel`].
#[derive(Clone, Debug, PartialEq)]
pub struct Cancelled {
    /// The job.
    pub row: JobRow,
    /// The job is being undone and this was not the first wish: its undo waits for nothing more.
    pub cut_short: bool,
}

/// What an operator wants of a job at work: a pause, a resume, or a decision.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The job.
    pub job: JobId,
    /// See [`Cancel::request`].
    pub request: String,
    /// [`OrderKind::Pause`], [`OrderKind::Resume`], [`OrderKind::TuneUpload`] or [`OrderKind::Decide`].
    pub kind: OrderKind,
    /// The order; number and epoch are given by the store.
    pub order: v1::Order,
}

/// What became of a [`Wish`].
#[derive(Clone, Debug, PartialEq)]
pub enum Wished {
    /// Stored with its order, now or when the same request came before.
    Stored(JobRow),
    /// The job has ended; nothing was stored.
    Ended(JobRow),
    /// A decision whose question is not open any more, or has an answer on its way; nothing was stored.
    Answered(JobRow),
}

/// The next epoch of a job that has ended.
#[derive(Clone, Debug)]
pub struct Again {
    /// The job as it is to be: its epoch is one above the stored one, its progress that of a job in the queue.
    pub row: JobRow,
    /// The plan.
    pub plan: v1::PlanDocument,
    /// See [`Cancel::request`].
    pub request: String,
    /// The order; number and epoch are given by the store.
    pub order: v1::Order,
}

/// What became of an [`Again`].
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// Stored with its order.
    Stored(JobRow),
    /// The same request had been stored before.
    Known(JobRow),
    /// The job has moved on meanwhile: another epoch, or it is at work.
    Overtaken(JobRow),
    /// This unfinished job has the same CloudTower or VM.
    TargetBusy(JobRow),
}

/// Kinds of orders, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Begin a job.
    Start,
    /// Stop a job.
    Cancel,
    /// Hold a job.
    Pause,
    /// Let a held job go on.
    Resume,
    /// Steer a job's upload.
    TuneUpload,
    /// Begin the next epoch of a job that has ended.
    Retry,
    /// Answer the question of a job that cannot decide.
    Decide,
    /// Let go of a job.
    Surrender,
    /// Go on with a job that another agent had.
    TakeOver,
}

/// An order to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderRow {
    /// Its number at the agent.
    pub number: u64,
    /// The job.
    pub job: JobId,
    /// What it is about.
    pub kind: OrderKind,
    /// It may have reached the agent.
    pub sent: bool,
    /// As it is sent.
    pub order: v1::Order,
}

impl OrderRow {
    /// Whether it is past its time at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.order.expires_micros < now.as_microsecond()
    }
}

/// What an agent said about an order.
#[derive(Clone, Debug)]
pub struct OrderReport {
    /// The order's number.
    pub number: u64,
    /// How far it has come.
    pub stage: v1::OrderStage,
    /// How the log of a job ends whose start was refused.
    pub refused: Body,
    /// Why it was refused, for people; empty otherwise.
    pub why: String,
}

/// Which jobs are listed, newest first.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// At most so many.
    pub limit: u32,
    /// Only this site; empty for all.
    pub site: String,
    /// Only these sites, which are all that the operator has; empty for all.
    pub sites: Vec<String>,
    /// Only jobs that have not ended.
    pub active_only: bool,
    /// Only jobs with a smaller id.
    pub before: Option<JobId>,
}

/// Which records of the audit log are listed, by number.
#[derive(Clone, Debug)]
pub struct AuditFilter {
    /// Only records with a greater number.
    pub after: u64,
    /// None behind this one.
    pub upto: u64,
    /// At most so many.
    pub limit: u32,
    /// Of more than `limit`, the last ones instead of the first ones.
    pub newest: bool,
    /// Only about this job; empty for all.
    pub job: String,
    /// Only of this operator; empty for all.
    pub operator: String,
    /// Only from this time on.
    pub since_micros: i64,
}

/// Where the controller stands with a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The job.
    pub job: JobId,
    /// Its agent.
    pub agent: AgentId,
    /// Its epoch.
    pub epoch: u32,
    /// The highest stored sequence number.
    pub last_seq: u64,
    /// The newest epoch that began because the job was moved: whoever had it in an older one has it no more. 0: none.
    pub moved: u32,
}

/// The engine. Every method that changes something returns after the commit.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether it can read and write.
    async fn check(&self) -> Result<(), StoreError>;

    /// Stores how an agent presents itself.
    async fn put_agent(&self, agent: AgentRow) -> Result<(), StoreError>;
    /// Every order that is yet to be sent to the agent, and every later one, gets a number above `last`, the highest one
    /// that the agent has carried out. Only a store that comes from a backup has anything to change.
    async fn number_above(&self, agent: AgentId, last: u64) -> Result<(), StoreError>;
    /// Stores that an agent was heard.
    async fn touch_agent(&self, agent: AgentId, seen: Timestamp) -> Result<(), StoreError>;
    /// All agents by site and id, with the number of their unfinished jobs.
    async fn agents(&self) -> Result<Vec<(AgentRow, u32)>, StoreError>;

    /// Stores a job and its start, unless it is there or its target is taken.
    async fn insert_job(&self, job: NewJob) -> Result<Inserted, StoreError>;
    /// One job.
    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError>;
    /// A job's plan.
    async fn plan(&self, id: JobId) -> Result<Option<v1::PlanDocument>, StoreError>;
    /// A job's result document; `None` before the end.
    async fn result(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError>;
    /// At most two jobs whose id begins so, or whose last eight digits are these.
    async fn jobs_beginning(&self, prefix: String) -> Result<Vec<JobId>, StoreError>;
    /// What steps have taken at a site, and at all others: step and seconds, the newest ones, a bounded number.
    async fn step_times(&self, site: &str) -> Result<(Vec<(String, f64)>, Vec<(String, f64)>), StoreError>;
    /// Jobs, newest first.
    async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>, StoreError>;
    /// Where the controller stands with these jobs; unknown ones are left out.
    async fn positions(&self, jobs: Vec<JobId>) -> Result<Vec<Position>, StoreError>;

    /// Appends what an agent tells about a job.
    async fn append(&self, job: JobId, agent: AgentId, events: Vec<v1::Event>) -> Result<Appended, StoreError>;
    /// At most `limit` events after `after`, in order.
    async fn events(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<v1::Event>, StoreError>;

    /// Stores a wish to stop a job: the first one, and one more once the job is being undone. `None`: no such job.
    async fn cancel(&self, cancel: Cancel) -> Result<Option<Cancelled>, StoreError>;

    /// Stores a pause, a resume or a decision, once for each request. `None`: no such job.
    async fn wish(&self, wish: Wish) -> Result<Option<Wished>, StoreError>;
    /// Begins the next epoch of a job that has ended. `None`: no such job.
    async fn again(&self, again: Again) -> Result<Option<Begun>, StoreError>;
    /// Moves a job to another agent: at once, or when the one that has it tells that it has let go. `None`: no such job.
    async fn relocate(&self, wish: Relocate) -> Result<Option<Relocated>, StoreError>;

    /// Whether an order of this job came from this request: its answer was lost, and it is asked again.
    async fn requested(&self, job: JobId, request: String) -> Result<bool, StoreError>;

    /// Orders that the agent has not confirmed as applied, by number, after `after`, at most `limit`.
    async fn open_orders(&self, agent: AgentId, after: u64, limit: u32) -> Result<Vec<OrderRow>, StoreError>;
    /// Notes that an order is about to be sent. False: it is no longer to be sent.
    async fn sending(&self, agent: AgentId, number: u64) -> Result<bool, StoreError>;
    /// Takes in what an agent says about an order; returns the job if something changed.
    async fn order_report(&self, agent: AgentId, report: OrderReport) -> Result<Option<JobRow>, StoreError>;
    /// The job that an order concerns.
    async fn order_job(&self, agent: AgentId, number: u64) -> Result<Option<JobId>, StoreError>;

    /// Appends to the audit log. The writer gives number, time and hash, so that the chain has one order.
    async fn append_audit(&self, entry: Entry) -> Result<Record, StoreError>;
    /// Records of the audit log, by number.
    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Record>, StoreError>;
    /// The last record of the audit log; [`Head::NONE`] when there is none.
    async fn audit_head(&self) -> Result<Head, StoreError>;

    /// Changes who may come in.
    async fn change_identity(&self, change: IdentityChange) -> Result<IdentityChanged, StoreError>;
    /// One operator.
    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError>;
    /// All operators, by name.
    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError>;
    /// One agent that has joined.
    async fn enrolled(&self, agent: &AgentId) -> Result<Option<EnrolledRow>, StoreError>;
    /// All agents that have joined, by site and id.
    async fn enrollments(&self) -> Result<Vec<EnrolledRow>, StoreError>;
    /// All sites, by name.
    async fn sites(&self) -> Result<Vec<SiteRow>, StoreError>;

    /// Ends the writer after what is queued.
    async fn close(&self);
}

impl JobRow {
    /// Whether the job has ended.
    pub fn finished(&self) -> bool {
        self.progress.finished()
    }

    /// Why it failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.progress.failure.as_ref()
    }
}
