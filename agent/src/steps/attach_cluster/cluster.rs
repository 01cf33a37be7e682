//! One cluster (7.4 to 7.6): looked for by its address and uuid, attached, and waited for until CloudTower has it.

use gantry_proto::{Level, event::IntentResult, result::NamedId};
use serde_json::json;
use tokio::time::Instant;

use super::super::{
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::{Cluster, ConnectState, TaskState},
    diff::Diff,
    facts::{ClusterFact, Facts},
    result,
    step::{Progress, StepCx, StepError},
};

/// What an intent of ours is called.
pub(super) const CALL: &str = "connect-cluster";
/// Rounds of look and attach: the first one and three retries.
const ROUNDS: u32 = 4;

/// Attaches the cluster at this address, unless it is.
pub(super) async fn attach(cx: &StepCx, facts: &mut Facts, datacenter: &NamedId, ip: &str) -> Result<(), StepError> {
    for round in 0..ROUNDS {
        cx.check()?;
        match look(cx, ip).await? {
            Some(found) if found.state == ConnectState::Removing => gone(cx, ip).await?,
            Some(found) => {
                adopt(cx, facts, ip, &found).await?;
                connected(cx, facts, ip).await?;
                return settings(cx, facts, ip).await;
            }
            None => connect(cx, facts, datacenter, ip, round).await?,
        }
    }
    let message = format!("the cluster {ip} is not in CloudTower after {ROUNDS} rounds of looking and attaching");
    let remedy = "look at the job's events for what CloudTower said each time, then retry the job";
    Err(permanent(story("cluster_missing", message, remedy)))
}

/// What would become of the cluster at this address in the CloudTower that is there.
pub(super) async fn survey(cx: &StepCx, diff: &mut Diff, ip: &str) -> Result<(), StepError> {
    match look(cx, ip).await? {
        None => survey_new(diff, ip),
        Some(found) if found.state == ConnectState::Removing => {
            let message = "CloudTower is removing the cluster: that is waited for, then it is attached again";
            diff.create(CALL, ip, message);
        }
        Some(found) if found.state == ConnectState::Connected => {
            diff.keep(ip, format!("the cluster is attached already ({})", found.id));
        }
        Some(found) => {
            let message = format!(
                "the cluster is in CloudTower already, and is {}: it is not attached again, and the stage fails unless it \
                 gets connected",
                found.state.word()
            );
            diff.unknown("", ip, message);
        }
    }
    Ok(())
}

/// A cluster that is attached where it is not yet.
pub(super) fn survey_new(diff: &mut Diff, ip: &str) {
    diff.create(CALL, ip, "the cluster is attached to CloudTower");
}

/// The cluster as CloudTower has it, known by its address, or by its serial where the plan names it.
pub(in crate::steps) async fn look(cx: &StepCx, ip: &str) -> Result<Option<Cluster>, StepError> {
    let clusters = tower::ask(cx, "listing CloudTower's clusters", || cx.outside.tower.clusters()).await?;
    let is_own = result::clusters(&cx.plan).first().is_some_and(|own| own == ip);
    let serial = cx.plan.cluster.serial.as_deref().filter(|_| is_own);
    let hosts: Vec<String> = cx.plan.hosts.iter().filter(|_| is_own).map(|host| host.mgmt_ip.to_string()).collect();
    let is_it = |cluster: &Cluster| {
        let same = |address: &String| address == ip || hosts.contains(address);
        cluster.addresses.iter().any(same) || serial.is_some() && cluster.local_id.as_deref() == serial
    };
    // One that is being removed is of interest only when there is no other.
    let (mut removing, mut others): (Vec<_>, Vec<_>) =
        clusters.into_iter().filter(is_it).partition(|cluster| cluster.state == ConnectState::Removing);
    Ok(others.drain(..).next().or_else(|| removing.drain(..).next()))
}

/// The cluster in a stage that comes after the attaching: it must be there. `attempted`: what it is needed for.
pub(in crate::steps) async fn attached(cx: &StepCx, ip: &str, attempted: &str) -> Result<Cluster, StepError> {
    let found = look(cx, ip).await?.filter(|found| found.state != ConnectState::Removing);
    found.ok_or_else(|| not_attached(ip, attempted))
}

/// The failure of a stage that needs the cluster in CloudTower.
pub(in crate::steps) fn not_attached(ip: &str, attempted: &str) -> StepError {
    let message = format!("{attempted} {ip} is not possible: it is not in CloudTower");
    permanent(story("cluster_not_attached", message, "attach it first: choose the stage attach_cluster, too"))
}

/// Waits until a cluster that is being removed is gone.
pub(super) async fn gone(cx: &StepCx, ip: &str) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    let (begun, limit) = (Instant::now(), timing.scaled(timing.attach_limit_s));
    while look(cx, ip).await?.is_some_and(|found| found.state == ConnectState::Removing) {
        if begun.elapsed() >= limit {
            let message = format!("CloudTower does not come to an end with removing the cluster {ip}");
            let remedy = "look at the cluster in CloudTower, then retry the job";
            return Err(permanent(story("cluster_removal_stuck", message, remedy)));
        }
        cx.sleep(timing.scaled(timing.attach_poll_s)).await?;
    }
    Ok(())
}

/// What CloudTower has is in the facts from now on.
async fn adopt(cx: &StepCx, facts: &mut Facts, ip: &str, found: &Cluster) -> Result<(), StepError> {
    let before = facts.clusters.get(ip).cloned().unwrap_or_default();
    let made = before.made && (before.id.is_empty() || before.id == found.id);
    let known = before.id == found.id;
    let fact = ClusterFact { made, failure: None, ..told(before, found) };
    facts.clusters.insert(ip.to_owned(), fact);
    cx.save(facts).await?;
    if made || known {
        return Ok(());
    }
    let message = format!("the cluster {ip} is in CloudTower already ({})", found.state.word());
    cx.note(Level::Info, "cluster_found", message, extra([("cluster_id", json!(found.id))])).await
}

fn told(before: ClusterFact, found: &Cluster) -> ClusterFact {
    ClusterFact {
        id: found.id.clone(),
        local_id: found.local_id.clone(),
        name: found.name.clone(),
        version: found.version.clone(),
        host_num: found.host_num,
        settings_id: found.settings_id.clone(),
        connect_state: Some(found.state.word().to_owned()),
        ..before
    }
}

/// T10. Not idempotent: the caller looks before and after.
async fn connect(cx: &StepCx, facts: &mut Facts, datacenter: &NamedId, ip: &str, round: u32) -> Result<(), StepError> {
    facts.clusters.insert(ip.to_owned(), ClusterFact { made: true, ..ClusterFact::default() });
    cx.save(facts).await?;
    let user = cx.plan.cluster.admin_user.as_str();
    let detail = extra([("cluster", json!(ip)), ("datacenter", json!(datacenter.id)), ("user", json!(user))]);
    let intent = cx.intend(CALL, detail).await?;
    let credentials = (user, &cx.secrets.fisheye_password);
    let tower = &cx.outside.tower;
    match tower::unlocked(cx, || tower.connect_cluster(&datacenter.id, ip, credentials)).await? {
        Ok((id, task)) => {
            cx.outcome(intent, IntentResult::Done, extra([("id", json!(id)), ("task", json!(task))])).await?;
            facts.clusters.insert(ip.to_owned(), ClusterFact { id, task, made: true, ..ClusterFact::default() });
            cx.save(facts).await
        }
        Err(error) => {
            let known = error.had_no_effect();
            let result = if known { IntentResult::Failed } else { IntentResult::Unknown };
            cx.outcome(intent, result, extra([("error", json!(error.kind.to_string()))])).await?;
            if known {
                // Nothing of ours is there, whatever the next look finds.
                facts.clusters.insert(ip.to_owned(), ClusterFact::default());
                cx.save(facts).await?;
            }
            let attempted = format!("attaching the cluster {ip}");
            let existing = error.refusal().is_some_and(|refusal| refusal.speaks_of_existing());
            if known && !error.is_transient() && !existing {
                let mut failure = tower::failed(&attempted, &error);
                failure.code = "cluster_refused".to_owned();
                failure.remedy = REMEDY.to_owned();
                return Err(permanent(failure));
            }
            let message = format!("{attempted}: {}; looking what became of it", error.kind);
            cx.note(Level::Warning, "cluster_unclear", message, extra([])).await?;
            cx.sleep(tower::backoff(cx, round)).await
        }
    }
}

const REMEDY: &str =
    "check that CloudTower reaches the cluster's VIP (主机规划!I19), and its user and password (L19, M19)";

/// Waits until CloudTower says `CONNECTED`. It may tell `DISCONNECTED` for a while after the beginning; words that do not
/// exist end nothing (C29).
async fn connected(cx: &StepCx, facts: &mut Facts, ip: &str) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    let begun = Instant::now();
    let (limit, grace) = (timing.scaled(timing.attach_limit_s), timing.scaled(timing.attach_grace_s));
    let task = facts.clusters.get(ip).and_then(|cluster| cluster.task.clone());
    let mut last = String::new();
    loop {
        let task = match &task {
            Some(id) => Some(tower::ask(cx, "asking for CloudTower's task", || cx.outside.tower.task(id)).await?),
            None => None,
        };
        let failed = task.as_ref().filter(|task| task.state == TaskState::Failed);
        let Some(found) = look(cx, ip).await? else {
            return Err(permanent(vanished(ip, failed.map(|task| &*task.error))));
        };
        let word = found.state.word().to_owned();
        if word != last {
            let before = facts.clusters.remove(ip).unwrap_or_default();
            facts.clusters.insert(ip.to_owned(), told(before, &found));
            cx.save(facts).await?;
            let fields = extra([("cluster", json!(ip)), ("state", json!(word)), ("reason", json!(found.reason))]);
            cx.note(Level::Info, "cluster_state", format!("the cluster {ip} is {word}"), fields).await?;
            last = word;
        }
        let late = begun.elapsed() >= grace;
        match &found.state {
            ConnectState::Connected => {
                if let Some(task) = failed {
                    let message =
                        format!("the cluster {ip} is connected, although CloudTower's task failed: {}", task.error);
                    cx.note(Level::Warning, "cluster_task_failed", message, extra([])).await?;
                }
                return Ok(());
            }
            ConnectState::Disconnected if late || failed.is_some() => {
                return Err(permanent(disconnected(ip, &found, failed.map(|task| &*task.error))));
            }
            _ if late && failed.is_some() => {
                return Err(permanent(disconnected(ip, &found, failed.map(|task| &*task.error))));
            }
            _ if begun.elapsed() >= limit => {
                let minutes = timing.attach_limit_s / 60.0;
                let message =
                    format!("the cluster {ip} is not connected to CloudTower after {minutes:.0} minutes: it is {last}");
                return Err(permanent(story("cluster_timeout", message, REMEDY)));
            }
            _ => {}
        }
        let waited = begun.elapsed().as_secs_f64();
        cx.progress(Progress { text: format!("the cluster {ip} is {last} ({waited:.0} s)"), ..Progress::default() });
        cx.sleep(timing.scaled(timing.attach_poll_s)).await?;
    }
}

fn disconnected(ip: &str, found: &Cluster, task: Option<&str>) -> gantry_proto::Failure {
    let reason =
        found.reason.clone().or_else(|| task.map(str::to_owned)).unwrap_or_else(|| "no reason is given".into());
    let remedy = match reason.as_str() {
        "LOAD_CLUSTER_UNAUTHORIZED" => "check the cluster's user and password (主机规划!L19, M19)",
        "LOAD_CLUSTER_NETWORK_ERROR" | "LOAD_CLUSTER_NOT_FOUND" => {
            "check the VIP (主机规划!I19), and that CloudTower reaches it on ports 80, 443, 10000 and up (cloudtower.md 8)"
        }
        "LOAD_CLUSTER_UNHEALTHY" => "look at the cluster's own health in its web page",
        _ => REMEDY,
    };
    let message = format!("CloudTower could not connect the cluster {ip}: it is {}, {reason}", found.state.word());
    let mut failure = story("cluster_disconnected", message, remedy);
    failure.detail = extra([("cluster", json!(ip)), ("reason", json!(reason)), ("task", json!(task))]);
    failure
}

fn vanished(ip: &str, task: Option<&str>) -> gantry_proto::Failure {
    let why = task.map(|task| format!("; its task says: {task}")).unwrap_or_default();
    let message = format!("the cluster {ip} is no longer in CloudTower while it is being attached{why}");
    story("cluster_vanished", message, "find out who removed it, then retry the job")
}

/// The settings come some seconds after `CONNECTED`; what is to be changed in them needs their id.
async fn settings(cx: &StepCx, facts: &mut Facts, ip: &str) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    let (begun, limit) = (Instant::now(), timing.scaled(timing.cluster_settings_limit_s));
    loop {
        if let Some(found) = look(cx, ip).await?
            && (found.settings_id.is_some() || begun.elapsed() >= limit)
        {
            let settings = found.settings_id.clone();
            let before = facts.clusters.remove(ip).unwrap_or_default();
            facts.clusters.insert(ip.to_owned(), told(before, &found));
            cx.save(facts).await?;
            if settings.is_none() {
                let message = format!(
                    "CloudTower has no settings for the cluster {ip} after {:.0} s: they cannot be changed yet",
                    timing.cluster_settings_limit_s
                );
                return cx.note(Level::Warning, "cluster_without_settings", message, extra([])).await;
            }
            let message = format!("the cluster {ip} is attached to CloudTower");
            return cx.note(Level::Info, "cluster_attached", message, extra([("cluster_id", json!(found.id))])).await;
        }
        if begun.elapsed() >= limit {
            return Err(permanent(vanished(ip, None)));
        }
        cx.sleep(timing.scaled(timing.cluster_settings_poll_s)).await?;
    }
}
