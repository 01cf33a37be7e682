//! The settings of the ISO files: which count, how they are read, and when they are hashed ahead of the jobs.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Chunk sizes that make sense, bytes.
const CHUNK_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 30;
/// The longest times between two looks, and of rest before a file is hashed, seconds.
const LONGEST_S: u64 = 86_400;

/// The ISO files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iso {
    /// Smaller files are refused (R12); lower for rehearsals. Bytes.
    pub min_bytes: u64,
    /// How often the directory is looked at for the list that the controller has. Seconds.
    pub scan_s: u64,
    /// Pieces in which the file is read and sent. Bytes.
    pub piece_bytes: usize,
    /// How often the directory is looked at for files that have not been hashed yet: that is done in the background, so that
    /// no job waits for it. 0: never; the job that needs a file hashes it. Seconds.
    pub hash_every_s: u64,
    /// A file is hashed in the background when it has not been written to for so long. Seconds.
    pub settle_s: u64,
    /// Chunks whose digests are kept beside those of the whole file: the size that the clusters hand out. Bytes.
    pub chunk_bytes: u64,
}

impl Default for Iso {
    fn default() -> Self {
        Self {
            min_bytes: 1 << 30,
            scan_s: 30,
            piece_bytes: 32 << 10,
            hash_every_s: 30,
            settle_s: 60,
            chunk_bytes: 8 << 20,
        }
    }
}

impl Iso {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: u64, expected| Err(ConfigError::Value { key, value: value.to_string(), expected });
        if !CHUNK_BYTES.contains(&self.chunk_bytes) {
            return bad("iso.chunk_bytes", self.chunk_bytes, "it must be between 4 KiB and 1 GiB");
        }
        for (key, value) in [("iso.hash_every_s", self.hash_every_s), ("iso.settle_s", self.settle_s)] {
            if value > LONGEST_S {
                return bad(key, value, "it must not be more than 86400");
            }
        }
        Ok(())
    }
}
