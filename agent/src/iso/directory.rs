//! What lies in the agent's ISO directory: the files it offers, and what is left out of them and why.

use std::{
    cmp::Reverse,
    io,
    path::{Path, PathBuf},
};

use super::{Found, Identity, IsoError, IsoName};

/// Entries that are looked at, at most.
pub(super) const MOST_FILES: usize = 1000;

/// The directory at one moment.
#[derive(Debug, Default)]
pub struct Directory {
    /// Every regular file whose name follows the pattern, newest first.
    pub found: Vec<Found>,
    /// By name.
    pub left_out: Vec<LeftOut>,
    /// Whether there are entries that were not looked at.
    pub more: bool,
}

/// Something in the directory that is not offered.
#[derive(Debug)]
pub struct LeftOut {
    /// As far as it can be read.
    pub name: String,
    pub why: IsoError,
}

impl Directory {
    /// Looks at it (blocking). A missing directory is an empty one.
    pub fn read(dir: &Path) -> Result<Self, IsoError> {
        let mut entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(IsoError::Io { path: dir.to_owned(), source }),
        };
        let mut directory = Self::default();
        for entry in entries.by_ref().take(MOST_FILES) {
            let Ok(name) = entry.map(|entry| entry.file_name()) else { continue };
            let readable = name.to_str().ok_or_else(|| IsoError::Pattern(name.to_string_lossy().into_owned()));
            match readable.and_then(|name| look(dir.join(name), name)) {
                Ok(found) => directory.found.push(found),
                Err(why) => directory.left_out.push(LeftOut { name: name.to_string_lossy().into_owned(), why }),
            }
        }
        directory.more = entries.next().is_some();
        directory.found.sort_by_key(|found| Reverse((found.identity.mtime_ns, found.file_name.clone())));
        directory.left_out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(directory)
    }
}

/// The file of this name at this path, when both can be used.
pub(super) fn look(path: PathBuf, name: &str) -> Result<Found, IsoError> {
    let parsed = IsoName::parse(name).ok_or_else(|| IsoError::Pattern(name.to_owned()))?;
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IsoError::Missing(path)),
        Err(source) => return Err(IsoError::Io { path, source }),
    };
    if !metadata.is_file() {
        return Err(IsoError::NotAFile(path));
    }
    Ok(Found { path, file_name: name.to_owned(), name: parsed, identity: Identity::of(&metadata) })
}
