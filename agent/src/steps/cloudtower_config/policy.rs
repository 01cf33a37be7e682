//! The default storage policy of a cluster (K1): looked at, set, and proved by what CloudTower repeats.

use gantry_proto::{Level, result::OperationResult};
use serde_json::json;

use super::{
    super::{
        story::{extra, permanent, story},
        tower,
    },
    Done, TRIES, fact, unclear,
};
use crate::{
    cloudtower::{Cluster, StoragePolicy},
    diff::Diff,
    facts::Facts,
    step::{StepCx, StepError},
};

/// K1's word in the journal.
pub(super) const CALL: &str = "updateClusterSettings";

/// What would become of it.
pub(super) async fn survey(cx: &StepCx, diff: &mut Diff, ip: &str, cluster: &Cluster) -> Result<(), StepError> {
    let wanted = StoragePolicy::from(cx.plan.deployment.tower_config.storage_policy).name;
    let Some(settings) = cluster.settings_id.as_deref() else {
        diff.unknown(
            CALL,
            ip,
            format!("the default storage policy becomes {wanted}, once CloudTower has the settings"),
        );
        return Ok(());
    };
    match look(cx, ip, settings).await? {
        Some(now) if now.name == wanted => diff.keep(ip, format!("the default storage policy is {wanted} already")),
        Some(now) => {
            diff.change(CALL, ip, format!("the default storage policy becomes {wanted} instead of {}", now.name))
        }
        None => diff.change(CALL, ip, format!("the default storage policy becomes {wanted}; what it is, is not told")),
    }
    Ok(())
}

/// The same for a cluster that is yet to be attached.
pub(super) fn survey_new(cx: &StepCx, diff: &mut Diff, ip: &str) {
    let wanted = cx.plan.deployment.tower_config.storage_policy.name();
    diff.unknown(CALL, ip, format!("the default storage policy becomes {wanted}, unless the cluster has it already"));
}

/// Sets the policy of the plan, unless it is set.
pub(super) async fn set(cx: &StepCx, facts: &mut Facts, ip: &str, cluster: &Cluster) -> Result<Done, StepError> {
    let Some(settings) = cluster.settings_id.as_deref() else {
        let message =
            format!("the default storage policy of the cluster {ip} cannot be set: CloudTower has no settings of it");
        let remedy = "look at the cluster in CloudTower, then `ctl retry`";
        return Err(permanent(story("cluster_settings_missing", message, remedy)));
    };
    let wanted = StoragePolicy::from(cx.plan.deployment.tower_config.storage_policy);
    let before = look(cx, ip, settings).await?;
    if before.as_ref().is_some_and(|before| before.name == wanted.name) {
        return Ok((OperationResult::Unchanged, format!("the default is {} already", wanted.name)));
    }
    if fact(facts, ip).policy_before.is_none() {
        fact(facts, ip).policy_before.clone_from(&before);
        cx.save(facts).await?;
    }
    change(cx, ip, settings, &wanted).await?;
    let before = before.map_or("what is not known".to_owned(), |before| before.name);
    Ok((OperationResult::Changed, format!("the default is {} instead of {before}", wanted.name)))
}

/// What is set. A CloudTower that does not tell it is given the policy all the same.
pub(super) async fn look(cx: &StepCx, ip: &str, settings: &str) -> Result<Option<StoragePolicy>, StepError> {
    let why = match tower::try_ask(cx, || cx.outside.tower.storage_policy(settings)).await? {
        Ok(Some(policy)) => return Ok(Some(policy)),
        Ok(None) => "it is not in the settings".to_owned(),
        Err(error) => error.kind.to_string(),
    };
    let message = format!("CloudTower does not tell the default storage policy of the cluster {ip}: {why}");
    cx.note(Level::Warning, "storage_policy_unknown", message, extra([("cluster", json!(ip))])).await?;
    Ok(None)
}

/// K1. Twice is the same as once: without an answer it is read back (L11), or set again.
pub(super) async fn change(cx: &StepCx, ip: &str, settings: &str, wanted: &StoragePolicy) -> Result<(), StepError> {
    let attempted = format!("setting the default storage policy {} of the cluster {ip}", wanted.name);
    let tower = &cx.outside.tower;
    for round in 0..TRIES {
        cx.check()?;
        let detail = extra([("cluster", json!(ip)), ("settings", json!(settings)), ("policy", json!(wanted.name))]);
        let intent = cx.intend(CALL, detail).await?;
        let set = tower::unlocked(cx, || tower.set_storage_policy(settings, wanted)).await?;
        cx.outcome(intent, tower::became(&set), extra([])).await?;
        let told = match set {
            Ok(told) => Some(told),
            Err(error) if error.had_no_effect() && !error.is_transient() => {
                let mut failure = tower::failed(&attempted, &error);
                failure.code = "storage_policy_refused".to_owned();
                failure.remedy =
                    "choose a policy that the cluster has (deployment.tower_config.storage_policy), or look \
                                  at its settings in CloudTower; then `ctl retry`"
                        .to_owned();
                return Err(permanent(failure));
            }
            Err(_) => look(cx, ip, settings).await?,
        };
        match told {
            Some(told) if told.name == wanted.name => return Ok(()),
            Some(told) if round + 1 == TRIES => {
                let message = format!("{attempted} had no effect: CloudTower tells {}", told.name);
                let remedy = "set it in CloudTower's settings of the cluster, then `ctl retry`";
                return Err(permanent(story("storage_policy_not_set", message, remedy)));
            }
            _ => cx.sleep(tower::backoff(cx, round)).await?,
        }
    }
    Err(unclear(&attempted))
}
