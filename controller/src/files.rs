//! Files that others must not read, and that are never half there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// For keys and the store.
pub const PRIVATE: u32 = 0o600;
/// For certificates and settings.
pub const PUBLIC: u32 = 0o644;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", path.display())]
pub struct FileError {
    /// What was attempted.
    pub what: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// Makes a directory of mode 0700, parents included; takes group and others out of one that is there.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    let failed = |what| move |source| FileError { what, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("making the directory"))?;
    let mode = fs::metadata(path).map_err(failed("looking at the directory"))?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("closing the directory"))?;
    }
    Ok(())
}

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    if path.symlink_metadata().is_ok() {
        let source =
            io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not overwritten; move it away first");
        return Err(FileError { what: "writing", path: path.to_owned(), source });
    }
    replace(path, bytes, mode)
}

/// Writes a file whole or not at all: into a neighbour, to disk, then renamed.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError { what: "writing", path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| failed(io::Error::other("it is no file name")))?;
    let mut part = name.to_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let written = write_synced(&part, bytes, mode).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_parent(path)).map_err(failed)
}

/// Takes group and others out of a file that something else has made.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    let closed = fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE));
    closed.map_err(|source| FileError { what: "closing", path: path.to_owned(), source })
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError { what: "reading", path: path.to_owned(), source })
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_whole_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_new(&path, b"one", PRIVATE).unwrap();
        let refused = write_new(&path, b"two", PRIVATE).unwrap_err();
        assert!(refused.source.to_string().contains("not overwritten"));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_open_directory_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(private_dir(Path::new("/proc/nowhere/x")).is_err());
    }
}
