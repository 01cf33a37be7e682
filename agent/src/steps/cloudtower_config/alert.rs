//! The alert about the use of space (K2, K3): its notice comes when the failure of one host would fill the others.

use gantry_proto::{plan::TowerConfig, result::OperationResult};
use serde_json::json;

use super::{
    super::{
        story::{extra, permanent, story},
        tower,
    },
    Done, TRIES, fact, unclear,
};
use crate::{
    cloudtower::{AlertRule, Cluster},
    diff::Diff,
    facts::Facts,
    step::{StepCx, StepError},
};

/// The rule's name.
pub(super) const RULE: &str = "zbs_cluster_data_space_use_rate";
/// What is kept free beside one host's space, percent.
const MARGIN: u128 = 5;

/// K3's word in the journal.
const CALL: &str = "updateGlobalAlertRule";

/// What would become of it.
pub(super) async fn survey(cx: &StepCx, diff: &mut Diff, ip: &str, cluster: &Cluster) -> Result<(), StepError> {
    if !cx.plan.deployment.tower_config.capacity_alert {
        return Ok(());
    }
    let Some((notice, critical)) = thresholds(cx, cluster) else {
        diff.notice(ip, "the alert about the use of space stays: CloudTower does not tell how many hosts there are");
        return Ok(());
    };
    match look(cx, &cluster.id).await? {
        None => diff.notice(ip, format!("the alert about the use of space stays: there is no rule {RULE}")),
        Some(rule) if rule.warns_at(notice, critical) => {
            diff.keep(ip, format!("the alert about the use of space is set: {notice} % and {critical} %"));
        }
        Some(_) => diff.change(
            CALL,
            ip,
            format!("the alert about the use of space: notice at {notice} %, critical at {critical} %"),
        ),
    }
    Ok(())
}

/// The same for a cluster that is yet to be attached.
pub(super) fn survey_new(cx: &StepCx, diff: &mut Diff, ip: &str) {
    if cx.plan.deployment.tower_config.capacity_alert {
        diff.unknown(CALL, ip, "the thresholds of the alert about the use of space, by the number of hosts");
    }
}

/// Sets the thresholds, where the plan wants it and they are others.
pub(super) async fn set(cx: &StepCx, facts: &mut Facts, ip: &str, cluster: &Cluster) -> Result<Done, StepError> {
    if !cx.plan.deployment.tower_config.capacity_alert {
        return Ok((OperationResult::Skipped, "not wanted (deployment.tower_config.capacity_alert)".to_owned()));
    }
    let Some((notice, critical)) = thresholds(cx, cluster) else {
        let message =
            format!("the alert of the cluster {ip} cannot be set: CloudTower does not tell how many hosts it has");
        return Err(permanent(story(
            "alert_hosts_unknown",
            message,
            "look at the cluster in CloudTower, then `ctl retry`",
        )));
    };
    let Some(rule) = look(cx, &cluster.id).await? else {
        let message = format!("CloudTower has no alert rule {RULE} for the cluster {ip}");
        let remedy = "set the thresholds in CloudTower's alert rules by hand, if this version has another rule";
        return Err(permanent(story("alert_rule_missing", message, remedy)));
    };
    let told = format!("notice at {notice} %, critical at {critical} %");
    if rule.warns_at(notice, critical) {
        return Ok((OperationResult::Unchanged, told));
    }
    if fact(facts, ip).alert_before.is_none() {
        fact(facts, ip).alert_before = Some(rule.clone());
        cx.save(facts).await?;
    }
    let (notice, critical) = (Some(f64::from(notice)), Some(f64::from(critical)));
    change(cx, ip, &cluster.id, &AlertRule { customized: true, disabled: false, notice, critical, ..rule }).await?;
    Ok((OperationResult::Changed, told))
}

/// The values of `NOTICE` and `CRITICAL` that the plan wants; `None`: it is not known how many hosts there are.
pub(super) fn thresholds(cx: &StepCx, cluster: &Cluster) -> Option<(u32, u32)> {
    let plan = &cx.plan.deployment.tower_config;
    let hosts = cluster.host_num.filter(|hosts| *hosts > 0)?;
    Some((notice(hosts, plan), plan.alert_critical))
}

/// K2.
pub(super) async fn look(cx: &StepCx, cluster: &str) -> Result<Option<AlertRule>, StepError> {
    tower::ask(cx, "listing CloudTower's alert rules", || cx.outside.tower.alert_rule(RULE, cluster)).await
}

/// K3. Twice is the same as once: without an answer it is read back (L11), or set again.
pub(super) async fn change(cx: &StepCx, ip: &str, cluster: &str, wanted: &AlertRule) -> Result<(), StepError> {
    let attempted = format!("setting the thresholds of {RULE} for the cluster {ip}");
    let tower = &cx.outside.tower;
    for round in 0..TRIES {
        cx.check()?;
        let detail =
            extra([("cluster", json!(ip)), ("notice", json!(wanted.notice)), ("critical", json!(wanted.critical))]);
        let intent = cx.intend(CALL, detail).await?;
        let set = tower::unlocked(cx, || tower.set_alert_rule(wanted, cluster)).await?;
        cx.outcome(intent, tower::became(&set), extra([])).await?;
        let told = match set {
            Ok(told) => Some(told),
            Err(error) if error.had_no_effect() && !error.is_transient() => {
                let mut failure = tower::failed(&attempted, &error);
                failure.code = "alert_rule_refused".to_owned();
                return Err(permanent(failure));
            }
            Err(_) => look(cx, cluster).await?,
        };
        let is_set = |told: &AlertRule| (told.notice, told.critical) == (wanted.notice, wanted.critical);
        if told.is_some_and(|told| is_set(&told) && told.disabled == wanted.disabled) {
            return Ok(());
        }
        cx.sleep(tower::backoff(cx, round)).await?;
    }
    Err(unclear(&attempted))
}

/// Percent of the space in use at which one host's failure would fill the cluster, less a margin; within the plan's bounds.
fn notice(hosts: u64, plan: &TowerConfig) -> u32 {
    // Wide enough for any number that the wire can carry.
    let hosts = u128::from(hosts.max(1));
    let without_one = ((hosts - 1) * 100).saturating_sub(hosts * MARGIN) / hosts;
    let percent = u32::try_from(without_one).unwrap_or(100);
    // Not `clamp`: a plan may have its bounds the wrong way round.
    percent.max(plan.alert_notice_floor).min(plan.alert_critical.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_follows_from_the_number_of_hosts() {
        let plan = TowerConfig::default();
        for (hosts, expected) in [(1, 60), (2, 60), (3, 61), (4, 70), (5, 75), (10, 85), (100, 89), (u64::MAX, 89)] {
            assert_eq!(notice(hosts, &plan), expected, "{hosts} hosts");
        }
        let wrong = TowerConfig { alert_notice_floor: 95, alert_critical: 0, ..plan };
        assert_eq!(notice(3, &wrong), 0);
    }
}
