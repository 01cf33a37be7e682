//! The CloudTower service.

use serde::{Deserialize, Serialize};

use crate::core::Core;

/// Settings of the service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {}

/// Switchable behaviours of the service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {}

/// The state of one CloudTower.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tower {}

/// Broken invariants of the service, in words.
#[must_use]
pub fn violations(_core: &Core) -> Vec<String> {
    Vec::new()
}
