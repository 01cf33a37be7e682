//! A file that `ctl` makes for somebody: there as a whole or not at all, and never unasked in the place of another one.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    exit::{Exit, Failure},
    profile::io_words,
};

/// A file to be made. Only its owner may read it: reports name people and addresses, workbooks hold passwords.
#[derive(Debug)]
pub(crate) struct OutFile {
    path: PathBuf,
    force: bool,
}

impl OutFile {
    /// Refuses what is there already; with `force` a file may be replaced, and nothing else.
    pub(crate) fn at(path: &Path, force: bool) -> Result<Self, Failure> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritten(path, &error)),
            Ok(there) if force && (there.is_file() || there.is_symlink()) => {}
            Ok(there) if force => {
                let what = match there.is_dir() {
                    true => said!("a directory", "目录"),
                    false => said!("no regular file", "非普通文件"),
                };
                return Err(Failure::usage(said!(
                    "{path} is not replaced: it is {what}",
                    "不替换 {path}：它是{what}"; path = path.display()
                ))
                .remedy(said!("choose the name of a file", "请给出文件名")));
            }
            Ok(_) => return Err(there_already(path)),
        }
        Ok(Self { path: path.to_owned(), force })
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it under another name beside its place and renames it. A link in its place is replaced, not followed.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |error: io::Error| unwritten(&self.path, &error);
        let directory = parent(&self.path);
        let mut part = tempfile::Builder::new().prefix(".gantry-part-").tempfile_in(directory).map_err(failed)?;
        part.write_all(bytes).and_then(|()| part.as_file().sync_all()).map_err(failed)?;
        // What has come into its place meanwhile is not touched either.
        let placed = if self.force { part.persist(&self.path) } else { part.persist_noclobber(&self.path) };
        match placed {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(there_already(&self.path)),
            Err(error) => return Err(failed(error.error)),
        }
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

/// Whether two paths lead to one file, also through links of either kind.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// The directory that a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is there is not overwritten.
pub(crate) fn there_already(path: &Path) -> Failure {
    Failure::usage(said!(
        "{path} is there already, and is not touched",
        "{path} 已存在，未作改动"; path = path.display()
    ))
    .remedy(said!("choose another name, or move it away first", "请换一个名称，或先将其移走"))
}

/// It cannot be written.
pub(crate) fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => said!("there is no such directory", "目录不存在"),
        io::ErrorKind::PermissionDenied => said!("you may not write there", "没有写入权限"),
        _ => io_words(error),
    };
    Failure::new(Exit::Usage, said!("cannot write {path}", "无法写入 {path}"; path = path.display()))
        .because(why)
        .remedy(said!("choose a place where you may write and that has room", "请选择有写入权限且空间足够的位置"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_whole_private_and_takes_nobodys_place_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        OutFile::at(&path, false).unwrap().write(b"one").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), fs::metadata(&path).unwrap().mode() & 0o777),
            (&b"one"[..], 0o600)
        );
        assert!(OutFile::at(&path, false).is_err());
        OutFile::at(&path, true).unwrap().write(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // It came into the place after the look.
        let late = OutFile { path: path.clone(), force: false };
        assert!(format!("{:?}", late.write(b"three").unwrap_err()).contains("there already"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no part is left");
        for force in [false, true] {
            assert!(OutFile::at(dir.path(), force).is_err());
        }
        let nowhere = OutFile::at(&dir.path().join("no/out"), false).unwrap().write(b"");
        assert!(format!("{nowhere:?}").contains("there is no such directory"));
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, hard) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("hard"));
        fs::write(&file, "kept").unwrap();
        symlink(&file, &link).unwrap();
        fs::hard_link(&file, &hard).unwrap();
        assert!(is_same_file(&file, &link) && is_same_file(&link, &hard));
        assert!(!is_same_file(&file, dir.path()) && !is_same_file(&file, &dir.path().join("none")));
        OutFile::at(&link, true).unwrap().write(b"new").unwrap();
        assert_eq!((fs::read(&file).unwrap(), fs::read(&link).unwrap()), (b"kept".to_vec(), b"new".to_vec()));
        assert!(!is_same_file(&file, &link));
    }
}
