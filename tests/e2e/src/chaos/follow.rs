//! Follows the job as `ctl watch` does, through everything: from the last event that it has, as often as the stream breaks.
//! What it is told must be the log: every event once, in order.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gantry_proto::{JobId, v1};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tonic::transport::Channel;
use v1::{job_service_client::JobServiceClient, watch_job_response::Item};

/// Before a broken stream is opened again.
const PAUSE: Duration = Duration::from_millis(5);

/// What the follower knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The last event.
    pub(super) last_seq: u64,
    /// The job as it was told last.
    pub(super) job: Option<v1::Job>,
    /// The event that says that the job is held, as long as none says that it goes on.
    pub(super) held_by: Option<u64>,
    /// The event that asks, as long as none says that it is answered.
    pub(super) asked_by: Option<u64>,
    /// The stream has ended with the job.
    pub(super) ended: bool,
    /// What must not be.
    pub(super) broken: Option<String>,
}

/// Follows one job.
pub(super) struct Follower {
    client: JobServiceClient<Channel>,
    job: JobId,
    events: Arc<Mutex<Vec<v1::Event>>>,
    seen: watch::Receiver<Seen>,
    /// Its one task, which ends with it.
    _task: JoinSet<()>,
}

impl Follower {
    /// Follows from the beginning.
    pub(super) fn start(client: JobServiceClient<Channel>, job: JobId) -> Self {
        Self::after(client, job, Arc::default())
    }

    /// Follows on, when the job that had ended has been taken up again.
    pub(super) fn go_on(&mut self) {
        *self = Self::after(self.client.clone(), self.job, self.events.clone());
    }

    fn after(client: JobServiceClient<Channel>, job: JobId, events: Arc<Mutex<Vec<v1::Event>>>) -> Self {
        let last_seq = lock(&events).last().map_or(0, |event| event.seq);
        let (say, seen) = watch::channel(Seen { last_seq, ..Seen::default() });
        let mut task = JoinSet::new();
        task.spawn(follow(client.clone(), job, events.clone(), say));
        Self { client, job, events, seen, _task: task }
    }

    /// What it knows now.
    pub(super) fn seen(&mut self) -> Seen {
        self.seen.borrow_and_update().clone()
    }

    /// Waits for something new.
    pub(super) async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            // It has ended: nothing new will come.
            std::future::pending::<()>().await;
        }
    }

    /// Every event that it was told.
    pub(super) fn events(&self) -> Vec<v1::Event> {
        lock(&self.events).clone()
    }
}

async fn follow(
    mut client: JobServiceClient<Channel>,
    job: JobId,
    events: Arc<Mutex<Vec<v1::Event>>>,
    say: watch::Sender<Seen>,
) {
    loop {
        let after_seq = say.borrow().last_seq;
        let request = v1::WatchJobRequest { job_id: job.to_string(), after_seq, no_follow: false };
        if let Ok(answer) = client.watch_job(request).await {
            let mut stream = answer.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(answer)) => take(answer, &events, &say),
                    Ok(None) if is_over(&say.borrow()) => {
                        say.send_modify(|seen| seen.ended = true);
                        return;
                    }
                    // A controller that shuts down may not come to say why.
                    Ok(None) => break,
                    Err(_) => break,
                }
                if say.borrow().broken.is_some() {
                    return;
                }
            }
        }
        sleep(PAUSE).await;
    }
}

fn is_over(seen: &Seen) -> bool {
    seen.job.as_ref().is_some_and(|job| super::run::is_over(job.state()))
}

fn take(answer: v1::WatchJobResponse, events: &Mutex<Vec<v1::Event>>, say: &watch::Sender<Seen>) {
    match answer.item {
        Some(Item::Event(event)) => say.send_modify(|seen| {
            if event.seq == seen.last_seq + 1 {
                seen.last_seq = event.seq;
                match event.body {
                    Some(v1::event::Body::Paused(_)) => seen.held_by = Some(event.seq),
                    Some(v1::event::Body::Resumed(_)) => seen.held_by = None,
                    Some(v1::event::Body::OperatorNeeded(_)) => seen.asked_by = Some(event.seq),
                    Some(v1::event::Body::OperatorDecided(_)) => seen.asked_by = None,
                    _ => {}
                }
                lock(events).push(event);
            } else {
                seen.broken = Some(format!("the watch told event {} after event {}", event.seq, seen.last_seq));
            }
        }),
        Some(Item::Job(job)) => say.send_modify(|seen| seen.job = Some(job)),
        Some(Item::Sample(_)) | None => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
