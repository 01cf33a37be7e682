//! The inside of the VM: its SSH server and its installer.

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::world::GuestEvents;

/// Settings of the guest side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {}

/// Switchable behaviours of the guest side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {}

/// What is known of the inside of one VM.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestRecord {}

/// Serves the guests until `cancel`: takes the cluster's events.
///
/// # Errors
/// A listener cannot be opened.
pub async fn run(_core: Core, mut events: GuestEvents, cancel: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            event = events.recv() => if event.is_none() { return Ok(()) },
        }
    }
}

/// Broken invariants of the guest side, in words.
#[must_use]
pub fn violations(_core: &Core) -> Vec<String> {
    Vec::new()
}
