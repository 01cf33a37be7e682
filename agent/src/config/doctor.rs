//! Settings of `agent doctor`.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// What `agent doctor` takes as good enough, and how long it looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Doctor {
    /// Each check ends within this, milliseconds.
    pub check_timeout_ms: u64,
    /// How much of the newest ISO file is read to measure the disk, bytes.
    pub read_bytes: u64,
    /// A slower disk is warned of, bytes a second.
    pub slow_bytes_per_s: u64,
    /// Less free space in `data_dir` is warned of; less than a sixteenth of it is a failure. Bytes.
    pub free_bytes: u64,
    /// The agent's own certificate is warned of when it ends within so many days.
    pub certificate_days: u32,
    /// Questions and answers over the line whose time is taken.
    pub round_trips: u32,
    /// A line that takes longer for one, in the median, is warned of, milliseconds.
    pub slow_round_trip_ms: u64,
}

impl Default for Doctor {
    fn default() -> Self {
        Self {
            check_timeout_ms: 10_000,
            read_bytes: 256 << 20,
            slow_bytes_per_s: 20 << 20,
            free_bytes: 1 << 30,
            certificate_days: 14,
            round_trips: 5,
            slow_round_trip_ms: 1_000,
        }
    }
}

impl Doctor {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: u64, expected| Err(ConfigError::Value { key, value: value.to_string(), expected });
        if !(100..=600_000).contains(&self.check_timeout_ms) {
            return bad("doctor.check_timeout_ms", self.check_timeout_ms, "it must be between 100 and 600000");
        }
        if !(1..=1_000).contains(&self.round_trips) {
            return bad("doctor.round_trips", self.round_trips.into(), "it must be between 1 and 1000");
        }
        Ok(())
    }
}
