//! The ISO as a source of chunks: read in pieces on blocking threads, hashed as it is read, never a whole chunk in
//! memory (R34, R72). Knows no server.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::{fisheye::Pieces, iso::Identity, tls::hex};

/// The open file.
#[derive(Clone, Debug)]
pub struct Source {
    file: Arc<File>,
    path: PathBuf,
    identity: Identity,
    piece: usize,
}

/// SHA-256 and MD5 of the file from its beginning, as far as chunks were acknowledged one after the other.
#[derive(Clone, Debug)]
pub struct WholeHash {
    state: Option<Whole>,
    next: u64,
}

/// One sending of one chunk: what was read is hashed.
#[derive(Debug)]
pub struct Sending {
    newest: Mutex<Arc<Mutex<Hashed>>>,
    whole: Option<Whole>,
}

#[derive(Debug, Default)]
struct Hashed {
    chunk: Sha256,
    whole: Option<Whole>,
    bytes: u64,
}

/// Both digests of the whole: ours is SHA-256, the server lists MD5.
#[derive(Clone, Debug, Default)]
struct Whole {
    sha256: Sha256,
    md5: Md5,
}

impl Source {
    /// Opens the file (blocking). `piece`: bytes read at once.
    pub fn open(path: &Path, piece: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(Self { file: Arc::new(file), path: path.to_path_buf(), identity, piece: piece.max(1) })
    }

    /// What it was when it was opened.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the open file, and what lies at its path, is still what it was (blocking).
    pub fn is_unchanged(&self) -> bool {
        let open = self.file.metadata().map(|metadata| Identity::of(&metadata));
        open.is_ok_and(|open| open == self.identity)
            && Identity::at(&self.path).is_ok_and(|there| there == self.identity)
    }

    /// The bytes from `offset` on, hashed into a fresh sending each time that they are read.
    pub fn pieces(&self, offset: u64, len: u64, sending: &Sending) -> Pieces {
        let hashed = sending.begin();
        let (file, most) = (self.file.clone(), self.piece as u64);
        Box::pin(futures_util::stream::try_unfold(0u64, move |done| {
            let (file, hashed) = (file.clone(), hashed.clone());
            async move {
                let count = most.min(len - done);
                if count == 0 {
                    return Ok(None);
                }
                let read = move || -> io::Result<Bytes> {
                    let mut piece = vec![0; usize::try_from(count).map_err(io::Error::other)?];
                    file.read_exact_at(&mut piece, offset + done)?;
                    lock(&hashed).update(&piece);
                    Ok(piece.into())
                };
                let piece = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
                Ok(Some((piece, done + count)))
            }
        }))
    }
}

impl WholeHash {
    /// From the file's beginning.
    pub fn new() -> Self {
        Self { state: Some(Whole::default()), next: 0 }
    }

    /// For an upload that begins in the middle: there is no hash of the whole.
    pub fn none() -> Self {
        Self { state: None, next: 0 }
    }

    /// What a sending of this chunk has to carry on.
    pub fn sending(&self, index: u64) -> Sending {
        let whole = self.state.clone().filter(|_| index == self.next);
        Sending { newest: Mutex::default(), whole }
    }

    /// A chunk of `len` bytes was acknowledged: its SHA-256, or `None` when not all of it was read.
    pub fn acknowledge(&mut self, index: u64, len: u64, sending: Sending) -> Option<String> {
        let newest = lock(&sending.newest).clone();
        let hashed = std::mem::take(&mut *lock(&newest));
        if hashed.bytes != len {
            return None;
        }
        if index == self.next && self.state.is_some() {
            self.state = hashed.whole;
            self.next += 1;
        } else if index > self.next {
            // A gap: what comes later cannot be put behind it.
            self.state = None;
        }
        Some(hex(&hashed.chunk.finalize()))
    }

    /// SHA-256 and MD5 of the whole, when all `count` chunks were acknowledged in order.
    pub fn finish(&self, count: u64) -> Option<(String, String)> {
        let state = self.state.clone().filter(|_| self.next == count)?;
        Some((hex(&state.sha256.finalize()), hex(&state.md5.finalize())))
    }
}

impl Default for WholeHash {
    fn default() -> Self {
        Self::new()
    }
}

impl Sending {
    /// Forgets what an earlier sending of the same chunk has hashed.
    fn begin(&self) -> Arc<Mutex<Hashed>> {
        let fresh = Arc::new(Mutex::new(Hashed { whole: self.whole.clone(), ..Hashed::default() }));
        *lock(&self.newest) = fresh.clone();
        fresh
    }
}

impl Hashed {
    fn update(&mut self, piece: &[u8]) {
        self.chunk.update(piece);
        if let Some(whole) = &mut self.whole {
            whole.sha256.update(piece);
            whole.md5.update(piece);
        }
        self.bytes += piece.len() as u64;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    fn source(dir: &Path) -> (Source, Vec<u8>) {
        let content: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        let path = dir.join("x.iso");
        std::fs::write(&path, &content).unwrap();
        (Source::open(&path, 64).unwrap(), content)
    }

    async fn read(source: &Source, offset: u64, len: u64, sending: &Sending) -> io::Result<Vec<u8>> {
        let pieces: Vec<Bytes> = source.pieces(offset, len, sending).try_collect().await?;
        assert!(pieces.iter().all(|piece| piece.len() <= 64));
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn chunks_and_the_whole_are_hashed_in_one_read_even_with_repeats() {
        let dir = tempfile::tempdir().unwrap();
        let (source, content) = source(dir.path());
        let mut whole = WholeHash::new();
        for (index, chunk) in content.chunks(300).enumerate() {
            let (index, len) = (index as u64, chunk.len() as u64);
            let sending = whole.sending(index);
            // Sent twice: a retry must not count twice.
            for _ in 0..2 {
                assert_eq!(read(&source, index * 300, len, &sending).await.unwrap(), chunk);
            }
            assert_eq!(whole.acknowledge(index, len, sending).unwrap(), hex(&Sha256::digest(chunk)));
        }
        let both = (hex(&Sha256::digest(&content)), hex(&Md5::digest(&content)));
        assert_eq!(whole.finish(4), Some(both.clone()));
        assert_eq!(whole.finish(5), None);
        let sending = whole.sending(1);
        read(&source, 300, 300, &sending).await.unwrap();
        assert!(whole.acknowledge(1, 300, sending).is_some());
        assert_eq!(whole.finish(4), Some(both), "a chunk sent again changes nothing");
    }

    #[tokio::test]
    async fn without_the_beginning_there_is_no_hash_of_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (source, content) = source(dir.path());
        for mut whole in [WholeHash::none(), WholeHash::new()] {
            let sending = whole.sending(3);
            read(&source, 900, 100, &sending).await.unwrap();
            assert_eq!(whole.acknowledge(3, 100, sending), Some(hex(&Sha256::digest(&content[900..]))));
            assert_eq!(whole.finish(4), None);
        }
    }

    #[tokio::test]
    async fn an_acknowledgement_before_everything_was_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (source, _) = source(dir.path());
        let mut whole = WholeHash::new();
        let sending = whole.sending(0);
        drop(source.pieces(0, 300, &sending));
        assert_eq!(whole.acknowledge(0, 300, sending), None);
    }

    #[tokio::test]
    async fn a_file_that_shrinks_or_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (source, _) = source(dir.path());
        assert!(source.is_unchanged());
        File::options().write(true).open(&source.path).unwrap().set_len(500).unwrap();
        assert!(!source.is_unchanged());
        assert!(read(&source, 400, 200, &WholeHash::new().sending(0)).await.is_err());
        std::fs::remove_file(&source.path).unwrap();
        assert!(!source.is_unchanged());
    }
}
