//! What is counted by looking, now and then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gantry_proto::{v1::JobState, words::job_state};
use gantry_telemetry::{Loss, Signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{metrics, word};
use crate::{
    agents::Agents,
    store::{JobFilter, Store},
    telemetry::Recorder,
};

/// How often.
const EVERY: Duration = Duration::from_secs(5);
/// Jobs that are counted at most.
const JOBS_MAX: u32 = 1000;
/// The states of a job that has not ended.
const ACTIVE: [JobState; 4] = [JobState::Queued, JobState::Running, JobState::Paused, JobState::NeedsOperator];

/// Looks until it is stopped. A store that fails is told of by whoever needs it.
pub(crate) async fn refresh(
    store: Arc<dyn Store>,
    agents: Arc<Agents>,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = Loss::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let metrics = metrics();
        let filter = JobFilter { limit: JOBS_MAX, active_only: true, ..JobFilter::default() };
        if let Ok(rows) = store.list_jobs(filter).await {
            let mut counts: BTreeMap<&'static str, u64> = ACTIVE.map(|state| (job_state(state), 0)).into();
            for row in rows {
                *counts.entry(job_state(row.progress.state)).or_default() += 1;
            }
            counts.into_iter().for_each(|(state, count)| metrics.jobs_active.record(count, &[word("state", state)]));
        }
        if let Ok(agents) = agents.list("").await {
            let open: Vec<_> = agents.iter().filter(|agent| !agent.revoked).collect();
            let here = open.iter().filter(|agent| agent.in_contact).count() as u64;
            metrics.agents.record(here, &[word("contact", "yes")]);
            metrics.agents.record(open.len() as u64 - here, &[word("contact", "no")]);
            let waiting = agents.iter().map(|agent| agent.telemetry_waiting_bytes).fold(0, u64::saturating_add);
            metrics.telemetry_waiting.record(waiting, &[word("at", "agent")]);
        }
        metrics.telemetry_waiting.record(recorder.waiting(), &[word("at", "controller")]);
        let now = recorder.loss();
        for signal in Signal::ALL {
            metrics.lost(signal, "controller", now.of(signal).saturating_sub(lost.of(signal)));
        }
        lost = now;
    }
}
