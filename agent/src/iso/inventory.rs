//! The hashes of the ISO files: computed once in one read, kept by the file's identity (`flow.md` 1.3). Losing them costs
//! reading again, nothing else.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    Found, Identity,
    chunks::MOST_CHUNKS,
    hashing::{Digests, HashError, Hashing},
    shelf::Shelf,
    turn::{self, Turn},
};
use crate::config::{Iso, Settings};

/// The lowest priority: what is hashed ahead takes the time that nobody else wants.
const IDLE: i32 = 19;

/// Longer than the clock of a file system's times stands still. What is written within one tick has one ctime, so nothing
/// is read before the tick of the last write is over: a later write then shows.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// The known hashes of one agent.
#[derive(Clone, Debug)]
pub struct Inventory {
    shelf: Shelf,
    chunk_bytes: u64,
}

impl Inventory {
    /// In the agent's data directory.
    pub fn new(settings: &Settings) -> Self {
        Self { chunk_bytes: settings.iso.chunk_bytes, ..Self::at(&settings.data_dir) }
    }

    /// In this data directory, with the chunk size that is the default.
    pub fn at(state_dir: &Path) -> Self {
        Self { shelf: Shelf::at(state_dir), chunk_bytes: Iso::default().chunk_bytes }
    }

    /// The hashes of exactly this file, when it has been read before (blocking). The chunks' digests may be missing, or
    /// be of chunks of another size.
    pub fn known(&self, found: &Found) -> Option<Digests> {
        self.shelf.get(found.identity)
    }

    /// The SHA-256 of each of these files that has been read before (blocking).
    pub fn known_sha256(&self, files: &[Found]) -> Vec<Option<String>> {
        let all = self.shelf.list();
        files.iter().map(|found| Some(all.of(found.identity)?.sha256.clone())).collect()
    }

    /// The hashes of the file: known ones, else reads it on a blocking thread. `read` counts the bytes, with those that
    /// were read before where an earlier read was left. The work ends soon after `cancel`. The chunks' digests may be
    /// missing where the file was hashed before without them.
    pub async fn digests(
        &self,
        found: &Found,
        read: Arc<AtomicU64>,
        cancel: &CancellationToken,
    ) -> Result<Digests, HashError> {
        let known = |inventory: &Self, found: &Found| inventory.known(found);
        let (digests, kept) = self.now(found, read, cancel, known).await?;
        if let Err(error) = kept {
            tracing::warn!(%error, "the ISO inventory cannot be written; the file will be read again");
        }
        Ok(digests)
    }

    /// The same with the chunks' digests for certain, unless the file has too many chunks; and what cannot be kept is
    /// an error, before anything is read where that can be told.
    pub async fn fill(
        &self,
        found: &Found,
        read: Arc<AtomicU64>,
        cancel: &CancellationToken,
    ) -> Result<Digests, HashError> {
        let shelf = self.shelf.clone();
        spawn_blocking(move || shelf.prepare()).await.map_err(broken_off)?.map_err(HashError::NotKept)?;
        let (digests, kept) = self.now(found, read, cancel, Self::full).await?;
        kept.map(|()| digests).map_err(HashError::NotKept)
    }

    /// The same in the background: at the lowest priority, and given up, as if it were cancelled, as soon as a job wants
    /// to hash a file.
    pub(crate) async fn fill_ahead(
        &self,
        found: &Found,
        read: Arc<AtomicU64>,
        cancel: &CancellationToken,
    ) -> Result<Digests, HashError> {
        let (mut turn, end) = turn::ahead(cancel).await.ok_or(HashError::Cancelled)?;
        let _end_with_us = end.clone().drop_guard();
        let (inventory, found) = (self.clone(), found.clone());
        let (done, result) = oneshot::channel();
        // A thread of its own: only root could raise the priority of a thread of the pool again.
        let work = move || {
            lower_priority();
            let prepared = inventory.shelf.prepare().map_err(HashError::NotKept);
            let ended = prepared.and_then(|()| inventory.read(&found, &mut turn, &read, &end, Self::full));
            // Before anybody hears that it has ended.
            drop(turn);
            let _ = done.send(ended.and_then(|(digests, kept)| kept.map(|()| digests).map_err(HashError::NotKept)));
        };
        thread::Builder::new().name("iso-ahead".to_owned()).spawn(work)?;
        result.await.map_err(broken_off)?
    }

    /// What is known of a file of which [`Inventory::fill`] has nothing to read (blocking).
    pub fn full(&self, found: &Found) -> Option<Digests> {
        let wanted = |digests: &Digests| {
            !self.wants_chunks(found) || digests.chunks.as_ref().is_some_and(|chunks| chunks.size == self.chunk_bytes)
        };
        self.known(found).filter(wanted)
    }

    fn wants_chunks(&self, found: &Found) -> bool {
        found.identity.size.div_ceil(self.chunk_bytes.max(1)) <= MOST_CHUNKS
    }

    /// What is known already, else read, as soon as no other file is read.
    async fn now(
        &self,
        found: &Found,
        read: Arc<AtomicU64>,
        cancel: &CancellationToken,
        known: fn(&Self, &Found) -> Option<Digests>,
    ) -> Result<(Digests, io::Result<()>), HashError> {
        if cancel.is_cancelled() {
            return Err(HashError::Cancelled);
        }
        let (inventory, file) = (self.clone(), found.clone());
        if let Some(digests) = spawn_blocking(move || known(&inventory, &file)).await.map_err(broken_off)? {
            return Ok((digests, Ok(())));
        }
        let mut turn = turn::now(cancel).await.ok_or(HashError::Cancelled)?;
        // Who drops this future does not want the file any more.
        let end = cancel.child_token();
        let _end_with_us = end.clone().drop_guard();
        let (inventory, found) = (self.clone(), found.clone());
        let work = spawn_blocking(move || inventory.read(&found, &mut turn, &read, &end, known));
        work.await.map_err(broken_off)?
    }

    /// Reads the file, from where it was left when it was (blocking).
    fn read(
        &self,
        found: &Found,
        turn: &mut Turn,
        read: &AtomicU64,
        cancel: &CancellationToken,
        known: fn(&Self, &Found) -> Option<Digests>,
    ) -> Result<(Digests, io::Result<()>), HashError> {
        // Whoever had the turn before may have read this very file.
        if let Some(digests) = known(self, found) {
            return Ok((digests, Ok(())));
        }
        let file = File::open(&found.path)?;
        thread::sleep(CLOCK_TICK.saturating_sub(found.identity.age()));
        if Identity::of(&file.metadata()?) != found.identity {
            return Err(HashError::Changed);
        }
        let left = turn.take_if(|left| left.is_of(found.identity, self.chunk_bytes));
        let mut hashing = left.unwrap_or_else(|| Hashing::new(found.identity, self.chunk_bytes));
        match hashing.run(&file, read, cancel) {
            Err(HashError::Cancelled) => {
                **turn = Some(hashing);
                return Err(HashError::Cancelled);
            }
            ended => ended?,
        }
        if Identity::of(&file.metadata()?) != found.identity || Identity::at(&found.path)? != found.identity {
            return Err(HashError::Changed);
        }
        let digests = hashing.finish();
        let kept = self.shelf.put(found, &digests);
        Ok((digests, kept))
    }
}

/// Of this thread and those that it starts. A process may always do that.
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, IDLE) {
        tracing::debug!(%error, "the priority of the thread that hashes cannot be lowered");
    }
}

fn broken_off<E: std::error::Error + Send + Sync + 'static>(error: E) -> HashError {
    HashError::Io(io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::time::timeout;

    use super::*;

    fn found(dir: &Path, content: &[u8]) -> (Inventory, Found) {
        let mut settings = Settings { data_dir: dir.join("data"), iso_dir: dir.to_path_buf(), ..Settings::default() };
        settings.iso.chunk_bytes = 4 << 10;
        let path = dir.join("cloudtower-v1.a.b.iso");
        std::fs::write(&path, content).unwrap();
        (Inventory::new(&settings), super::super::find(&path).unwrap())
    }

    /// Half an hour of work that takes no room on the disk.
    fn endless(dir: &Path) -> Found {
        let path = dir.join("cloudtower-v2.a.b.iso");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        super::super::find(&path).unwrap()
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
            let chunks = digests.chunks.unwrap();
            assert_eq!((chunks.size, crate::tls::hex(&chunks.sha256.concat())), (4 << 10, digests.sha256));
        }
        assert_eq!(inventory.fill(&found, read.clone(), &cancel).await.ok(), inventory.known(&found));
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
    async fn hashes_without_the_right_chunks_are_enough_for_a_job() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, found) = found(dir.path(), b"abc");
        let (cancel, read) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let other = Inventory { chunk_bytes: 8 << 10, ..inventory.clone() };
        other.fill(&found, read.clone(), &cancel).await.unwrap();
        assert!(other.full(&found).is_some() && inventory.full(&found).is_none());
        let digests = inventory.digests(&found, read.clone(), &cancel).await.unwrap();
        assert_eq!((digests.chunks.unwrap().size, read.load(Ordering::Relaxed)), (8 << 10, 3));
        let digests = inventory.fill(&found, read.clone(), &cancel).await.unwrap();
        assert_eq!((digests.chunks.unwrap().size, read.load(Ordering::Relaxed)), (4 << 10, 6));
        assert!(inventory.full(&found).is_some());
    }

    #[tokio::test]
    async fn cancelled_work_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, found) = found(dir.path(), b"abc");
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(matches!(inventory.digests(&found, Arc::default(), &cancel).await, Err(HashError::Cancelled)));
        assert!(matches!(inventory.fill_ahead(&found, Arc::default(), &cancel).await, Err(HashError::Cancelled)));
        assert_eq!(inventory.known(&found), None);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_not_read_for_the_inventory() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, found) = found(dir.path(), b"abc");
        std::fs::write(dir.path().join("data"), "a file in its place").unwrap();
        let (cancel, read) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        assert!(matches!(inventory.fill(&found, read.clone(), &cancel).await, Err(HashError::NotKept(_))));
        assert!(matches!(inventory.fill_ahead(&found, Arc::default(), &cancel).await, Err(HashError::NotKept(_))));
        assert_eq!(read.load(Ordering::Relaxed), 0);
        inventory.digests(&found, read, &cancel).await.unwrap();
    }

    #[test]
    fn only_the_thread_that_hashes_ahead_has_the_lowest_priority() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let lowered = thread::spawn(move || {
            lower_priority();
            // The one that does MD5.
            (own(), thread::spawn(own).join().unwrap())
        });
        assert_eq!(lowered.join().unwrap(), (IDLE, IDLE));
        assert_eq!(own(), before);
    }

    /// Hashes ahead until so many bytes are done. Jobs of other tests may come first.
    async fn begin(
        inventory: &Inventory,
        found: &Found,
        cancel: &CancellationToken,
        bytes: u64,
    ) -> (Ahead, Arc<AtomicU64>) {
        loop {
            let (inventory, found, cancel) = (inventory.clone(), found.clone(), cancel.clone());
            let read = Arc::new(AtomicU64::new(0));
            let told = read.clone();
            let mut ahead: Ahead = Box::pin(async move { inventory.fill_ahead(&found, told, &cancel).await });
            let early = loop {
                let ended = timeout(Duration::from_millis(1), &mut ahead).await;
                if ended.is_ok() || read.load(Ordering::Relaxed) >= bytes {
                    break ended.ok();
                }
            };
            match early {
                None => return (ahead, read),
                Some(ended) => assert!(matches!(ended, Err(HashError::Cancelled)), "{ended:?}"),
            }
        }
    }

    type Ahead = std::pin::Pin<Box<dyn Future<Output = Result<Digests, HashError>>>>;

    #[tokio::test]
    async fn the_background_makes_room_for_a_job_of_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, small) = found(dir.path(), b"abc");
        let (large, cancel) = (endless(dir.path()), CancellationToken::new());
        let (ahead, _) = begin(&inventory, &large, &cancel, 1).await;
        inventory.digests(&small, Arc::default(), &cancel).await.unwrap();
        assert!(matches!(ahead.await, Err(HashError::Cancelled)));
        assert!(!cancel.is_cancelled());
    }

    #[tokio::test]
    async fn a_job_goes_on_where_the_background_is_with_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, _) = found(dir.path(), b"abc");
        let (large, cancel) = (endless(dir.path()), CancellationToken::new());
        // Much more than a job reads until it is first looked at.
        let (ahead, before) = begin(&inventory, &large, &cancel, 64 << 20).await;
        let read = Arc::new(AtomicU64::new(0));
        let mut job = Box::pin(inventory.digests(&large, read.clone(), &cancel));
        while read.load(Ordering::Relaxed) == 0 {
            assert!(timeout(Duration::from_millis(1), &mut job).await.is_err());
        }
        assert!(matches!(ahead.await, Err(HashError::Cancelled)));
        let (before, after) = (before.load(Ordering::Relaxed), read.load(Ordering::Relaxed));
        assert!(after >= before, "{before} bytes were read, and are read again: {after}");
        cancel.cancel();
        assert!(matches!(job.await, Err(HashError::Cancelled)));
    }
}
