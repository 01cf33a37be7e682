//! Placeholder of the client.

use gantry_proto::{Plan, Redactor, Secrets};

use crate::config::Settings;

/// The client.
pub struct Client;

impl Client {
    /// Makes the client; opens no connection.
    pub fn new(_plan: &Plan, _secrets: &Secrets, _settings: &Settings, _redactor: &Redactor) -> Self {
        Self
    }
}
