//! Where the hashes are kept: `iso-inventory.json` with those of whole files, and beside it `iso-chunks/` with a file for
//! each list of chunk digests, so that whoever looks only for a whole file's hash reads little. A running agent and a
//! command by hand may write at the same time: one waits for the other. Knows nothing of hashing.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::{
    Found, Identity,
    chunks::{ChunkDigests, MOST_CHUNKS},
    hashing::Digests,
};

/// Files whose hashes are kept, at most; the oldest go.
const MOST_ENTRIES: usize = 64;
/// Bytes of the inventory file that are read, at most: entries take some hundred each, and a long path.
const MOST_BYTES: u64 = 1 << 20;
/// Bytes of a chunk list that are read, at most: 64 digits, two quotes and a comma for each, and a few words.
const MOST_LIST_BYTES: u64 = MOST_CHUNKS * 67 + 1024;
/// How long a writer waits for another one, which takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two looks whether it is done.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// The files of one agent. Every call blocks on the disk.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
}

/// The entries as they were when they were read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Oldest first.
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    identity: Identity,
    digests: Whole,
}

/// The hashes of a whole file, and which chunk list belongs to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Whole {
    pub(super) sha256: String,
    pub(super) md5: String,
    /// Not there in inventories of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chunks: Option<ListOf>,
}

/// A chunk list that is kept in a file of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ListOf {
    /// Bytes of a chunk.
    pub(super) size: u64,
    /// SHA-256 of the list.
    root: String,
}

impl Listed {
    /// What is known of exactly this file, by whichever path it was found.
    pub(super) fn of(&self, identity: Identity) -> Option<&Whole> {
        self.files.iter().rfind(|entry| entry.identity == identity).map(|entry| &entry.digests)
    }
}

impl Shelf {
    /// In this directory; nothing is made.
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The hashes of exactly this file, with its chunk list when that is there and whole.
    pub(super) fn get(&self, identity: Identity) -> Option<Digests> {
        let listed = self.list();
        let whole = listed.of(identity)?;
        let chunks = whole.chunks.as_ref().and_then(|list| self.chunks(&whole.sha256, list));
        let chunks = chunks.filter(|chunks| chunks.covers(identity.size));
        Some(Digests { sha256: whole.sha256.clone(), md5: whole.md5.clone(), chunks })
    }

    /// What is listed; nothing when there is no file or it is damaged.
    pub(super) fn list(&self) -> Listed {
        read(&self.inventory(), MOST_BYTES).unwrap_or_default()
    }

    /// Makes the directory, and says whether it can be written to.
    pub(super) fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        Ok(access(&self.dir, Access::WRITE_OK | Access::EXEC_OK)?)
    }

    /// Keeps the hashes of this file in the place of older ones.
    pub(super) fn put(&self, found: &Found, digests: &Digests) -> io::Result<()> {
        self.prepare()?;
        let _one = self.lock()?;
        let mut listed = self.list();
        listed.files.retain(|entry| entry.path != found.path && entry.identity != found.identity);
        let chunks = digests.chunks.as_ref().map(|chunks| ListOf { size: chunks.size, root: chunks.root() });
        let whole = Whole { sha256: digests.sha256.clone(), md5: digests.md5.clone(), chunks };
        // The list first: an entry never names one that is still to come.
        if let (Some(chunks), Some(list)) = (&digests.chunks, &whole.chunks) {
            DirBuilder::new().recursive(true).mode(0o700).create(self.lists())?;
            self.give_away(&self.lists());
            self.write(&self.list_file(&whole.sha256, list.size), &serde_json::to_vec(chunks)?)?;
        }
        listed.files.push(Entry { path: found.path.clone(), identity: found.identity, digests: whole });
        let surplus = listed.files.len().saturating_sub(MOST_ENTRIES);
        listed.files.drain(..surplus);
        self.write(&self.inventory(), &serde_json::to_vec_pretty(&listed)?)?;
        self.tidy(&listed);
        Ok(())
    }

    fn chunks(&self, sha256: &str, list: &ListOf) -> Option<ChunkDigests> {
        let chunks: ChunkDigests = read(&self.list_file(sha256, list.size), MOST_LIST_BYTES)?;
        (chunks.size == list.size && chunks.root() == list.root).then_some(chunks)
    }

    /// Removes chunk lists that no entry names. What stays costs some room, no more.
    fn tidy(&self, listed: &Listed) {
        let list_of = |entry: &Entry| Some(self.list_file(&entry.digests.sha256, entry.digests.chunks.as_ref()?.size));
        let named: Vec<_> = listed.files.iter().filter_map(list_of).collect();
        for file in fs::read_dir(self.lists()).into_iter().flatten().flatten() {
            if !named.contains(&file.path()) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Keeps other writers out, in this process and in others. It is the directory that is locked: a file for it could
    /// belong to whoever ran a command by hand.
    fn lock(&self) -> io::Result<Option<File>> {
        let (dir, begun) = (File::open(&self.dir)?, Instant::now());
        loop {
            match dir.try_lock() {
                Ok(()) => return Ok(Some(dir)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => thread::sleep(LOCK_LOOK),
                Err(TryLockError::WouldBlock) => {
                    let message = format!("{} is locked by another process", self.dir.display());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
                Err(TryLockError::Error(error)) => {
                    // A file system without such locks: the worst is a file that is read twice.
                    tracing::debug!(%error, dir = %self.dir.display(), "the directory cannot be locked");
                    return Ok(None);
                }
            }
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_atomically(path, bytes)?;
        self.give_away(path);
        Ok(())
    }

    /// To the owner of the directory: the agent must be able to read what root has written by hand.
    fn give_away(&self, path: &Path) {
        let (Ok(dir), Ok(own)) = (fs::metadata(&self.dir), fs::metadata(path)) else { return };
        if (dir.uid(), dir.gid()) != (own.uid(), own.gid())
            && let Err(error) = chown(path, Some(dir.uid()), Some(dir.gid()))
        {
            tracing::debug!(%error, path = %path.display(), "the file stays whose it is");
        }
    }

    fn inventory(&self) -> PathBuf {
        self.dir.join("iso-inventory.json")
    }

    fn lists(&self) -> PathBuf {
        self.dir.join("iso-chunks")
    }

    fn list_file(&self, sha256: &str, size: u64) -> PathBuf {
        // Only a digest may be part of a path.
        let digest: String = sha256.chars().filter(char::is_ascii_hexdigit).take(64).collect();
        self.lists().join(format!("{digest}-{size}.json"))
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path, most: u64) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Writes beside it, then renames: whoever reads sees the old content or the new one (blocking).
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(seed: u8) -> Digests {
        let sha256 = vec![[seed; 32], [seed ^ 1; 32]];
        Digests {
            sha256: format!("{seed:02x}").repeat(32),
            md5: "m".to_owned(),
            chunks: Some(ChunkDigests { size: 8, sha256 }),
        }
    }

    /// A file that is nowhere; two chunks of eight bytes long.
    fn found(path: &str, inode: u64) -> Found {
        let name = super::super::IsoName::parse("cloudtower-v1.a.b.iso").unwrap();
        let identity = Identity { inode, size: 12, ..Identity::default() };
        Found { path: path.into(), file_name: "cloudtower-v1.a.b.iso".into(), name, identity }
    }

    fn lists(shelf: &Shelf) -> usize {
        fs::read_dir(shelf.lists()).unwrap().count()
    }

    #[test]
    fn what_is_put_is_found_by_the_identity_alone() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(&dir.path().join("data"));
        shelf.put(&found("/a", 1), &digests(1)).unwrap();
        shelf.put(&found("/b", 2), &digests(2)).unwrap();
        assert_eq!(shelf.get(found("/elsewhere", 1).identity), Some(digests(1)));
        assert_eq!(shelf.get(found("/a", 3).identity), None);
        // Another file in the place of the first one.
        shelf.put(&found("/a", 3), &Digests { chunks: None, ..digests(3) }).unwrap();
        assert_eq!(shelf.get(found("/a", 1).identity), None);
        assert_eq!(shelf.get(found("/a", 3).identity).unwrap().chunks, None);
        assert_eq!(lists(&shelf), 1, "the list of the file that is gone has gone too");
    }

    #[test]
    fn an_inventory_of_an_older_agent_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(dir.path());
        let old = r#"{"files": [{"path": "/iso/x.iso",
            "identity": {"device": 0, "inode": 7, "size": 12, "mtime_ns": 0, "ctime_ns": 0},
            "digests": {"sha256": "aa", "md5": "bb"}}]}"#;
        fs::write(shelf.inventory(), old).unwrap();
        let wanted = Digests { sha256: "aa".into(), md5: "bb".into(), chunks: None };
        assert_eq!(shelf.get(found("/iso/x.iso", 7).identity), Some(wanted.clone()));
        // It stays when something new is put beside it.
        shelf.put(&found("/b", 2), &digests(2)).unwrap();
        assert_eq!(shelf.get(found("/iso/x.iso", 7).identity), Some(wanted));
    }

    #[test]
    fn damage_costs_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(dir.path());
        let (one, without) = (found("/a", 1), Some(Digests { chunks: None, ..digests(1) }));
        shelf.put(&one, &digests(1)).unwrap();
        let file = shelf.list_file(&digests(1).sha256, 8);
        let text = fs::read_to_string(&file).unwrap();
        let other = serde_json::to_string(&digests(9).chunks.unwrap()).unwrap();
        for damaged in [&text[..text.len() - 1], "", other.as_str()] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(shelf.get(one.identity), without, "{damaged}");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(shelf.get(one.identity), without);
        fs::write(shelf.inventory(), b"{\"files\": [{]").unwrap();
        assert_eq!(shelf.get(one.identity), None);
        shelf.put(&one, &digests(1)).unwrap();
        assert_eq!(shelf.get(one.identity), Some(digests(1)));
        // A list for a file of another length is no list of it.
        shelf.put(&Found { identity: Identity { size: 17, ..one.identity }, ..one.clone() }, &digests(1)).unwrap();
        assert_eq!(shelf.get(Identity { size: 17, ..one.identity }), without);
    }

    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(dir.path());
        for inode in 0..=MOST_ENTRIES as u64 {
            shelf.put(&found(&format!("/{inode}"), inode), &digests(u8::try_from(inode).unwrap())).unwrap();
        }
        assert_eq!(shelf.get(found("/0", 0).identity), None);
        assert_eq!(shelf.get(found("/1", 1).identity), Some(digests(1)));
        assert_eq!((shelf.list().files.len(), lists(&shelf)), (MOST_ENTRIES, MOST_ENTRIES));
    }

    #[test]
    fn the_longest_inventory_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(dir.path());
        let long = "/d".repeat(2000);
        let whole = |inode| Entry {
            path: format!("{long}{inode}").into(),
            identity: Identity { inode, device: u64::MAX, size: u64::MAX, mtime_ns: i128::MAX, ctime_ns: i128::MIN },
            digests: Whole {
                sha256: "a".repeat(64),
                md5: "a".repeat(32),
                chunks: Some(ListOf { size: u64::MAX, root: "a".repeat(64) }),
            },
        };
        let listed = Listed { files: (0..MOST_ENTRIES as u64).map(whole).collect() };
        fs::write(shelf.inventory(), serde_json::to_vec_pretty(&listed).unwrap()).unwrap();
        assert_eq!(shelf.list().files.len(), MOST_ENTRIES);
        let most = ChunkDigests { size: u64::MAX, sha256: vec![[7; 32]; MOST_CHUNKS as usize] };
        assert!(serde_json::to_vec(&most).unwrap().len() as u64 <= MOST_LIST_BYTES);
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for writer in 0..8u8 {
                // As another process would have it.
                let shelf = Shelf::at(dir.path());
                scope.spawn(move || {
                    for file in 0..8u8 {
                        let number = writer * 8 + file;
                        shelf.put(&found(&format!("/{number}"), number.into()), &digests(number)).unwrap();
                    }
                });
            }
        });
        let shelf = Shelf::at(dir.path());
        for number in 0..64u8 {
            assert_eq!(shelf.get(found("/", number.into()).identity), Some(digests(number)), "{number}");
        }
        assert_eq!(lists(&shelf), 64);
    }
}
