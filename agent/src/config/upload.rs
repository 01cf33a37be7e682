//! Settings of the upload.

use serde::{Deserialize, Serialize};

/// How the ISO is brought to the cluster. An operator may wish otherwise while a job runs (`ctl upload`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upload {
    /// Chunks in flight; 0: found by goodput and by the server's own time, one where the server refuses more.
    pub in_flight: u32,
    /// Chunks in flight, at most. Each costs a thread, a connection and about a quarter of a MiB.
    pub in_flight_max: usize,
    /// Bytes a second, all chunks in flight together; 0: no limit.
    pub limit_bytes_per_s: u64,
    /// A chunk that is slower than this over the whole of `fisheye.stall_timeout_ms` fails. Bytes a second; 0: only one
    /// that does not move at all.
    pub stall_floor_bytes_per_s: u64,
}

impl Default for Upload {
    fn default() -> Self {
        Self { in_flight: 0, in_flight_max: 16, limit_bytes_per_s: 0, stall_floor_bytes_per_s: 256 }
    }
}
