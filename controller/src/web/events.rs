//! A job as it goes on, as server-sent events: the events of its log with their numbers, progress, and what all of it adds
//! up to. A browser that lost the line says the last number it has seen and goes on behind it.
//!
//! The fold is made here, by the one `JobView`, from the first event on: so a browser needs none, and one that comes back
//! in the middle sees the same.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{Path, Query, State},
    http::request::Parts,
    response::{
        IntoResponse as _, Response,
        sse::{Event as Line, KeepAlive, Sse},
    },
};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use gantry_proto::{
    Event, JobView, Sample,
    eta::{self, Expected},
    told,
    v1::{self, job_service_server::JobService as _, watch_job_response::Item},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Status;

use super::{Web, answer::Refused, words};
use crate::jobs::{Jobs, Speed, WatchStream};

const WATCH: &str = "/gantry.v1.JobService/WatchJob";
/// When a browser comes back that has lost the line, milliseconds.
const COME_BACK_MS: u64 = 1_000;

#[derive(Deserialize)]
pub(super) struct Behind {
    /// Only events with a higher number; the header of a browser that comes back wins.
    after: Option<u64>,
}

pub(super) async fn follow(
    State(web): State<Arc<Web>>,
    Path(job_id): Path<String>,
    Query(behind): Query<Behind>,
    parts: Parts,
) -> Result<Response, Refused> {
    let guest = web.admit(&parts, WATCH).await?;
    let last = parts.headers.get("last-event-id").and_then(|seq| seq.to_str().ok()?.trim().parse().ok());
    let after = last.or(behind.after).unwrap_or(0);
    let wish = v1::WatchJobRequest { job_id, after_seq: 0, no_follow: false };
    let stream = web.operators.watch_job(guest.request(wish)).await?.into_inner();
    let feed = Feed {
        jobs: web.operators.jobs.clone(),
        speeds: None,
        stream,
        after,
        known: 0,
        view: JobView::default(),
        expected: Expected::new(),
        untold: false,
        first: true,
        begun: false,
        over: false,
    };
    let lines = stream::unfold(feed, |mut feed| async { Some((Ok::<_, Infallible>(feed.next().await?), feed)) });
    let lines = lines.take_until(guest.shut_out());
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(web.heartbeat)).into_response())
}

/// What one browser hears.
struct Feed {
    jobs: Arc<Jobs>,
    /// The curve up to now, to be told next.
    speeds: Option<Vec<Speed>>,
    stream: WatchStream,
    /// The browser has the events up to this one.
    after: u64,
    /// The events that were there at the beginning: no view is told that is older.
    known: u64,
    view: JobView,
    /// What the steps have taken in other jobs.
    expected: Expected,
    /// The view has changed since it was told.
    untold: bool,
    first: bool,
    /// The job has been told.
    begun: bool,
    over: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Line> {
        let line = self.line().await?;
        // How soon to come back is told once.
        Some(if std::mem::take(&mut self.first) {
            line.retry(std::time::Duration::from_millis(COME_BACK_MS))
        } else {
            line
        })
    }

    async fn line(&mut self) -> Option<Line> {
        if let Some(speeds) = self.speeds.take() {
            return Some(line("speeds", &words::speeds(&speeds)));
        }
        while !self.over {
            let ready = if self.untold && self.view.last_seq >= self.known {
                match self.stream.next().now_or_never() {
                    Some(item) => item,
                    // Nothing more for now: what has come until here is told as one.
                    None => return Some(self.tell_view()),
                }
            } else {
                self.stream.next().await
            };
            match ready {
                None if self.untold => return Some(self.tell_view()),
                None => {
                    self.over = true;
                    return Some(line("end", &Value::Null));
                }
                Some(Err(status)) => {
                    self.over = true;
                    return Some(broken(&status));
                }
                Some(Ok(response)) => {
                    if let Some(line) = response.item.and_then(|item| self.take(item)) {
                        return Some(line);
                    }
                }
            }
        }
        None
    }

    fn take(&mut self, item: Item) -> Option<Line> {
        match item {
            Item::Job(job) => {
                if !self.begun {
                    // Before the samples that come from here on.
                    self.begun = true;
                    self.speeds =
                        job.job_id.parse().ok().map(|job| self.jobs.speeds(job)).filter(|all| !all.is_empty());
                }
                self.known = self.known.max(job.last_seq);
                self.expected = eta::expected(&job.expected);
                Some(line("job", &told::job(&job)))
            }
            Item::Event(event) => {
                // Only a time beyond all times cannot be read, and no agent of ours tells one.
                let event = Event::try_from(event).ok()?;
                self.view.apply(&event);
                self.untold = true;
                (event.seq > self.after).then(|| line("event", &words::event(&event)).id(event.seq.to_string()))
            }
            Item::Sample(sample) => {
                let sample = Sample::try_from(sample).ok()?;
                self.view.sample(&sample);
                self.untold = true;
                Some(line("sample", &json!(sample)))
            }
        }
    }

    fn tell_view(&mut self) -> Line {
        self.untold = false;
        line("view", &words::view(&self.view, &self.expected, Timestamp::now()))
    }
}

/// The stream ends although the job has not.
fn broken(status: &Status) -> Line {
    line("broken", &json!({ "message": status.message() }))
}

fn line(name: &str, value: &Value) -> Line {
    Line::default().event(name).data(value.to_string())
}
