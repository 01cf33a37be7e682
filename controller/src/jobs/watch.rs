//! Following a job: first what is stored, then what comes, without a gap and without a copy. A watcher that reads
//! slowly costs nothing: it reads pages from the store when it is ready for them.

use std::{sync::Arc, time::Duration};

use gantry_proto::{AgentId, Code, v1};
use tokio::sync::{mpsc, watch as signal};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use v1::watch_job_response::Item;

use super::{Change, Jobs};
use crate::{refusal::Refusal, store::JobRow};

/// Events that are read at once.
const PAGE: u32 = 64;
/// Messages that wait for a slow reader.
const WAITING: usize = 16;
/// A watcher that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(300);

/// How long a reader may take to make room for the last word.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a watcher gets.
pub type WatchStream = ReceiverStream<Result<v1::WatchJobResponse, Status>>;

impl Jobs {
    /// Follows a job from behind `after`. The stream begins with the job and ends after its last event, or with
    /// `no_follow` after what is stored now.
    ///
    /// # Errors
    /// [`Code::Busy`] when too many watch already.
    pub fn watch(self: &Arc<Self>, row: JobRow, after: u64, no_follow: bool) -> Result<WatchStream, Refusal> {
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            let message = format!("{} streams watch jobs already: try again later", self.config.limits.watchers);
            return Err(Refusal::new(Code::Busy, message));
        };
        let (out, stream) = mpsc::channel(WAITING);
        let (jobs, job) = (self.clone(), row.id);
        let watcher = Watcher {
            // Listening begins before the first look, so that nothing falls in between.
            changed: self.track(&row),
            contact: self.agents.watch(&row.agent),
            agent: row.agent.clone(),
            out,
            after,
            no_follow,
            told: None,
            sample: None,
        };
        self.tasks.spawn(async move {
            let _permit = permit;
            watcher.run(&jobs, row).await;
            jobs.forget_if_ended(job);
        });
        Ok(ReceiverStream::new(stream))
    }
}

struct Watcher {
    changed: signal::Receiver<Change>,
    contact: signal::Receiver<bool>,
    /// Whose contact that is.
    agent: AgentId,
    out: mpsc::Sender<Result<v1::WatchJobResponse, Status>>,
    after: u64,
    no_follow: bool,
    told: Option<v1::Job>,
    sample: Option<v1::Sample>,
}

/// Why a watcher ends before its job.
enum End {
    /// The reader has gone, or takes nothing.
    Gone,
    /// Something to tell the reader.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Watcher {
    async fn run(mut self, jobs: &Jobs, row: JobRow) {
        let stop = jobs.stop.clone();
        let out = self.out.clone();
        let ended = tokio::select! {
            ended = self.follow(jobs, row) => ended,
            () = stop.cancelled() => {
                Err(Refusal::new(Code::Busy, "the controller is shutting down: watch again in a moment").into())
            }
            () = out.closed() => Err(End::Gone),
        };
        if let Err(End::Refused(refusal)) = ended {
            // A reader that takes nothing will see the end of the connection instead.
            let _ = out.send_timeout(Err(refusal.into()), FAREWELL).await;
        }
    }

    async fn follow(&mut self, jobs: &Jobs, row: JobRow) -> Result<(), End> {
        let expected = jobs.expected(&row.site).await;
        let describe = |row: &JobRow| v1::Job { expected: expected.clone(), ..jobs.describe(row) };
        self.tell_job(describe(&row)).await?;
        let job = row.id;
        loop {
            self.changed.borrow_and_update();
            self.contact.borrow_and_update();
            self.tell_events(jobs, job).await?;
            let row = jobs.store.job(job).await.map_err(Refusal::from)?;
            let Some(row) = row else { return Ok(()) };
            if row.agent != self.agent {
                self.contact = jobs.agents.watch(&row.agent);
                self.agent.clone_from(&row.agent);
            }
            let over = row.finished() && self.after >= row.progress.last_seq;
            self.tell_job(describe(&row)).await?;
            self.tell_sample().await?;
            if over || self.no_follow {
                return Ok(());
            }
            if self.after < row.progress.last_seq {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => changed.map_err(|_| End::Gone)?,
                changed = self.contact.changed() => changed.map_err(|_| End::Gone)?,
            }
        }
    }

    async fn tell_events(&mut self, jobs: &Jobs, job: gantry_proto::JobId) -> Result<(), End> {
        loop {
            let page = jobs.store.events(job, self.after, PAGE).await.map_err(Refusal::from)?;
            let last = page.len() < PAGE as usize;
            for event in page {
                self.after = event.seq;
                self.tell(Item::Event(event)).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Tells the job when something has changed that no event says.
    async fn tell_job(&mut self, job: v1::Job) -> Result<(), End> {
        let facts = |job: &v1::Job| {
            let words = (job.agent_id.clone(), job.refusal.clone(), job.moving_to.clone());
            let answered = job.question.as_ref().is_some_and(|question| question.answered);
            (job.state, job.cancel, job.agent_in_contact, job.epoch, words, answered)
        };
        if self.told.as_ref().is_some_and(|told| facts(told) == facts(&job)) {
            return Ok(());
        }
        self.told = Some(job.clone());
        self.tell(Item::Job(job)).await
    }

    async fn tell_sample(&mut self) -> Result<(), End> {
        let sample = self.changed.borrow().sample.clone();
        if sample.is_none() || sample == self.sample {
            return Ok(());
        }
        self.sample.clone_from(&sample);
        match sample {
            Some(sample) => self.tell(Item::Sample(sample)).await,
            None => Ok(()),
        }
    }

    async fn tell(&self, item: Item) -> Result<(), End> {
        let sent = self.out.send_timeout(Ok(v1::WatchJobResponse { item: Some(item) }), STALLED).await;
        sent.map_err(|_| End::Gone)
    }
}
