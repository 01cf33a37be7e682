//! What an operator wishes of an upload while it runs.

use serde::{Deserialize, Serialize};

/// The wishes. What is not wished for is as the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tuning {
    /// Bytes a second at most; 0: no limit.
    pub limit_bytes_per_s: Option<u64>,
    /// Chunks in flight; 0: found by itself.
    pub in_flight: Option<u32>,
    /// No further bytes for now.
    pub paused: bool,
    /// Who wished last.
    pub by: String,
}

impl std::fmt::Display for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limit = match self.limit_bytes_per_s {
            None => "limit as in the settings".to_owned(),
            Some(0) => "no limit".to_owned(),
            Some(limit) => format!("at most {}/s", super::human(limit as f64)),
        };
        let in_flight = match self.in_flight {
            None => "chunks in flight as in the settings".to_owned(),
            Some(0) => "as many chunks in flight as pay".to_owned(),
            Some(count) => format!("{count} in flight"),
        };
        write!(f, "{limit}, {in_flight}{}", if self.paused { ", paused" } else { "" })
    }
}
