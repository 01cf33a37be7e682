//! One job as the runner holds it.

use std::sync::{Arc, Mutex};

use gantry_proto::trace::TraceContext;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::{
    joblog::JobLog,
    journal::{CancelRecord, DecideRecord, Folded, HoldRecord, Journal, StartRecord, SurrenderRecord, TuneRecord},
    upload::Tuning,
};

/// Cancel orders of one job that are remembered.
const CANCELS_MAX: usize = 16;
/// Surrenders whose end is told; the newest one holds.
const SURRENDERS_MAX: usize = 16;
/// Pauses, resumes, wishes and decisions whose end is told; the controller closes all orders of a job with the job.
const HOLDS_MAX: usize = 64;

/// One job.
pub(super) struct Entry {
    pub(super) journal: Arc<Journal>,
    /// Cancelled when the job is to stop as it is: the agent stops, or another one gets the job.
    pub(super) stop: CancellationToken,
    /// Cancelled by a cancel, and together with `stop`.
    pub(super) token: CancellationToken,
    state: Mutex<State>,
    /// Whether a task is at work on the job.
    at_work: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// SHA-256 of the plan, hexadecimal.
    sha256: String,
    start_order: u64,
    trace: TraceContext,
    cancels: Vec<CancelRecord>,
    hold: Option<HoldRecord>,
    tune: Option<TuneRecord>,
    decision: Option<DecideRecord>,
    /// Numbers of all pauses, resumes, wishes and decisions, to be told as done at the end.
    holds: Vec<u64>,
    surrender: Option<SurrenderRecord>,
    /// Numbers of all surrenders, to be told as done at the end.
    surrenders: Vec<u64>,
    /// What excludes another job; empty until the plan has been read.
    target: String,
    /// While the job is at work.
    log: Option<Arc<JobLog>>,
}

impl Entry {
    pub(super) fn new(journal: Arc<Journal>, folded: &Folded, stop: CancellationToken) -> Self {
        let mut state = State {
            cancels: folded.cancels.clone(),
            hold: folded.hold.clone(),
            tune: folded.tune.clone(),
            decision: folded.decision.clone(),
            surrender: folded.surrender.clone(),
            surrenders: folded.surrender.iter().map(|surrender| surrender.order).collect(),
            ..State::default()
        };
        if let Some(StartRecord { order, sha256, trace, .. }) = &folded.start {
            (state.start_order, state.sha256, state.trace) = (*order, sha256.clone(), trace.clone());
        }
        let token = stop.child_token();
        if !folded.cancels.is_empty() {
            token.cancel();
        }
        Self { journal, stop, token, state: Mutex::new(state), at_work: watch::Sender::new(false) }
    }

    pub(super) fn sha256(&self) -> String {
        lock(&self.state).sha256.clone()
    }

    pub(super) fn trace(&self) -> TraceContext {
        lock(&self.state).trace.clone()
    }

    pub(super) fn target(&self) -> String {
        lock(&self.state).target.clone()
    }

    pub(super) fn set_target(&self, target: String) {
        lock(&self.state).target = target;
    }

    pub(super) fn log(&self) -> Option<Arc<JobLog>> {
        lock(&self.state).log.clone()
    }

    pub(super) fn set_log(&self, log: Option<Arc<JobLog>>) {
        lock(&self.state).log = log;
    }

    /// A task begins to work on the job, or has ended.
    pub(super) fn set_at_work(&self, at_work: bool) {
        self.at_work.send_replace(at_work);
    }

    /// Whether a task is at work on the job.
    pub(super) fn is_at_work(&self) -> bool {
        *self.at_work.borrow()
    }

    /// Waits until no task is at work on the job any more.
    pub(super) async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.at_work.subscribe().wait_for(|at_work| !at_work).await;
    }

    /// The number of the order that began the newest epoch.
    pub(super) fn start_order(&self) -> u64 {
        lock(&self.state).start_order
    }

    /// The number of the newest pause or resume; 0 when there was none.
    pub(super) fn newest_hold(&self) -> u64 {
        lock(&self.state).hold.as_ref().map_or(0, |hold| hold.order)
    }

    /// Remembers a pause or a resume, and puts it into effect.
    pub(super) fn note_hold(&self, hold: HoldRecord) {
        let mut state = lock(&self.state);
        if let Some(log) = &state.log {
            log.request_hold(hold.clone());
        }
        if state.holds.len() < HOLDS_MAX {
            state.holds.push(hold.order);
        }
        state.hold = Some(hold);
    }

    /// The newest wishes about the upload; the number of their order is 0 when there were none.
    pub(super) fn tuning(&self) -> (u64, Tuning) {
        lock(&self.state).tune.as_ref().map(|tune| (tune.order, tune.tuning.clone())).unwrap_or_default()
    }

    /// Remembers wishes about the upload, and puts them into effect.
    pub(super) fn note_tuning(&self, tune: TuneRecord) {
        let mut state = lock(&self.state);
        if let Some(log) = &state.log {
            log.tune(tune.tuning.clone());
        }
        if state.holds.len() < HOLDS_MAX {
            state.holds.push(tune.order);
        }
        state.tune = Some(tune);
    }

    /// Whether this answer has been taken.
    pub(super) fn knows_decision(&self, order: u64) -> bool {
        let state = lock(&self.state);
        state.decision.as_ref().is_some_and(|decision| decision.order == order) || state.holds.contains(&order)
    }

    /// Remembers an answer, and puts it into effect.
    pub(super) fn note_decision(&self, decision: DecideRecord) {
        let mut state = lock(&self.state);
        if let Some(log) = &state.log {
            log.request_decision(decision.clone());
        }
        if state.holds.len() < HOLDS_MAX {
            state.holds.push(decision.order);
        }
        state.decision = Some(decision);
    }

    /// Whether this cancel order is new.
    pub(super) fn knows_cancel(&self, order: u64) -> bool {
        lock(&self.state).cancels.iter().any(|cancel| cancel.order == order)
    }

    /// Remembers a cancel order; the token is the caller's, who tells the cancel first.
    pub(super) fn note_cancel(&self, cancel: CancelRecord) {
        let mut state = lock(&self.state);
        if let Some(log) = &state.log {
            log.request_cancel(cancel.clone());
        }
        if state.cancels.len() < CANCELS_MAX {
            state.cancels.push(cancel);
        }
    }

    /// The newest order to let go of the job.
    pub(super) fn surrender(&self) -> Option<SurrenderRecord> {
        lock(&self.state).surrender.clone()
    }

    /// Remembers an order to let go of the job, and stops the job.
    pub(super) fn note_surrender(&self, surrender: SurrenderRecord) {
        let mut state = lock(&self.state);
        if state.surrenders.len() < SURRENDERS_MAX {
            state.surrenders.push(surrender.order);
        }
        state.surrender = Some(surrender);
        drop(state);
        self.stop.cancel();
    }

    /// Whether an order has been taken before.
    pub(super) fn knows(&self, order: u64) -> bool {
        self.orders().contains(&order)
    }

    /// The numbers of all orders for this job.
    pub(super) fn orders(&self) -> Vec<u64> {
        let state = lock(&self.state);
        let cancels = state.cancels.iter().map(|cancel| cancel.order);
        let others = state.holds.iter().chain(&state.surrenders).copied();
        std::iter::once(state.start_order).chain(cancels).chain(others).collect()
    }

    /// Tells a log what was ordered while it was being opened.
    pub(super) fn brief(&self, log: &JobLog) {
        let state = lock(&self.state);
        state.cancels.iter().for_each(|cancel| log.request_cancel(cancel.clone()));
        if let Some(hold) = &state.hold {
            log.request_hold(hold.clone());
        }
        if let Some(decision) = &state.decision {
            log.request_decision(decision.clone());
        }
    }
}
