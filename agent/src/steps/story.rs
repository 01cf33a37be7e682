//! Failures as people read them, and reads that a cancel ends at once. Knows no step.

use std::{error::Error, future::Future};

use gantry_proto::{Failure, error::causes, event::Extra};
use serde_json::Value;

use crate::{
    fisheye,
    step::{StepCx, StepError},
};

/// A failure without a cause below it.
pub(crate) fn story(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), remedy: remedy.into(), ..Failure::default() }
}

/// A failure because of an error: what was attempted, and the error's own words.
pub(crate) fn story_of(code: &str, attempted: &str, error: &(dyn Error + 'static), remedy: &str) -> Failure {
    let causes = causes(error);
    let message = format!("{attempted} failed: {}", causes.join(": "));
    Failure { causes, ..story(code, message, remedy) }
}

/// The error of a step that cannot be helped by trying again.
pub(crate) fn permanent(failure: Failure) -> StepError {
    StepError::Permanent(Box::new(failure))
}

/// Whose something is, or what is true, is for an operator to say.
pub(crate) fn undecided(failure: Failure) -> StepError {
    StepError::Undecided(Box::new(failure))
}

/// Failures of a look that may pass. A changed certificate or a refused password ends the job whatever is unknown.
const MAY_PASS: [&str; 5] = [
    "fisheye_unreachable",
    "fisheye_unreliable",
    "fisheye_unavailable",
    "fisheye_login_locked",
    "fisheye_answer_not_understood",
];

/// What has become of a call without an answer can only be looked up. Where that does not work either, an operator has to
/// decide. `open`: there is such a call; `what`: what it may have done.
pub(crate) fn unsure<T>(open: bool, what: &str, looked: Result<T, StepError>) -> Result<T, StepError> {
    match looked {
        Err(StepError::Again(failure) | StepError::Permanent(failure))
            if open && MAY_PASS.contains(&failure.code.as_str()) =>
        {
            let Failure { code, message, causes, remedy, detail } = *failure;
            let mut unknown = story(
                "outcome_unknown",
                format!("it is not known whether {what}: the answer was lost, and looking does not work: {message}"),
                format!("remove the cause and choose look-again; undo lists what it cannot find ({remedy})"),
            );
            unknown.causes = causes;
            unknown.detail = detail;
            unknown.detail.insert("cause".to_owned(), code.into());
            Err(undecided(unknown))
        }
        looked => looked,
    }
}

/// Details, from pairs.
pub(crate) fn extra<const N: usize>(fields: [(&str, Value); N]) -> Extra {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Details, from a JSON object.
pub(crate) fn fields(value: Value) -> Extra {
    match value {
        Value::Object(fields) => fields,
        _ => Extra::new(),
    }
}

/// The error of a step that may work once this attempt is undone.
pub(crate) fn again(failure: Failure) -> StepError {
    StepError::Again(Box::new(failure))
}

/// Waits for a Fisheye call that changes nothing, and drops it when the job is to stop. `attempted`: what it is for, such
/// as `listing the images`.
pub(crate) async fn read<T>(
    cx: &StepCx,
    attempted: &str,
    call: impl Future<Output = Result<T, fisheye::Error>>,
) -> Result<T, StepError> {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(cx.log.why_stopped()),
        outcome = call => outcome.map_err(|error| permanent(error.failure(attempted))),
    }
}

/// Runs what blocks on the disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
