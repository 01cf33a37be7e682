//! One read of a file: SHA-256 and MD5 of the whole and SHA-256 of each chunk. It can be left and taken up again, by
//! whoever needs the file then. Knows no inventory.
//!
//! MD5 costs about as much as both SHA-256 together, so it is done on a thread of its own that follows piece by piece;
//! the pieces are small enough to stay in the caches on their way from one to the other.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use md5::Md5;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    Identity,
    chunks::{ChunkDigests, Chunker},
};
use crate::tls::hex;

/// Bytes read at once.
const PIECE: usize = 128 << 10;
/// Pieces on their way between the two threads.
const PIECES: usize = 4;

/// Hashes of a whole file, lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    pub sha256: String,
    pub md5: String,
    /// Of each chunk; none when the file was hashed without them, or has too many.
    pub chunks: Option<ChunkDigests>,
}

/// Why a file could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("the work was cancelled")]
    Cancelled,
    #[error("the file has changed while it was read")]
    Changed,
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    #[error("the inventory of the hashes cannot be written")]
    NotKept(#[source] io::Error),
}

/// A file that has been read so far.
#[derive(Debug)]
pub(super) struct Hashing {
    identity: Identity,
    chunk_bytes: u64,
    read: u64,
    sha256: Sha256,
    md5: Md5,
    chunks: Option<Chunker>,
}

/// A buffer, and how much of it is filled.
type Piece = (Vec<u8>, usize);

impl Hashing {
    pub(super) fn new(identity: Identity, chunk_bytes: u64) -> Self {
        let chunks = Chunker::new(identity.size, chunk_bytes);
        Self { identity, chunk_bytes, read: 0, sha256: Sha256::new(), md5: Md5::new(), chunks }
    }

    /// Whether this is a read of exactly this file, for chunks of this size.
    pub(super) fn is_of(&self, identity: Identity, chunk_bytes: u64) -> bool {
        self.identity == identity && self.chunk_bytes == chunk_bytes
    }

    /// Reads on to the end of the file (blocking). `told` is raised by what has been read, with what was read before.
    /// After [`HashError::Cancelled`], and only then, it can be called again.
    pub(super) fn run(&mut self, file: &File, told: &AtomicU64, cancel: &CancellationToken) -> Result<(), HashError> {
        told.fetch_add(self.read, Ordering::Relaxed);
        let md5 = std::mem::take(&mut self.md5);
        thread::scope(|scope| {
            let (full, pieces) = sync_channel(PIECES);
            let (back, empty) = sync_channel(PIECES);
            for _ in 0..PIECES {
                let _ = back.send(vec![0; PIECE]);
            }
            let follower = thread::Builder::new().name("iso-md5".to_owned());
            let follower = follower.spawn_scoped(scope, move || follow(md5, &pieces, &back))?;
            let ended = self.read_on(file, told, cancel, &full, &empty);
            drop(full);
            self.md5 = follower.join().map_err(|_| broken_off())?;
            ended
        })
    }

    pub(super) fn finish(self) -> Digests {
        Digests {
            sha256: hex(&self.sha256.finalize()),
            md5: hex(&self.md5.finalize()),
            chunks: self.chunks.map(Chunker::finish),
        }
    }

    fn read_on(
        &mut self,
        file: &File,
        told: &AtomicU64,
        cancel: &CancellationToken,
        full: &SyncSender<Piece>,
        empty: &Receiver<Vec<u8>>,
    ) -> Result<(), HashError> {
        loop {
            if cancel.is_cancelled() {
                return Err(HashError::Cancelled);
            }
            let mut buffer = empty.recv().map_err(|_| broken_off())?;
            let count = read_at(file, &mut buffer, self.read)?;
            let read = self.read + count as u64;
            // A file that grows as fast as it is read would never end.
            if read > self.identity.size || (count == 0 && read < self.identity.size) {
                return Err(HashError::Changed);
            }
            if count == 0 {
                return Ok(());
            }
            self.sha256.update(&buffer[..count]);
            if let Some(chunks) = &mut self.chunks {
                chunks.update(&buffer[..count]);
            }
            full.send((buffer, count)).map_err(|_| broken_off())?;
            self.read = read;
            told.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// Takes every piece there is, and gives the buffers back.
fn follow(mut md5: Md5, pieces: &Receiver<Piece>, back: &SyncSender<Vec<u8>>) -> Md5 {
    while let Ok((buffer, count)) = pieces.recv() {
        md5.update(&buffer[..count]);
        // After the last piece nobody wants it.
        let _ = back.send(buffer);
    }
    md5
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn broken_off() -> io::Error {
    io::Error::other("a thread that hashes has ended too early")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file(dir: &Path, bytes: &[u8]) -> (File, Identity) {
        let path = dir.join("x");
        std::fs::write(&path, bytes).unwrap();
        (File::open(&path).unwrap(), Identity::at(&path).unwrap())
    }

    /// Every digest, computed the long way.
    fn plainly(bytes: &[u8], chunk: usize) -> Digests {
        let sha256 = bytes.chunks(chunk).map(|chunk| Sha256::digest(chunk).into()).collect();
        Digests {
            sha256: hex(&Sha256::digest(bytes)),
            md5: hex(&Md5::digest(bytes)),
            chunks: Some(ChunkDigests { size: chunk as u64, sha256 }),
        }
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn one_read_gives_every_digest() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, PIECE - 1, PIECE, PIECE * (PIECES + 2) + 7] {
            let bytes = content(length);
            let (file, identity) = file(dir.path(), &bytes);
            let (mut hashing, told) = (Hashing::new(identity, 50_000), AtomicU64::new(0));
            hashing.run(&file, &told, &CancellationToken::new()).unwrap();
            assert_eq!(told.load(Ordering::Relaxed), length as u64);
            assert_eq!(hashing.finish(), plainly(&bytes, 50_000), "{length} bytes");
        }
    }

    #[test]
    fn a_read_that_was_left_is_taken_up_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = content(3 * PIECE + 5);
        let (file, identity) = file(dir.path(), &bytes);
        // As it is after one piece.
        let mut hashing = Hashing::new(identity, 50_000);
        hashing.sha256.update(&bytes[..PIECE]);
        hashing.md5.update(&bytes[..PIECE]);
        hashing.chunks.as_mut().unwrap().update(&bytes[..PIECE]);
        hashing.read = PIECE as u64;
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let told = AtomicU64::new(0);
        assert!(matches!(hashing.run(&file, &told, &cancelled), Err(HashError::Cancelled)));
        assert_eq!(told.load(Ordering::Relaxed), PIECE as u64, "what was read before counts as read");
        assert!(hashing.is_of(identity, 50_000) && !hashing.is_of(identity, 50_001));
        hashing.run(&file, &AtomicU64::new(0), &CancellationToken::new()).unwrap();
        assert_eq!(hashing.finish(), plainly(&bytes, 50_000));
    }

    #[test]
    fn a_file_that_grows_or_shrinks_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        for length in [2 * PIECE - 1, 2 * PIECE + 1] {
            let (_, identity) = file(dir.path(), &content(2 * PIECE));
            let (other, _) = file(dir.path(), &content(length));
            let mut hashing = Hashing::new(identity, 50_000);
            let ended = hashing.run(&other, &AtomicU64::new(0), &CancellationToken::new());
            assert!(matches!(ended, Err(HashError::Changed)), "{length} bytes");
        }
    }

    #[test]
    fn it_ends_soon_after_it_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        // Half an hour of work that takes no room on the disk.
        let path = dir.path().join("x");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let (file, identity) = (File::open(&path).unwrap(), Identity::at(&path).unwrap());
        let (told, cancel) = (AtomicU64::new(0), CancellationToken::new());
        let mut hashing = Hashing::new(identity, 8 << 20);
        thread::scope(|scope| {
            let ended = scope.spawn(|| hashing.run(&file, &told, &cancel));
            while told.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            cancel.cancel();
            assert!(matches!(ended.join().unwrap(), Err(HashError::Cancelled)));
        });
        assert!(hashing.read >= told.load(Ordering::Relaxed));
    }
}
