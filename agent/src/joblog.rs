//! The log of one job at the agent: numbers events, journals them, tells them on, keeps the files of `flow.md` 8.3.

use std::{collections::BTreeMap, io};

use gantry_proto::{Body, JobId, Redactor, Sample, StepId};
use serde::{Deserialize, Serialize};

use crate::{
    config::Settings,
    facts::Facts,
    step::{IntentId, StepError},
};

/// The log of one job.
pub struct JobLog {}

/// A chunk that the server has acknowledged (R38).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its number, from 0.
    pub chunk_num: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl JobLog {
    /// Opens or creates the log in `data_dir/jobs/<job>` (blocking).
    pub fn open(_settings: &Settings, _job: JobId, _redactor: &Redactor) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Gives the event the next number and the time, redacts it, writes it to the journal (fsync) and to the stage log,
    /// and wakes the link.
    pub async fn append(&self, _body: Body) -> io::Result<()> {
        Ok(())
    }

    /// Appends a fact for each field that differs from what was written before.
    pub async fn save(&self, _step: &StepId, _facts: &Facts) -> io::Result<()> {
        Ok(())
    }

    /// Replaces the newest progress; also writes `upload_cloudtower.json` where the step is the upload.
    pub fn sample(&self, _sample: Sample) {}

    /// The next number for an intent.
    pub fn next_intent(&self) -> IntentId {
        IntentId(1)
    }

    /// [`StepError::Cancelled`] or [`StepError::Stopping`], whichever the token was cancelled for.
    pub fn why_stopped(&self) -> StepError {
        StepError::Cancelled
    }

    /// Writes down that the server has acknowledged a chunk of the upload volume with this image uuid. Made durable in
    /// batches: a crash may forget the last few, which costs sending them again.
    pub async fn chunk(&self, _image_uuid: &str, _chunk: Chunk) -> io::Result<()> {
        Ok(())
    }

    /// The acknowledged chunks of the upload volume with this image uuid, by number; also those of before a restart.
    pub fn chunks(&self, _image_uuid: &str) -> BTreeMap<u64, Chunk> {
        BTreeMap::new()
    }

    /// A new name for the installer's log, `cloudtower_install_<timestamp>.log`, to be kept in the facts.
    pub fn install_log_name(&self) -> String {
        String::new()
    }

    /// Appends output of SSH commands or of the installer to `logs/<name>` (R69), redacted line by line: what follows
    /// the last line end is held back until its line is complete or the job ends.
    pub async fn install_log(&self, _name: &str, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
