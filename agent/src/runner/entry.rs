//! One job as the runner holds it.

use std::sync::{Arc, Mutex};

use gantry_proto::trace::TraceContext;
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::{
    joblog::JobLog,
    journal::{CancelRecord, Folded, Journal, StartRecord},
};

/// Cancel orders of one job that are remembered.
const CANCELS_MAX: usize = 16;

/// One job.
pub(super) struct Entry {
    pub(super) journal: Arc<Journal>,
    /// Cancelled by a cancel, and when the agent stops.
    pub(super) token: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// SHA-256 of the plan, hexadecimal.
    sha256: String,
    start_order: u64,
    trace: TraceContext,
    cancels: Vec<CancelRecord>,
    /// What excludes another job; empty until the plan has been read.
    target: String,
    /// While the job is at work.
    log: Option<Arc<JobLog>>,
}

impl Entry {
    pub(super) fn new(journal: Arc<Journal>, folded: &Folded, token: CancellationToken) -> Self {
        let mut state = State { cancels: folded.cancels.clone(), ..State::default() };
        if let Some(StartRecord { order, sha256, trace, .. }) = &folded.start {
            (state.start_order, state.sha256, state.trace) = (*order, sha256.clone(), trace.clone());
        }
        if !folded.cancels.is_empty() {
            token.cancel();
        }
        Self { journal, token, state: Mutex::new(state) }
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

    /// The numbers of all orders for this job.
    pub(super) fn orders(&self) -> Vec<u64> {
        let state = lock(&self.state);
        std::iter::once(state.start_order).chain(state.cancels.iter().map(|cancel| cancel.order)).collect()
    }

    /// The first cancel, if there is one.
    pub(super) fn first_cancel(&self) -> Option<CancelRecord> {
        lock(&self.state).cancels.first().cloned()
    }
}
