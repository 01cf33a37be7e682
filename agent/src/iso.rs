//! The CloudTower ISO files on the agent's disk: which there are, which one a job uses, whether it is one (R12,
//! `flow.md` 1.1 to 1.3). Knows no cluster. Everything here that opens a file blocks, but for
//! what is `async`.

mod ahead;
mod chunks;
mod directory;
mod hashing;
mod inventory;
mod shelf;
mod turn;
mod volume;

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gantry_proto::{plan::IsoChoice, v1::IsoFile};
use serde::{Deserialize, Serialize};

pub use ahead::hash_ahead;
pub use chunks::{ChunkDigests, MOST_CHUNKS};
pub use directory::{Directory, LeftOut};
pub use hashing::{Digests, HashError};
pub use inventory::Inventory;
pub(crate) use shelf::write_atomically;
pub use volume::{Contents, VolumeError};

use crate::{config::Settings, facts::IsoFact};

/// What a name tells: `cloudtower-<version>.<os>.<arch>.iso` (R12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoName {
    pub version: String,
    pub os: String,
    pub arch: String,
}

/// Tells whether a file is still the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Nanoseconds since 1970.
    pub ctime_ns: i128,
}

/// An ISO file that can be used as far as its name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub file_name: String,
    pub name: IsoName,
    pub identity: Identity,
}

/// Why there is no ISO to use. Each message says what to do about which file.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    #[error("no file named cloudtower-<version>.<os>.<arch>.iso lies in {}", .0.display())]
    None(PathBuf),
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    #[error("\"{0}\" is not the name of a file in the agent's ISO directory")]
    BadName(String),
    #[error("\"{0}\" is not named like cloudtower-<version>.<os>.<arch>.iso")]
    Pattern(String),
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    #[error("{} has {size} bytes, at least {least} are expected (iso.min_bytes)", path.display())]
    TooSmall { path: PathBuf, size: u64, least: u64 },
    #[error("{} cannot be read", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl IsoName {
    /// Takes a file name apart; `None` when it does not follow the pattern.
    pub fn parse(file_name: &str) -> Option<Self> {
        let lower = file_name.to_ascii_lowercase();
        if !lower.starts_with("cloudtower-") || !lower.ends_with(".iso") {
            return None;
        }
        let inner = file_name.get("cloudtower-".len()..file_name.len() - ".iso".len())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
        let mut parts = inner.rsplitn(3, '.');
        let (arch, os, version) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = [arch, os, version].iter().all(|part| !part.is_empty() && part.chars().all(plain));
        whole.then(|| Self { version: version.to_owned(), os: os.to_owned(), arch: arch.to_owned() })
    }

    /// Whether it is the version that a workbook speaks of, written with or without `v`.
    pub fn is_version(&self, other: &str) -> bool {
        let plain = |version: &str| version.trim().trim_start_matches(['v', 'V']).to_ascii_lowercase();
        let (own, other) = (plain(&self.version), plain(other));
        own == other || own.strip_prefix(&other).is_some_and(|rest| rest.starts_with(['-', '.', '_']))
    }
}

impl Identity {
    /// Of an open file or a path's target.
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file was changed last; nothing when that is yet to come by this machine's clock. Each write shows
    /// in ctime, which nobody can set; mtime comes with a copy.
    pub fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let nanos = now.saturating_sub(self.ctime_ns).max(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Of the file that lies there now.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(path)?))
    }
}

impl From<&IsoFact> for Identity {
    fn from(fact: &IsoFact) -> Self {
        let IsoFact { device, inode, size, mtime_ns, ctime_ns, .. } = *fact;
        Self { device, inode, size, mtime_ns, ctime_ns }
    }
}

/// The file that a job uses: the one that the plan names, else the newest that follows the pattern.
pub fn choose(settings: &Settings, choice: &IsoChoice) -> Result<Found, IsoError> {
    let found = match &choice.file_name {
        Some(name) => named(settings, name)?,
        None => {
            let newest = Directory::read(&settings.iso_dir)?.found.into_iter().next();
            newest.ok_or_else(|| IsoError::None(settings.iso_dir.clone()))?
        }
    };
    match found.identity.size {
        0 => Err(IsoError::Empty(found.path)),
        size if size < settings.iso.min_bytes => {
            Err(IsoError::TooSmall { path: found.path, size, least: settings.iso.min_bytes })
        }
        _ => Ok(found),
    }
}

/// The files that the agent offers, with their hashes as far as they are known already, newest first. What cannot be
/// read is left out.
pub fn list(settings: &Settings) -> Vec<IsoFile> {
    let all = Directory::read(&settings.iso_dir).unwrap_or_default().found;
    let known = Inventory::new(settings).known_sha256(&all);
    let file = |(found, sha256): (Found, Option<String>)| IsoFile {
        sha256: sha256.unwrap_or_default(),
        name: found.file_name,
        size: found.identity.size,
        version: found.name.version,
        os: found.name.os,
        arch: found.name.arch,
    };
    all.into_iter().zip(known).map(file).collect()
}

/// The ISO file at any path of this machine (blocking).
pub fn find(path: &Path) -> Result<Found, IsoError> {
    let path = std::path::absolute(path).map_err(|source| IsoError::Io { path: path.to_owned(), source })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    directory::look(path, &name)
}

/// Looks inside: whether it is an ISO 9660 volume, and whether the guest tools are in its root directory.
pub fn contents(found: &Found) -> Result<Contents, VolumeError> {
    volume::read(&File::open(&found.path)?, found.identity.size)
}

fn named(settings: &Settings, name: &str) -> Result<Found, IsoError> {
    let only_a_name = Path::new(name).file_name().is_some_and(|file| file == name) && !name.starts_with('.');
    if !only_a_name {
        return Err(IsoError::BadName(name.to_owned()));
    }
    directory::look(settings.iso_dir.join(name), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Settings {
        let mut settings = Settings { data_dir: dir.join("data"), iso_dir: dir.join("iso"), ..Settings::default() };
        settings.iso.min_bytes = 10;
        std::fs::create_dir_all(&settings.iso_dir).unwrap();
        settings
    }

    fn put(settings: &Settings, name: &str, size: usize, age_s: u64) {
        let file = File::create(settings.iso_dir.join(name)).unwrap();
        file.set_len(size as u64).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age_s)).unwrap();
    }

    #[test]
    fn names_are_taken_apart() {
        let name = IsoName::parse("cloudtower-v4.6.2.oe2003.x86_64.iso").unwrap();
        assert_eq!((name.version.as_str(), name.os.as_str(), name.arch.as_str()), ("v4.6.2", "oe2003", "x86_64"));
        assert!(name.is_version("4.6.2") && name.is_version("V4.6.2") && name.is_version("4.6"));
        assert!(!name.is_version("4.6.21") && !name.is_version("4.7.1") && !name.is_version("4.6.2.1"));
        for bad in [
            "cloudtower.iso",
            "cloudtower-v4.iso",
            "cloudtower-.a.b.iso",
            "tower-v4.a.b.iso",
            "cloudtower-v4.a.b.img",
            "cloudtower-v4.a b.c.iso",
        ] {
            assert_eq!(IsoName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_named_file_wins_else_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let chosen = |choice: &IsoChoice| choose(&settings, choice).map(|found| found.file_name);
        assert!(matches!(chosen(&IsoChoice::default()), Err(IsoError::None(_))));
        put(&settings, "cloudtower-v4.7.1.oe2003.x86_64.iso", 100, 50);
        put(&settings, "cloudtower-v4.6.2.oe2003.x86_64.iso", 100, 5);
        put(&settings, "other.iso", 100, 0);
        assert_eq!(chosen(&IsoChoice::default()).unwrap(), "cloudtower-v4.6.2.oe2003.x86_64.iso");
        let named = |name: &str| IsoChoice { file_name: Some(name.to_owned()), ..IsoChoice::default() };
        let old = "cloudtower-v4.7.1.oe2003.x86_64.iso";
        assert_eq!(chosen(&named(old)).unwrap(), old);
        assert!(matches!(chosen(&named("cloudtower-v9.a.b.iso")), Err(IsoError::Missing(_))));
        assert!(matches!(chosen(&named("other.iso")), Err(IsoError::Pattern(_))));
        for bad in ["../cloudtower-v4.a.b.iso", "/etc/passwd", "", "..", "a/cloudtower-v4.a.b.iso"] {
            assert!(matches!(chosen(&named(bad)), Err(IsoError::BadName(_))), "{bad}");
        }
        assert_eq!(list(&settings).iter().map(|f| f.version.as_str()).collect::<Vec<_>>(), ["v4.6.2", "v4.7.1"]);
    }

    #[test]
    fn files_without_content_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        put(&settings, "cloudtower-v1.a.b.iso", 0, 9);
        assert!(matches!(choose(&settings, &IsoChoice::default()), Err(IsoError::Empty(_))));
        put(&settings, "cloudtower-v2.a.b.iso", 9, 1);
        assert!(matches!(choose(&settings, &IsoChoice::default()), Err(IsoError::TooSmall { size: 9, .. })));
        std::fs::create_dir(settings.iso_dir.join("cloudtower-v3.a.b.iso")).unwrap();
        let directory = IsoChoice { file_name: Some("cloudtower-v3.a.b.iso".into()), ..IsoChoice::default() };
        assert!(matches!(choose(&settings, &directory), Err(IsoError::NotAFile(_))));
    }

    #[test]
    fn a_changed_file_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        put(&settings, "cloudtower-v1.a.b.iso", 20, 9);
        let before = choose(&settings, &IsoChoice::default()).unwrap().identity;
        assert_eq!(Identity::at(&settings.iso_dir.join("cloudtower-v1.a.b.iso")).unwrap(), before);
        put(&settings, "cloudtower-v1.a.b.iso", 21, 9);
        assert_ne!(choose(&settings, &IsoChoice::default()).unwrap().identity, before);
    }
}
