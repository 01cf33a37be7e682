//! The organisation: one of the planned name, and none of another (W6).

use gantry_proto::{Level, event::IntentResult, result::NamedId};
use serde_json::json;

use super::super::{
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::SetupState,
    step::{StepCx, StepError},
};

/// What an intent of ours is called.
pub(in crate::steps) const CALL: &str = "createOrganization";

/// Ours, if it is there. Another one means that somebody else has set this CloudTower up: hands off.
pub(in crate::steps) fn ours(cx: &StepCx, state: &SetupState) -> Result<Option<NamedId>, StepError> {
    let planned = cx.plan.organization.trim();
    let (ours, others): (Vec<_>, Vec<_>) =
        state.organizations.iter().partition(|organization| organization.name.trim() == planned);
    if others.is_empty() {
        return Ok(ours.first().map(|organization| (*organization).clone()));
    }
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let message = format!("this CloudTower has the organisation {names:?}, the plan has \"{planned}\"");
    let remedy = "somebody has used the set-up page in the meantime: the VM is kept. Ask who it was; then delete the VM \
                  and start a new job, or go on by hand";
    let mut failure = story("tower_is_foreign", message, remedy);
    failure.detail = extra([("organizations", json!(names))]);
    Err(StepError::HandsOff(Box::new(failure)))
}

/// Creates it. Not idempotent: the caller looks before and after.
pub(in crate::steps) async fn create(cx: &StepCx, round: u32) -> Result<(), StepError> {
    let name = cx.plan.organization.trim();
    let intent = cx.intend(CALL, extra([("name", json!(name))])).await?;
    match cx.outside.tower.create_organization(name).await {
        Ok(made) => {
            cx.outcome(intent, IntentResult::Done, extra([("id", json!(made.id))])).await?;
            let message = format!("the organisation \"{name}\" has been created");
            cx.note(Level::Info, "organization_created", message, extra([("id", json!(made.id))])).await
        }
        Err(error) => {
            let known = error.had_no_effect();
            let result = if known { IntentResult::Failed } else { IntentResult::Unknown };
            cx.outcome(intent, result, extra([("error", json!(error.kind.to_string()))])).await?;
            let existing = error.refusal().is_some_and(|refusal| refusal.speaks_of_existing());
            if known && !error.is_transient() && !existing {
                let attempted = format!("creating the organisation \"{name}\"");
                return Err(permanent(tower::failed(&attempted, &error)));
            }
            let message = format!("creating the organisation \"{name}\": {}; looking what became of it", error.kind);
            cx.note(Level::Warning, "organization_unclear", message, extra([])).await?;
            cx.sleep(tower::backoff(cx, round)).await
        }
    }
}
