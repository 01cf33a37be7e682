//! Logs and traces, the same in every binary: structured logs by `tracing`, spans by OTLP (gRPC) when an endpoint is
//! configured. Every line that is written has gone through a [`Redactor`](gantry_proto::Redactor).

use serde::{Deserialize, Serialize};

/// Logs and traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where spans go, such as `http://127.0.0.1:4317`; nothing is exported without it.
    pub otlp_endpoint: Option<String>,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter as of `RUST_LOG`, such as `info` or `gantry_agent=debug`; `RUST_LOG` wins.
    pub log_filter: Option<String>,
}

/// Form of the log lines on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
