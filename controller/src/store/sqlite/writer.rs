//! The one task that writes: takes what is queued, commits it together, then answers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use gantry_proto::{Event, JobId, JobView, v1};
use prost::Message as _;
use sqlx::{Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{metrics::metrics, store::StoreError};

/// Events that are read at once when a view is folded anew.
const PAGE: i64 = 512;

/// A change. It looks first and writes only when it is sure: a refusal is an answer, not an error; an error undoes the
/// whole group.
#[async_trait]
pub(super) trait Operation: Send {
    /// The answer.
    type Answer: Send;
    /// Carries it out inside the group's transaction.
    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<Self::Answer, StoreError>;
}

/// What an operation works with.
pub(super) struct Group<'a> {
    /// Inside a transaction.
    pub(super) connection: &'a mut SqliteConnection,
    views: &'a mut Views,
}

/// An operation that waits for the writer, whatever its answer is.
#[async_trait]
pub(super) trait Queued: Send {
    async fn run(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// Counters of the writer.
#[derive(Debug, Default)]
pub struct Stats {
    /// Transactions that were committed.
    pub commits: AtomicU64,
    /// Operations in them.
    pub operations: AtomicU64,
}

/// The task's own state.
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) queue: mpsc::Receiver<Box<dyn Queued>>,
    pub(super) stop: CancellationToken,
    pub(super) group: usize,
    pub(super) views: usize,
    pub(super) stats: Arc<Stats>,
}

impl Writer {
    /// Runs until it is stopped and nothing is queued any more.
    pub(super) async fn run(mut self) {
        let mut views = Views { limit: self.views, ..Views::default() };
        loop {
            let first = tokio::select! {
                biased;
                first = self.queue.recv() => first,
                () = self.stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut group = vec![first];
            while group.len() < self.group
                && let Ok(next) = self.queue.try_recv()
            {
                group.push(next);
            }
            let began = Instant::now();
            let outcome = commit(&mut self.connection, &mut views, &mut group).await;
            metrics().committed(began.elapsed(), outcome.is_ok());
            match &outcome {
                Ok(()) => {
                    self.stats.commits.fetch_add(1, Ordering::Relaxed);
                    self.stats.operations.fetch_add(group.len() as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::error!(causes = ?gantry_proto::error::causes(error), "the store could not commit");
                    // What was folded in the lost transaction is not in the log.
                    views.clear();
                    let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
                }
            }
            group.into_iter().for_each(|operation| operation.answer(outcome.clone()));
        }
        if let Err(error) = sqlx::Connection::close(self.connection).await {
            tracing::warn!(%error, "closing the store failed; nothing is lost");
        }
    }
}

async fn commit(
    connection: &mut SqliteConnection,
    views: &mut Views,
    group: &mut [Box<dyn Queued>],
) -> Result<(), StoreError> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for operation in group {
        operation.run(&mut Group { connection: &mut *connection, views: &mut *views }).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

/// An [`Operation`] with the way back to who asked.
pub(super) struct Waiting<O: Operation> {
    operation: O,
    result: Option<O::Answer>,
    reply: oneshot::Sender<Result<O::Answer, StoreError>>,
}

impl<O: Operation> Waiting<O> {
    pub(super) fn new(operation: O) -> (Self, oneshot::Receiver<Result<O::Answer, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { operation, result: None, reply }, answer)
    }
}

#[async_trait]
impl<O: Operation> Queued for Waiting<O> {
    async fn run(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError> {
        self.result = Some(self.operation.apply(cx).await?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // Who asked may have gone; the change stands all the same.
        let _ = reply.send(committed.and_then(|()| result.ok_or(StoreError::Closed)));
    }
}

/// Views of jobs at work, so that an append need not read the log. Bounded: the oldest goes, and is folded anew when it
/// is needed.
#[derive(Default)]
struct Views {
    views: HashMap<JobId, JobView>,
    order: VecDeque<JobId>,
    limit: usize,
}

impl Views {
    fn clear(&mut self) {
        self.views.clear();
        self.order.clear();
    }

    fn put(&mut self, job: JobId, view: JobView) {
        if self.views.insert(job, view).is_none() {
            self.order.push_back(job);
        }
        while self.views.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.views.remove(&oldest);
        }
    }
}

impl Group<'_> {
    /// Folds further events into a job's view and hands it to `then`.
    pub(super) async fn fold<T>(
        &mut self,
        job: JobId,
        events: &[Event],
        then: impl FnOnce(&JobView) -> T,
    ) -> Result<T, StoreError> {
        let mut view = match self.views.views.remove(&job) {
            Some(view) => {
                self.views.order.retain(|other| *other != job);
                view
            }
            None => self.read_view(job).await?,
        };
        events.iter().for_each(|event| view.apply(event));
        let answer = then(&view);
        if view.outcome.is_none() {
            self.views.put(job, view);
        }
        Ok(answer)
    }

    async fn read_view(&mut self, job: JobId) -> Result<JobView, StoreError> {
        let mut view = JobView::default();
        self.each_event(job, |event| view.apply(event)).await?;
        Ok(view)
    }

    /// Hands a job's whole log to `take`, in order.
    pub(super) async fn each_event(
        &mut self,
        job: JobId,
        mut take: impl FnMut(&Event) + Send,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let rows = sqlx::query("SELECT body FROM events WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")
                .bind(job.to_string())
                .bind(super::signed(after))
                .bind(PAGE)
                .fetch_all(&mut *self.connection)
                .await?;
            for row in &rows {
                let event = v1::Event::decode(row.try_get::<&[u8], _>(0)?).map_err(|_| StoreError::Corrupt("event"))?;
                let event = Event::try_from(event).map_err(|_| StoreError::Corrupt("event"))?;
                after = event.seq;
                take(&event);
            }
            if (rows.len() as i64) < PAGE {
                return Ok(());
            }
        }
    }
}
