//! Failures as people read them. Knows no step.

use std::error::Error;

use gantry_proto::{Failure, error::causes, event::Extra};
use serde_json::Value;

use crate::step::StepError;

/// A failure without a cause below it.
pub(super) fn story(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), remedy: remedy.into(), ..Failure::default() }
}

/// A failure because of an error: what was attempted, and the error's own words.
pub(super) fn story_of(code: &str, attempted: &str, error: &(dyn Error + 'static), remedy: &str) -> Failure {
    let causes = causes(error);
    let message = format!("{attempted} failed: {}", causes.join(": "));
    Failure { causes, ..story(code, message, remedy) }
}

/// The error of a step that cannot be helped by trying again.
pub(super) fn permanent(failure: Failure) -> StepError {
    StepError::Permanent(Box::new(failure))
}

/// Details, from pairs.
pub(super) fn extra<const N: usize>(fields: [(&str, Value); N]) -> Extra {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
