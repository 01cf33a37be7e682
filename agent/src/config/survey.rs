//! Settings of surveys: looks at a site for `ctl plan diff`.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How long a survey looks, and how much it tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Survey {
    /// A survey ends within this, milliseconds.
    pub limit_ms: u64,
    /// The largest report, bytes; what goes beyond it is counted.
    pub report_bytes: usize,
}

impl Default for Survey {
    fn default() -> Self {
        Self { limit_ms: 240_000, report_bytes: 256 << 10 }
    }
}

impl Survey {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: u64, expected| Err(ConfigError::Value { key, value: value.to_string(), expected });
        if !(1_000..=3_600_000).contains(&self.limit_ms) {
            return bad("survey.limit_ms", self.limit_ms, "it must be between 1000 and 3600000");
        }
        if !(4_096..=524_288).contains(&self.report_bytes) {
            return bad("survey.report_bytes", self.report_bytes as u64, "it must be between 4096 and 524288");
        }
        Ok(())
    }
}
