//! What a finished command has used: written by `measure`, read by the benchmark.

use serde::{Deserialize, Serialize};

/// Of a command and everything it has started and waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds on the wall clock, from before the start to after the end.
    pub wall_s: f64,
    /// CPU seconds in user space.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// Most resident bytes of the largest of its processes. Never below what `measure` itself has, about 2 MiB.
    pub peak_bytes: u64,
    /// Its exit code; `None` when a signal ended it.
    pub exit: Option<i32>,
}

impl Usage {
    /// CPU seconds in all.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}
