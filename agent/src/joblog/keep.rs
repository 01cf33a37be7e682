//! What a job keeps beside its events: acknowledged chunks, the installer's output, the report of an inspection.

use std::{collections::BTreeMap, io};

use gantry_proto::result::LogsResult;
use jiff::Timestamp;

use super::{Chunk, JobLog, LOGS, files, lock};
use crate::{facts::Facts, journal::ChunkRecord};

impl JobLog {
    /// Writes down that the server has acknowledged a chunk of the upload volume with this image uuid. Made durable in
    /// batches: a crash may forget the last few, which costs sending them again.
    pub async fn chunk(&self, image_uuid: &str, chunk: Chunk) -> io::Result<()> {
        if self.only_looks {
            return Ok(());
        }
        let record = ChunkRecord { image_uuid: image_uuid.to_owned(), chunk: chunk.clone() };
        self.journal.on_disk(move |journal| journal.chunk(record)).await?;
        lock(&self.chunks).entry(image_uuid.to_owned()).or_default().insert(chunk.chunk_num, chunk);
        Ok(())
    }

    /// The acknowledged chunks of the upload volume with this image uuid, by number; also those of before a restart.
    pub fn chunks(&self, image_uuid: &str) -> BTreeMap<u64, Chunk> {
        lock(&self.chunks).get(image_uuid).cloned().unwrap_or_default()
    }

    /// A new name for the installer's log, `cloudtower_install_<timestamp>.log`, to be kept in the facts.
    pub fn install_log_name(&self) -> String {
        format!("{}{}.log", files::INSTALL, Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))
    }

    /// Appends output of SSH commands or of the installer to `logs/<name>` (R69), redacted line by line: what follows
    /// the last line end is held back until its line is complete or the job ends.
    pub async fn install_log(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.only_looks {
            return Ok(());
        }
        let (files, redactor, name, bytes) =
            (self.files.clone(), self.redactor.clone(), name.to_owned(), bytes.to_vec());
        self.journal.on_disk(move |_| files.install(&name, &bytes, &redactor)).await
    }

    /// Keeps the report of an inspection beside the logs; gives its name, relative to the job's directory. A newer one
    /// takes its place.
    pub async fn keep_report(&self, report: bytes::Bytes) -> io::Result<String> {
        let files = self.files.clone();
        self.journal.on_disk(move |_| files.report(&report)).await?;
        Ok(format!("{LOGS}/{}", files::REPORT))
    }

    /// Names of the log files, relative to the job's directory.
    pub fn log_files(&self, facts: &Facts) -> LogsResult {
        let name = |file: &str| Some(format!("{LOGS}/{file}"));
        LogsResult {
            stage: name(files::STAGE),
            upload: name(files::UPLOAD),
            install: facts.installer.as_ref().and_then(|installer| name(installer.local_log.as_ref()?)),
        }
    }
}
