//! The store in one SQLite file: WAL, `synchronous=FULL`, one writer that commits in groups, readers beside it.

mod audit;
mod identity;
mod operations;
mod rows;
mod schema;
mod step_times;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use gantry_proto::{
    AgentId, Event, JobId,
    audit::{Entry, Head, Record},
    v1,
};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::{
    ConnectOptions as _, Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    operations::{
        Append, BeginAgain, CancelJob, Check, InsertJob, MoveJob, NumberAbove, PutAgent, Report, Sending, TakeWish,
        TouchAgent,
    },
    rows::signed,
    writer::{Operation, Queued, Waiting, Writer},
};
use super::{
    Again, AgentRow, Appended, AuditFilter, Begun, Cancel, Cancelled, EnrolledRow, IdentityChange, IdentityChanged,
    Inserted, JobFilter, JobRow, NewJob, OperatorRow, OrderReport, OrderRow, Position, Relocate, Relocated, SiteRow,
    Store, StoreError, Wish, Wished,
};
use crate::config;

pub use writer::Stats;

/// How long a connection waits for a lock of another process, such as a backup.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long a call waits for a free reader.
const READER_WAIT: Duration = Duration::from_secs(10);

/// The SQLite engine.
pub struct SqliteStore {
    queue: mpsc::Sender<Box<dyn Queued>>,
    readers: SqlitePool,
    stop: CancellationToken,
    tasks: TaskTracker,
    stats: Arc<Stats>,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and brings it to the newest form.
    ///
    /// # Errors
    /// When the file cannot be opened, or a newer version wrote it.
    pub async fn open(path: &Path, settings: &config::Store) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(LOCK_WAIT);
        let mut connection = options.connect().await?;
        schema::migrate(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(settings.readers)
            .acquire_timeout(READER_WAIT)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await?;
        let (queue, waiting) = mpsc::channel(settings.queue);
        let (stop, tasks, stats) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Stats::default()));
        let writer = Writer {
            connection,
            queue: waiting,
            stop: stop.clone(),
            group: settings.group,
            views: settings.views,
            stats: stats.clone(),
        };
        tasks.spawn(writer.run());
        tasks.close();
        Ok(Self { queue, readers, stop, tasks, stats })
    }

    /// Writes the whole store, as it is at one moment, into a file that is not there yet.
    ///
    /// # Errors
    /// When the engine cannot read or write.
    pub async fn copy_into(&self, path: &Path) -> Result<(), StoreError> {
        let mut connection = self.readers.acquire().await?;
        sqlx::query("VACUUM INTO ?1").bind(path.to_string_lossy().into_owned()).execute(&mut *connection).await?;
        Ok(())
    }

    /// Counters of the writer.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    async fn write<O: Operation + 'static>(&self, operation: O) -> Result<O::Answer, StoreError>
    where
        O::Answer: 'static,
    {
        let (waiting, answer) = Waiting::new(operation);
        self.queue.send(Box::new(waiting)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT count(*) FROM meta").fetch_one(&self.readers).await?;
        self.write(Check).await
    }

    async fn put_agent(&self, agent: AgentRow) -> Result<(), StoreError> {
        self.write(PutAgent(agent)).await
    }

    async fn number_above(&self, agent: AgentId, last: u64) -> Result<(), StoreError> {
        self.write(NumberAbove(agent, last)).await
    }

    async fn touch_agent(&self, agent: AgentId, seen: Timestamp) -> Result<(), StoreError> {
        self.write(TouchAgent(agent, seen)).await
    }

    async fn agents(&self) -> Result<Vec<(AgentRow, u32)>, StoreError> {
        let rows = sqlx::query(
            "SELECT *, (SELECT count(*) FROM jobs WHERE agent_id = agents.id AND active = 1) AS active_jobs
             FROM agents ORDER BY site, id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((rows::agent(row)?, row.try_get("active_jobs")?))).collect()
    }

    async fn insert_job(&self, job: NewJob) -> Result<Inserted, StoreError> {
        self.write(InsertJob(job)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM job_rows WHERE id = ?1").bind(id.to_string());
        row.fetch_optional(&self.readers).await?.as_ref().map(rows::job).transpose()
    }

    async fn plan(&self, id: JobId) -> Result<Option<v1::PlanDocument>, StoreError> {
        let row = sqlx::query("SELECT plan FROM jobs WHERE id = ?1").bind(id.to_string());
        let Some(row) = row.fetch_optional(&self.readers).await? else { return Ok(None) };
        let plan = v1::PlanDocument::decode(row.try_get::<&[u8], _>(0)?);
        plan.map(Some).map_err(|_| StoreError::Corrupt("plan"))
    }

    async fn result(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT result FROM jobs WHERE id = ?1").bind(id.to_string());
        let Some(row) = row.fetch_optional(&self.readers).await? else { return Ok(None) };
        Ok(row.try_get(0)?)
    }

    async fn jobs_beginning(&self, prefix: String) -> Result<Vec<JobId>, StoreError> {
        // Every id is lower case and hexadecimal, so everything that begins with the prefix lies between these two.
        let rows = sqlx::query(
            "SELECT id FROM jobs WHERE (id >= ?1 AND id < ?1 || 'g') OR substr(id, -8) = ?1 ORDER BY id LIMIT 2",
        )
        .bind(prefix)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| rows::job_id(row.try_get(0)?)).collect()
    }

    async fn step_times(&self, site: &str) -> Result<(Vec<(String, f64)>, Vec<(String, f64)>), StoreError> {
        step_times::read(&self.readers, site).await
    }

    async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM job_rows
             WHERE (?1 = '' OR site = ?1) AND (?2 = 0 OR active = 1) AND (?3 IS NULL OR id < ?3)
                   AND (?5 = '[]' OR site IN (SELECT value FROM json_each(?5)))
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(filter.site)
        .bind(i64::from(filter.active_only))
        .bind(filter.before.map(|id| id.to_string()))
        .bind(i64::from(filter.limit))
        .bind(serde_json::Value::from_iter(filter.sites).to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(rows::job).collect()
    }

    async fn positions(&self, jobs: Vec<JobId>) -> Result<Vec<Position>, StoreError> {
        let ids = serde_json::Value::from_iter(jobs.iter().map(JobId::to_string)).to_string();
        let rows = sqlx::query(
            "SELECT id, agent_id, epoch, last_seq,
                    (SELECT coalesce(max(epoch), 0) FROM moves WHERE job_id = jobs.id AND pending = 0) AS moved
             FROM jobs WHERE id IN (SELECT value FROM json_each(?1))",
        )
        .bind(ids)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(rows::position).collect()
    }

    async fn append(&self, job: JobId, agent: AgentId, events: Vec<v1::Event>) -> Result<Appended, StoreError> {
        let events = events.into_iter().map(|mut wire| {
            // A time that no calendar has is no reason to lose the event: the log must have no gap.
            if Timestamp::from_microsecond(wire.at_micros).is_err() {
                wire.at_micros = 0;
            }
            let event = Event::try_from(wire.clone()).map_err(|_| StoreError::Corrupt("event"))?;
            Ok((wire, event))
        });
        let events = events.collect::<Result<_, StoreError>>()?;
        self.write(Append { job, agent, events }).await
    }

    async fn events(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<v1::Event>, StoreError> {
        let rows = sqlx::query("SELECT body FROM events WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")
            .bind(job.to_string())
            .bind(signed(after))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(rows::event).collect()
    }

    async fn cancel(&self, cancel: Cancel) -> Result<Option<Cancelled>, StoreError> {
        self.write(CancelJob(cancel)).await
    }

    async fn wish(&self, wish: Wish) -> Result<Option<Wished>, StoreError> {
        self.write(TakeWish(wish)).await
    }

    async fn again(&self, again: Again) -> Result<Option<Begun>, StoreError> {
        self.write(BeginAgain(again)).await
    }

    async fn relocate(&self, wish: Relocate) -> Result<Option<Relocated>, StoreError> {
        self.write(MoveJob(wish)).await
    }

    async fn requested(&self, job: JobId, request: String) -> Result<bool, StoreError> {
        let query = "SELECT 1 FROM orders WHERE job_id = ?1 AND request = ?2 AND request <> '' LIMIT 1";
        let found = sqlx::query(query).bind(job.to_string()).bind(request).fetch_optional(&self.readers).await?;
        Ok(found.is_some())
    }

    async fn open_orders(&self, agent: AgentId, after: u64, limit: u32) -> Result<Vec<OrderRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, job_id, kind, sent, body FROM orders
             WHERE agent_id = ?1 AND number > ?2 AND stage < 2 ORDER BY number LIMIT ?3",
        )
        .bind(agent.as_str().to_owned())
        .bind(signed(after))
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(rows::order).collect()
    }

    async fn sending(&self, agent: AgentId, number: u64) -> Result<bool, StoreError> {
        self.write(Sending(agent, number)).await
    }

    async fn order_report(&self, agent: AgentId, report: OrderReport) -> Result<Option<JobRow>, StoreError> {
        self.write(Report(agent, report)).await
    }

    async fn order_job(&self, agent: AgentId, number: u64) -> Result<Option<JobId>, StoreError> {
        let row = sqlx::query("SELECT job_id FROM orders WHERE agent_id = ?1 AND number = ?2")
            .bind(agent.as_str().to_owned())
            .bind(signed(number))
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| rows::job_id(row.try_get(0)?)).transpose()
    }

    async fn append_audit(&self, entry: Entry) -> Result<Record, StoreError> {
        self.write(audit::AppendAudit(entry)).await
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Record>, StoreError> {
        audit::list(&self.readers, filter).await
    }

    async fn audit_head(&self) -> Result<Head, StoreError> {
        audit::head(&self.readers).await
    }

    async fn change_identity(&self, change: IdentityChange) -> Result<IdentityChanged, StoreError> {
        self.write(identity::ChangeIdentity(change)).await
    }

    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        identity::operator(&self.readers, name).await
    }

    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        identity::operators(&self.readers).await
    }

    async fn enrolled(&self, agent: &AgentId) -> Result<Option<EnrolledRow>, StoreError> {
        identity::enrolled(&self.readers, agent).await
    }

    async fn enrollments(&self) -> Result<Vec<EnrolledRow>, StoreError> {
        identity::enrollments(&self.readers).await
    }

    async fn sites(&self) -> Result<Vec<SiteRow>, StoreError> {
        identity::sites(&self.readers).await
    }

    async fn close(&self) {
        // The writer goes last: only it can fold the write-ahead log back into the file.
        self.readers.close().await;
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
