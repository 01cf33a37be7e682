//! The loop that fills a volume: which chunk goes into which slot, what an answer means, retries, what is journaled and
//! told, cancel and pause (`flow.md` 2.2). Decides nothing about volumes, and touches no byte: that is the slots' work.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gantry_proto::{Failure, Level};
use serde_json::json;
use tokio::time::Instant;
use tracing::Span;

use super::{
    chunks::Chunks,
    crew::Crew,
    filled::{Broken, Filled},
    meter::{Meter, Position, human},
    reader::Source,
    slot::{Order, Outcome, Sent, Shared},
    tuning::Tuning,
    width::Width,
};
use crate::{
    facts::ImageFact,
    fisheye::{ChunkAck, ChunkAddress, ChunkOutcome, ChunkRequest, Error, ErrorKind, Line, Stale, WireError, backoff},
    joblog::Chunk,
    metrics::metrics,
    step::{Progress, StepCx, StepError},
    steps::story,
    tls::hex,
};

/// How often progress is told while chunks are on their way.
const TICK: Duration = Duration::from_millis(500);
/// As slow as this a server may take what lies in the buffers between us before it is given up: bytes per second.
const SLOWEST: f64 = 16_384.0;
/// Bytes that the buffers of both systems may hold.
const BUFFERED: u64 = 4 << 20;
/// How much slower than the chunk before a server may become before it is given up.
const SLOWER: f64 = 8.0;
/// How long a chunk that is on its way may go on after a pause was asked for.
const PAUSE_GRACE: Duration = Duration::from_secs(1);

/// One volume being filled.
pub struct Upload<'a> {
    pub cx: &'a StepCx,
    pub source: &'a Source,
    pub image: &'a mut ImageFact,
    pub chunks: Chunks,
    /// SHA-256 of each chunk, as the inventory has them.
    pub expected: Option<Vec<[u8; 32]>>,
    /// File name of the form's part.
    pub file_name: &'a str,
}

/// What is known while sending.
struct Run<'a> {
    begin: Instant,
    crew: Crew,
    width: Width,
    /// Bytes a second at most; 0: no limit.
    limit: u64,
    /// Requests, and connections for them, that are being made.
    preparing: FuturesUnordered<BoxFuture<'a, Prepared>>,
    flying: BTreeMap<u64, Flight>,
    /// Chunks that failed, and when they may go again.
    waiting: BTreeMap<u64, Instant>,
    tries: BTreeMap<u64, Tries>,
    meter: Meter,
    /// Bytes per second of the newest chunk that was acknowledged.
    rate: Option<f64>,
    /// Since when the upload is to pause.
    paused: Option<Instant>,
    /// Nothing on its way moves.
    is_frozen: bool,
    filled: Filled,
}

/// A chunk that has a slot.
struct Flight {
    span: Span,
    begin: Instant,
    /// Others were in flight when it went.
    had_company: bool,
}

/// What was tried of one chunk.
struct Tries {
    attempt: usize,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
    /// The token of this attempt was refused, and another one asked for.
    logged_out: bool,
    stale: Option<Stale>,
}

/// A chunk that is ready to go.
struct Prepared {
    slot: usize,
    index: u64,
    ready: Result<(Option<Line>, String, ChunkRequest), Error>,
}

impl<'a> Upload<'a> {
    /// Sends what is still to be sent. Then every chunk is acknowledged; whether the image is complete is for the image
    /// list to say.
    pub async fn send(&mut self) -> Result<Filled, Broken> {
        let settings = &self.cx.settings;
        let shared = Shared::new(self.source.clone(), settings, self.cx.cancel.child_token());
        let tuning = self.cx.log.tuning().borrow().clone();
        let mut run = Run {
            begin: Instant::now(),
            crew: Crew::new(Arc::new(shared)),
            width: Width::new(settings.upload.in_flight_max, None),
            limit: 0,
            preparing: FuturesUnordered::new(),
            flying: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tries: BTreeMap::new(),
            meter: Meter::default(),
            rate: None,
            paused: None,
            is_frozen: false,
            filled: Filled::default(),
        };
        self.tune(&mut run, tuning);
        let outcome = self.fill(&mut run).await;
        let taken = run.crew.shared().taken.load(Ordering::Relaxed);
        run.filled.wall = run.begin.elapsed();
        let (slots, late) = run.crew.dismiss(run.filled.wall).await;
        run.filled.slots = slots;
        if outcome.is_err() {
            self.take_late(&mut run, late).await;
        }
        let mut filled = run.filled;
        filled.resent_bytes = taken.saturating_sub(filled.sent_bytes);
        filled.sent_bytes = taken;
        outcome?;
        let source = self.source.clone();
        let unchanged = tokio::task::spawn_blocking(move || source.is_unchanged()).await.unwrap_or(false);
        if unchanged { Ok(filled) } else { Err(Broken::Source(Box::new(changed(self.file_name)))) }
    }

    async fn fill(&mut self, run: &mut Run<'a>) -> Result<(), Broken> {
        let mut tuned = self.cx.log.tuning();
        let mut tick = tokio::time::interval(TICK);
        tick.reset();
        self.tell(run);
        loop {
            self.begin(run).await?;
            // A pause is no reason to wait when everything is through.
            let idle = run.flying.is_empty() && run.waiting.is_empty();
            if idle && (run.paused.is_none() || self.chunks.is_over()) {
                return Ok(());
            }
            let next = run.next_moment(self.cx.log.wants_hold());
            tokio::select! {
                biased;
                () = self.cx.cancel.cancelled() => return Err(Broken::Step(self.cx.log.why_stopped())),
                Some(sent) = run.crew.next() => self.settle(run, sent).await?,
                Some(prepared) = some(&mut run.preparing) => self.give(run, prepared).await?,
                // The sender lives as long as the log.
                _ = tuned.changed() => {
                    let newest = tuned.borrow_and_update().clone();
                    let message = format!("{} wants the upload so: {newest}", newest.by);
                    let extra = story::fields(serde_json::to_value(&newest).unwrap_or_default());
                    self.tune(run, newest);
                    self.cx.note(Level::Info, "upload_tuned", message, extra).await?;
                }
                _ = tick.tick() => self.tell(run),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => run.freeze(),
            }
        }
    }

    /// An operator's wishes take effect: for what is on its way, too.
    fn tune(&self, run: &mut Run<'_>, tuning: Tuning) {
        let settings = &self.cx.settings.upload;
        let fixed = tuning.in_flight.unwrap_or(settings.in_flight);
        run.width.fix((fixed > 0).then_some(fixed as usize));
        run.paused = tuning.paused.then(|| run.paused.unwrap_or_else(Instant::now));
        run.is_frozen &= tuning.paused;
        run.limit = tuning.limit_bytes_per_s.unwrap_or(settings.limit_bytes_per_s);
        run.throttle();
    }

    /// Fills the free slots, as far as that is wanted.
    async fn begin(&mut self, run: &mut Run<'a>) -> Result<(), Broken> {
        loop {
            let held = self.cx.log.wants_hold();
            if held && !run.flying.is_empty() || run.paused.is_some() || run.flying.len() >= run.width.now() {
                return Ok(());
            }
            // Where a job may be held it waits here, with nothing in flight.
            self.cx.safe_point().await?;
            let Some(index) = self.next(run) else { return Ok(()) };
            let slot = run.crew.free().map_err(|error| self.no_thread(&error))?;
            self.prepare(run, slot, index);
        }
    }

    /// The next chunk: one that failed before, as soon as it may, else a new one. Where they go one by one, nothing goes
    /// before a chunk that has to wait, and in a round each answer is waited for.
    fn next(&mut self, run: &mut Run<'_>) -> Option<u64> {
        let now = Instant::now();
        let due = run.waiting.iter().find(|(_, at)| **at <= now).map(|(index, _)| *index);
        if let Some(index) = due {
            run.waiting.remove(&index);
            return Some(index);
        }
        let one_by_one = run.width.now() == 1 && !run.waiting.is_empty();
        let tested = self.chunks.is_in_round() && !run.flying.is_empty();
        if one_by_one || tested { None } else { self.chunks.take_next() }
    }

    /// Makes the request, and a connection where there is none, beside everything else.
    fn prepare(&self, run: &mut Run<'a>, slot: usize, index: u64) {
        let (cx, file_name) = (self.cx, self.file_name);
        let timing = &cx.settings.timing;
        let tries = run.tries.entry(index).or_insert_with(|| Tries {
            attempt: 1,
            delays: Box::new(
                backoff(timing.scaled(timing.chunk_retry_first_s), timing.scaled(timing.chunk_retry_cap_s))
                    .take(timing.chunk_retries as usize),
            ),
            logged_out: false,
            stale: None,
        });
        let (attempt, stale) = (tries.attempt, tries.stale.take());
        let len = self.chunks.len_of(index);
        let volume = self.image.zbs_volume_id.clone().unwrap_or_default();
        let image = self.image.image_uuid.clone();
        let kept = run.crew.endpoint(slot);
        let company = !run.flying.is_empty();
        let span = cx.outside.fisheye.chunk_span(kept.as_deref().unwrap_or_default(), attempt);
        run.flying.insert(index, Flight { span, begin: Instant::now(), had_company: company });
        run.flying.values_mut().for_each(|flight| flight.had_company |= company);
        run.filled.max_in_flight = run.filled.max_in_flight.max(run.flying.len());
        run.preparing.push(Box::pin(async move {
            let ready = async {
                let fisheye = &cx.outside.fisheye;
                let (line, endpoint) = match kept {
                    Some(endpoint) => (None, endpoint),
                    None => {
                        let line = fisheye.chunk_line().await?;
                        let endpoint = line.endpoint.clone();
                        (Some(line), endpoint)
                    }
                };
                let at = ChunkAddress { zbs_volume_id: &volume, image_uuid: &image, chunk_num: index };
                let request = fisheye.chunk_request(&endpoint, at, (len, file_name), stale.as_ref()).await?;
                Ok((line, endpoint, request))
            };
            Prepared { slot, index, ready: ready.await }
        }));
    }

    /// A chunk goes into its slot.
    async fn give(&mut self, run: &mut Run<'a>, prepared: Prepared) -> Result<(), Broken> {
        let Prepared { slot, index, ready } = prepared;
        let (line, endpoint, request) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                let flight = run.flying.remove(&index);
                run.crew.release(slot, None);
                return self.failed(run, index, error, flight.is_some_and(|flight| flight.had_company)).await;
            }
        };
        if let Some(flight) = run.flying.get(&index) {
            flight.span.record("server.address", endpoint.as_str());
        }
        let len = self.chunks.len_of(index);
        let stall = run.crew.shared().stall;
        let patience = stall.saturating_add(patience(len, run.rate));
        let (offset, is_alone) = (self.chunks.offset_of(index), run.width.now() == 1);
        let order = Order { index, offset, len, line, request, patience, is_alone };
        if run.crew.give(slot, endpoint, order) {
            return Ok(());
        }
        Err(self.no_thread(&std::io::Error::other("the thread has ended")))
    }

    /// A slot has something to say.
    async fn settle(&mut self, run: &mut Run<'a>, sent: Sent) -> Result<(), Broken> {
        let Sent { slot, index, request, outcome, keeps, times, sending, server } = sent;
        run.crew.release(slot, Some((keeps, times)));
        let Some(flight) = run.flying.remove(&index) else { return Ok(()) };
        let fisheye = &self.cx.outside.fisheye;
        let (answer, sha256) = match outcome {
            Outcome::Failed(WireError::Stale) => {
                // Nothing was sent: another connection takes it at once.
                run.waiting.insert(index, Instant::now());
                return Ok(());
            }
            Outcome::Failed(WireError::Stopped) => return Err(Broken::Step(self.cx.log.why_stopped())),
            Outcome::Unreadable(error) => {
                let error = fisheye.chunk_error(ErrorKind::LocalFile(error));
                return self.failed(run, index, error, false).await;
            }
            Outcome::Answered(answer, sha256) => (Ok(answer), sha256),
            Outcome::Failed(error) => (Err(error), None),
        };
        let (volume, image) = (self.image.zbs_volume_id.clone().unwrap_or_default(), self.image.image_uuid.clone());
        let at = ChunkAddress { zbs_volume_id: &volume, image_uuid: &image, chunk_num: index };
        let took = flight.begin.elapsed();
        match fisheye.chunk_outcome(at, request, answer, (&flight.span, took)) {
            ChunkOutcome::LoggedOut(stale) => self.logged_out(run, index, stale).await,
            ChunkOutcome::Failed(error) => self.failed(run, index, error, flight.had_company).await,
            ChunkOutcome::Acknowledged(ack) => {
                let Some(sha256) = sha256 else {
                    let early = ErrorKind::Shape("it came before the whole chunk was sent".to_owned());
                    let error = fisheye.chunk_error(early);
                    return self.failed(run, index, error, false).await;
                };
                let bytes = self.chunks.len_of(index);
                run.rate = Some(bytes as f64 / (sending + server).as_secs_f64().max(1e-6));
                run.width.acknowledged(run.begin.elapsed(), bytes, sending, server);
                self.acknowledged(run, index, ack, sha256).await
            }
        }
    }

    /// What was acknowledged while the upload ended is not sent again another time.
    async fn take_late(&mut self, run: &mut Run<'a>, late: Vec<Sent>) {
        for Sent { index, request, outcome, .. } in late {
            let (Outcome::Answered(answer, Some(sha256)), Some(flight)) = (outcome, run.flying.remove(&index)) else {
                continue;
            };
            let (volume, image) = (self.image.zbs_volume_id.clone().unwrap_or_default(), self.image.image_uuid.clone());
            let at = ChunkAddress { zbs_volume_id: &volume, image_uuid: &image, chunk_num: index };
            let took = flight.begin.elapsed();
            let outcome = self.cx.outside.fisheye.chunk_outcome(at, request, Ok(answer), (&flight.span, took));
            if let ChunkOutcome::Acknowledged(ack) = outcome
                && let Err(error) = self.keep(run, index, ack, sha256).await
            {
                // It ends already, and with a better reason.
                tracing::debug!(?error, index, "the late answer of a chunk is lost");
                return;
            }
        }
    }

    async fn acknowledged(
        &mut self,
        run: &mut Run<'a>,
        index: u64,
        ack: ChunkAck,
        sha256: [u8; 32],
    ) -> Result<(), Broken> {
        run.tries.remove(&index);
        if !self.chunks.is_in_round() {
            // The slot is not to wait for the disk.
            self.begin(run).await?;
        }
        self.keep(run, index, ack, sha256).await?;
        self.tell(run);
        Ok(())
    }

    /// Journals an acknowledgement.
    async fn keep(&mut self, run: &mut Run<'a>, index: u64, ack: ChunkAck, sha256: [u8; 32]) -> Result<(), Broken> {
        let known = usize::try_from(index).ok().and_then(|index| self.expected.as_ref()?.get(index));
        if known.is_some_and(|known| *known != sha256) {
            return Err(Broken::Source(Box::new(changed(self.file_name))));
        }
        let size = self.chunks.len_of(index);
        let record = Chunk { chunk_num: index, sha256: hex(&sha256), size };
        self.cx.log.chunk(&self.image.image_uuid, record).await.map_err(StepError::Journal)?;
        if self.chunks.acknowledge(index, ack.to_upload) {
            run.filled.sent_bytes += size;
            metrics().uploaded(size);
        }
        self.image.uploaded_chunks = self.chunks.done();
        Ok(())
    }

    /// The session is over. The first time another one costs no attempt.
    async fn logged_out(&mut self, run: &mut Run<'a>, index: u64, stale: Stale) -> Result<(), Broken> {
        let again = run.tries.get_mut(&index).is_some_and(|tries| !std::mem::replace(&mut tries.logged_out, true));
        if !again {
            let error = self.cx.outside.fisheye.chunk_error(ErrorKind::Credentials);
            return self.failed(run, index, error, false).await;
        }
        if let Some(tries) = run.tries.get_mut(&index) {
            tries.stale = Some(stale);
        }
        run.waiting.insert(index, Instant::now());
        Ok(())
    }

    /// A chunk has failed: once more, or never again.
    async fn failed(&mut self, run: &mut Run<'a>, index: u64, error: Error, had_company: bool) -> Result<(), Broken> {
        let told = format!("sending chunk {index} of {}", self.image.name);
        match &error.kind {
            ErrorKind::Credentials | ErrorKind::LockedOut(_) | ErrorKind::Certificate(_) => {
                return Err(Broken::Step(story::permanent(error.failure(&told))));
            }
            ErrorKind::LocalFile(_) => return Err(Broken::Source(Box::new(error.failure(&told)))),
            _ if error.is_gone() && !had_company => return Err(Broken::Gone(Box::new(error.failure(&told)))),
            ErrorKind::Refused(_) if had_company => return self.narrow(run, index, &error).await,
            ErrorKind::Stalled(_) => {
                run.rate = None;
                run.width.lost(run.begin.elapsed());
            }
            ErrorKind::Broken(_) | ErrorKind::Unreachable(_) => run.width.lost(run.begin.elapsed()),
            _ => {}
        }
        let Some(tries) = run.tries.get_mut(&index) else { return Ok(()) };
        let (attempt, delay) = (tries.attempt, tries.delays.next());
        let Some(delay) = delay else {
            let mut failure = error.failure(&told);
            failure.detail.extend(story::fields(json!({"chunk_num": index, "attempts": attempt})));
            return Err(Broken::Chunk(Box::new(failure)));
        };
        tries.attempt += 1;
        tries.logged_out = false;
        let asked = error.kind.refusal().and_then(|refusal| refusal.asked_wait());
        run.waiting.insert(index, Instant::now() + asked.unwrap_or(delay));
        metrics().chunk_again();
        let extra = json!({"chunk_num": index, "attempt": attempt, "error": error.kind.to_string()});
        let message = format!("chunk {index} failed ({}), it is sent again", error.kind);
        self.cx.note(Level::Warning, "chunk_retry", message, story::fields(extra)).await?;
        self.tell(run);
        Ok(())
    }

    /// The server refuses a chunk while others are in flight: one by one from now on, in ascending order. Costs no attempt.
    async fn narrow(&mut self, run: &mut Run<'a>, index: u64, error: &Error) -> Result<(), Broken> {
        run.waiting.insert(index, Instant::now());
        if run.width.is_serial() {
            return Ok(());
        }
        run.width.refused();
        let extra = json!({"chunk_num": index, "in_flight": run.flying.len() + 1, "error": error.kind.to_string()});
        let message = format!("the cluster refuses several chunks at a time ({}): one by one from now on", error.kind);
        Ok(self.cx.note(Level::Info, "upload_one_by_one", message, story::fields(extra)).await?)
    }

    fn no_thread(&self, error: &std::io::Error) -> Broken {
        let remedy = "look at the limits of the bastion (threads, memory), then retry the job";
        Broken::Step(story::again(story::story_of("no_thread", "starting a thread for the upload", error, remedy)))
    }

    fn tell(&self, run: &mut Run<'_>) {
        run.meter.mark(run.begin.elapsed(), run.crew.shared().taken.load(Ordering::Relaxed));
        let position = Position {
            chunks: self.chunks.done(),
            total_chunks: self.chunks.count(),
            bytes: self.chunks.done_bytes(),
            total_bytes: self.chunks.size(),
        };
        let speed = run.meter.speed();
        let (done, total) = (position.bytes, position.total_bytes);
        let paused = if run.paused.is_some() { ", paused" } else { "" };
        let text = format!("{} of {}, {}/s{paused}", human(done as f64), human(total as f64), human(speed));
        let mut extra = run.meter.fields(position);
        extra.insert("image_uuid".to_owned(), self.image.image_uuid.clone().into());
        extra.insert("in_flight".to_owned(), run.flying.len().into());
        self.cx.progress(Progress { done, total, unit: "bytes", per_second: speed, text, extra });
    }
}

impl Run<'_> {
    /// When there is something to do without anybody saying so. `held`: nothing begins before all is back.
    fn next_moment(&self, held: bool) -> Option<Instant> {
        let may_begin = self.flying.len() < self.width.now() && self.paused.is_none() && !held;
        let retry = self.waiting.values().min().copied().filter(|_| may_begin);
        let freeze = self.paused.map(|since| since + PAUSE_GRACE).filter(|_| !self.is_frozen);
        retry.into_iter().chain(freeze).min()
    }

    /// What is still on its way after the grace of a pause stops where it is.
    fn freeze(&mut self) {
        if self.paused.is_some_and(|since| since.elapsed() >= PAUSE_GRACE) && !self.is_frozen {
            self.is_frozen = true;
            self.throttle();
        }
    }

    fn throttle(&self) {
        self.crew.shared().throttle.set((self.limit > 0).then_some(self.limit), self.is_frozen);
    }
}

/// The next one, for ever: an empty set has none yet.
async fn some<T>(set: &mut FuturesUnordered<BoxFuture<'_, T>>) -> Option<T> {
    match set.next().await {
        Some(next) => Some(next),
        None => std::future::pending().await,
    }
}

/// How long the answer to a chunk may take beyond the stall timer: what lies in buffers has to arrive at the speed last
/// seen of one chunk, or at the slowest that is borne.
fn patience(len: u64, rate: Option<f64>) -> Duration {
    let slow = rate.map_or(SLOWEST, |rate| (rate / SLOWER).max(SLOWEST));
    Duration::from_secs_f64(len.min(BUFFERED) as f64 / slow)
}

/// The failure for a file that is not what it was.
pub(crate) fn changed(file_name: &str) -> Failure {
    story::story(
        "iso_changed",
        format!("the ISO {file_name} changed on the bastion while it was being uploaded"),
        "put the right file into the ISO directory, leave it alone, and start the job again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_gets_more_time_where_the_server_is_slow() {
        assert_eq!(patience(8 << 20, None), Duration::from_secs(256));
        assert_eq!(patience(64 << 10, None), Duration::from_secs(4));
        assert_eq!(patience(8 << 20, Some(8.0 * (4 << 20) as f64)), Duration::from_secs(1));
        assert_eq!(patience(8 << 20, Some(1.0)), Duration::from_secs(256));
    }
}
