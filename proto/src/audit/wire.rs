//! Between a record and its message.

use jiff::Timestamp;

use super::{Entry, Hash, Head, Outcome, Record};
use crate::v1;

impl From<&Record> for v1::AuditRecord {
    fn from(record: &Record) -> Self {
        let Record { number, at, entry, previous, hash } = record.clone();
        let outcome = match entry.outcome {
            Outcome::Asked => v1::AuditOutcome::Asked,
            Outcome::Done => v1::AuditOutcome::Done,
            Outcome::Refused => v1::AuditOutcome::Refused,
            Outcome::CutOff => v1::AuditOutcome::CutOff,
        };
        Self {
            number,
            at_micros: at.as_microsecond(),
            act: entry.act,
            outcome: outcome.into(),
            asked: entry.asked,
            code: entry.code,
            message: entry.message,
            operator: entry.operator,
            role: entry.role,
            remote: entry.remote,
            job_id: entry.job,
            site: entry.site,
            agent_id: entry.agent,
            subject: entry.subject,
            plan_sha256: entry.plan_sha256,
            request_id: entry.request_id,
            detail: entry.detail,
            previous: previous.0.to_vec(),
            hash: hash.0.to_vec(),
        }
    }
}

/// A message that is no record: from a newer peer, or not from one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audit record has an unusable {0}")]
pub struct NoRecord(&'static str);

impl TryFrom<v1::AuditRecord> for Record {
    type Error = NoRecord;

    fn try_from(wire: v1::AuditRecord) -> Result<Self, NoRecord> {
        let outcome = match wire.outcome() {
            v1::AuditOutcome::Asked => Outcome::Asked,
            v1::AuditOutcome::Done => Outcome::Done,
            v1::AuditOutcome::Refused => Outcome::Refused,
            v1::AuditOutcome::CutOff => Outcome::CutOff,
            v1::AuditOutcome::Unspecified => return Err(NoRecord("outcome")),
        };
        Ok(Self {
            number: wire.number,
            at: Timestamp::from_microsecond(wire.at_micros).map_err(|_| NoRecord("time"))?,
            entry: Entry {
                act: wire.act,
                outcome,
                asked: wire.asked,
                code: wire.code,
                message: wire.message,
                operator: wire.operator,
                role: wire.role,
                remote: wire.remote,
                job: wire.job_id,
                site: wire.site,
                agent: wire.agent_id,
                subject: wire.subject,
                plan_sha256: wire.plan_sha256,
                request_id: wire.request_id,
                detail: wire.detail,
            },
            previous: Hash(wire.previous.try_into().map_err(|_| NoRecord("hash of the record before"))?),
            hash: Hash(wire.hash.try_into().map_err(|_| NoRecord("hash"))?),
        })
    }
}

impl From<Head> for v1::AuditHead {
    fn from(head: Head) -> Self {
        Self { number: head.number, hash: head.hash.0.to_vec() }
    }
}

impl TryFrom<v1::AuditHead> for Head {
    type Error = NoRecord;

    fn try_from(wire: v1::AuditHead) -> Result<Self, NoRecord> {
        Ok(Self { number: wire.number, hash: Hash(wire.hash.try_into().map_err(|_| NoRecord("hash"))?) })
    }
}
