//! The clusters inside CloudTower (`flow.md` 7): organisation, datacenter, and each cluster of the plan, found or made.
//! What the deployment has made is finished before, so a failure here removes only what was made here.

pub(super) mod cluster;
mod datacenter;
mod remove;

use async_trait::async_trait;
use gantry_proto::{Failure, Level, StepInfo, plan::Stage};
use serde_json::json;

use super::{
    story::{extra, permanent, story},
    tower,
};
use crate::{
    diff::Diff,
    facts::Facts,
    result,
    step::{Step, StepCx, StepError},
};

/// Attaches the clusters.
pub struct AttachCluster;

#[async_trait]
impl Step for AttachCluster {
    fn info(&self) -> StepInfo {
        let title = "Attach the cluster to CloudTower".to_owned();
        StepInfo { id: "attach-cluster".into(), title, weight: 30, attempts: 1 }
    }

    fn stage(&self) -> Option<Stage> {
        Some(Stage::AttachCluster)
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        tower::come_in(cx, facts).await?;
        let organization = datacenter::organization(cx).await?;
        let datacenter = datacenter::find_or_make(cx, facts, &organization).await?;
        let addresses = result::clusters(&cx.plan);
        let mut failures = Vec::new();
        for ip in &addresses {
            cx.safe_point().await?;
            match cluster::attach(cx, facts, &datacenter, ip).await {
                Ok(()) => {}
                // One cluster does not hold up the others.
                Err(StepError::Permanent(failure)) => {
                    refused(cx, facts, ip, &failure).await?;
                    failures.push(*failure);
                }
                Err(error) => return Err(error),
            }
        }
        let failed = failures.len();
        match failures.into_iter().next() {
            None => Ok(()),
            Some(failure) if failed == addresses.len() => Err(permanent(kept(failure))),
            // Those that are attached stay: a retry takes up the others.
            Some(failure) => Err(StepError::HandsOff(Box::new(partly(cx, facts, &addresses, failure)))),
        }
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let addresses = result::clusters(&cx.plan);
        if tower::is_made(cx) {
            datacenter::survey_new(cx, diff);
            addresses.iter().for_each(|ip| cluster::survey_new(diff, ip));
            return Ok(());
        }
        if !tower::look_in(cx, facts, diff).await? {
            let message = "CloudTower could not be looked into, so it is not known whether the cluster is attached";
            addresses.iter().for_each(|ip| diff.unknown(cluster::CALL, ip, message));
            return Ok(());
        }
        datacenter::survey(cx, diff).await?;
        for ip in &addresses {
            cluster::survey(cx, diff, ip).await?;
        }
        Ok(())
    }

    async fn undo(&self, cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
        if facts.clusters.values().all(|cluster| !cluster.made)
            && facts.datacenter.as_ref().is_none_or(|datacenter| !datacenter.made)
        {
            return Ok(Vec::new());
        }
        tower::trust(cx, facts);
        tower::login(cx).await?;
        let mut removed = remove::clusters(cx, facts).await?;
        removed.extend(remove::datacenter(cx, facts).await?);
        Ok(removed)
    }
}

/// Writes down that a cluster could not be attached, and takes out of CloudTower what has come of it.
async fn refused(cx: &StepCx, facts: &mut Facts, ip: &str, failure: &Failure) -> Result<(), StepError> {
    let failure = cx.log.clean(failure.clone());
    let fields = extra([("cluster", json!(ip)), ("failure", json!(failure.code))]);
    cx.note(Level::Error, "cluster_not_attached", failure.message.clone(), fields).await?;
    facts.clusters.entry(ip.to_owned()).or_default().failure = Some(failure);
    cx.save(facts).await?;
    match remove::one(cx, facts, ip).await {
        // It is listed as left over; why the cluster is not attached is what is told.
        Ok(_) | Err(StepError::Permanent(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The failure with what an operator has to know first.
fn kept(mut failure: Failure) -> Failure {
    failure.remedy =
        format!("{} (CloudTower itself is finished and stays; `ctl retry` attaches again)", failure.remedy);
    failure
}

fn partly(cx: &StepCx, facts: &Facts, addresses: &[String], first: Failure) -> Failure {
    let is_attached = |ip: &&String| facts.clusters.get(*ip).is_some_and(|cluster| cluster.failure.is_none());
    let (attached, refused): (Vec<&String>, Vec<&String>) = addresses.iter().partition(is_attached);
    let message = format!(
        "of {} clusters, {} could not be attached to CloudTower {}; the first reason: {}",
        addresses.len(),
        refused.iter().map(|ip| ip.as_str()).collect::<Vec<_>>().join(", "),
        cx.plan.cloudtower.ip,
        first.message
    );
    let remedy = format!("{}; then `ctl retry` attaches them, the others stay", first.remedy);
    let mut failure = story("clusters_partly_attached", message, remedy);
    failure.causes = first.causes;
    failure.detail = extra([("attached", json!(attached)), ("not_attached", json!(refused))]);
    failure
}
