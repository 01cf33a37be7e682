//! The log files of a job (`flow.md` 8.3): stage log, newest upload progress, installer output. Everything here blocks.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use gantry_proto::Redactor;
use serde::Serialize;

/// One JSON object for each event and each told progress.
pub(super) const STAGE: &str = "stage_deploy_cloudtower.log";
/// The newest upload progress, one JSON object.
pub(super) const UPLOAD: &str = "upload_cloudtower.json";
/// The report of the newest inspection.
pub(super) const REPORT: &str = "inspection_report.zip";
/// What installer logs begin with.
pub(super) const INSTALL: &str = "cloudtower_install_";
/// A line of output that is longer is written in pieces of this size, bytes.
const HELD_BACK_MAX: usize = 64 << 10;

/// The log files of one job.
pub(super) struct Files {
    dir: PathBuf,
    stage: Mutex<Option<File>>,
    install: Mutex<Install>,
}

/// The installer log that is being written.
#[derive(Default)]
struct Install {
    name: String,
    /// Output after the last line end.
    rest: Vec<u8>,
}

impl Files {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, stage: Mutex::default(), install: Mutex::default() }
    }

    /// Appends a line to the stage log.
    pub(super) fn stage(&self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *stage {
            Some(file) => file,
            none => none.insert(self.append_to(STAGE)?),
        };
        file.write_all(&text)
    }

    /// Replaces the upload progress in one go.
    pub(super) fn upload(&self, progress: &impl Serialize) -> io::Result<()> {
        self.make_dir()?;
        let (path, next) = (self.dir.join(UPLOAD), self.dir.join(".upload_cloudtower.json.next"));
        fs::write(&next, serde_json::to_vec_pretty(progress)?)?;
        fs::rename(next, path)
    }

    /// Replaces the report of an inspection in one go.
    pub(super) fn report(&self, report: &[u8]) -> io::Result<()> {
        self.make_dir()?;
        let next = self.dir.join(".inspection_report.zip.next");
        fs::write(&next, report)?;
        fs::rename(next, self.dir.join(REPORT))
    }

    /// Appends output, redacted line by line.
    pub(super) fn install(&self, name: &str, bytes: &[u8], redactor: &Redactor) -> io::Result<()> {
        if !name.starts_with(INSTALL) || Path::new(name).components().count() != 1 {
            let message = format!("\"{name}\" is not the name of an installer log");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut install = self.install.lock().unwrap_or_else(PoisonError::into_inner);
        if install.name != name {
            self.write_rest(&mut install, redactor)?;
            name.clone_into(&mut install.name);
        }
        install.rest.extend_from_slice(bytes);
        let whole = install.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = if install.rest.len() - whole > HELD_BACK_MAX { install.rest.len() } else { whole };
        if end == 0 {
            return Ok(());
        }
        let text = redactor.bytes(&install.rest[..end]);
        self.append_to(name)?.write_all(text.as_bytes())?;
        install.rest.drain(..end);
        Ok(())
    }

    /// Writes what was held back.
    pub(super) fn flush(&self, redactor: &Redactor) -> io::Result<()> {
        self.write_rest(&mut self.install.lock().unwrap_or_else(PoisonError::into_inner), redactor)
    }

    fn write_rest(&self, install: &mut Install, redactor: &Redactor) -> io::Result<()> {
        if install.rest.is_empty() {
            return Ok(());
        }
        let text = redactor.bytes(&install.rest);
        self.append_to(&install.name)?.write_all(format!("{text}\n").as_bytes())?;
        install.rest.clear();
        Ok(())
    }

    fn append_to(&self, name: &str) -> io::Result<File> {
        self.make_dir()?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.dir.join(name))
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use gantry_proto::{REDACTED, Secret};

    use super::*;

    #[test]
    fn a_secret_that_arrives_in_two_pieces_is_still_found() {
        let dir = tempfile::tempdir().unwrap();
        let (files, redactor) = (Files::new(dir.path().join("logs")), Redactor::new());
        redactor.register(&Secret::new("s3cr3t-value"));
        let name = "cloudtower_install_20250930T183000Z.log";
        files.install(name, b"one\npass s3cr3t", &redactor).unwrap();
        files.install(name, b"-value\nthree", &redactor).unwrap();
        let read = || fs::read_to_string(dir.path().join("logs").join(name)).unwrap();
        assert_eq!(read(), format!("one\npass {REDACTED}\n"));
        files.flush(&redactor).unwrap();
        assert_eq!(read(), format!("one\npass {REDACTED}\nthree\n"));
    }

    #[test]
    fn a_line_without_end_does_not_eat_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (files, redactor) = (Files::new(dir.path().to_owned()), Redactor::new());
        files.install("cloudtower_install_x.log", &[b'x'; HELD_BACK_MAX + 1], &redactor).unwrap();
        let written = fs::metadata(dir.path().join("cloudtower_install_x.log")).unwrap().len();
        assert_eq!(written, HELD_BACK_MAX as u64 + 1);
    }

    #[test]
    fn the_name_of_a_log_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().join("logs"));
        for name in ["", "x.log", "../cloudtower_install_x.log", "cloudtower_install_/../../x"] {
            assert!(files.install(name, b"x\n", &Redactor::new()).is_err(), "{name}");
        }
    }
}
