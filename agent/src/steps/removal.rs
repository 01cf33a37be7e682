//! Taking something out of CloudTower again, with its attempts and a look after each: an answer that was lost is no
//! matter. Knows no step by name.

use gantry_proto::{Leftover, Level};
use serde_json::json;

use super::{
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::Error,
    facts::Facts,
    step::{StepCx, StepError},
};

/// Removes what `leftover` names, until `is_gone` says so; what stays is listed.
pub(super) async fn remove<A, G>(
    cx: &StepCx,
    facts: &mut Facts,
    (call, attempted): (&str, &str),
    leftover: &Leftover,
    mut ask: impl FnMut() -> A,
    mut is_gone: impl FnMut() -> G,
) -> Result<(), StepError>
where
    A: Future<Output = Result<Option<String>, Error>>,
    G: Future<Output = Result<bool, StepError>>,
{
    let timing = &cx.settings.timing;
    let mut said = "it is still there".to_owned();
    for attempt in 1..=timing.undo_attempts.max(1) {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.undo_retry_s)).await?;
        }
        let detail = extra([("id", json!(leftover.id)), ("name", json!(leftover.name)), ("attempt", json!(attempt))]);
        let intent = cx.intend(call, detail).await?;
        let asked = tower::unlocked(cx, &mut ask).await?;
        cx.outcome(intent, tower::became(&asked), extra([])).await?;
        match asked {
            Ok(task) => match tower::finish_task(cx, attempted, task.as_deref()).await {
                Err(StepError::Permanent(failure)) => said = failure.message,
                ended => ended?,
            },
            Err(error) => said = error.kind.to_string(),
        }
        if is_gone().await? {
            return Ok(());
        }
    }
    let (message, remedy) = (format!("{attempted} failed: {said}"), leftover.remedy.clone());
    facts.leave(leftover.clone());
    cx.save(facts).await?;
    cx.note(Level::Warning, "left_in_cloudtower", message.clone(), extra([])).await?;
    Err(permanent(story("not_removed", message, remedy)))
}
