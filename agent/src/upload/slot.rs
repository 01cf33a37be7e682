//! A slot: a thread with a connection, in which one chunk after the other is read, hashed and sent. It does what it is
//! told; which chunk is next, and what an answer means, is for [`super::send`] to say.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    beside::Beside,
    reader::Source,
    throttle::Throttle,
    times::{Laps, Times},
};
use crate::{
    fisheye::{ChunkRequest, Line, Patience, Wire, WireError},
    http::Answer,
};

/// Pieces between two looks at whether the server has answered already.
const LISTEN_EVERY: u64 = 8;
/// Bytes of a piece that is hashed beside: fewer handings over than with small ones.
const ALONE_PIECE: usize = 64 << 10;

/// What all slots of an upload share.
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) throttle: Throttle,
    /// Bytes of chunks that connections took, of failed sendings too.
    pub(super) taken: AtomicU64,
    pub(super) stop: CancellationToken,
    /// No more than `floor` bytes a second for so long is a stall.
    pub(super) stall: Duration,
    pub(super) floor: u64,
    /// TCP and TLS.
    pub(super) connect: Duration,
    /// The largest answer, bytes.
    pub(super) most_answer: usize,
}

/// One chunk to be sent once.
pub(super) struct Order {
    pub(super) index: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// A new connection; `None`: with the one that is there.
    pub(super) line: Option<Line>,
    pub(super) request: ChunkRequest,
    /// How long the answer may take after the last byte.
    pub(super) patience: Duration,
    /// No other chunk is to be in flight: it is hashed on a thread beside this one.
    pub(super) is_alone: bool,
}

/// What became of it.
pub(super) struct Sent {
    pub(super) slot: usize,
    pub(super) index: u64,
    pub(super) request: ChunkRequest,
    pub(super) outcome: Outcome,
    /// The connection can be used again.
    pub(super) keeps: bool,
    /// Of this slot, from its beginning.
    pub(super) times: Times,
    /// From the first byte of the chunk to the last.
    pub(super) sending: Duration,
    /// From there to the answer.
    pub(super) server: Duration,
}

/// How a sending ended.
pub(super) enum Outcome {
    /// With an answer; the SHA-256 of the chunk, `None` when not all of it had been sent.
    Answered(Answer, Option<[u8; 32]>),
    Failed(WireError),
    /// The file could not be read.
    Unreadable(io::Error),
}

/// The other end of a slot.
pub(super) struct Slot {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// The address of the connection that can be used again.
    pub(super) endpoint: Option<String>,
    pub(super) is_busy: bool,
    pub(super) times: Times,
}

impl Slot {
    /// Starts the thread. It ends when this is dropped or `shared.stop` is cancelled.
    pub(super) fn start(number: usize, shared: Arc<Shared>, results: mpsc::Sender<Sent>) -> io::Result<Self> {
        let (orders, inbox) = sync_channel(1);
        let thread =
            Builder::new().name(format!("upload {number}")).spawn(move || work(number, &shared, &inbox, &results))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), endpoint: None, is_busy: false, times: Times::default() })
    }

    /// Gives it something to do; `false` when its thread is gone.
    pub(super) fn give(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// No more orders. The thread, to be waited for.
    pub(super) fn dismiss(&mut self) -> Option<JoinHandle<()>> {
        self.orders = None;
        self.thread.take()
    }
}

fn work(number: usize, shared: &Shared, inbox: &Receiver<Order>, results: &mpsc::Sender<Sent>) {
    let mut laps = Laps::new();
    let mut wire = None;
    let (mut piece, mut beside) = (Vec::new(), None);
    while let Ok(Order { index, offset, len, line, request, patience, is_alone }) = inbox.recv() {
        laps.lap(|times| &mut times.waiting);
        // A sending that failed has not given it back.
        piece.resize(shared.source.piece(), 0);
        if !is_alone {
            beside = None;
        } else if beside.is_none() {
            // Without the thread it is hashed here, as any other.
            beside = Beside::start(ALONE_PIECE.max(piece.len())).ok();
        }
        let hash = match beside.take() {
            Some(beside) => Hashing::Beside(beside),
            None => Hashing::Here(Sha256::new(), &mut piece),
        };
        let mut sending = Sending { shared, laps: &mut laps, hash, sending: None, server: Duration::ZERO };
        let begin = Instant::now();
        let outcome = caught(|| sending.chunk(&mut wire, line, &request, (offset, len), patience));
        let (sent, server) = (sending.sending.unwrap_or_else(|| begin.elapsed()), sending.server);
        if let (Hashing::Beside(there), Outcome::Answered(_, Some(_))) = (sending.hash, &outcome) {
            // One that is in the middle of a chunk is no use for the next.
            beside = Some(there);
        }
        let keeps = wire.is_some();
        let times = laps.times;
        let sent = Sent { slot: number, index, request, outcome, keeps, times, sending: sent, server };
        if results.blocking_send(sent).is_err() {
            return;
        }
    }
}

/// A sending that panics has failed, like one whose connection broke: or its chunk would be in flight for ever.
fn caught(sending: impl FnOnce() -> Outcome) -> Outcome {
    // What it leaves behind: times that are short of a lap, and no connection, which it takes out before it begins.
    catch_unwind(AssertUnwindSafe(sending)).unwrap_or_else(|_| {
        Outcome::Failed(WireError::Broken(io::Error::other("its thread panicked; the agent's log says where")))
    })
}

/// Where a chunk is hashed.
enum Hashing<'a> {
    /// Piece by piece in this buffer, before it is sent.
    Here(Sha256, &'a mut Vec<u8>),
    /// After it was sent, on a thread beside.
    Beside(Beside),
}

/// One chunk on its way.
struct Sending<'a> {
    shared: &'a Shared,
    laps: &'a mut Laps,
    hash: Hashing<'a>,
    sending: Option<Duration>,
    server: Duration,
}

impl Hashing<'_> {
    /// A buffer for the next piece.
    fn buffer(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Here(_, piece) => Ok(std::mem::take(*piece)),
            Self::Beside(beside) => beside.buffer(),
        }
    }

    /// Gives it back, with `count` bytes that were sent.
    fn give_back(&mut self, buffer: Vec<u8>, count: usize) -> io::Result<()> {
        match self {
            Self::Here(_, piece) => **piece = buffer,
            Self::Beside(beside) => beside.sent(buffer, count)?,
        }
        Ok(())
    }

    /// Of the whole chunk.
    fn digest(&mut self) -> io::Result<[u8; 32]> {
        match self {
            Self::Here(hash, _) => Ok(hash.finalize_reset().into()),
            Self::Beside(beside) => beside.digest(),
        }
    }
}

impl Sending<'_> {
    /// Sends it. What stays in `wire` can be used again.
    fn chunk(
        &mut self,
        wire: &mut Option<Wire>,
        line: Option<Line>,
        request: &ChunkRequest,
        (offset, len): (u64, u64),
        answer: Duration,
    ) -> Outcome {
        let shared = self.shared;
        let mut patience = Patience::new(shared.stop.clone(), shared.connect, 0);
        let opened = match (line, wire.take()) {
            (Some(line), _) => Wire::open(line, shared.stall, &mut patience),
            (None, Some(mut kept)) => {
                if kept.has_news() {
                    Err(WireError::Stale)
                } else {
                    Ok(kept)
                }
            }
            (None, None) => Err(WireError::Stale),
        };
        self.laps.lap(|times| &mut times.network);
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) => return Outcome::Failed(error),
        };
        patience = Patience::new(shared.stop.clone(), shared.stall, shared.floor);
        let (sent, read) = self.bytes(&mut connection, request, (offset, len), &mut patience);
        let sha256 = match (sent, read) {
            (_, Err(error)) => return Outcome::Unreadable(error),
            (Ok(sha256), _) => sha256,
            (Err(error @ (WireError::Stopped | WireError::Stalled(_))), _) => return Outcome::Failed(error),
            (Err(error), _) => {
                let said = connection.last_words(shared.most_answer, &shared.stop);
                self.laps.lap(|times| &mut times.server);
                return said.map_or(Outcome::Failed(error), |answer| Outcome::Answered(answer, None));
            }
        };
        patience = Patience::new(shared.stop.clone(), answer, 0);
        let outcome = connection.answer(shared.most_answer, &mut patience);
        self.server = self.laps.lap(|times| &mut times.server);
        match outcome {
            Ok((answer, keeps)) => {
                if keeps && sha256.is_some() {
                    *wire = Some(connection);
                }
                Outcome::Answered(answer, sha256)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// The whole request. The outer result is the connection's, with the chunk's SHA-256, or `None` when an answer came
    /// before its end; the inner one the file's.
    fn bytes(
        &mut self,
        connection: &mut Wire,
        request: &ChunkRequest,
        (offset, len): (u64, u64),
        patience: &mut Patience,
    ) -> (Result<Option<[u8; 32]>, WireError>, io::Result<()>) {
        let begin = Instant::now();
        if let Err(error) = connection.send(&request.head, patience) {
            return (Err(error), Ok(()));
        }
        let (mut done, mut pieces) = (0, 0_u64);
        while done < len {
            self.laps.lap(|times| &mut times.network);
            let mut lent = match self.hash.buffer() {
                Ok(lent) => lent,
                Err(error) => return (Ok(None), Err(error)),
            };
            self.laps.lap(|times| &mut times.hashing);
            if self.shared.throttle.take(lent.len(), &self.shared.stop) {
                self.laps.lap(|times| &mut times.waiting);
                patience.touch();
            }
            let count = (lent.len() as u64).min(len - done) as usize;
            let piece = &mut lent[..count];
            if let Err(error) = self.shared.source.read_at(piece, offset + done) {
                return (Ok(None), Err(error));
            }
            self.laps.lap(|times| &mut times.disk);
            if let Hashing::Here(hash, _) = &mut self.hash {
                hash.update(&*piece);
                self.laps.lap(|times| &mut times.hashing);
            }
            // Now and then: a server may say no before it has everything.
            if pieces.is_multiple_of(LISTEN_EVERY) && connection.has_news() {
                return (Ok(None), Ok(()));
            }
            if let Err(error) = connection.send(piece, patience) {
                return (Err(error), Ok(()));
            }
            self.laps.lap(|times| &mut times.network);
            if let Err(error) = self.hash.give_back(lent, count) {
                return (Ok(None), Err(error));
            }
            (done, pieces) = (done + count as u64, pieces + 1);
            self.shared.taken.fetch_add(count as u64, Ordering::Relaxed);
        }
        let sent = connection.send(&request.tail, patience);
        self.laps.lap(|times| &mut times.network);
        self.sending = Some(begin.elapsed());
        let digest = self.hash.digest();
        self.laps.lap(|times| &mut times.hashing);
        match digest {
            Ok(digest) => (sent.map(|()| Some(digest)), Ok(())),
            Err(error) => (Ok(None), Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failed_sending() {
        let outcome = caught(|| panic!("on purpose"));
        assert!(matches!(outcome, Outcome::Failed(WireError::Broken(_))));
    }
}
