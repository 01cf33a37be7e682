//! The loop that sends chunks: one at a time, each with its retries, acknowledged chunks journaled, progress told,
//! cancel seen between and within chunks (`flow.md` 2.2). Decides nothing about volumes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_proto::{Failure, Level};
use serde_json::json;

use super::{
    chunks::Chunks,
    meter::{Meter, Position, human},
    reader::{Source, WholeHash},
};
use crate::{
    facts::ImageFact,
    fisheye::{ChunkAck, ChunkAddress, ChunkBody, Error, ErrorKind, backoff},
    joblog::Chunk,
    step::{Progress, StepCx, StepError},
    steps::story,
};

/// How often progress is told while a chunk is on its way.
const TICK: Duration = Duration::from_millis(500);
/// As slow as this a server may take what lies in the buffers between us before it is given up: bytes per second.
const SLOWEST: f64 = 16_384.0;
/// Bytes that the buffers of both systems may hold.
const BUFFERED: u64 = 4 << 20;
/// How much slower than the chunk before a server may become before it is given up.
const SLOWER: f64 = 8.0;

/// One volume being filled.
pub struct Upload<'a> {
    pub cx: &'a StepCx,
    pub source: &'a Source,
    pub image: &'a mut ImageFact,
    pub chunks: Chunks,
    pub whole: WholeHash,
    /// File name of the form's part.
    pub file_name: &'a str,
}

/// Why a volume could not be filled.
#[derive(Debug)]
pub enum Broken {
    /// The step has to end.
    Step(StepError),
    /// The server does not know the volume any more.
    Gone(Box<Failure>),
    /// A chunk could not be brought over, with all its retries.
    Chunk(Box<Failure>),
    /// The local file has changed, or cannot be read.
    Source(Box<Failure>),
}

impl From<StepError> for Broken {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// What is known about the speed while sending.
struct Pace {
    begin: Instant,
    meter: Meter,
    taken: Arc<AtomicU64>,
    /// Bytes per second of the newest chunk that was acknowledged.
    rate: Option<f64>,
}

impl Upload<'_> {
    /// Sends what is still to be sent. Then every chunk is acknowledged; whether the image is complete is for the image
    /// list to say.
    pub async fn send(&mut self) -> Result<(), Broken> {
        let mut pace = Pace { begin: Instant::now(), meter: Meter::default(), taken: Arc::default(), rate: None };
        self.tell(&mut pace);
        loop {
            self.cx.safe_point().await?;
            let Some(index) = self.chunks.take_next() else { break };
            let (ack, sha256) = self.chunk(index, &mut pace).await?;
            let size = self.chunks.len_of(index);
            let record = Chunk { chunk_num: index, sha256, size };
            self.cx.log.chunk(&self.image.image_uuid, record).await.map_err(StepError::Journal)?;
            self.chunks.acknowledge(index, ack.to_upload);
            self.image.uploaded_chunks = self.chunks.done();
            self.tell(&mut pace);
        }
        let source = self.source.clone();
        let unchanged = tokio::task::spawn_blocking(move || source.is_unchanged()).await.unwrap_or(false);
        if unchanged { Ok(()) } else { Err(Broken::Source(Box::new(changed(self.file_name)))) }
    }

    /// One chunk with its retries. 401 and fail-over are the client's and cost no attempt.
    async fn chunk(&mut self, index: u64, pace: &mut Pace) -> Result<(ChunkAck, String), Broken> {
        let timing = &self.cx.settings.timing;
        let mut delays = backoff(timing.scaled(timing.chunk_retry_first_s), timing.scaled(timing.chunk_retry_cap_s))
            .take(timing.chunk_retries as usize);
        for attempt in 1.. {
            let error = match self.attempt(index, pace).await? {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let told = format!("sending chunk {index} of {}", self.image.name);
            match &error.kind {
                ErrorKind::Credentials | ErrorKind::LockedOut(_) | ErrorKind::Certificate(_) => {
                    return Err(Broken::Step(story::permanent(error.failure(&told))));
                }
                ErrorKind::LocalFile(_) => return Err(Broken::Source(Box::new(error.failure(&told)))),
                _ if error.is_gone() => return Err(Broken::Gone(Box::new(error.failure(&told)))),
                ErrorKind::Stalled(_) => pace.rate = None,
                _ => {}
            }
            let Some(delay) = delays.next() else {
                let mut failure = error.failure(&told);
                failure.detail.extend(story::fields(json!({"chunk_num": index, "attempts": attempt})));
                return Err(Broken::Chunk(Box::new(failure)));
            };
            let extra = json!({"chunk_num": index, "attempt": attempt, "error": error.kind.to_string()});
            let message = format!("chunk {index} failed ({}), it is sent again", error.kind);
            self.cx.note(Level::Warning, "chunk_retry", message, story::fields(extra)).await?;
            self.tell(pace);
            let asked = error.kind.refusal().and_then(|refusal| refusal.asked_wait());
            self.cx.sleep(asked.unwrap_or(delay)).await?;
        }
        // The delays end before the attempts can.
        Err(Broken::Step(StepError::Cancelled))
    }

    /// One sending of one chunk.
    async fn attempt(&mut self, index: u64, pace: &mut Pace) -> Result<Result<(ChunkAck, String), Error>, Broken> {
        let (cx, source) = (self.cx, self.source);
        let (offset, len) = (self.chunks.offset_of(index), self.chunks.len_of(index));
        let sending = self.whole.sending(index);
        let (zbs_volume_id, image_uuid) =
            (self.image.zbs_volume_id.clone().unwrap_or_default(), self.image.image_uuid.clone());
        let at = ChunkAddress { zbs_volume_id: &zbs_volume_id, image_uuid: &image_uuid, chunk_num: index };
        let stall = Duration::from_millis(cx.settings.fisheye.stall_timeout_ms);
        let open = || source.pieces(offset, len, &sending);
        let answer = stall.saturating_add(patience(len, pace.rate));
        let body = ChunkBody { len, file_name: self.file_name, open: &open, taken: pace.taken.clone(), stall, answer };
        let begin = Instant::now();
        let outcome = {
            let mut sent = Box::pin(cx.outside.fisheye.upload_chunk(at, &body));
            let mut tick = tokio::time::interval(TICK);
            tick.reset();
            loop {
                tokio::select! {
                    biased;
                    () = cx.cancel.cancelled() => return Err(Broken::Step(cx.log.why_stopped())),
                    outcome = &mut sent => break outcome,
                    _ = tick.tick() => self.tell(pace),
                }
            }
        };
        let ack = match outcome {
            Ok(ack) => ack,
            Err(error) => return Ok(Err(error)),
        };
        let Some(sha256) = self.whole.acknowledge(index, len, sending) else {
            let early = ErrorKind::Shape("it came before the whole chunk was sent".to_owned());
            return Ok(Err(cx.outside.fisheye.chunk_error(early)));
        };
        pace.rate = Some(len as f64 / begin.elapsed().as_secs_f64().max(1e-6));
        Ok(Ok((ack, sha256)))
    }

    fn tell(&self, pace: &mut Pace) {
        pace.meter.mark(pace.begin.elapsed(), pace.taken.load(Ordering::Relaxed));
        let position = Position {
            chunks: self.chunks.done(),
            total_chunks: self.chunks.count(),
            bytes: self.chunks.done_bytes(),
            total_bytes: self.chunks.size(),
        };
        let speed = pace.meter.speed();
        let text =
            format!("{} of {}, {}/s", human(position.bytes as f64), human(position.total_bytes as f64), human(speed));
        let mut extra = pace.meter.fields(position);
        extra.insert("image_uuid".to_owned(), self.image.image_uuid.clone().into());
        let (done, total) = (position.bytes, position.total_bytes);
        self.cx.progress(Progress { done, total, unit: "bytes", per_second: speed, text, extra });
    }
}

/// How long the answer to a chunk may take beyond the stall timer: what lies in buffers has to arrive at the speed last
/// seen, or at the slowest that is borne.
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
