//! The changes, each one carried out by the writer inside a transaction.

use async_trait::async_trait;
use gantry_proto::{AgentId, Body, Event, JobId, v1};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    rows::{self, signed},
    writer::{Group, Operation},
};
use crate::store::{
    Again, AgentRow, Appended, Begun, Cancel, Cancelled, Hold, Inserted, JobRow, NewJob, OrderKind, OrderReport,
    Progress, StoreError, cancel_stage,
};

/// Stage of an order that was taken back before it was sent. Beyond every stage of the wire.
const WITHDRAWN: i32 = 100;

/// See [`crate::store::Store::check`]: a group without an operation still opens and commits a transaction.
pub(super) struct Check;

#[async_trait]
impl Operation for Check {
    type Answer = ();

    async fn apply(&mut self, _: &mut Group<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// See [`crate::store::Store::put_agent`].
pub(super) struct PutAgent(pub(super) AgentRow);

#[async_trait]
impl Operation for PutAgent {
    type Answer = ();

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError> {
        let agent = &self.0;
        let isos = v1::IsoList { isos: agent.isos.clone() }.encode_to_vec();
        sqlx::query(
            "INSERT INTO agents (id, site, version, boot_id, sealing_key, isos, remote_address, seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET site = ?2, version = ?3, boot_id = ?4, sealing_key = ?5, isos = ?6,
                                            remote_address = ?7, seen = ?8",
        )
        .bind(agent.id.as_str())
        .bind(&agent.site)
        .bind(&agent.version)
        .bind(&agent.boot_id)
        .bind(&agent.sealing_key)
        .bind(isos)
        .bind(&agent.remote_address)
        .bind(agent.seen.as_microsecond())
        .execute(&mut *cx.connection)
        .await?;
        Ok(())
    }
}

/// See [`crate::store::Store::touch_agent`].
pub(super) struct TouchAgent(pub(super) AgentId, pub(super) Timestamp);

#[async_trait]
impl Operation for TouchAgent {
    type Answer = ();

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError> {
        sqlx::query("UPDATE agents SET seen = max(seen, ?2) WHERE id = ?1")
            .bind(self.0.as_str())
            .bind(self.1.as_microsecond())
            .execute(&mut *cx.connection)
            .await?;
        Ok(())
    }
}

/// See [`crate::store::Store::insert_job`].
pub(super) struct InsertJob(pub(super) NewJob);

#[async_trait]
impl Operation for InsertJob {
    type Answer = Inserted;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Inserted, StoreError> {
        let NewJob { row, plan, start } = &self.0;
        if let Some(known) = cx.job(row.id).await? {
            return Ok(if known.plan_sha256 == row.plan_sha256 { Inserted::Known(known) } else { Inserted::Conflict });
        }
        if let Some(busy) = cx.busy(&row.cloudtower_ip, &row.target).await? {
            return Ok(Inserted::TargetBusy(busy));
        }
        cx.insert_row(row, plan).await?;
        cx.insert_order(row, OrderKind::Start, "", start.clone()).await?;
        Ok(Inserted::Stored(row.clone()))
    }
}

/// See [`crate::store::Store::append`].
pub(super) struct Append {
    pub(super) job: JobId,
    pub(super) agent: AgentId,
    pub(super) events: Vec<(v1::Event, Event)>,
}

#[async_trait]
impl Operation for Append {
    type Answer = Appended;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Appended, StoreError> {
        let Some(row) = cx.job(self.job).await? else { return Ok(Appended::UnknownJob) };
        if row.agent != self.agent {
            return Ok(Appended::NotOwner);
        }
        let stored = row.progress.last_seq;
        let fresh: Vec<_> = self.events.iter().filter(|(event, _)| event.seq > stored).cloned().collect();
        for (expected, (event, _)) in (stored + 1..).zip(&fresh) {
            if event.seq != expected {
                return Ok(Appended::Gap { stored: expected - 1, got: event.seq });
            }
            if event.epoch != row.epoch {
                return Ok(Appended::OtherEpoch { job: row.epoch, got: event.epoch });
            }
        }
        let row = if fresh.is_empty() { row } else { cx.append(row, &fresh).await? };
        Ok(Appended::Stored { row: Box::new(row), new: fresh.len() })
    }
}

/// See [`crate::store::Store::cancel`].
pub(super) struct CancelJob(pub(super) Cancel);

#[async_trait]
impl Operation for CancelJob {
    type Answer = Option<Cancelled>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<Cancelled>, StoreError> {
        let Some(mut row) = cx.job(self.0.job).await? else { return Ok(None) };
        let answer = |row, cut_short| Ok(Some(Cancelled { row, cut_short }));
        let asked = row.cancel != v1::CancelStage::Unspecified;
        if row.finished() {
            if !asked {
                row.cancel = v1::CancelStage::TooLate;
                cx.set_cancel(&row).await?;
            }
            return answer(row, false);
        }
        let given = cx.cancels(&row).await?;
        if !given.is_empty() {
            // No step runs any more: what is left to end is the undo's waiting. One order for that is enough.
            let undoing = row.cancel == v1::CancelStage::Stopped;
            let repeated = !self.0.request.is_empty() && given.contains(&self.0.request);
            if undoing && given.len() == 1 && !repeated {
                cx.insert_order(&row, OrderKind::Cancel, &self.0.request, self.0.order.clone()).await?;
                return answer(row, true);
            }
            return answer(row, given.len() > 1);
        }
        row.cancel = v1::CancelStage::Requested;
        cx.set_cancel(&row).await?;
        // The one order that may have reached nobody is withdrawn; after that only the agent can tell what is true.
        let withdrawn = sqlx::query(
            "UPDATE orders SET stage = ?2, body = x'' WHERE job_id = ?1 AND kind = 'start' AND sent = 0 AND stage = 0",
        )
        .bind(row.id.to_string())
        .bind(WITHDRAWN)
        .execute(&mut *cx.connection)
        .await?;
        if withdrawn.rows_affected() > 0 && row.progress.last_seq == 0 {
            return answer(cx.end(row, self.0.unstarted.clone()).await?, false);
        }
        cx.insert_order(&row, OrderKind::Cancel, &self.0.request, self.0.order.clone()).await?;
        answer(row, false)
    }
}

/// See [`crate::store::Store::hold`].
pub(super) struct HoldJob(pub(super) Hold);

#[async_trait]
impl Operation for HoldJob {
    type Answer = Option<JobRow>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<JobRow>, StoreError> {
        let Hold { job, request, kind, order } = &self.0;
        let Some(mut row) = cx.job(*job).await? else { return Ok(None) };
        if row.finished() || cx.knows_request(row.id, request).await? {
            return Ok(Some(row));
        }
        cx.insert_order(&row, *kind, request, order.clone()).await?;
        cx.set_refusal(&mut row, "").await?;
        Ok(Some(row))
    }
}

/// See [`crate::store::Store::again`].
pub(super) struct BeginAgain(pub(super) Again);

#[async_trait]
impl Operation for BeginAgain {
    type Answer = Option<Begun>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<Begun>, StoreError> {
        let Again { row, plan, request, order } = &self.0;
        let Some(stored) = cx.job(row.id).await? else { return Ok(None) };
        if cx.knows_request(row.id, request).await? {
            return Ok(Some(Begun::Known(stored)));
        }
        if !stored.finished() || stored.epoch + 1 != row.epoch {
            return Ok(Some(Begun::Overtaken(stored)));
        }
        if let Some(busy) = cx.busy(&row.cloudtower_ip, &row.target).await? {
            return Ok(Some(Begun::TargetBusy(busy)));
        }
        // The numbering goes on where the log ends.
        let row =
            JobRow { progress: Progress { last_seq: stored.progress.last_seq, ..Progress::queued() }, ..row.clone() };
        cx.renew_row(&row, plan).await?;
        cx.insert_order(&row, OrderKind::Retry, request, order.clone()).await?;
        Ok(Some(Begun::Stored(row)))
    }
}

/// See [`crate::store::Store::sending`].
pub(super) struct Sending(pub(super) AgentId, pub(super) u64);

#[async_trait]
impl Operation for Sending {
    type Answer = bool;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE orders SET sent = 1 WHERE agent_id = ?1 AND number = ?2 AND stage < 2")
            .bind(self.0.as_str())
            .bind(signed(self.1))
            .execute(&mut *cx.connection)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// See [`crate::store::Store::order_report`].
pub(super) struct Report(pub(super) AgentId, pub(super) OrderReport);

#[async_trait]
impl Operation for Report {
    type Answer = Option<JobRow>;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Option<JobRow>, StoreError> {
        let Self(agent, report) = self;
        let found =
            sqlx::query("SELECT job_id, kind, stage, sent, epoch FROM orders WHERE agent_id = ?1 AND number = ?2")
                .bind(agent.as_str())
                .bind(signed(report.number))
                .fetch_optional(&mut *cx.connection)
                .await?;
        let Some(found) = found else { return Ok(None) };
        let (before, stage) = (found.try_get::<i32, _>("stage")?, i32::from(report.stage));
        let over = before >= i32::from(v1::OrderStage::Done);
        if over || stage <= before || found.try_get::<i64, _>("sent")? == 0 {
            return Ok(None);
        }
        let kind = rows::order_kind(found.try_get("kind")?)?;
        let job = rows::job_id(found.try_get("job_id")?)?;
        cx.set_stage(agent, report.number, report.stage).await?;
        let Some(mut row) = cx.job(job).await? else { return Ok(None) };
        if row.finished() {
            return Ok(None);
        }
        if report.stage == v1::OrderStage::Refused {
            cx.set_refusal(&mut row, &report.why).await?;
        }
        match (kind, report.stage) {
            (OrderKind::Retry, v1::OrderStage::Refused) if row.epoch == small_epoch(found.try_get("epoch")?) => {
                Ok(Some(cx.step_back(row).await?))
            }
            (OrderKind::Pause | OrderKind::Resume, v1::OrderStage::Refused) => Ok(Some(row)),
            (OrderKind::Start, v1::OrderStage::Refused) if row.progress.last_seq == 0 => {
                Ok(Some(cx.end(row, report.refused.clone()).await?))
            }
            (OrderKind::Cancel, v1::OrderStage::Delivered | v1::OrderStage::Applied | v1::OrderStage::Done)
                if row.cancel == v1::CancelStage::Requested =>
            {
                let row = JobRow { cancel: v1::CancelStage::Delivered, ..row };
                cx.set_cancel(&row).await?;
                Ok(Some(row))
            }
            _ => Ok(None),
        }
    }
}

/// An epoch of a row.
fn small_epoch(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

impl Group<'_> {
    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row: Option<SqliteRow> = sqlx::query("SELECT * FROM jobs WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.connection)
            .await?;
        row.as_ref().map(rows::job).transpose()
    }

    /// An unfinished job with this CloudTower or this VM.
    async fn busy(&mut self, cloudtower_ip: &str, target: &str) -> Result<Option<JobRow>, StoreError> {
        let query = "SELECT * FROM jobs WHERE active = 1 AND (cloudtower_ip = ?1 OR target = ?2) LIMIT 1";
        let row = sqlx::query(query).bind(cloudtower_ip).bind(target).fetch_optional(&mut *self.connection).await?;
        row.as_ref().map(rows::job).transpose()
    }

    /// Whether an order of this job came from this request.
    async fn knows_request(&mut self, job: JobId, request: &str) -> Result<bool, StoreError> {
        if request.is_empty() {
            return Ok(false);
        }
        let query = "SELECT 1 FROM orders WHERE job_id = ?1 AND request = ?2 LIMIT 1";
        let found = sqlx::query(query).bind(job.to_string()).bind(request).fetch_optional(&mut *self.connection);
        Ok(found.await?.is_some())
    }

    async fn set_refusal(&mut self, row: &mut JobRow, why: &str) -> Result<(), StoreError> {
        row.refusal = why.to_owned();
        sqlx::query("UPDATE jobs SET refusal = ?2 WHERE id = ?1")
            .bind(row.id.to_string())
            .bind(why)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// The row of a job in its next epoch.
    async fn renew_row(&mut self, row: &JobRow, plan: &v1::PlanDocument) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET epoch = ?2, file_name = ?3, plan = ?4, plan_sha256 = ?5, cluster = ?6, vm_name = ?7,
                             cloudtower_ip = ?8, target = ?9, keep_on_failure = ?10, refusal = '' WHERE id = ?1",
        )
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch))
        .bind(&row.file_name)
        .bind(plan.encode_to_vec())
        .bind(&row.plan_sha256)
        .bind(&row.cluster)
        .bind(&row.vm_name)
        .bind(&row.cloudtower_ip)
        .bind(&row.target)
        .bind(i64::from(row.keep_on_failure))
        .execute(&mut *self.connection)
        .await?;
        self.update_row(row, None).await
    }

    /// The agent would not begin the new epoch: the job is again what its log says.
    async fn step_back(&mut self, mut row: JobRow) -> Result<JobRow, StoreError> {
        let (progress, result) = self
            .fold(row.id, &[], |view| (Progress::of(view), view.result.as_ref().map(|json| json.to_string())))
            .await?;
        row.epoch -= 1;
        row.cancel = v1::CancelStage::Unspecified;
        row.progress = progress;
        sqlx::query("UPDATE jobs SET epoch = ?2 WHERE id = ?1")
            .bind(row.id.to_string())
            .bind(i64::from(row.epoch))
            .execute(&mut *self.connection)
            .await?;
        self.update_row(&row, result).await?;
        self.close_orders(row.id).await?;
        Ok(row)
    }

    async fn insert_row(&mut self, row: &JobRow, plan: &v1::PlanDocument) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO jobs (id, epoch, site, agent_id, created, submitted_by, file_name, plan, plan_sha256, cluster,
                               vm_name, cloudtower_ip, target, keep_on_failure, cancel,
                               state, last_seq, outcome, undo, percent, current_step, current_share, active)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0.0, '', 0.0, 1)",
        )
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch))
        .bind(&row.site)
        .bind(row.agent.as_str())
        .bind(row.created.as_microsecond())
        .bind(&row.submitted_by)
        .bind(&row.file_name)
        .bind(plan.encode_to_vec())
        .bind(&row.plan_sha256)
        .bind(&row.cluster)
        .bind(&row.vm_name)
        .bind(&row.cloudtower_ip)
        .bind(&row.target)
        .bind(i64::from(row.keep_on_failure))
        .bind(i32::from(row.cancel))
        .bind(i32::from(row.progress.state))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn insert_order(
        &mut self,
        row: &JobRow,
        kind: OrderKind,
        request: &str,
        mut order: v1::Order,
    ) -> Result<(), StoreError> {
        let number: i64 =
            sqlx::query("UPDATE agents SET next_order = next_order + 1 WHERE id = ?1 RETURNING next_order - 1")
                .bind(row.agent.as_str())
                .fetch_one(&mut *self.connection)
                .await?
                .try_get(0)?;
        order.number = rows::unsigned(number);
        order.epoch = row.epoch;
        sqlx::query(
            "INSERT INTO orders (agent_id, number, job_id, epoch, kind, body, sent, stage, request)
                     VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?)",
        )
        .bind(row.agent.as_str())
        .bind(number)
        .bind(row.id.to_string())
        .bind(i64::from(row.epoch))
        .bind(rows::order_kind_text(kind))
        .bind(order.encode_to_vec())
        .bind(request)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Appends events that follow the log without a gap, and brings the row up to date.
    async fn append(&mut self, mut row: JobRow, events: &[(v1::Event, Event)]) -> Result<JobRow, StoreError> {
        let id = row.id.to_string();
        for (wire, _) in events {
            sqlx::query("INSERT INTO events (job_id, seq, epoch, at, body) VALUES (?, ?, ?, ?, ?)")
                .bind(&id)
                .bind(signed(wire.seq))
                .bind(i64::from(wire.epoch))
                .bind(wire.at_micros)
                .bind(wire.encode_to_vec())
                .execute(&mut *self.connection)
                .await?;
        }
        let folded: Vec<Event> = events.iter().map(|(_, event)| event.clone()).collect();
        let asked = row.cancel;
        let (progress, cancel, result) = self
            .fold(row.id, &folded, |view| {
                (Progress::of(view), cancel_stage(asked, view), view.result.as_ref().map(|json| json.to_string()))
            })
            .await?;
        row.progress = progress;
        row.cancel = cancel;
        self.update_row(&row, result).await?;
        if row.finished() {
            self.close_orders(row.id).await?;
        }
        Ok(row)
    }

    async fn update_row(&mut self, row: &JobRow, result: Option<String>) -> Result<(), StoreError> {
        let progress = &row.progress;
        sqlx::query(
            "UPDATE jobs SET cancel = ?2, state = ?3, last_seq = ?4, started = ?5, finished = ?6, outcome = ?7, undo = ?8,
                             failure = ?9, percent = ?10, current_step = ?11, current_share = ?12, result = ?13,
                             active = ?14
             WHERE id = ?1",
        )
        .bind(row.id.to_string())
        .bind(i32::from(row.cancel))
        .bind(i32::from(progress.state))
        .bind(signed(progress.last_seq))
        .bind(progress.started.map(Timestamp::as_microsecond))
        .bind(progress.finished.map(Timestamp::as_microsecond))
        .bind(rows::outcome_number(progress.outcome))
        .bind(rows::undo_number(progress.undo))
        .bind(progress.failure.as_ref().map(|failure| v1::Failure::from(failure).encode_to_vec()))
        .bind(progress.percent)
        .bind(&progress.current_step)
        .bind(progress.current_share)
        .bind(result.map(String::into_bytes))
        .bind(i64::from(!progress.finished()))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Ends a job whose agent has written nothing: the controller writes the log's one event.
    async fn end(&mut self, row: JobRow, body: Body) -> Result<JobRow, StoreError> {
        let event = Event { seq: row.progress.last_seq + 1, epoch: row.epoch, at: Timestamp::now(), body };
        self.append(row, &[(v1::Event::from(&event), event)]).await
    }

    async fn set_cancel(&mut self, row: &JobRow) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET cancel = ?2 WHERE id = ?1")
            .bind(row.id.to_string())
            .bind(i32::from(row.cancel))
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// The requests of this epoch's cancels that are on their way or taken; a refused one is not, and may be asked for again.
    async fn cancels(&mut self, job: &JobRow) -> Result<Vec<String>, StoreError> {
        let query = "SELECT request FROM orders WHERE job_id = ?1 AND epoch = ?2 AND kind = 'cancel' AND stage <> ?3";
        let rows = sqlx::query(query)
            .bind(job.id.to_string())
            .bind(i64::from(job.epoch))
            .bind(i32::from(v1::OrderStage::Refused))
            .fetch_all(&mut *self.connection)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Moves an order on; one of which nothing more comes loses its body, and with it the sealed secrets.
    async fn set_stage(&mut self, agent: &AgentId, number: u64, stage: v1::OrderStage) -> Result<(), StoreError> {
        let over = i32::from(stage) >= i32::from(v1::OrderStage::Done);
        sqlx::query("UPDATE orders SET stage = ?3, body = iif(?4, x'', body) WHERE agent_id = ?1 AND number = ?2")
            .bind(agent.as_str())
            .bind(signed(number))
            .bind(i32::from(stage))
            .bind(over)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// A job that has ended needs no order any more.
    async fn close_orders(&mut self, job: JobId) -> Result<(), StoreError> {
        let done = i32::from(v1::OrderStage::Done);
        sqlx::query("UPDATE orders SET stage = ?2, body = x'' WHERE job_id = ?1 AND stage < ?2")
            .bind(job.to_string())
            .bind(done)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}
