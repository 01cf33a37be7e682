//! The bytes of one chunk on their way: a body that is streamed in pieces, and the watch over it that sees a stall.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;

/// Pieces of a chunk, in order.
pub type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Bytes handed to the connection at once: a stall is seen in steps of this size.
const SLICE: usize = 16 << 10;

/// One chunk that can be read as often as it has to be sent.
pub struct ChunkBody<'a> {
    /// Bytes in it.
    pub len: u64,
    /// File name of the form's part.
    pub file_name: &'a str,
    /// Opens it at its beginning, anew for each sending.
    pub open: &'a (dyn Fn() -> Pieces + Send + Sync),
    /// Counts the bytes that the connection took, of failed sendings too.
    pub taken: Arc<AtomicU64>,
    /// No byte accepted for so long is a stall.
    pub stall: Duration,
    /// How long the answer may take once the last byte was handed over: what lies in buffers still has to arrive.
    pub answer: Duration,
}

/// When bytes moved last.
#[derive(Debug)]
pub(super) struct Flow {
    moved: AtomicU64,
    taken: Arc<AtomicU64>,
    last: Mutex<Instant>,
    failed: Mutex<Option<io::Error>>,
}

impl Flow {
    pub(super) fn new(taken: Arc<AtomicU64>) -> Self {
        Self { moved: AtomicU64::new(0), taken, last: Mutex::new(Instant::now()), failed: Mutex::default() }
    }

    fn took(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Bytes handed to the connection so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The local read that failed, when one did.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends when nothing has moved for too long, with the time that was too long.
    pub(super) async fn stalled(&self, body: &ChunkBody<'_>) -> Duration {
        loop {
            let patience = if self.moved() < body.len { body.stall } else { body.answer };
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= patience {
                return patience;
            }
            tokio::time::sleep_until(last + patience).await;
        }
    }
}

/// The pieces as slices that tell `flow` when they are taken.
pub(super) fn watched(pieces: Pieces, flow: Arc<Flow>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::unfold((pieces, Bytes::new()), move |(mut pieces, mut rest)| {
        let flow = flow.clone();
        async move {
            if rest.is_empty() {
                rest = match pieces.next().await? {
                    Ok(piece) => piece,
                    Err(error) => {
                        let told = io::Error::new(error.kind(), error.to_string());
                        *flow.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return Some((Err(told), (pieces, Bytes::new())));
                    }
                };
            }
            let slice = rest.split_to(rest.len().min(SLICE));
            flow.took(slice.len() as u64);
            Some((Ok(slice), (pieces, rest)))
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn pieces_become_slices_and_nothing_is_lost() {
        let flow = Arc::new(Flow::new(Arc::default()));
        let pieces: Pieces = Box::pin(stream::iter([Ok(Bytes::from(vec![1; 40_000])), Ok(Bytes::from(vec![2; 3]))]));
        let sizes: Vec<usize> = watched(pieces, flow.clone()).map(|slice| slice.unwrap().len()).collect().await;
        assert_eq!(sizes, [SLICE, SLICE, 40_000 - 2 * SLICE, 3]);
        assert_eq!(flow.moved(), 40_003);
    }

    #[tokio::test]
    async fn a_failing_read_is_kept_for_the_caller() {
        let flow = Arc::new(Flow::new(Arc::default()));
        let pieces: Pieces = Box::pin(stream::iter([Err(io::Error::other("disk"))]));
        assert!(Box::pin(watched(pieces, flow.clone())).next().await.unwrap().is_err());
        assert_eq!(flow.take_failure().unwrap().to_string(), "disk");
    }

    #[tokio::test]
    async fn a_stall_counts_from_the_last_byte_and_the_answer_has_a_patience_of_its_own() {
        let open = || -> Pieces { Box::pin(stream::empty()) };
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3600));
        let body = |stall, answer| ChunkBody {
            len: 40_000,
            file_name: "x",
            open: &open,
            taken: Arc::default(),
            stall,
            answer,
        };
        let flow = Flow::new(Arc::default());
        flow.took(20_000);
        let last = Instant::now();
        assert_eq!(flow.stalled(&body(short, long)).await, short, "not everything is sent: the stall counts");
        assert!(last.elapsed() >= short);
        flow.took(20_000);
        assert_eq!(flow.stalled(&body(long, short)).await, short, "everything is sent: the answer's patience counts");
    }
}
