//! Organisation and datacenter (7.2, 7.3): by their exact name, made only where they are not.

use gantry_proto::{Level, event::IntentResult, result::NamedId};
use serde_json::json;

use super::super::{
    initial_setup::organization as first_setup,
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::SetupState,
    diff::Diff,
    facts::{DatacenterFact, Facts},
    step::{StepCx, StepError},
};

/// What an intent of ours is called.
const CALL: &str = "create-datacenter";
/// Rounds of look and make: the first one and three retries.
const ROUNDS: u32 = 4;

/// The plan's organisation. In a CloudTower that was set up before this job it is found by its name; another one there
/// means that it is somebody else's.
pub(super) async fn organization(cx: &StepCx) -> Result<NamedId, StepError> {
    for round in 0..ROUNDS {
        cx.check()?;
        if let Some(found) = look_for_organization(cx).await? {
            return Ok(found);
        }
        first_setup::create(cx, round).await?;
    }
    let message = format!("the organisation \"{}\" is not there after {ROUNDS} rounds", cx.plan.organization);
    Err(permanent(story("organization_missing", message, "look at CloudTower's organisations, then retry the job")))
}

async fn look_for_organization(cx: &StepCx) -> Result<Option<NamedId>, StepError> {
    let attempted = "listing CloudTower's organisations";
    let organizations = tower::ask(cx, attempted, || cx.outside.tower.organizations()).await?;
    first_setup::ours(cx, &SetupState { organizations, root_created: true })
}

/// What would become of both in the CloudTower that is there.
pub(super) async fn survey(cx: &StepCx, diff: &mut Diff) -> Result<(), StepError> {
    let Some(organization) = look_for_organization(cx).await? else {
        diff.create(first_setup::CALL, cx.plan.organization.trim(), "the organisation is made");
        survey_new(cx, diff);
        return Ok(());
    };
    diff.keep(&organization.name, format!("the organisation is there already ({})", organization.id));
    match look(cx, &organization.id, cx.plan.datacenter.trim()).await? {
        Some(found) => diff.keep(&found.name, format!("the datacenter is there already ({})", found.id)),
        None => survey_new(cx, diff),
    }
    Ok(())
}

/// The datacenter that is made, where there is none.
pub(super) fn survey_new(cx: &StepCx, diff: &mut Diff) {
    diff.create(CALL, cx.plan.datacenter.trim(), "the datacenter is made");
}

/// The plan's datacenter.
pub(super) async fn find_or_make(cx: &StepCx, facts: &mut Facts, organization: &NamedId) -> Result<NamedId, StepError> {
    let name = cx.plan.datacenter.trim();
    for round in 0..ROUNDS {
        cx.check()?;
        if let Some(found) = look(cx, &organization.id, name).await? {
            let asked = facts.datacenter.as_ref();
            let made = asked.is_some_and(|asked| asked.made && (asked.id.is_empty() || asked.id == found.id));
            let (id, organization) = (found.id.clone(), organization.id.clone());
            let fact = DatacenterFact { id, name: found.name.clone(), organization, made };
            if facts.datacenter.as_ref() != Some(&fact) {
                facts.datacenter = Some(fact);
                cx.save(facts).await?;
                let how = if made { "has been created" } else { "is there already" };
                let fields = extra([("datacenter", json!(found)), ("made", json!(made))]);
                cx.note(Level::Info, "datacenter", format!("the datacenter \"{name}\" {how}"), fields).await?;
            }
            return Ok(found);
        }
        make(cx, facts, organization, name, round).await?;
    }
    let message = format!("the datacenter \"{name}\" is not there after {ROUNDS} rounds of looking and creating");
    let remedy = "look at the job's events for what CloudTower said each time, then retry the job";
    Err(permanent(story("datacenter_missing", message, remedy)))
}

/// The datacenter of this name.
pub(super) async fn look(cx: &StepCx, organization: &str, name: &str) -> Result<Option<NamedId>, StepError> {
    let attempted = "listing CloudTower's datacenters";
    let found = tower::ask(cx, attempted, || cx.outside.tower.datacenters(organization, name)).await?;
    Ok(found.into_iter().next())
}

/// Not idempotent: the caller looks before and after.
async fn make(cx: &StepCx, facts: &mut Facts, organization: &NamedId, name: &str, round: u32) -> Result<(), StepError> {
    let (id, organization_id) = (String::new(), organization.id.clone());
    let asked = DatacenterFact { id, name: name.to_owned(), organization: organization_id, made: true };
    if facts.datacenter.as_ref() != Some(&asked) {
        facts.datacenter = Some(asked);
        cx.save(facts).await?;
    }
    let detail = extra([("organization", json!(organization.id)), ("name", json!(name))]);
    let intent = cx.intend(CALL, detail).await?;
    let attempted = format!("creating the datacenter \"{name}\"");
    let tower = &cx.outside.tower;
    match tower::unlocked(cx, || tower.create_datacenter(&organization.id, name)).await? {
        Ok((id, task)) => {
            cx.outcome(intent, IntentResult::Done, extra([("id", json!(id))])).await?;
            tower::finish_task(cx, &attempted, task.as_deref()).await
        }
        Err(error) => {
            let known = error.had_no_effect();
            let result = if known { IntentResult::Failed } else { IntentResult::Unknown };
            cx.outcome(intent, result, extra([("error", json!(error.kind.to_string()))])).await?;
            if known && !error.is_transient() {
                facts.datacenter = None;
                cx.save(facts).await?;
                return Err(permanent(tower::failed(&attempted, &error)));
            }
            let message = format!("{attempted}: {}; looking what became of it", error.kind);
            cx.note(Level::Warning, "datacenter_unclear", message, extra([])).await?;
            cx.sleep(tower::backoff(cx, round)).await
        }
    }
}
