//! The inspection of the clusters by CloudTower (`flow.md` 9, R84): a job, its report, and what it found. Changes nothing
//! but CloudTower's list of inspections, so there is nothing to undo.

mod items;

use std::time::Duration;

use async_trait::async_trait;
use gantry_proto::{Failure, Level, StepInfo, event::Extra, plan::Stage};
use serde_json::json;
use tokio::time::Instant;

use super::{
    attach_cluster::cluster,
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::{Error, InspectionState},
    diff::Diff,
    facts::{Facts, InspectionFact},
    result,
    step::{Progress, Step, StepCx, StepError},
};

/// What intents of ours are called.
const INSPECT: &str = "inspect";
const EXPORT: &str = "export-report";
/// Tries at what is harmless to do twice.
const TRIES: u32 = 3;
/// What a cluster is needed for.
const INSPECTING: &str = "inspecting the cluster";

/// Has the clusters inspected.
pub struct CheckClusterHealthy;

#[async_trait]
impl Step for CheckClusterHealthy {
    fn info(&self) -> StepInfo {
        let title = "Have CloudTower inspect the cluster".to_owned();
        StepInfo { id: "check-cluster-healthy".into(), title, weight: 60, attempts: 1 }
    }

    fn stage(&self) -> Option<Stage> {
        Some(Stage::CheckClusterHealthy)
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        tower::come_in(cx, facts).await?;
        let clusters = clusters(cx).await?;
        begin(cx, facts, clusters).await?;
        finish(cx, facts).await?;
        export(cx, facts).await?;
        fetch(cx, facts).await
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let ip = cx.plan.cloudtower.ip.to_string();
        if !cx.plan.deployment.stages.contains(&Stage::AttachCluster) {
            if tower::is_made(cx) {
                // Nobody attaches a cluster to the new CloudTower.
                let first = result::clusters(&cx.plan).into_iter().next().unwrap_or_default();
                return Err(cluster::not_attached(&first, INSPECTING));
            }
            if !tower::look_in(cx, facts, diff).await? {
                let message = "CloudTower could not be looked into, so it is not known whether it has the cluster";
                diff.unknown(INSPECT, &ip, message);
                return Ok(());
            }
            clusters(cx).await?;
        }
        diff.create(INSPECT, &ip, "CloudTower inspects the clusters");
        diff.create(EXPORT, &ip, "the report of the inspection is exported and fetched");
        Ok(())
    }
}

/// The own uuids of the plan's clusters, as CloudTower has them.
async fn clusters(cx: &StepCx) -> Result<Vec<String>, StepError> {
    let mut uuids = Vec::new();
    for ip in result::clusters(&cx.plan) {
        let found = cluster::attached(cx, &ip, INSPECTING).await?;
        let Some(uuid) = found.local_id else {
            let message = format!("the cluster {ip} cannot be inspected: CloudTower tells no uuid of it");
            let remedy = "wait until CloudTower shows the cluster's serial, then `ctl retry`";
            return Err(permanent(story("cluster_without_uuid", message, remedy)));
        };
        uuids.push(uuid);
    }
    Ok(uuids)
}

/// H1; one that a crash has left at work is taken up again.
async fn begin(cx: &StepCx, facts: &mut Facts, clusters: Vec<String>) -> Result<(), StepError> {
    if facts.inspection.as_ref().is_some_and(|inspection| inspection.clusters == clusters && !inspection.failed) {
        return Ok(());
    }
    let version = cx.settings.cloudtower.inspector_version.as_str();
    let detail = extra([("clusters", json!(clusters)), ("version", json!(version))]);
    let attempted = format!("beginning an inspection (interface version {version})");
    let tower = &cx.outside.tower;
    let id = act(cx, INSPECT, detail, &attempted, || tower.inspect(version, &clusters, items::LOOKED_AT))
        .await
        .map_err(|error| hint(error, "check cloudtower.inspector_version: it belongs to CloudTower's release"))?;
    let items = items::LOOKED_AT.len() as u64;
    facts.inspection = Some(InspectionFact { id: id.clone(), clusters, items, ..InspectionFact::default() });
    cx.save(facts).await?;
    cx.note(Level::Info, "inspection_begun", "CloudTower inspects the cluster", extra([("inspection", json!(id))]))
        .await
}

/// H2 until it ends.
async fn finish(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let Some(mut fact) = facts.inspection.clone() else { return Ok(()) };
    if fact.ended {
        return Ok(());
    }
    let mut last = Default::default();
    let tower = &cx.outside.tower;
    let look = || async {
        let found = tower::ask(cx, "asking for the inspection", || tower.inspection(&fact.id)).await?;
        let told = (found.state, found.word.clone());
        Ok((found, told))
    };
    let state = poll(cx, "the inspection", look, &mut last).await?;
    (fact.findings, fact.conspicuous) = (last.findings, last.conspicuous);
    fact.failed = state == InspectionState::Failed;
    fact.ended = !fact.failed;
    let (id, word) = (fact.id.clone(), last.word);
    facts.inspection = Some(fact.clone());
    cx.save(facts).await?;
    if fact.failed {
        let message = format!("CloudTower's inspection {id} failed: it is {word}");
        let remedy = "look at it in CloudTower's inspection centre; `ctl retry` begins another one";
        return Err(permanent(story("inspection_failed", message, remedy)));
    }
    let (level, message) = match fact.conspicuous.len() {
        0 => (Level::Info, "the inspection has found nothing conspicuous".to_owned()),
        count => (Level::Warning, format!("the inspection has found {count} items that need a look: the report tells")),
    };
    let fields = extra([("findings", json!(fact.findings)), ("conspicuous", json!(fact.conspicuous))]);
    cx.note(level, "inspection_ended", message, fields).await
}

/// H3 and H4.
async fn export(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let Some(mut fact) = facts.inspection.clone() else { return Ok(()) };
    let tower = &cx.outside.tower;
    if fact.filename.is_none() {
        let detail = extra([("inspection", json!(fact.id))]);
        let attempted = "beginning the export of the report";
        let reported = items::reported();
        let ask = || tower.export_report(&fact.id, &fact.clusters, &reported);
        let filename = act(cx, EXPORT, detail, attempted, ask).await?;
        fact.filename = Some(filename);
        facts.inspection = Some(fact.clone());
        cx.save(facts).await?;
    }
    let filename = fact.filename.clone().unwrap_or_default();
    let mut word = String::new();
    let look = || async {
        let told = tower::ask(cx, "asking for the export", || tower.export_state(&filename)).await?;
        Ok((told.1.clone(), told))
    };
    let state = poll(cx, "the export of the report", look, &mut word).await?;
    if state == InspectionState::Failed {
        fact.filename = None;
        facts.inspection = Some(fact);
        cx.save(facts).await?;
        let message = format!("CloudTower could not export the report {filename}: {word}");
        let remedy = "export it in CloudTower's inspection centre; `ctl retry` asks for it once more";
        return Err(permanent(story("report_export_failed", message, remedy)));
    }
    Ok(())
}

/// H5: the report is kept beside the job's logs.
async fn fetch(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let Some(mut fact) = facts.inspection.clone() else { return Ok(()) };
    let (tower, settings) = (&cx.outside.tower, &cx.settings.cloudtower);
    let filename = fact.filename.clone().unwrap_or_default();
    let limit = Duration::from_millis(settings.report_timeout_ms);
    let attempted = format!("fetching the report {filename}");
    let report = tower::ask(cx, &attempted, || tower.report(&filename, limit, settings.report_max_bytes)).await?;
    let bytes = report.len();
    let path = cx.log.keep_report(report).await.map_err(StepError::Journal)?;
    fact.path = Some(path.clone());
    facts.inspection = Some(fact);
    cx.save(facts).await?;
    let message = format!("the report of the inspection is kept: {path} in the job's directory, {bytes} bytes");
    cx.note(Level::Info, "report_kept", message, extra([("path", json!(path)), ("bytes", json!(bytes))])).await
}

/// A call with its intent, again when its outcome is not known: what it makes is harmless (T13).
async fn act<T, F>(
    cx: &StepCx,
    call: &str,
    detail: Extra,
    attempted: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T, StepError>
where
    F: Future<Output = Result<T, Error>>,
{
    for round in 0.. {
        let intent = cx.intend(call, detail.clone()).await?;
        let asked = tower::unlocked(cx, &mut ask).await?;
        cx.outcome(intent, tower::became(&asked), extra([])).await?;
        match asked {
            Ok(made) => return Ok(made),
            Err(error) if round + 1 < TRIES && (error.is_transient() || !error.had_no_effect()) => {
                cx.sleep(tower::backoff(cx, round)).await?;
            }
            Err(error) => return Err(permanent(tower::failed(attempted, &error))),
        }
    }
    Err(permanent(story("internal", attempted.to_owned(), "report it with the job's log")))
}

/// Looks until it has ended. `look` gives what is to be kept of the last look in `last`.
async fn poll<T, F>(
    cx: &StepCx,
    what: &str,
    mut look: impl FnMut() -> F,
    last: &mut T,
) -> Result<InspectionState, StepError>
where
    F: Future<Output = Result<(T, (InspectionState, String)), StepError>>,
{
    let timing = &cx.settings.timing;
    let (begun, limit) = (Instant::now(), timing.scaled(timing.inspection_limit_s));
    loop {
        let (found, (state, word)) = look().await?;
        *last = found;
        if state != InspectionState::Running {
            return Ok(state);
        }
        if begun.elapsed() >= limit {
            let minutes = timing.inspection_limit_s / 60.0;
            let message = format!("{what} has not ended after {minutes:.0} minutes: it is {word}");
            let remedy = "look at it in CloudTower's inspection centre; `ctl retry` goes on waiting";
            return Err(permanent(story("inspection_timeout", message, remedy)));
        }
        cx.progress(Progress { text: format!("{what} is {word}"), ..Progress::default() });
        cx.sleep(timing.scaled(timing.inspection_poll_s)).await?;
    }
}

fn hint(error: StepError, hint: &str) -> StepError {
    match error {
        StepError::Permanent(failure) if failure.code == "tower_refused" => {
            permanent(Failure { remedy: format!("{hint}; {}", failure.remedy), ..*failure })
        }
        error => error,
    }
}
