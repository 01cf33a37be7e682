//! The way back: policy and alert as they were, where nobody has changed them since, and without the dashboards of ours.

use gantry_proto::Leftover;

use super::{
    super::{
        attach_cluster::cluster,
        removal,
        story::{permanent, story},
        tower,
    },
    alert, dashboards, fact, policy,
};
use crate::{
    cloudtower::{Cluster, StoragePolicy},
    facts::Facts,
    step::{StepCx, StepError},
};

/// Every cluster; one for which it fails does not hold up the others.
pub(super) async fn all(cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
    let touched: Vec<String> =
        facts.config.iter().filter(|(_, fact)| !fact.is_untouched()).map(|(ip, _)| ip.clone()).collect();
    let (mut undone, mut failed) = (Vec::new(), None);
    for ip in touched {
        go_on(one(cx, facts, &ip, &mut undone).await, &mut failed)?;
    }
    failed.map_or(Ok(undone), Err)
}

/// What fails is kept for later; what ends everything ends it.
fn go_on(ended: Result<(), StepError>, failed: &mut Option<StepError>) -> Result<(), StepError> {
    match ended {
        Err(error @ StepError::Permanent(_)) => {
            *failed = Some(error);
            Ok(())
        }
        ended => ended,
    }
}

async fn one(cx: &StepCx, facts: &mut Facts, ip: &str, undone: &mut Vec<String>) -> Result<(), StepError> {
    // With the cluster all that was configured for it has gone from CloudTower.
    if let Some(cluster) = cluster::look(cx, ip).await? {
        let mut failed = None;
        go_on(storage_policy(cx, facts, ip, &cluster, undone).await, &mut failed)?;
        go_on(capacity_alert(cx, facts, ip, &cluster, undone).await, &mut failed)?;
        go_on(views(cx, facts, ip, &cluster, undone).await, &mut failed)?;
        failed.map_or(Ok(()), Err)?;
    }
    let fact = fact(facts, ip);
    (fact.policy_before, fact.alert_before) = (None, None);
    fact.dashboards.clear();
    cx.save(facts).await
}

async fn storage_policy(
    cx: &StepCx,
    facts: &mut Facts,
    ip: &str,
    cluster: &Cluster,
    undone: &mut Vec<String>,
) -> Result<(), StepError> {
    let Some(before) = fact(facts, ip).policy_before.clone() else { return Ok(()) };
    let back = async {
        let settings = cluster.settings_id.as_deref();
        let now = match settings {
            Some(settings) => policy::look(cx, ip, settings).await?,
            None => None,
        };
        let ours = StoragePolicy::from(cx.plan.deployment.tower_config.storage_policy);
        match (now, settings) {
            (Some(now), Some(settings)) if now.name == ours.name => {
                policy::change(cx, ip, settings, &before).await.map(|()| true)
            }
            // Somebody's own choice stays.
            (Some(_), _) => Ok(false),
            (None, _) => Err(untold(&format!("the default storage policy of the cluster {ip}"))),
        }
    };
    let remedy = format!("set the default storage policy of the cluster {ip} in CloudTower to {}", before.name);
    if settle(facts, left("storage_policy", ip, remedy), back.await)? {
        undone.push(format!("the default storage policy of the cluster {ip}: {} again", before.name));
    }
    Ok(())
}

async fn capacity_alert(
    cx: &StepCx,
    facts: &mut Facts,
    ip: &str,
    cluster: &Cluster,
    undone: &mut Vec<String>,
) -> Result<(), StepError> {
    let Some(before) = fact(facts, ip).alert_before.clone() else { return Ok(()) };
    let back = async {
        let what = format!("the alert rule {} of the cluster {ip}", alert::RULE);
        let Some((notice, critical)) = alert::thresholds(cx, cluster) else { return Err(untold(&what)) };
        match alert::look(cx, &cluster.id).await? {
            Some(now) if now.warns_at(notice, critical) => {
                alert::change(cx, ip, &cluster.id, &before).await.map(|()| true)
            }
            // Somebody has changed or removed it since.
            _ => Ok(false),
        }
    };
    let remedy = format!("set the thresholds of {} for the cluster {ip} in CloudTower's alert rules", alert::RULE);
    if settle(facts, left("alert_rule", ip, remedy), back.await)? {
        undone.push(format!("the thresholds of the alert of the cluster {ip}"));
    }
    Ok(())
}

/// It is not known whether what is set is ours.
fn untold(what: &str) -> StepError {
    let message = format!("setting {what} back failed: CloudTower does not tell what it is now");
    permanent(story("tower_config_unclear", message, "look at the cluster in CloudTower, and set it back by hand"))
}

/// Lists what could not be set back.
fn settle(facts: &mut Facts, leftover: Leftover, back: Result<bool, StepError>) -> Result<bool, StepError> {
    match back {
        Err(error @ StepError::Permanent(_)) => {
            facts.leave(leftover);
            Err(error)
        }
        Ok(changed) => {
            facts.no_longer_left(&leftover.kind, &leftover.id);
            Ok(changed)
        }
        Err(error) => Err(error),
    }
}

fn left(kind: &str, ip: &str, remedy: String) -> Leftover {
    Leftover { kind: kind.to_owned(), id: ip.to_owned(), name: ip.to_owned(), remedy }
}

/// Views of ours with all that is on them, and of other views the graphs of ours.
async fn views(
    cx: &StepCx,
    facts: &mut Facts,
    ip: &str,
    cluster: &Cluster,
    undone: &mut Vec<String>,
) -> Result<(), StepError> {
    let ours = fact(facts, ip).dashboards.clone();
    let tower = &cx.outside.tower;
    for name in dashboards::views() {
        let of_view = dashboards::key(name, "");
        if !ours.contains(name) && !ours.iter().any(|key| key.starts_with(&of_view)) {
            continue;
        }
        let list = || tower::ask(cx, "listing CloudTower's dashboards", || tower.views(&cluster.id, name));
        for view in list().await? {
            if ours.contains(name) {
                let remedy = format!("delete the dashboard \"{name}\" of the cluster {ip} in CloudTower");
                let leftover = Leftover { kind: "view".to_owned(), id: view.clone(), name: name.to_owned(), remedy };
                let is_gone = || async { Ok(!list().await?.contains(&view)) };
                let attempted = format!("deleting the dashboard {name} of the cluster {ip}");
                let ask = || tower.delete_view(&view);
                removal::remove(cx, facts, ("delete-view", &attempted), &leftover, ask, is_gone).await?;
                facts.no_longer_left("view", &view);
                undone.push(format!("the dashboard \"{name}\" of the cluster {ip}"));
                continue;
            }
            let graphs = || tower::ask(cx, "listing the graphs of a dashboard", || tower.graphs(&view));
            for graph in
                graphs().await?.into_iter().filter(|graph| ours.contains(&dashboards::key(name, &graph.metric)))
            {
                let remedy = format!("delete the graph {} on the dashboard \"{name}\" in CloudTower", graph.metric);
                let (id, name) = (graph.id.clone(), graph.metric.clone());
                let leftover = Leftover { kind: "graph".to_owned(), id, name, remedy };
                let is_gone = || async { Ok(!graphs().await?.iter().any(|still| still.id == graph.id)) };
                let attempted = format!("deleting the graph {} of the cluster {ip}", graph.metric);
                let ask = || tower.delete_graph(&graph.id);
                removal::remove(cx, facts, ("delete-graph", &attempted), &leftover, ask, is_gone).await?;
                facts.no_longer_left("graph", &graph.id);
                undone.push(format!("the graph {} of the cluster {ip}", graph.metric));
            }
        }
    }
    Ok(())
}
