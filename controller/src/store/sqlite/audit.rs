//! The audit log in its table: appended by the writer, so that the chain has one order, and read page by page.

use async_trait::async_trait;
use gantry_proto::audit::{Entry, Hash, Head, Outcome, Record};
use jiff::Timestamp;
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{
    rows::{self, signed, unsigned},
    writer::{Group, Operation},
};
use crate::store::{AuditFilter, StoreError};

const HEAD: &str = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";

/// See [`crate::store::Store::append_audit`].
pub(super) struct AppendAudit(pub(super) Entry);

#[async_trait]
impl Operation for AppendAudit {
    type Answer = Record;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Record, StoreError> {
        let head = sqlx::query(HEAD).fetch_optional(&mut *cx.connection).await?;
        let head = head.as_ref().map_or(Ok(Head::NONE), head_of)?;
        let record = Record::after(head, Timestamp::now(), self.0.clone());
        let Record { number, at, entry, previous, hash } = &record;
        sqlx::query("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(signed(*number))
            .bind(at.as_microsecond())
            .bind(&entry.act)
            .bind(entry.outcome.word())
            .bind(signed(entry.asked))
            .bind(&entry.code)
            .bind(&entry.message)
            .bind(&entry.operator)
            .bind(&entry.role)
            .bind(&entry.remote)
            .bind(&entry.job)
            .bind(&entry.site)
            .bind(&entry.agent)
            .bind(&entry.subject)
            .bind(&entry.plan_sha256)
            .bind(&entry.request_id)
            .bind(&entry.detail)
            .bind(previous.0.to_vec())
            .bind(hash.0.to_vec())
            .execute(&mut *cx.connection)
            .await?;
        Ok(record)
    }
}

/// See [`crate::store::Store::audit_head`].
pub(super) async fn head(readers: &SqlitePool) -> Result<Head, StoreError> {
    let head = sqlx::query(HEAD).fetch_optional(readers).await?;
    head.as_ref().map_or(Ok(Head::NONE), head_of)
}

/// See [`crate::store::Store::audit`].
pub(super) async fn list(readers: &SqlitePool, filter: AuditFilter) -> Result<Vec<Record>, StoreError> {
    const NEWEST: &str = "SELECT * FROM audit
        WHERE number > ?1 AND number <= ?2 AND (?3 = '' OR job = ?3) AND (?4 = '' OR operator = ?4) AND at >= ?5
        ORDER BY number DESC LIMIT ?6";
    const OLDEST: &str = "SELECT * FROM audit
        WHERE number > ?1 AND number <= ?2 AND (?3 = '' OR job = ?3) AND (?4 = '' OR operator = ?4) AND at >= ?5
        ORDER BY number LIMIT ?6";
    let rows = sqlx::query(if filter.newest { NEWEST } else { OLDEST })
        .bind(signed(filter.after))
        .bind(signed(filter.upto))
        .bind(filter.job)
        .bind(filter.operator)
        .bind(filter.since_micros)
        .bind(i64::from(filter.limit))
        .fetch_all(readers)
        .await?;
    let mut records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    if filter.newest {
        records.reverse();
    }
    Ok(records)
}

fn head_of(row: &SqliteRow) -> Result<Head, StoreError> {
    Ok(Head { number: unsigned(row.try_get("number")?), hash: hash(row, "hash")? })
}

fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    Ok(Record {
        number: unsigned(row.try_get("number")?),
        at: rows::time(row.try_get("at")?)?,
        entry: Entry {
            act: row.try_get("act")?,
            outcome: Outcome::of(row.try_get("outcome")?).ok_or(StoreError::Corrupt("outcome of an audit record"))?,
            asked: unsigned(row.try_get("asked")?),
            code: row.try_get("code")?,
            message: row.try_get("message")?,
            operator: row.try_get("operator")?,
            role: row.try_get("role")?,
            remote: row.try_get("remote")?,
            job: row.try_get("job")?,
            site: row.try_get("site")?,
            agent: row.try_get("agent")?,
            subject: row.try_get("subject")?,
            plan_sha256: row.try_get("plan_sha256")?,
            request_id: row.try_get("request_id")?,
            detail: row.try_get("detail")?,
        },
        previous: hash(row, "previous")?,
        hash: hash(row, "hash")?,
    })
}

fn hash(row: &SqliteRow, column: &str) -> Result<Hash, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map(Hash).map_err(|_| StoreError::Corrupt("hash of an audit record"))
}
