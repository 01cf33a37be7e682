//! The hashes of the ISO files: computed once in one read, kept by the file's identity in `iso-inventory.json`
//! (`flow.md` 1.3). Losing that file costs reading again, nothing else.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Found, Identity};
use crate::{config::Settings, tls::hex};

/// Files whose hashes are kept, at most; the oldest go.
const MOST_ENTRIES: usize = 64;
/// Bytes of the inventory file that are read, at most.
const MOST_BYTES: u64 = 1 << 20;
/// Bytes read at once for hashing.
const PIECE: usize = 1 << 20;

/// One file at a time is hashed in this process: several would only fight for disk and cores, and the second job that
/// wants the same file finds it done.
static HASHING: Mutex<()> = Mutex::const_new(());

/// Hashes of a whole file, lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    pub sha256: String,
    pub md5: String,
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
}

/// The known hashes of one agent.
#[derive(Clone, Debug)]
pub struct Inventory {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// Oldest first.
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    identity: Identity,
    digests: Digests,
}

impl Inventory {
    /// In the agent's data directory.
    pub fn new(settings: &Settings) -> Self {
        Self { path: settings.data_dir.join("iso-inventory.json") }
    }

    /// The hashes of exactly this file, when it has been read before (blocking).
    pub fn known(&self, found: &Found) -> Option<Digests> {
        let same = |entry: &Entry| entry.path == found.path && entry.identity == found.identity;
        self.load().files.into_iter().rfind(same).map(|entry| entry.digests)
    }

    /// The hashes of the file: known ones, else reads it on a blocking thread. `read` counts the bytes. The work ends
    /// soon after `cancel`.
    pub async fn digests(
        &self,
        found: &Found,
        read: Arc<AtomicU64>,
        cancel: &CancellationToken,
    ) -> Result<Digests, HashError> {
        let _one = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(HashError::Cancelled),
            one = HASHING.lock() => one,
        };
        let (inventory, found, cancel) = (self.clone(), found.clone(), cancel.clone());
        let work = tokio::task::spawn_blocking(move || inventory.digests_blocking(&found, &read, &cancel));
        work.await.map_err(|error| HashError::Io(io::Error::other(error)))?
    }

    fn digests_blocking(
        &self,
        found: &Found,
        read: &AtomicU64,
        cancel: &CancellationToken,
    ) -> Result<Digests, HashError> {
        if let Some(digests) = self.known(found) {
            return Ok(digests);
        }
        let mut file = File::open(&found.path)?;
        if Identity::of(&file.metadata()?) != found.identity {
            return Err(HashError::Changed);
        }
        let digests = hash(&mut file, read, cancel)?;
        if Identity::of(&file.metadata()?) != found.identity || Identity::at(&found.path)? != found.identity {
            return Err(HashError::Changed);
        }
        if let Err(error) = self.store(found, &digests) {
            tracing::warn!(%error, path = %self.path.display(), "the ISO inventory cannot be written; the file will be read again");
        }
        Ok(digests)
    }

    fn store(&self, found: &Found, digests: &Digests) -> io::Result<()> {
        let mut stored = self.load();
        stored.files.retain(|entry| entry.path != found.path);
        let (path, identity, digests) = (found.path.clone(), found.identity, digests.clone());
        stored.files.push(Entry { path, identity, digests });
        let surplus = stored.files.len().saturating_sub(MOST_ENTRIES);
        stored.files.drain(..surplus);
        write_atomically(&self.path, &serde_json::to_vec_pretty(&stored)?)
    }

    /// What is stored; nothing when there is no file or it is damaged.
    fn load(&self) -> Stored {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
        read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

fn hash(file: &mut File, read: &AtomicU64, cancel: &CancellationToken) -> Result<Digests, HashError> {
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut piece = vec![0; PIECE];
    loop {
        if cancel.is_cancelled() {
            return Err(HashError::Cancelled);
        }
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(Digests { sha256: hex(&sha256.finalize()), md5: hex(&md5.finalize()) });
        }
        sha256.update(&piece[..count]);
        md5.update(&piece[..count]);
        read.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Writes beside it, then renames: whoever reads sees the old content or the new one (blocking).
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dir: &Path, content: &[u8]) -> (Inventory, Found) {
        let settings = Settings { data_dir: dir.join("data"), iso_dir: dir.to_path_buf(), ..Settings::default() };
        let path = dir.join("cloudtower-v1.a.b.iso");
        std::fs::write(&path, content).unwrap();
        let name = super::super::IsoName::parse("cloudtower-v1.a.b.iso").unwrap();
        let identity = Identity::at(&path).unwrap();
        (Inventory::new(&settings), Found { path, file_name: "cloudtower-v1.a.b.iso".into(), name, identity })
    }

    #[tokio::test]
    async fn a_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, found) = found(dir.path(), b"abc");
        let (read, cancel) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        assert_eq!(inventory.known(&found), None);
        for _ in 0..2 {
            let digests = inventory.digests(&found, read.clone(), &cancel).await.unwrap();
            assert_eq!(digests.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
            assert_eq!(digests.md5, "900150983cd24fb0d6963f7d28e17f72");
        }
        assert_eq!(read.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_file_that_is_another_one_by_now_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, old) = found(dir.path(), b"abc");
        let cancel = CancellationToken::new();
        inventory.digests(&old, Arc::default(), &cancel).await.unwrap();
        let (_, new) = found(dir.path(), b"abcd");
        assert_eq!(inventory.known(&new), None);
        let stale = Found { identity: Identity { size: 9, ..new.identity }, ..new };
        assert!(matches!(inventory.digests(&stale, Arc::default(), &cancel).await, Err(HashError::Changed)));
    }

    #[tokio::test]
    async fn a_damaged_inventory_costs_one_more_read() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, found) = found(dir.path(), b"abc");
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        std::fs::write(&inventory.path, b"{\"files\": [{]").unwrap();
        let digests = inventory.digests(&found, Arc::default(), &CancellationToken::new()).await.unwrap();
        assert_eq!(inventory.known(&found), Some(digests));
    }

    #[tokio::test]
    async fn cancelled_work_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, found) = found(dir.path(), b"abc");
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(matches!(inventory.digests(&found, Arc::default(), &cancel).await, Err(HashError::Cancelled)));
    }
}
