//! What is to be said next, the most urgent first. Events come from the journals page by page; a bounded number may be
//! unacknowledged on the line.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use gantry_proto::{JobId, Sample, trace::TraceContext, v1};
use jiff::Timestamp;
use tokio::time::Instant;
use v1::open_request::Item;

use crate::{
    config,
    journal::{EventReader, Journal, Tail},
    runner::Runner,
};

/// Updates of orders that wait for the line, at most: a controller that sends orders and does not listen gets the newest,
/// and the others when it sends those orders again.
const UPDATES_MAX: usize = 1_000;

/// What the agent has to say.
pub(super) struct Outbox {
    runner: Arc<Runner>,
    limits: config::Link,
    jobs: BTreeMap<JobId, Sending>,
    /// Jobs in the order in which they get their turn.
    turn: VecDeque<JobId>,
    updates: VecDeque<v1::OrderUpdate>,
    isos: Option<Vec<v1::IsoFile>>,
    renew: Option<v1::RenewRequest>,
    survey: Option<v1::SurveyReport>,
    beat: Duration,
    next_beat: Instant,
    beats: u64,
    next_samples: Instant,
    samples: VecDeque<Sample>,
    /// Time of the last progress that was told, by job.
    told: BTreeMap<JobId, Timestamp>,
}

/// One job on the line.
struct Sending {
    reader: EventReader,
    /// The job's own: what the controller does with its events belongs to the same trace.
    trace: TraceContext,
    acked: u64,
}

impl Sending {
    fn last_seq(&self) -> u64 {
        self.reader.journal().tail().last_seq
    }
}

impl Outbox {
    pub(super) fn new(runner: Arc<Runner>, limits: config::Link, beat: Duration) -> Self {
        let now = Instant::now();
        Self {
            runner,
            limits,
            jobs: BTreeMap::new(),
            turn: VecDeque::new(),
            updates: VecDeque::new(),
            isos: None,
            renew: None,
            survey: None,
            beat,
            next_beat: now + beat,
            beats: 0,
            next_samples: now,
            samples: VecDeque::new(),
            told: BTreeMap::new(),
        }
    }

    /// Sends a job's events after `stored`.
    pub(super) fn replay(&mut self, job: JobId, stored: u64) {
        let Some(journal) = self.journal(job) else { return };
        let Tail { last_seq: last, surrendered, before, .. } = journal.tail();
        if stored > last && surrendered {
            // Another agent has told what came after.
            return;
        }
        if stored > last || stored < before {
            tracing::error!(%job, stored, last, before, "the events between this agent's journal and what the controller \
                has are lost; the job's events are not sent: was one of them restored from a copy?");
            return;
        }
        self.send(job, &journal, stored);
    }

    /// Sends a job of this session: the controller has nothing of it yet but what another agent has told.
    pub(super) fn begin(&mut self, job: JobId) {
        if let Some(journal) = self.journal(job) {
            self.send(job, &journal, journal.tail().before);
        }
    }

    /// Whether this job's events are being sent.
    pub(super) fn sends(&self, job: JobId) -> bool {
        let journal = self.journal(job);
        // One that the agent has got back has a new journal.
        let same = |sending: &Sending| journal.is_some_and(|journal| Arc::ptr_eq(sending.reader.journal(), &journal));
        self.jobs.get(&job).is_some_and(same)
    }

    fn send(&mut self, job: JobId, journal: &Arc<Journal>, stored: u64) {
        let (reader, trace) = (journal.events_after(stored), self.runner.trace(job));
        if self.jobs.insert(job, Sending { reader, trace, acked: stored }).is_none() {
            self.turn.push_back(job);
        }
    }

    /// The journal of a job, unless another agent has it: of that one nobody wants to hear.
    fn journal(&self, job: JobId) -> Option<Arc<Journal>> {
        let mut journals = self.runner.journals().into_iter();
        let (_, journal) = journals.find(|(id, journal)| *id == job && !journal.tail().moved)?;
        Some(journal)
    }

    pub(super) fn acked(&mut self, job: JobId, seq: u64) -> Result<(), String> {
        let Some(sending) = self.jobs.get_mut(&job) else { return Ok(()) };
        if seq > sending.last_seq() {
            return Err(format!("event {seq} of job {job} is acknowledged, which does not exist"));
        }
        sending.acked = sending.acked.max(seq);
        Ok(())
    }

    pub(super) fn update(&mut self, update: v1::OrderUpdate) {
        self.updates.push_back(update);
        while self.updates.len() > UPDATES_MAX {
            self.updates.pop_front();
        }
    }

    pub(super) fn isos(&mut self, isos: Vec<v1::IsoFile>) {
        self.isos = Some(isos);
    }

    pub(super) fn renew(&mut self, request: v1::RenewRequest) {
        self.renew = Some(request);
    }

    /// Looks for what is new at the runner.
    pub(super) fn refresh(&mut self) {
        self.runner.take_updates().into_iter().for_each(|update| self.update(update));
        if self.survey.is_none() {
            self.survey = self.runner.take_survey_report();
        }
        if Instant::now() < self.next_samples {
            return;
        }
        self.next_samples = Instant::now() + Duration::from_millis(self.limits.sample_every_ms);
        let told = &mut self.told;
        let new =
            self.runner.samples().into_iter().filter(|sample| told.insert(sample.job, sample.at) != Some(sample.at));
        self.samples = new.collect();
    }

    /// When there may be something to say without anybody calling.
    pub(super) fn next_look(&self) -> Instant {
        self.next_beat.min(self.next_samples)
    }

    /// Whether there is something to say now.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next_beat
            || self.update_due()
            || self.isos.is_some()
            || self.renew.is_some()
            || self.survey.is_some()
            || !self.samples.is_empty()
            || (self.room() > 0 && self.has_events())
    }

    /// The most urgent thing, in the trace that it belongs to.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<v1::OpenRequest>> {
        if Instant::now() >= self.next_beat {
            self.next_beat = Instant::now() + self.beat;
            self.beats += 1;
            return Ok(Some(message(Item::Heartbeat(v1::Heartbeat { number: self.beats }), None)));
        }
        if self.update_due() {
            return Ok(self.updates.pop_front().map(|update| message(Item::OrderUpdate(update), None)));
        }
        if let Some(request) = self.renew.take() {
            return Ok(Some(message(Item::Renew(request), None)));
        }
        if let Some(report) = self.survey.take() {
            return Ok(Some(message(Item::Survey(report), None)));
        }
        if let Some(events) = self.events().await? {
            return Ok(Some(events));
        }
        if let Some(sample) = self.samples.pop_front() {
            return Ok(Some(message(Item::Sample((&sample).into()), None)));
        }
        Ok(self.isos.take().map(|isos| message(Item::Isos(v1::IsoList { isos }), None)))
    }

    /// A batch of the next job in turn that has something.
    async fn events(&mut self) -> std::io::Result<Option<v1::OpenRequest>> {
        let most = self.room().min(self.limits.batch_events.max(1));
        if most == 0 {
            return Ok(None);
        }
        for _ in 0..self.turn.len() {
            let Some(job) = self.turn.pop_front() else { break };
            self.turn.push_back(job);
            let Some(sending) = self.jobs.get_mut(&job).filter(|sending| sending.reader.has_more()) else { continue };
            let events = sending.reader.page(most, self.limits.batch_bytes.max(1)).await?;
            if !events.is_empty() {
                let events = events.iter().map(Into::into).collect();
                let batch = v1::EventBatch { job_id: job.to_string(), events };
                return Ok(Some(message(Item::Events(batch), Some(&sending.trace))));
            }
        }
        Ok(None)
    }

    /// An order is done only when all that came of it has been said.
    fn update_due(&self) -> bool {
        let front = self.updates.front();
        front.is_some_and(|update| update.stage() != v1::OrderStage::Done || !self.has_events())
    }

    fn has_events(&self) -> bool {
        self.jobs.values().any(|job| job.reader.has_more())
    }

    /// How many more events may be on the line.
    fn room(&self) -> usize {
        let open: u64 = self.jobs.values().map(|job| job.reader.seq().saturating_sub(job.acked)).sum();
        self.limits.window_events.max(1).saturating_sub(usize::try_from(open).unwrap_or(usize::MAX))
    }
}

/// A message; without a trace of its own in that of the current span.
pub(super) fn message(item: Item, trace: Option<&TraceContext>) -> v1::OpenRequest {
    let trace = trace.cloned().unwrap_or_else(gantry_telemetry::inject);
    v1::OpenRequest { item: Some(item), trace: trace.into_iter().collect() }
}
