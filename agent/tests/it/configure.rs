//! What is configured in CloudTower for its clusters (`flow.md` 8, K1 to K4): looked at before it is changed, changed once
//! whatever the answers, and set back when the stage fails.

use gantry_agent::{
    executor::Ended,
    pipeline::Pipeline,
    steps::{
        attach_cluster::AttachCluster, cloudtower_config::CloudtowerConfig, configure_services::ConfigureServices,
        finish::Finish, initial_setup::InitialSetup, verify_https::VerifyHttps,
    },
};
use gantry_proto::{
    JobId, JobOutcome, UndoState,
    plan::{DefaultPolicy, Stage},
};
use gantry_sim::{
    cloudtower::Configured,
    fault::{Action, Face, Match, When},
};
use serde_json::{Value, json};

use crate::{
    attach::{self, result},
    lost,
    site::{Ran, Site, Strings, fault},
};

pub(crate) const ALL: Pipeline =
    &[&VerifyHttps, &InitialSetup, &ConfigureServices, &AttachCluster, &CloudtowerConfig, &Finish];
/// A cluster that CloudTower reaches beside the simulated one.
const FURTHER: &str = "127.0.30.10";
/// As many graphs as `cloudtower.md` 6 has.
const GRAPHS: usize = 15;

/// Everything that can be configured is wanted.
pub(crate) async fn site() -> Site {
    let mut site = Site::inside_of(ALL, true, |options| {
        options.tower.further_clusters = vec![FURTHER.parse().unwrap()];
    })
    .await;
    use Stage::{AttachCluster, CloudtowerConfig, DeployCloudtower, Prepare};
    site.plan.deployment.stages = vec![Prepare, DeployCloudtower, AttachCluster, CloudtowerConfig];
    site.plan.deployment.tower_config.capacity_alert = true;
    site
}

pub(crate) fn configured(site: &Site) -> Configured {
    site.tower().configured
}

fn policies(site: &Site) -> Vec<String> {
    configured(site).settings.into_values().map(|settings| settings.policy).collect()
}

fn operation(name: &str) -> Match {
    Match { face: Some(Face::Tower), operation: Some(name.to_owned()), ..Match::default() }
}

fn route(name: &str) -> Match {
    Match { face: Some(Face::Tower), path: Some(format!("/v2/api/{name}")), ..Match::default() }
}

/// Name and result of each operation.
fn told(ran: &Ran) -> Vec<(String, String)> {
    let result = result(ran);
    let operations = result["cloudtower_config"]["operations"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    operations.iter().map(|one| (text(&one["name"]), text(&one["result"]))).collect()
}

fn as_told(results: [&str; 3]) -> Vec<(String, String)> {
    let names = ["storage_policy", "capacity_alert", "dashboards"];
    names.into_iter().zip(results).map(|(name, result)| (name.to_owned(), result.to_owned())).collect()
}

pub(crate) fn assert_configured(site: &Site, ran: &Ran) {
    ran.succeeded();
    site.assert_invariants();
    assert_eq!(result(ran)["cloudtower_config"]["status"], "SUCCESS");
    let there = configured(site);
    assert_eq!(policies(site), ["REPLICA_2_THIN_PROVISION"]);
    assert_eq!((there.views.len(), there.graphs.len()), (3, GRAPHS));
    let alert = there.alerts.into_values().next().unwrap();
    assert!(alert.customized && !alert.disabled, "{alert:?}");
    assert_eq!(
        alert.thresholds,
        json!([
            {"severity": "CRITICAL", "value": 90.0, "quantile": 0},
            // Three hosts.
            {"severity": "NOTICE", "value": 61.0, "quantile": 0},
        ])
    );
}

/// The stage has failed, all is as it was before it, and what came before it stays.
pub(crate) fn assert_set_back(site: &Site, ran: &Ran, outcome: JobOutcome) {
    assert!(matches!(&ran.ended, Ended::Finished(ended) if *ended == outcome), "{:?}", ran.ended);
    assert_eq!(ran.view.undo, Some(UndoState::RolledBack), "{:?}", ran.view.leftovers);
    let there = configured(site);
    assert!(policies(site).iter().all(|policy| policy == "REPLICA_2_THICK_PROVISION"), "{:?}", there.settings);
    assert_eq!((there.views.len(), there.graphs.len()), (0, 0));
    assert!(there.alerts.values().all(|alert| !alert.customized), "{:?}", there.alerts);
    let result = result(ran);
    assert_eq!(result["attach_cluster"]["status"], "SUCCESS");
    assert!(result["cloudtower_config"]["error"]["code"].is_string(), "{result}");
}

#[tokio::test]
async fn a_cluster_is_configured_and_the_next_job_changes_nothing() {
    let mut site = site().await;
    let ran = site.run(ALL).await;
    assert_configured(&site, &ran);
    assert_eq!(told(&ran), as_told(["changed", "changed", "changed"]));
    // The rule is on the second page.
    let pages = site.calls("POST", "/api").into_iter();
    let pages = pages.filter(|call| format!("{call:?}").contains("globalAlertRules")).count();
    assert!(pages >= 2, "{pages} pages");

    site.id = JobId::new();
    site.plan.deployment.stages = vec![Stage::CloudtowerConfig];
    let before = serde_json::to_value(configured(&site)).unwrap();
    let again = site.run(ALL).await;
    again.succeeded();
    assert_eq!(told(&again), as_told(["unchanged", "unchanged", "unchanged"]));
    assert_eq!(serde_json::to_value(configured(&site)).unwrap(), before);
    let intents = again.events.iter().filter(|event| matches!(event.body, gantry_proto::Body::Intent { .. })).count();
    assert_eq!(intents, 0, "nothing was to be changed");
}

#[tokio::test]
async fn what_the_plan_does_not_want_is_skipped_and_its_policy_is_taken() {
    let mut site = site().await;
    let wanted = &mut site.plan.deployment.tower_config;
    (wanted.capacity_alert, wanted.dashboards, wanted.storage_policy) = (false, false, DefaultPolicy::Ec4And2);
    let ran = site.run(ALL).await;
    ran.succeeded();
    assert_eq!(told(&ran), as_told(["changed", "skipped", "skipped"]));
    let there = configured(&site);
    let settings = there.settings.into_values().next().unwrap();
    assert_eq!((settings.policy.as_str(), settings.replicas), ("EC_4_2_THIN_PROVISION", None));
    assert_eq!((settings.ec, settings.thin), ((Some(4), Some(2)), true));
    assert_eq!((there.alerts.len(), there.views.len()), (0, 0));
}

#[tokio::test]
async fn what_is_optional_and_fails_is_a_warning() {
    for (mode, results, words) in [
        ("rule_missing", ["changed", "failed", "changed"], "no alert rule"),
        ("rule_refused", ["changed", "failed", "changed"], "the rule cannot be changed"),
        ("dashboards_missing", ["changed", "changed", "failed"], "404"),
        ("graphs_refused", ["changed", "changed", "failed"], "metric_name is not known"),
    ] {
        let site = site().await;
        site.modes(json!({"tower": {"configure": mode}}));
        let ran = site.run(ALL).await;
        ran.succeeded();
        assert_eq!(told(&ran), as_told(results), "{mode}");
        let notes = ran.notes("tower_not_configured");
        assert!(notes.len() == 1 && format!("{notes:?}").contains(words), "{mode}: {notes:?}");
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn a_cloudtower_that_does_not_tell_its_policy_is_given_it() {
    let site = site().await;
    site.modes(json!({"tower": {"configure": "settings_unreadable"}}));
    let ran = site.run(ALL).await;
    assert_configured(&site, &ran);
    assert_eq!(ran.notes("storage_policy_unknown").len(), 1);
}

#[tokio::test]
async fn answers_of_every_form_are_understood() {
    for mode in [
        json!({"rest_answer": "object"}),
        json!({"rest_answer": "array", "tasks": true, "task_late": true}),
        json!({"operation_allow_list": true, "graphql_error_status": 400}),
        json!({"settings": "late"}),
        json!({"setup_needs_token": true, "expired_token_status": 403}),
    ] {
        let site = site().await;
        site.modes(json!({ "tower": mode }));
        let ran = site.run(ALL).await;
        assert_configured(&site, &ran);
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_set_fails_the_stage_and_nothing_before_it() {
    for (mode, code, words) in [
        (json!({"configure": "policy_refused"}), "storage_policy_refused", "is not allowed"),
        (json!({"configure": "policy_ignored"}), "storage_policy_not_set", "REPLICA_2_THICK_PROVISION"),
        (json!({"settings": "never"}), "cluster_settings_missing", "no settings"),
    ] {
        let site = site().await;
        site.modes(json!({ "tower": mode }));
        let ran = site.run(ALL).await;
        let failure = ran.failure();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.message.contains(words), "{}", failure.message);
        assert_eq!(told(&ran), [("storage_policy".to_owned(), "failed".to_owned())]);
        let result = result(&ran);
        assert_eq!(result["attach_cluster"]["status"], "SUCCESS");
        assert_eq!(result["cloudtower_config"]["error"]["code"], code);
        assert_eq!(site.tower().clusters.len(), 1, "the cluster stays attached");
        site.sim.stop().await;
    }
}

/// The second cluster's policy is refused: what was configured for the first one is set back.
pub(crate) async fn failing() -> Site {
    let mut site = site().await;
    site.plan.deployment.further_clusters = vec![FURTHER.parse().unwrap()];
    let refused = json!({"errors": [{"message": "no such policy"}], "data": null});
    let call = operation("updateClusterSettings");
    site.arm(fault("refused", call, When::Before, Action::json(200, refused)).skip(1).times(1));
    site
}

#[tokio::test]
async fn a_failure_sets_back_what_was_configured() {
    let site = failing().await;
    let ran = site.run(ALL).await;
    assert_eq!(site.fired("refused"), 1);
    assert_set_back(&site, &ran, JobOutcome::Failed);
    assert_eq!(attach::inside_tower(&site).0.len(), 2, "both stay attached");
}

#[tokio::test]
async fn a_cancel_removes_only_what_is_ours() {
    let mut site = site().await;
    site.run(ALL).await.succeeded();
    // Somebody has one of the views, with some of the graphs on it.
    let kept = site.core().world().towers.values_mut().next().map(|tower| {
        tower.configured.views.retain(|view| view.name == "Host");
        let view = tower.configured.views[0].id.clone();
        tower.configured.graphs.retain(|graph| graph.view_id == view && graph.metric_name.starts_with("zbs_chunk_"));
        tower.configured.settings.clear();
        tower.configured.graphs.len()
    });
    assert_eq!(kept, Some(3));
    site.id = JobId::new();
    let at = &site;
    let ran = at
        .run_with(ALL, |strings: Strings| async move {
            let is_made = || {
                let there = configured(at).graphs;
                there.iter().any(|graph| graph.metric_name == "elf_vm_memory_usage_percent")
            };
            while !is_made() {
                tokio::task::yield_now().await;
            }
            strings.cancel.cancel();
        })
        .await;
    assert!(matches!(&ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{:?}", ran.ended);
    assert_eq!(ran.view.undo, Some(UndoState::RolledBack), "{:?}", ran.view.leftovers);
    let there = configured(&site);
    let names: Vec<&str> = there.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!((names, there.graphs.len()), (vec!["Host"], 3));
    assert_eq!(policies(&site), ["REPLICA_2_THICK_PROVISION"]);
}

#[tokio::test]
async fn what_somebody_has_changed_since_stays_and_what_is_not_told_is_listed() {
    // Changed by somebody between the setting and the failure: the second cluster's policy is refused after that.
    let site = failing().await;
    let at = &site;
    let ran = at
        .run_with(ALL, |_: Strings| async move {
            while configured(at).graphs.len() < GRAPHS {
                tokio::task::yield_now().await;
            }
            for tower in at.core().world().towers.values_mut() {
                for alert in tower.configured.alerts.values_mut() {
                    alert.thresholds = json!([
                        {"severity": "CRITICAL", "value": 80, "quantile": 0}, {"severity": "NOTICE", "value": 42, "quantile": 0},
                    ]);
                }
            }
            at.modes(json!({"tower": {"configure": "settings_unreadable"}}));
            std::future::pending::<()>().await;
        })
        .await;
    assert_eq!(ran.view.undo, Some(UndoState::RollbackIncomplete));
    let first = configured(&site).alerts.into_values().next().unwrap();
    assert_eq!(first.thresholds[1]["value"], 42, "somebody's own choice");
    let kinds: Vec<&str> = ran.view.leftovers.iter().map(|left| left.kind.as_str()).collect();
    assert_eq!(kinds, ["storage_policy"], "{:?}", ran.view.leftovers);
    assert_eq!(policies(&site), ["REPLICA_2_THIN_PROVISION"]);
    assert!(configured(&site).views.is_empty());
}

#[tokio::test]
async fn what_cannot_be_set_back_is_listed_with_the_remedy() {
    let site = failing().await;
    let call = operation("updateClusterSettings");
    site.arm(fault("stays", call, When::Before, Action::json(400, json!({"code": "No", "message": "no"}))).skip(1));
    site.arm(fault("kept", route("delete-view"), When::Before, Action::status(500)));
    let ran = site.run(ALL).await;
    assert_eq!(ran.view.undo, Some(UndoState::RollbackIncomplete));
    let kinds: Vec<&str> = ran.view.leftovers.iter().map(|left| left.kind.as_str()).collect();
    assert_eq!(kinds, ["storage_policy", "view"]);
    assert!(ran.view.leftovers[0].remedy.contains("REPLICA_2_THICK_PROVISION"), "{:?}", ran.view.leftovers);
}

#[tokio::test]
async fn without_the_cluster_there_is_nothing_to_configure() {
    let mut site = site().await;
    site.plan.deployment.stages.retain(|stage| *stage != Stage::AttachCluster);
    let ran = site.run(ALL).await;
    assert_eq!(ran.code(), "cluster_not_attached");
    assert_eq!(result(&ran)["deploy_cloudtower"]["status"], "SERVICE_READY");
}

// --- lost answers (`flow.md` 6, L11, T12) ---

#[tokio::test]
async fn k1_to_k3_are_read_back() {
    let check = |site: &Site, ran: &Ran, _| assert_configured(site, ran);
    for name in ["updateClusterSettings", "globalAlertRules", "updateGlobalAlertRule"] {
        lost::row(&lost::ALL, || operation(name), ALL, site, check).await;
    }
    lost::row(&lost::ALL, || route("get-cluster-settings"), ALL, site, check).await;
}

#[tokio::test]
async fn k4_dashboards_are_made_once() {
    let check = |site: &Site, ran: &Ran, _| assert_configured(site, ran);
    for name in ["get-hosts", "get-views", "create-view", "get-graphs", "create-graph"] {
        lost::row(&lost::ALL, || route(name), ALL, site, check).await;
    }
}

#[tokio::test]
async fn the_way_back_of_what_was_configured_with_lost_answers() {
    let check = |site: &Site, ran: &Ran, _| assert_set_back(site, ran, JobOutcome::Failed);
    lost::row(&lost::ALL, || route("delete-view"), ALL, failing, check).await;
}
