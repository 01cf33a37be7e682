//! CloudTower's own interface: first-time set-up over GraphQL, the rest over REST (`cloudtower.md` 4, 5). Always HTTPS,
//! never a redirect. Knows no step; its token lives in memory only (C21).

mod alerts;
mod attach;
mod client;
mod dashboards;
mod error;
mod graphql;
mod inspector;
mod rest;
mod servers;
mod settings;
mod types;

pub use alerts::AlertRule;
pub use client::Client;
pub use dashboards::{Graph, NewGraph};
pub use error::{Call, Error, ErrorKind, Refusal};
pub use inspector::{Inspection, InspectionState};
pub use servers::{same_servers, split_servers};
pub use settings::StoragePolicy;
pub use types::{Cluster, ConnectState, SetupState, Task, TaskState};

/// The password that every CloudTower is published with (`cloudtower.md` 4.1): what method P3 sets first. Treated like
/// any other secret.
pub fn published_password() -> gantry_proto::Secret {
    gantry_proto::Secret::new("HC!r0cks")
}
