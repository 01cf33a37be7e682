//! Clusters in CloudTower (`flow.md` 7): attached once whatever the answers, found where they are, and taken out again
//! when it fails, while CloudTower stays.

use gantry_agent::{
    executor::Ended,
    facts::Facts,
    pipeline::Pipeline,
    steps::{
        attach_cluster::AttachCluster, configure_services::ConfigureServices, finish::Finish,
        initial_setup::InitialSetup, verify_https::VerifyHttps,
    },
};
use gantry_proto::{Body, JobId, JobOutcome, UndoState, plan::Stage};
use gantry_sim::fault::{Action, Face, Match, When};
use serde_json::{Value, json};

use crate::{
    inside,
    lost::{self, Lost},
    site::{Ran, Site, Strings, fault},
};

pub(crate) const ALL: Pipeline = &[&VerifyHttps, &InitialSetup, &ConfigureServices, &AttachCluster, &Finish];
/// A cluster that CloudTower reaches beside the simulated one.
const FURTHER: &str = "127.0.30.10";

pub(crate) async fn site() -> Site {
    site_with(&[Stage::Prepare, Stage::DeployCloudtower, Stage::AttachCluster]).await
}

async fn site_with(stages: &[Stage]) -> Site {
    let mut site = Site::inside_of(ALL, true, |options| {
        options.tower.further_clusters = vec![FURTHER.parse().unwrap()];
    })
    .await;
    site.plan.deployment.stages = stages.to_vec();
    site
}

/// Clusters that are attached, or being attached, and datacenters.
pub(crate) fn inside_tower(site: &Site) -> (Vec<String>, usize) {
    let tower = site.tower();
    let there = tower.clusters.iter().filter(|cluster| cluster.removed.is_none());
    (there.map(|cluster| cluster.ip.clone()).collect(), tower.datacenters.len())
}

pub(crate) fn vip(site: &Site) -> String {
    site.plan.cluster.vip.unwrap().to_string()
}

pub(crate) fn result(ran: &Ran) -> Value {
    let last = ran.events.iter().rev().find_map(|event| match &event.body {
        Body::JobFinished { result, .. } => Some(result.clone()),
        _ => None,
    });
    last.unwrap()
}

fn calls(site: &Site, name: &str) -> usize {
    site.calls("POST", &format!("/v2/api/{name}")).len()
}

fn assert_attached(site: &Site, ran: &Ran) {
    ran.succeeded();
    site.assert_invariants();
    assert_eq!(inside_tower(site), (vec![vip(site)], 1));
    let result = result(ran);
    assert_eq!(result["deploy_cloudtower"]["status"], "SERVICE_READY");
    let attached = &result["attach_cluster"];
    assert_eq!((&attached["status"], &attached["datacenter"]["name"]), (&json!("SUCCESS"), &json!("DC-1")));
    assert_eq!(attached["cluster"], attached["clusters"][0]);
    assert_eq!(attached["cluster"]["connect_state"], "CONNECTED");
    for key in ["id", "local_id", "name", "version"] {
        assert!(attached["cluster"][key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {attached}");
    }
}

/// It has failed, CloudTower is finished and stays, and nothing of the attaching is left.
fn assert_only_attaching_undone(site: &Site, ran: &Ran, outcome: JobOutcome) {
    assert!(matches!(&ran.ended, Ended::Finished(ended) if *ended == outcome), "{:?}", ran.ended);
    assert_eq!(ran.view.undo, Some(UndoState::RolledBack), "{:?}", ran.view.leftovers);
    assert_eq!(inside_tower(site), (Vec::new(), 0));
    let result = result(ran);
    assert_eq!(result["deploy_cloudtower"]["status"], "SERVICE_READY");
    assert_eq!(result["deploy_cloudtower"].get("error"), None);
    assert!(result["attach_cluster"]["error"]["code"].is_string(), "{result}");
    assert_eq!(result["attach_cluster"].get("status"), None);
    assert_eq!((site.tower().users.len(), site.tower().organizations.len()), (1, 1), "CloudTower is as it was");
}

#[tokio::test]
async fn a_cluster_is_attached_and_the_next_job_finds_it() {
    let mut site = site().await;
    let ran = site.run(ALL).await;
    assert_attached(&site, &ran);
    assert!(result(&ran)["attach_cluster"]["cluster"]["settings_id"].is_string());
    let sent = site.calls("POST", "/v2/api/connect-cluster");
    assert_eq!(sent.len(), 1);
    assert!(!format!("{sent:?}").contains(&site.password));

    // Another job, of this stage alone, knows nothing of the first one.
    site.id = JobId::new();
    site.plan.deployment.stages = vec![Stage::AttachCluster];
    let again = site.run(ALL).await;
    again.succeeded();
    let result = result(&again);
    assert_eq!(
        (&result["attach_cluster"]["status"], &result["attach_cluster"]["cluster"]["found"]),
        (&json!("SUCCESS"), &json!(true))
    );
    assert_eq!(result["deploy_cloudtower"].get("status"), None, "that stage was not made");
    let steps: Vec<&str> = again.view.steps.iter().map(|step| step.info.id.as_str()).collect();
    assert_eq!(steps, ["attach-cluster", "finish"]);
    assert_eq!((calls(&site, "connect-cluster"), calls(&site, "create-datacenter")), (1, 1));
}

#[tokio::test]
async fn without_the_stage_nothing_is_attached() {
    let site = site_with(&Stage::usual()).await;
    let ran = site.run(ALL).await;
    ran.succeeded();
    assert_eq!(inside_tower(&site), (Vec::new(), 0));
    assert_eq!(result(&ran).get("attach_cluster"), None);
}

#[tokio::test]
async fn connections_that_come_in_their_own_way_are_waited_for() {
    for (mode, note) in [
        (json!({"connect": "flaps"}), "cluster_attached"),
        (json!({"connect": "task_fails"}), "cluster_task_failed"),
        (json!({"settings": "late"}), "cluster_attached"),
        (json!({"settings": "never"}), "cluster_without_settings"),
        (json!({"rest_answer": "object"}), "cluster_attached"),
        (json!({"rest_answer": "array", "tasks": true, "task_late": true}), "cluster_attached"),
    ] {
        let site = site().await;
        site.modes(json!({"tower": mode}));
        let ran = site.run(ALL).await;
        assert_attached(&site, &ran);
        assert_eq!(ran.notes(note).len(), 1, "{mode}");
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_attached_leaves_nothing_in_a_cloudtower_that_stays() {
    for (mode, code, words) in [
        ("normal", "cluster_disconnected", "LOAD_CLUSTER_UNAUTHORIZED"),
        ("refused_at_once", "cluster_refused", "username or password is wrong"),
        ("unhealthy", "cluster_disconnected", "LOAD_CLUSTER_UNHEALTHY"),
        ("stuck", "cluster_timeout", "INITIALIZING"),
    ] {
        let mut site = site().await;
        site.modes(json!({"tower": {"connect": mode}}));
        site.settings.timing.attach_limit_s = 120.0;
        if !matches!(mode, "unhealthy" | "stuck") {
            site.password = "wrong-password-1".to_owned();
        }
        let ran = site.run(ALL).await;
        assert_only_attaching_undone(&site, &ran, JobOutcome::Failed);
        let failure = ran.failure();
        assert_eq!(failure.code, code, "{mode}: {failure:?}");
        assert!(failure.message.contains(words), "{mode}: {}", failure.message);
        assert!(failure.remedy.contains("stays"), "{}", failure.remedy);
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn a_lock_in_cloudtower_is_waited_for() {
    let site = site().await;
    for (name, id) in [("create-datacenter", "a"), ("connect-cluster", "b")] {
        let locked = json!({"code": "ResourceLocked", "message": "locked", "path": "", "status": 400});
        let call = Match { face: Some(Face::Tower), path: Some(format!("/v2/api/{name}")), ..Match::default() };
        site.arm(fault(id, call, When::Before, Action::json(400, locked)).times(6));
    }
    let ran = site.run(ALL).await;
    assert_attached(&site, &ran);
    assert_eq!((site.fired("a"), site.fired("b")), (6, 6));
}

#[tokio::test]
async fn of_several_clusters_each_has_its_own_result() {
    let mut site = site().await;
    site.plan.deployment.further_clusters = [FURTHER, "127.0.30.99", FURTHER].map(|ip| ip.parse().unwrap()).to_vec();
    let ran = site.run(ALL).await;
    assert_eq!(ran.code(), "clusters_partly_attached");
    assert_eq!(ran.view.undo, Some(UndoState::Kept));
    assert_eq!(inside_tower(&site), (vec![vip(&site), FURTHER.to_owned()], 1));
    let attached = &result(&ran)["attach_cluster"];
    let told: Vec<(&Value, bool)> = attached["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cluster| (&cluster["ip"], cluster.get("failure").is_some()))
        .collect();
    assert_eq!(told, [(&json!(vip(&site)), false), (&json!(FURTHER), false), (&json!("127.0.30.99"), true)]);
    assert_eq!(attached["error"]["detail"]["detail"]["not_attached"], json!(["127.0.30.99"]));
    site.assert_invariants();
}

#[tokio::test]
async fn a_cancel_takes_the_cluster_out_again_and_leaves_cloudtower() {
    let site = site().await;
    site.modes(json!({"tower": {"connect": "stuck"}}));
    let ran = site
        .run_with(ALL, |strings: Strings| async move {
            let mut samples = strings.log.samples();
            let waits = |sample: &Option<gantry_proto::Sample>| {
                sample.as_ref().is_some_and(|sample| sample.text.contains("INITIALIZING"))
            };
            samples.wait_for(waits).await.unwrap();
            strings.cancel.cancel();
        })
        .await;
    assert_only_attaching_undone(&site, &ran, JobOutcome::Cancelled);
}

#[tokio::test]
async fn what_cannot_be_taken_out_is_listed_with_the_remedy() {
    let mut site = site().await;
    site.password = "wrong-password-1".to_owned();
    let call = Match { face: Some(Face::Tower), path: Some("/v2/api/delete-cluster".into()), ..Match::default() };
    site.arm(fault("stays", call, When::Before, Action::status(500)));
    let ran = site.run(ALL).await;
    assert_eq!((ran.code().as_str(), ran.view.undo), ("cluster_disconnected", Some(UndoState::RollbackIncomplete)));
    let kinds: Vec<&str> = ran.view.leftovers.iter().map(|left| left.kind.as_str()).collect();
    assert_eq!(kinds, ["cluster", "datacenter"]);
    assert!(ran.view.leftovers.iter().all(|left| !left.id.is_empty() && left.remedy.contains("CloudTower")));
    // CloudTower itself is no leftover.
    assert_eq!(result(&ran)["deploy_cloudtower"]["status"], "SERVICE_READY");
}

// --- lost answers (`flow.md` 6, L10) ---

fn path(name: &str) -> Match {
    Match { face: Some(Face::Tower), path: Some(format!("/v2/api/{name}")), ..Match::default() }
}

#[tokio::test]
async fn t9_create_the_datacenter() {
    let check = |site: &Site, ran: &Ran, _| assert_attached(site, ran);
    lost::row(&lost::ALL, || path("create-datacenter"), ALL, site, check).await;
    lost::row(&lost::ALL, || path("get-datacenters"), ALL, site, check).await;
}

#[tokio::test]
async fn t10_attach_the_cluster() {
    let check = |site: &Site, ran: &Ran, _| assert_attached(site, ran);
    lost::row(&lost::ALL, || path("connect-cluster"), ALL, site, check).await;
    lost::row(&lost::ALL, || path("get-clusters"), ALL, site, check).await;
    let refusing = async || {
        let site = site().await;
        site.modes(json!({"tower": {"second_cluster": "refused", "task_late": true}}));
        site
    };
    lost::row(&lost::ALL, || path("connect-cluster"), ALL, refusing, check).await;
}

#[tokio::test]
async fn the_way_back_with_lost_answers() {
    let failing = async || {
        let mut site = site().await;
        site.password = "wrong-password-1".to_owned();
        site
    };
    let check = |site: &Site, ran: &Ran, _: Lost| assert_only_attaching_undone(site, ran, JobOutcome::Failed);
    lost::row(&lost::ALL, || path("delete-cluster"), ALL, failing, check).await;
    lost::row(&lost::ALL, || path("delete-datacenter"), ALL, failing, check).await;
}

#[test]
fn what_is_finished_is_no_leftover() {
    let vm = serde_json::from_value(json!({"name": "cloudtower", "uuid": inside::VM})).unwrap();
    let mut facts = Facts { vm: Some(vm), ..Facts::default() };
    assert_eq!(facts.ours().len(), 1);
    facts.finished_stages = vec![Stage::Prepare, Stage::DeployCloudtower];
    assert!(facts.ours().is_empty());
}
