//! What is configured in CloudTower for its clusters (`flow.md` 8, `cloudtower.md` 6): the default storage policy, and on
//! request an alert and the dashboards. Only the policy is required; what is optional and fails is a warning.

mod alert;
mod dashboards;
mod policy;
mod undo;

use async_trait::async_trait;
use gantry_proto::{
    Level, StepInfo,
    plan::Stage,
    result::{Operation, OperationResult},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    attach_cluster::cluster,
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::{Cluster, ConnectState},
    diff::Diff,
    facts::{ConfigFact, Facts},
    result,
    step::{Step, StepCx, StepError},
};

/// Tries of a call that may be made twice: one and three retries.
const TRIES: u32 = 4;
/// What a cluster is needed for.
const CONFIGURING: &str = "configuring CloudTower for the cluster";

/// Configures CloudTower.
pub struct CloudtowerConfig;

/// What has become of an operation, and what exactly.
type Done = (OperationResult, String);

#[async_trait]
impl Step for CloudtowerConfig {
    fn info(&self) -> StepInfo {
        let title = "Configure CloudTower for the cluster".to_owned();
        StepInfo { id: "cloudtower-config".into(), title, weight: 10, attempts: 1 }
    }

    fn stage(&self) -> Option<Stage> {
        Some(Stage::CloudtowerConfig)
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        tower::come_in(cx, facts).await?;
        for ip in result::clusters(&cx.plan) {
            cx.safe_point().await?;
            let cluster = settled(cx, &ip).await?;
            // What an earlier walk has told is told anew.
            fact(facts, &ip).operations.clear();
            let policy = policy::set(cx, facts, &ip, &cluster).await;
            told(cx, facts, ("storage_policy", &ip), policy).await?;
            let alert = alert::set(cx, facts, &ip, &cluster).await;
            optional(cx, facts, ("capacity_alert", &ip), alert).await?;
            let dashboards = dashboards::make(cx, facts, &ip, &cluster).await;
            optional(cx, facts, ("dashboards", &ip), dashboards).await?;
        }
        Ok(())
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let attaches = cx.plan.deployment.stages.contains(&Stage::AttachCluster);
        let is_made = tower::is_made(cx);
        let open = !is_made && tower::look_in(cx, facts, diff).await?;
        for ip in result::clusters(&cx.plan) {
            let found = if open { cluster::look(cx, &ip).await? } else { None };
            // One that is being removed has to be attached anew.
            let found = found.filter(|found| found.state != ConnectState::Removing);
            match found {
                Some(cluster) => {
                    policy::survey(cx, diff, &ip, &cluster).await?;
                    alert::survey(cx, diff, &ip, &cluster).await?;
                    dashboards::survey(cx, diff, &ip, &cluster).await?;
                }
                None if attaches && (open || is_made) => {
                    policy::survey_new(cx, diff, &ip);
                    alert::survey_new(cx, diff, &ip);
                    dashboards::survey_new(cx, diff, &ip);
                }
                None if open || is_made => return Err(cluster::not_attached(&ip, CONFIGURING)),
                None => {
                    let message = "CloudTower could not be looked into, so it is not known what is configured";
                    diff.unknown(policy::CALL, &ip, message);
                }
            }
        }
        Ok(())
    }

    async fn undo(&self, cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
        if facts.config.values().all(ConfigFact::is_untouched) {
            return Ok(Vec::new());
        }
        tower::trust(cx, facts);
        tower::login(cx).await?;
        undo::all(cx, facts).await
    }
}

/// The cluster with its settings, which come some seconds after it is connected (7.6).
async fn settled(cx: &StepCx, ip: &str) -> Result<Cluster, StepError> {
    let timing = &cx.settings.timing;
    let (begun, limit) = (Instant::now(), timing.scaled(timing.cluster_settings_limit_s));
    loop {
        let found = cluster::attached(cx, ip, CONFIGURING).await?;
        if found.settings_id.is_some() || begun.elapsed() >= limit {
            return Ok(found);
        }
        cx.sleep(timing.scaled(timing.cluster_settings_poll_s)).await?;
    }
}

fn fact<'a>(facts: &'a mut Facts, ip: &str) -> &'a mut ConfigFact {
    facts.config.entry(ip.to_owned()).or_default()
}

/// Writes down what became of an operation; what is required and failed ends the step.
async fn told(
    cx: &StepCx,
    facts: &mut Facts,
    (name, ip): (&str, &str),
    ended: Result<Done, StepError>,
) -> Result<(), StepError> {
    let (done, error) = match ended {
        Ok(done) => (done, None),
        Err(StepError::Permanent(failure)) => {
            ((OperationResult::Failed, failure.message.clone()), Some(StepError::Permanent(failure)))
        }
        Err(error) => return Err(error),
    };
    let operation = Operation { name: name.to_owned(), cluster: ip.to_owned(), result: done.0, detail: done.1 };
    let fields = extra([("operation", json!(name)), ("cluster", json!(ip)), ("result", json!(operation.result))]);
    let message = format!("{name} of the cluster {ip}: {}", operation.detail);
    fact(facts, ip).operations.push(operation);
    cx.save(facts).await?;
    match error {
        Some(error) => Err(error),
        None => cx.note(Level::Info, "tower_configured", message, fields).await,
    }
}

/// The same where a failure is a warning.
async fn optional(
    cx: &StepCx,
    facts: &mut Facts,
    operation: (&str, &str),
    ended: Result<Done, StepError>,
) -> Result<(), StepError> {
    match told(cx, facts, operation, ended).await {
        Err(StepError::Permanent(failure)) => {
            let message = format!("{}; {}", failure.message, failure.remedy);
            let fields = extra([("failure", json!(failure.code)), ("operation", json!(operation.0))]);
            cx.note(Level::Warning, "tower_not_configured", message, fields).await
        }
        ended => ended,
    }
}

/// A failure of what was attempted `TRIES` times without an answer that tells what is true.
fn unclear(attempted: &str) -> StepError {
    let message = format!("{attempted} was tried {TRIES} times, and CloudTower does not show it");
    let remedy = "look at the job's events for what CloudTower said each time, then `ctl retry`";
    permanent(story("tower_config_unclear", message, remedy))
}
