//! Whose turn it is to hash a file. One file at a time is hashed in this process: several would only fight for disk and
//! cores, and the second job that wants the same file finds it done. What is hashed ahead, in the background, makes room
//! for a job at once; what it has read is kept for whoever takes that file up.

use std::sync::{Mutex as StdMutex, PoisonError};

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::hashing::Hashing;

/// Holds the read that was left, until another file is read.
static HASHING: Mutex<Option<Hashing>> = Mutex::const_new(None);
static QUEUE: StdMutex<Queue> = StdMutex::new(Queue { jobs: 0, ahead: None });

/// The one turn, with the read that was left before it.
pub(super) type Turn = MutexGuard<'static, Option<Hashing>>;

struct Queue {
    /// Jobs that wait for their turn.
    jobs: usize,
    /// Ends the background's turn.
    ahead: Option<CancellationToken>,
}

/// A job that waits.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        let mut queue = queue();
        queue.jobs += 1;
        if let Some(ahead) = queue.ahead.take() {
            ahead.cancel();
        }
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        queue().jobs -= 1;
    }
}

/// A job's turn: after other jobs, before the background. `None`: cancelled.
pub(super) async fn now(cancel: &CancellationToken) -> Option<Turn> {
    let _waiting = Waiting::begin();
    tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        turn = HASHING.lock() => Some(turn),
    }
}

/// The background's turn, when no job wants one, and the token that ends it when a job does. `None`: cancelled.
pub(super) async fn ahead(cancel: &CancellationToken) -> Option<(Turn, CancellationToken)> {
    loop {
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => return None,
            turn = HASHING.lock() => turn,
        };
        let mut queue = queue();
        if queue.jobs == 0 {
            let end = cancel.child_token();
            queue.ahead = Some(end.clone());
            return Some((turn, end));
        }
        // The jobs are in the queue of the lock already: the background goes behind them.
    }
}

fn queue() -> std::sync::MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}
