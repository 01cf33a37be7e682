//! A job's log at both ends: the agent's journal and what the controller has stored, and that they are the same.

use std::fs;

use anyhow::{Context as _, ensure};
use gantry_agent::journal::{FILE_NAME, Record, decode};
use gantry_proto::{Body, Event};
use jiff::Timestamp;

use crate::lab::{Lab, text};

/// What the journal of a job holds on the agent's disk; a line that is being written does not count.
pub fn journal(lab: &Lab, job: &str) -> anyhow::Result<Vec<Event>> {
    let file = lab.agent_data().join("jobs").join(job).join(FILE_NAME);
    let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let records = lines.map(decode).collect::<Result<Vec<_>, _>>()?;
    let events = records.into_iter().filter_map(|record| match record {
        Record::Event(event) => Some(*event),
        _ => None,
    });
    Ok(events.collect())
}

/// Whether the job has ended, as far as the agent's disk tells.
pub fn has_ended(lab: &Lab, job: &str) -> bool {
    let last = journal(lab, job).ok().and_then(|events| events.into_iter().next_back());
    last.is_some_and(|event| matches!(event.body, Body::JobFinished { .. }))
}

/// Every event that the controller has of a job that has ended.
pub async fn stored(lab: &Lab, job: &str) -> anyhow::Result<Vec<Event>> {
    let output = lab.ctl(&["-o", "ndjson", "watch", job, "--from-seq", "1"]).await?;
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    let values = lines.map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
    let events = values.into_iter().filter(|value| value.get("seq").is_some()).map(serde_json::from_value);
    events.collect::<Result<_, _>>().with_context(|| format!("an event of ctl watch: {}", text(&output)))
}

/// Everything arrived once, in order, without a gap, and is what the agent wrote down. Gives the events.
pub async fn same(lab: &Lab, job: &str) -> anyhow::Result<Vec<Event>> {
    let (here, there) = (journal(lab, job)?, stored(lab, job).await?);
    let seqs: Vec<u64> = there.iter().map(|event| event.seq).collect();
    ensure!(!seqs.is_empty() && seqs.iter().copied().eq(1..=seqs.len() as u64), "the log has gaps: {seqs:?}");
    ensure!(here.len() == there.len(), "the journal has {} events, the controller {}", here.len(), there.len());
    for (here, there) in here.iter().zip(&there) {
        // The wire carries microseconds.
        let at = Timestamp::from_microsecond(here.at.as_microsecond())?;
        let here = Event { at, ..here.clone() };
        ensure!(here == *there, "the journal says {here:?}, the controller {there:?}");
    }
    Ok(there)
}
