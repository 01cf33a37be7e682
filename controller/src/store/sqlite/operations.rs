//! The changes, each one carried out by the writer inside a transaction.

mod again;
mod agents;
mod append;
mod cancel;
mod moving;
mod orders;
mod wish;

use async_trait::async_trait;
use gantry_proto::{JobId, v1};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::sqlite::SqliteRow;

pub(super) use again::BeginAgain;
pub(super) use agents::{PutAgent, TouchAgent};
pub(super) use append::Append;
pub(super) use cancel::CancelJob;
pub(super) use moving::MoveJob;
pub(super) use orders::{NumberAbove, Report, Sending};
pub(super) use wish::TakeWish;

use super::{
    rows::{self, signed},
    writer::{Group, Operation},
};
use crate::store::{Inserted, JobRow, NewJob, OrderKind, StoreError};

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

impl Group<'_> {
    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row: Option<SqliteRow> = sqlx::query("SELECT * FROM job_rows WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.connection)
            .await?;
        row.as_ref().map(rows::job).transpose()
    }

    /// An unfinished job with this CloudTower or this VM.
    async fn busy(&mut self, cloudtower_ip: &str, target: &str) -> Result<Option<JobRow>, StoreError> {
        let query = "SELECT * FROM job_rows WHERE active = 1 AND (cloudtower_ip = ?1 OR target = ?2) LIMIT 1";
        let row = sqlx::query(query).bind(cloudtower_ip).bind(target).fetch_optional(&mut *self.connection).await?;
        row.as_ref().map(rows::job).transpose()
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

    async fn update_row(&mut self, row: &JobRow, result: Option<String>) -> Result<(), StoreError> {
        let progress = &row.progress;
        sqlx::query(
            "UPDATE jobs SET cancel = ?2, state = ?3, last_seq = ?4, started = ?5, finished = ?6, outcome = ?7, undo = ?8,
                             failure = ?9, percent = ?10, current_step = ?11, current_share = ?12, result = ?13,
                             active = ?14, question = ?15, question_seq = ?16
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
        .bind(progress.question.as_ref().map(prost::Message::encode_to_vec))
        .bind(progress.question.as_ref().map_or(0, |question| signed(question.seq)))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}
