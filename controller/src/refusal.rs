//! Why something was not done, in people's words, with the code that programs read.

use gantry_proto::{Code, error::causes};
use tonic::Status;

use crate::store::StoreError;

/// A refused wish: what was asked, why not, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Closed) {
            return Self::new(Code::Busy, "the controller is shutting down: try again in a moment");
        }
        tracing::error!(causes = ?causes(&error), "the store failed");
        let message =
            format!("{error}; nothing was changed: look at the controller's log and its disk, then try again");
        Self::new(Code::Internal, message)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.code.status(refusal.message)
    }
}
