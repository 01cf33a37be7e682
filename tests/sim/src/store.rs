//! Uploaded bytes: digests over the whole content in order, whatever order the chunks come in, and the sparse file of
//! `spool` storage. Never holds more than a bounded window of an image in memory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::options::Storage;
use crate::rng::hex;

/// Bytes of out-of-order chunks that one image keeps in memory; what is beyond goes to a file.
const HELD_BYTES: u64 = 128 << 20;
/// Bytes written to or read from a file at once.
const WINDOW: usize = 1 << 20;
/// The entry that marks an ISO with guest tools (`cloudtower.md` 1.1), looked for in the first megabytes.
const TOOLS_NAME: &[u8] = b"SMTX_VM_TOOLS_INSTALL.SH";
/// Where directory records of an ISO are looked for.
const DIRECTORY_REACH: u64 = 4 << 20;

/// The contents of all images that are being uploaded or are kept.
#[derive(Debug)]
pub struct Store {
    storage: Storage,
    contents: Mutex<BTreeMap<String, Arc<Content>>>,
}

/// Digests of a whole content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Lower-case hex.
    pub md5: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Whether the ISO holds the guest tools; unknown without the bytes.
    pub guest_tools: Option<bool>,
}

/// The content of one image.
#[derive(Debug)]
pub struct Content {
    chunk_size: u64,
    /// The spool file, or the unlinked file that chunks spill to.
    file: Mutex<Option<Arc<File>>>,
    path: Option<PathBuf>,
    chain: tokio::sync::Mutex<Chain>,
    /// Bytes of chunks that wait in memory, or are on their way there.
    in_memory: AtomicU64,
}

/// The digests so far, and the chunks that wait for their turn.
#[derive(Debug)]
struct Chain {
    next: u64,
    md5: Md5,
    sha256: Sha256,
    waiting: BTreeMap<u64, Held>,
    /// A chunk that was digested already came again with other bytes.
    rewritten: bool,
}

#[derive(Debug)]
enum Held {
    Memory(Vec<Bytes>),
    File(u64),
}

/// Takes one chunk, piece by piece.
#[derive(Debug)]
pub struct ChunkWriter {
    content: Arc<Content>,
    chunk: u64,
    sha256: Sha256,
    len: u64,
    way: Way,
    /// Bytes counted as being in memory; given back when the chunk is not kept there.
    reserved: u64,
    unwritten: Vec<u8>,
    written: u64,
}

/// Where the pieces go.
#[derive(Debug)]
enum Way {
    /// The chunk's turn has come: into the digests.
    Digest(Box<(Md5, Sha256)>),
    /// Out of order: kept.
    Memory(Vec<Bytes>),
    /// Out of order: in the file.
    File,
    /// Digested before: only compared.
    Again,
}

impl Store {
    /// An empty store.
    ///
    /// # Errors
    /// The spool directory cannot be made.
    pub fn new(storage: &Storage) -> anyhow::Result<Self> {
        if let Storage::Spool { directory } = storage {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("making the spool directory {}", directory.display()))?;
        }
        Ok(Self { storage: storage.clone(), contents: Mutex::default() })
    }

    /// The content of an image, made when there is none yet.
    #[must_use]
    pub fn content(&self, image: &str, chunk_size: u64) -> Arc<Content> {
        let make = || {
            let path = match &self.storage {
                Storage::Digest => None,
                Storage::Spool { directory } => Some(directory.join(format!("{image}.iso"))),
            };
            Arc::new(Content {
                chunk_size,
                file: Mutex::default(),
                path,
                chain: tokio::sync::Mutex::default(),
                in_memory: AtomicU64::new(0),
            })
        };
        self.lock().entry(image.into()).or_insert_with(make).clone()
    }

    /// The spool file of an image, in `spool` storage.
    #[must_use]
    pub fn path(&self, image: &str) -> Option<PathBuf> {
        self.lock().get(image)?.path.clone()
    }

    /// Drops a content and its file.
    pub fn forget(&self, image: &str) {
        let content = self.lock().remove(image);
        if let Some(path) = content.and_then(|content| content.path.clone()) {
            // It may never have been written.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Drops all contents and their files.
    pub fn forget_all(&self) {
        let images: Vec<_> = self.lock().keys().cloned().collect();
        for image in images {
            self.forget(&image);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Content>>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 0, md5: Md5::new(), sha256: Sha256::new(), waiting: BTreeMap::new(), rewritten: false }
    }
}

impl Content {
    /// Begins a chunk of `len` bytes.
    pub async fn begin(self: &Arc<Self>, chunk: u64, len: u64) -> ChunkWriter {
        let chain = self.chain.lock().await;
        let mut reserved = 0;
        let way = if chunk == chain.next {
            Way::Digest(Box::new((chain.md5.clone(), chain.sha256.clone())))
        } else if chunk < chain.next {
            Way::Again
        } else if self.path.is_some() || self.in_memory.load(Ordering::Relaxed).saturating_add(len) > HELD_BYTES {
            Way::File
        } else {
            reserved = len;
            self.in_memory.fetch_add(len, Ordering::Relaxed);
            Way::Memory(Vec::new())
        };
        let (content, sha256) = (self.clone(), Sha256::new());
        ChunkWriter { content, chunk, sha256, len: 0, way, reserved, unwritten: Vec::new(), written: 0 }
    }

    /// The digests of the whole content of `size` bytes; call it when every chunk is stored.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn whole(self: &Arc<Self>, size: u64) -> io::Result<Whole> {
        let chain = self.chain.lock().await;
        let complete = chain.next.saturating_mul(self.chunk_size) >= size && !chain.rewritten;
        let file = if self.path.is_some() { Some(self.file()?) } else { None };
        if complete || file.is_none() {
            let (mut md5, sha256) = (chain.md5.clone(), chain.sha256.clone());
            if !complete {
                // The bytes are gone; the digest only has to be another one than that of the source.
                md5.update(b"rewritten");
            }
            let guest_tools = match file {
                Some(file) => Some(blocking(move || holds_tools(&file, size)).await?),
                None => None,
            };
            return Ok(Whole { md5: hex(&md5.finalize()), sha256: hex(&sha256.finalize()), guest_tools });
        }
        drop(chain);
        let Some(file) = file else { return Err(io::ErrorKind::NotFound.into()) };
        blocking(move || digest_file(&file, size)).await
    }

    fn file(&self) -> io::Result<Arc<File>> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = match &self.path {
            Some(path) => OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?,
            None => unnamed_file()?,
        };
        let file = Arc::new(file);
        *slot = Some(file.clone());
        Ok(file)
    }
}

impl ChunkWriter {
    /// Takes the next piece.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        self.sha256.update(&piece);
        self.len += piece.len() as u64;
        if self.content.path.is_some() || matches!(self.way, Way::File) {
            self.unwritten.extend_from_slice(&piece);
            if self.unwritten.len() >= WINDOW {
                self.flush().await?;
            }
        }
        match &mut self.way {
            Way::Digest(digests) => {
                digests.0.update(&piece);
                digests.1.update(&piece);
            }
            Way::Memory(pieces) => pieces.push(piece),
            Way::File | Way::Again => {}
        }
        Ok(())
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte came yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores the chunk for good; `before` is the digest it was stored with earlier. Returns its SHA-256.
    ///
    /// # Errors
    /// The file cannot be written or read.
    pub async fn finish(mut self, before: Option<&str>) -> io::Result<String> {
        self.flush().await?;
        let digest = hex(&self.sha256.clone().finalize());
        let content = self.content.clone();
        let mut chain = content.chain.lock().await;
        match std::mem::replace(&mut self.way, Way::Again) {
            Way::Digest(digests) if chain.next == self.chunk => {
                (chain.md5, chain.sha256) = *digests;
                chain.next += 1;
            }
            Way::Memory(pieces) if self.chunk >= chain.next => {
                self.reserved = 0;
                if let Some(Held::Memory(old)) = chain.waiting.insert(self.chunk, Held::Memory(pieces)) {
                    content.freed(old.iter().map(Bytes::len).sum());
                }
            }
            Way::File if self.chunk >= chain.next => {
                let replaced = chain.waiting.insert(self.chunk, Held::File(self.len));
                if let Some(Held::Memory(old)) = replaced {
                    content.freed(old.iter().map(Bytes::len).sum());
                }
            }
            _ => {}
        }
        if before.is_some_and(|before| before != digest) && self.chunk < chain.next {
            chain.rewritten = true;
        }
        content.catch_up(&mut chain).await?;
        Ok(digest)
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.unwritten);
        let at = self.chunk.saturating_mul(self.content.chunk_size).saturating_add(self.written);
        self.written += bytes.len() as u64;
        let file = self.content.file()?;
        self.unwritten = blocking(move || {
            file.write_all_at(&bytes, at)?;
            let mut bytes = bytes;
            bytes.clear();
            Ok(bytes)
        })
        .await?;
        Ok(())
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        self.content.in_memory.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

impl Content {
    fn freed(&self, bytes: usize) {
        self.in_memory.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Digests the chunks whose turn has come.
    async fn catch_up(self: &Arc<Self>, chain: &mut Chain) -> io::Result<()> {
        while let Some(held) = chain.waiting.remove(&chain.next) {
            match held {
                Held::Memory(pieces) => {
                    for piece in pieces {
                        self.freed(piece.len());
                        chain.md5.update(&piece);
                        chain.sha256.update(&piece);
                        tokio::task::yield_now().await;
                    }
                }
                Held::File(len) => {
                    let (file, at) = (self.file()?, chain.next.saturating_mul(self.chunk_size));
                    let (mut md5, mut sha256) = (chain.md5.clone(), chain.sha256.clone());
                    (chain.md5, chain.sha256) = blocking(move || {
                        each_window(&file, at, len, |bytes| {
                            md5.update(bytes);
                            sha256.update(bytes);
                        })?;
                        Ok((md5, sha256))
                    })
                    .await?;
                }
            }
            chain.next += 1;
        }
        Ok(())
    }
}

fn digest_file(file: &File, size: u64) -> io::Result<Whole> {
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    each_window(file, 0, size, |bytes| {
        md5.update(bytes);
        sha256.update(bytes);
    })?;
    let guest_tools = Some(holds_tools(file, size)?);
    Ok(Whole { md5: hex(&md5.finalize()), sha256: hex(&sha256.finalize()), guest_tools })
}

/// Whether the name of the guest tools' script stands among the directory records.
fn holds_tools(file: &File, size: u64) -> io::Result<bool> {
    let mut head = Vec::new();
    each_window(file, 0, size.min(DIRECTORY_REACH), |bytes| head.extend(bytes.iter().map(u8::to_ascii_uppercase)))?;
    Ok(head.windows(TOOLS_NAME.len()).any(|window| window == TOOLS_NAME))
}

fn each_window(file: &File, at: u64, len: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; WINDOW];
    let mut done = 0;
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(WINDOW).min(WINDOW);
        file.read_exact_at(&mut buffer[..want], at + done)?;
        take(&buffer[..want]);
        done += want as u64;
    }
    Ok(())
}

/// A file without a name: it is gone when it is closed.
fn unnamed_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("gantry-sim-{}", uuid::Uuid::now_v7()));
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(content: &Arc<Content>, chunk: u64, bytes: &[u8], before: Option<&str>) -> String {
        let mut writer = content.begin(chunk, bytes.len() as u64).await;
        for piece in bytes.chunks(7) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        writer.finish(before).await.unwrap()
    }

    #[tokio::test]
    async fn digests_do_not_depend_on_the_order() {
        let bytes: Vec<u8> = (0..95u8).collect();
        let want = hex(&Md5::digest(&bytes));
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
            let store = Store::new(&Storage::Digest).unwrap();
            let content = store.content("i", 20);
            for chunk in order {
                let at = usize::try_from(chunk * 20).unwrap();
                put(&content, chunk, &bytes[at..(at + 20).min(95)], None).await;
            }
            assert_eq!(content.whole(95).await.unwrap().md5, want);
        }
    }

    #[tokio::test]
    async fn other_bytes_in_a_repeated_chunk_change_the_digest() {
        let store = Store::new(&Storage::Digest).unwrap();
        let content = store.content("i", 4);
        let first = put(&content, 0, b"good", None).await;
        put(&content, 0, b"good", Some(&first)).await;
        assert_eq!(content.whole(4).await.unwrap().md5, hex(&Md5::digest(b"good")));
        put(&content, 0, b"evil", Some(&first)).await;
        assert_ne!(content.whole(4).await.unwrap().md5, hex(&Md5::digest(b"good")));
    }

    #[tokio::test]
    async fn spooled_content_is_on_disk_and_rewritable() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&Storage::Spool { directory: directory.path().join("spool") }).unwrap();
        let content = store.content("i", 4);
        put(&content, 1, b"SMTX", None).await;
        let bad = put(&content, 0, b"evil", None).await;
        put(&content, 0, b"good", Some(&bad)).await;
        let whole = content.whole(8).await.unwrap();
        assert_eq!(whole.sha256, hex(&Sha256::digest(b"goodSMTX")));
        assert_eq!(std::fs::read(store.path("i").unwrap()).unwrap(), b"goodSMTX");
        store.forget("i");
        assert_eq!(std::fs::read_dir(directory.path().join("spool")).unwrap().count(), 0);
    }
}
