//! Follows one job through bad lines: events in order, without gap or repetition. Knows no terminal.

use std::time::Duration;

use gantry_proto::{
    Body, Event, JobId, JobOutcome, JobView, Sample, TakenOver,
    ended::{self, is_final},
    eta::{self, Eta, Expected},
    v1::{self, JobState, watch_job_response::Item},
};
use jiff::Timestamp;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::{
    client::{Client, Lost, pauses},
    exit::{Exit, Failure},
    language::Said,
    refusal,
};

/// How often a stream may skip a number before that is taken for the state of the log and not of the line.
const GAPS_ALLOWED: u32 = 3;

/// What is heard next.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The job, or something about it that is no event, has changed.
    Job(Box<v1::Job>),
    /// The next event.
    Event(Box<Event>),
    /// The newest progress.
    Sample(Box<Sample>),
    /// The line is broken; it will be tried again after the pause.
    Broken {
        /// Why, in plain words.
        why: Said,
        /// How many times it has been tried since it broke.
        tries: u32,
        /// When it is tried next.
        pause: Duration,
    },
    /// The line is back; events go on after this number.
    Back(u64),
    /// The job has ended, or the controller has no more to say about it now.
    End,
}

/// What is known so far: every screen reads this.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The fold of all events.
    pub(crate) view: JobView,
    /// The job as the controller knows it.
    pub(crate) job: Option<v1::Job>,
    /// The agent that does the work, from the log.
    pub(crate) agent: Option<String>,
    /// From which agent the job was moved last, from the log.
    pub(crate) taken_over: Option<TakenOver>,
    /// What the steps have taken in other jobs.
    pub(crate) expected: Expected,
}

impl Known {
    /// Takes in what was heard.
    pub(crate) fn take(&mut self, heard: &Heard) {
        match heard {
            Heard::Job(job) => {
                if !job.expected.is_empty() {
                    self.expected = eta::expected(&job.expected);
                }
                self.job = Some((**job).clone());
            }
            Heard::Event(event) => {
                if let Body::JobStarted { agent, taken_over, .. } = &event.body {
                    self.agent = Some(agent.to_string());
                    self.taken_over = taken_over.clone().or_else(|| self.taken_over.take());
                }
                self.view.apply(event);
            }
            Heard::Sample(sample) => self.view.sample(sample),
            Heard::Broken { .. } | Heard::Back(_) | Heard::End => {}
        }
    }

    /// How long is left, as far as it can be told.
    pub(crate) fn eta(&self, now: Timestamp) -> Option<Eta> {
        self.view.eta(&self.expected, now)
    }

    /// What the job cannot decide, as the controller or else the log tells it; `None` unless it waits.
    pub(crate) fn question(&self) -> Option<v1::OperatorQuestion> {
        let job = self.job.as_ref()?;
        if job.state() != JobState::NeedsOperator {
            return None;
        }
        job.question.clone().or_else(|| {
            let asked = self.view.question.as_ref()?;
            Some(v1::OperatorQuestion {
                seq: asked.seq,
                step: asked.step.to_string(),
                failure: Some((&asked.failure).into()),
                choices: asked.choices.iter().cloned().map(Into::into).collect(),
                answered: false,
            })
        })
    }

    /// Whether it waits for an operator to decide: not when that has been done and the agent is about to hear of it.
    pub(crate) fn needs_operator(&self) -> bool {
        let Some(job) = self.job.as_ref().filter(|job| job.state() == JobState::NeedsOperator) else { return false };
        let answered = job.question.as_ref().is_some_and(|question| question.answered);
        !answered && job.cancel() == v1::CancelStage::Unspecified && job.moving_to.is_empty()
    }

    /// Whether nothing more will happen. The log may end with the last event of an older epoch of a job that was
    /// retried, so the log alone does not tell.
    pub(crate) fn has_ended(&self) -> bool {
        ended::has_ended(&self.view, self.job.as_ref())
    }

    /// Whether every event that there will be has been heard. A job that ended long ago still has its whole log to tell.
    pub(crate) fn is_told(&self) -> bool {
        self.has_ended() && self.job.as_ref().is_none_or(|job| self.view.last_seq >= job.last_seq)
    }
}

/// One job being followed.
pub(crate) struct Follow {
    client: Client,
    job: JobId,
    after: u64,
    follow: bool,
    stream: Option<Streaming<v1::WatchJobResponse>>,
    broken: Option<Broken>,
    gaps: u32,
    last: LastEvent,
}

/// What is needed to know the end when it comes.
#[derive(Default)]
struct LastEvent {
    job_last_seq: u64,
    job_epoch: u32,
    epoch: u32,
    job_ended: bool,
    outcome: Option<JobOutcome>,
}

struct Broken {
    tries: u32,
    again: Instant,
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Follow {
    /// Opens the stream. The first failure is an answer; later ones are bad weather.
    pub(crate) async fn open(client: &Client, job: JobId, after: u64, follow: bool) -> Result<Self, Failure> {
        let mut all = Self { follow, ..Self::later(client, job, after) };
        all.stream = Some(client.watch(all.request()).await?);
        Ok(all)
    }

    /// The same to the job's end, opened by the first [`Follow::next`]: a line that is broken then is bad weather too.
    pub(crate) fn later(client: &Client, job: JobId, after: u64) -> Self {
        let (client, last) = (client.clone(), LastEvent::default());
        Self { client, job, after, follow: true, stream: None, broken: None, gaps: 0, last }
    }

    /// What is heard next. May be dropped while it waits and asked again: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            if self.stream.is_none()
                && let Some(heard) = self.reopen().await?
            {
                return Ok(heard);
            }
            let Some(stream) = &mut self.stream else { continue };
            match stream.message().await {
                Ok(Some(answer)) => {
                    if let Some(heard) = self.understand(answer)? {
                        return Ok(heard);
                    }
                }
                Ok(None) if self.is_over() => return Ok(Heard::End),
                Ok(None) => return Ok(self.break_off(said!("the controller ended the stream", "控制器结束了事件流"))),
                // A finished job has nothing more to say; no need to hear the line's good-bye.
                Err(_) if self.is_over() && self.follow => return Ok(Heard::End),
                Err(status) => {
                    let what = &said!("following the job", "跟踪作业");
                    if !refusal::is_lost(&status) {
                        return Err(refusal::refused(self.client.url(), what, &status));
                    }
                    return Ok(self.break_off(words(refusal::lost(self.client.url(), what, &status))));
                }
            }
        }
    }

    fn request(&self) -> v1::WatchJobRequest {
        v1::WatchJobRequest { job_id: self.job.to_string(), after_seq: self.after, no_follow: !self.follow }
    }

    fn is_over(&self) -> bool {
        let newest = self.last.epoch >= self.last.job_epoch;
        let told = self.last.outcome.is_some() && newest && self.after >= self.last.job_last_seq;
        !self.follow || self.last.job_ended || told
    }

    fn understand(&mut self, answer: v1::WatchJobResponse) -> Result<Option<Heard>, Failure> {
        match answer.item {
            Some(Item::Job(job)) => {
                self.last.job_last_seq = job.last_seq;
                self.last.job_epoch = job.epoch;
                // Events up to `last_seq` are still to come, so the state alone is not the end.
                self.last.job_ended = is_final(job.state()) && self.after >= job.last_seq;
                Ok(Some(Heard::Job(Box::new(job))))
            }
            Some(Item::Event(event)) => self.event(event),
            Some(Item::Sample(sample)) => Ok(Sample::try_from(sample).ok().map(|s| Heard::Sample(Box::new(s)))),
            None => Ok(None),
        }
    }

    fn event(&mut self, event: v1::Event) -> Result<Option<Heard>, Failure> {
        let (seq, epoch) = (event.seq, event.epoch);
        if seq <= self.after {
            return Ok(None);
        }
        if seq != self.after + 1 {
            return self.gap(seq);
        }
        self.gaps = 0;
        self.after = seq;
        self.last.epoch = epoch;
        let unreadable = |_| Event { seq, epoch, at: Timestamp::UNIX_EPOCH, body: Body::Unknown };
        let event = Event::try_from(event).unwrap_or_else(unreadable);
        match &event.body {
            Body::JobFinished { outcome, .. } => self.last.outcome = Some(*outcome),
            Body::JobStarted { .. } => self.last.outcome = None,
            _ => {}
        }
        Ok(Some(Heard::Event(Box::new(event))))
    }

    /// A number was skipped: the events between are asked for again.
    fn gap(&mut self, seq: u64) -> Result<Option<Heard>, Failure> {
        self.gaps += 1;
        if self.gaps > GAPS_ALLOWED {
            let next = self.after + 1;
            let missing = said!("event {next} is missing, event {seq} follows", "缺少事件 {next}，其后是事件 {seq}");
            return Err(Failure::new(
                Exit::Internal,
                said!("the controller's log of job {id} has a gap", "控制器上作业 {id} 的日志有缺口"; id = self.job),
            )
            .because(missing)
            .remedy(said!("look into the controller's log", "请查看控制器日志")));
        }
        Ok(Some(self.break_off(said!("event {next} did not arrive", "事件 {next} 未到达"; next = self.after + 1))))
    }

    fn break_off(&mut self, why: Said) -> Heard {
        self.stream = None;
        let mut pauses: Box<dyn Iterator<Item = Duration> + Send> = Box::new(pauses());
        let pause = pauses.next().unwrap_or_default();
        self.broken = Some(Broken { tries: 0, again: Instant::now() + pause, pauses });
        Heard::Broken { why, tries: 0, pause }
    }

    /// Waits for the pause to end and tries once.
    async fn reopen(&mut self) -> Result<Option<Heard>, Failure> {
        if let Some(broken) = &self.broken {
            tokio::time::sleep_until(broken.again).await;
        }
        match self.client.watch(self.request()).await {
            Ok(stream) => {
                self.stream = Some(stream);
                Ok(self.broken.take().map(|_| Heard::Back(self.after)))
            }
            Err(Lost::No(failure)) => Err(failure),
            Err(Lost::Maybe(failure)) => {
                let Some(broken) = &mut self.broken else { return Ok(Some(self.break_off(words(failure)))) };
                let pause = broken.pauses.next().unwrap_or_default();
                broken.tries += 1;
                broken.again = Instant::now() + pause;
                Ok(Some(Heard::Broken { why: words(failure), tries: broken.tries, pause }))
            }
        }
    }
}

/// Every event of a job as its log is now.
pub(crate) async fn events(client: &Client, job: JobId) -> Result<Vec<Event>, Failure> {
    Ok(log(client, job).await?.0)
}

/// Reads the whole log as it is now.
pub(crate) async fn read(client: &Client, job: JobId) -> Result<Known, Failure> {
    let mut known = Known::default();
    hear_all(client, job, |heard| known.take(&heard)).await?;
    Ok(known)
}

/// Every event of a job as its log is now, and what is known from them.
pub(crate) async fn log(client: &Client, job: JobId) -> Result<(Vec<Event>, Known), Failure> {
    let (mut events, mut known) = (Vec::new(), Known::default());
    hear_all(client, job, |heard| {
        known.take(&heard);
        if let Heard::Event(event) = heard {
            events.push(*event);
        }
    })
    .await?;
    Ok((events, known))
}

async fn hear_all(client: &Client, job: JobId, mut take: impl FnMut(Heard)) -> Result<(), Failure> {
    let mut follow = Follow::open(client, job, 0, false).await?;
    loop {
        match follow.next().await? {
            Heard::End => return Ok(()),
            Heard::Broken { why, tries, .. } if tries >= 3 => {
                return Err(refusal::lost(
                    client.url(),
                    &said!("reading the job's log", "读取作业日志"),
                    &Status::unavailable(why.text()),
                ));
            }
            heard => take(heard),
        }
    }
}

/// The innermost reason of a failure: the sentence around it is known to the reader.
pub(crate) fn words(failure: Failure) -> Said {
    match failure {
        Failure::Story(story) => {
            let told = story.causes.iter().rev().find(|cause| !cause.english().is_empty());
            told.unwrap_or(&story.message).clone()
        }
        Failure::Told(_) => said!("no answer", "没有答复"),
    }
}
