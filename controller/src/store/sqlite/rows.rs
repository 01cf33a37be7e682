//! Between rows and what the controller speaks of.

use gantry_proto::{AgentId, Failure, JobId, JobOutcome, UndoState, v1};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::store::{AgentRow, JobRow, OrderKind, OrderRow, Position, Progress, StoreError};

/// A number for SQLite, which knows signed ones only.
pub(in crate::store) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn job(row: &SqliteRow) -> Result<JobRow, StoreError> {
    let failure: Option<Vec<u8>> = row.try_get("failure")?;
    let failure = failure.map(|bytes| v1::Failure::decode(&bytes[..])).transpose();
    let failure = failure.map_err(|_| StoreError::Corrupt("failure"))?.map(Failure::from);
    let question: Option<Vec<u8>> = row.try_get("question")?;
    let question = question.map(|bytes| v1::OperatorQuestion::decode(&bytes[..])).transpose();
    let mut question = question.map_err(|_| StoreError::Corrupt("question"))?;
    if let Some(question) = &mut question {
        question.answered = row.try_get::<i64, _>("answered")? != 0;
    }
    Ok(JobRow {
        id: job_id(row.try_get("id")?)?,
        epoch: small(row.try_get("epoch")?),
        site: row.try_get("site")?,
        agent: agent_id(row.try_get("agent_id")?)?,
        created: time(row.try_get("created")?)?,
        submitted_by: row.try_get("submitted_by")?,
        file_name: row.try_get("file_name")?,
        plan_sha256: row.try_get("plan_sha256")?,
        cluster: row.try_get("cluster")?,
        vm_name: row.try_get("vm_name")?,
        cloudtower_ip: row.try_get("cloudtower_ip")?,
        target: row.try_get("target")?,
        keep_on_failure: row.try_get::<i64, _>("keep_on_failure")? != 0,
        refusal: row.try_get("refusal")?,
        moving_to: row.try_get::<Option<&str>, _>("moving_to")?.map(agent_id).transpose()?,
        undo_only: row.try_get::<i64, _>("undo_only")? != 0,
        cancel: v1::CancelStage::try_from(row.try_get::<i32, _>("cancel")?).unwrap_or_default(),
        progress: Progress {
            state: v1::JobState::try_from(row.try_get::<i32, _>("state")?)
                .map_err(|_| StoreError::Corrupt("state of a job"))?,
            last_seq: unsigned(row.try_get("last_seq")?),
            started: optional_time(row.try_get("started")?)?,
            finished: optional_time(row.try_get("finished")?)?,
            outcome: outcome(row.try_get("outcome")?),
            undo: undo(row.try_get("undo")?),
            failure,
            percent: row.try_get("percent")?,
            current_step: row.try_get("current_step")?,
            current_share: row.try_get("current_share")?,
            question,
        },
    })
}

pub(super) fn agent(row: &SqliteRow) -> Result<AgentRow, StoreError> {
    let isos =
        v1::IsoList::decode(row.try_get::<&[u8], _>("isos")?).map_err(|_| StoreError::Corrupt("list of ISOs"))?;
    Ok(AgentRow {
        id: agent_id(row.try_get("id")?)?,
        site: row.try_get("site")?,
        version: row.try_get("version")?,
        boot_id: row.try_get("boot_id")?,
        sealing_key: row.try_get("sealing_key")?,
        isos: isos.isos,
        remote_address: row.try_get("remote_address")?,
        seen: time(row.try_get("seen")?)?,
    })
}

pub(super) fn order(row: &SqliteRow) -> Result<OrderRow, StoreError> {
    let order = v1::Order::decode(row.try_get::<&[u8], _>("body")?).map_err(|_| StoreError::Corrupt("order"))?;
    Ok(OrderRow {
        number: unsigned(row.try_get("number")?),
        job: job_id(row.try_get("job_id")?)?,
        kind: order_kind(row.try_get("kind")?)?,
        sent: row.try_get::<i64, _>("sent")? != 0,
        order,
    })
}

pub(super) fn position(row: &SqliteRow) -> Result<Position, StoreError> {
    Ok(Position {
        job: job_id(row.try_get("id")?)?,
        agent: agent_id(row.try_get("agent_id")?)?,
        epoch: small(row.try_get("epoch")?),
        last_seq: unsigned(row.try_get("last_seq")?),
        moved: small(row.try_get("moved")?),
    })
}

pub(super) fn event(row: &SqliteRow) -> Result<v1::Event, StoreError> {
    v1::Event::decode(row.try_get::<&[u8], _>("body")?).map_err(|_| StoreError::Corrupt("event"))
}

pub(super) fn job_id(text: &str) -> Result<JobId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("job id"))
}

pub(super) fn order_kind(text: &str) -> Result<OrderKind, StoreError> {
    match text {
        "start" => Ok(OrderKind::Start),
        "cancel" => Ok(OrderKind::Cancel),
        "pause" => Ok(OrderKind::Pause),
        "resume" => Ok(OrderKind::Resume),
        "tune_upload" => Ok(OrderKind::TuneUpload),
        "retry" => Ok(OrderKind::Retry),
        "decide" => Ok(OrderKind::Decide),
        "surrender" => Ok(OrderKind::Surrender),
        "take_over" => Ok(OrderKind::TakeOver),
        _ => Err(StoreError::Corrupt("kind of an order")),
    }
}

pub(super) fn order_kind_text(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Start => "start",
        OrderKind::Cancel => "cancel",
        OrderKind::Pause => "pause",
        OrderKind::Resume => "resume",
        OrderKind::TuneUpload => "tune_upload",
        OrderKind::Retry => "retry",
        OrderKind::Decide => "decide",
        OrderKind::Surrender => "surrender",
        OrderKind::TakeOver => "take_over",
    }
}

pub(super) fn outcome_number(outcome: Option<JobOutcome>) -> i32 {
    outcome.map_or(v1::JobOutcome::Unspecified, v1::JobOutcome::from).into()
}

pub(super) fn undo_number(undo: Option<UndoState>) -> i32 {
    undo.map_or(v1::UndoState::Unspecified, v1::UndoState::from).into()
}

fn outcome(number: i32) -> Option<JobOutcome> {
    match v1::JobOutcome::try_from(number) {
        Ok(v1::JobOutcome::Succeeded) => Some(JobOutcome::Succeeded),
        Ok(v1::JobOutcome::Failed) => Some(JobOutcome::Failed),
        Ok(v1::JobOutcome::Cancelled) => Some(JobOutcome::Cancelled),
        Ok(v1::JobOutcome::Unspecified) | Err(_) => None,
    }
}

fn undo(number: i32) -> Option<UndoState> {
    match v1::UndoState::try_from(number) {
        Ok(v1::UndoState::Nothing) => Some(UndoState::Nothing),
        Ok(v1::UndoState::RolledBack) => Some(UndoState::RolledBack),
        Ok(v1::UndoState::Incomplete) => Some(UndoState::RollbackIncomplete),
        Ok(v1::UndoState::Kept) => Some(UndoState::Kept),
        Ok(v1::UndoState::Unspecified) | Err(_) => None,
    }
}

pub(super) fn agent_id(text: &str) -> Result<AgentId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("agent id"))
}

pub(super) fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| StoreError::Corrupt("time"))
}

fn optional_time(micros: Option<i64>) -> Result<Option<Timestamp>, StoreError> {
    micros.map(time).transpose()
}

pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
