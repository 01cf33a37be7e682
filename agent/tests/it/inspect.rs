//! The stages after the attaching: the inspection of the cluster (`flow.md` 9), and the removal of the ISO (R74).

use gantry_agent::{
    executor::Ended,
    pipeline::Pipeline,
    steps::{
        attach_cluster::AttachCluster, check_cluster_healthy::CheckClusterHealthy, cleanup::Cleanup,
        configure_services::ConfigureServices, create_vm::CreateVm, finish::Finish, initial_setup::InitialSetup,
        preflight::Preflight, upload_iso::UploadIso, verify_https::VerifyHttps,
    },
};
use gantry_proto::{JobOutcome, UndoState, plan::Stage};
use gantry_sim::fault::{Action, Face, Match, When};
use serde_json::{Value, json};

use crate::{
    attach::result,
    lost,
    site::{Ran, Site, UPLOAD, fault},
};

const ALL: Pipeline = &[&VerifyHttps, &InitialSetup, &ConfigureServices, &AttachCluster, &CheckClusterHealthy, &Finish];

async fn site() -> Site {
    let mut site = Site::inside(ALL, true).await;
    use Stage::{AttachCluster, CheckClusterHealthy, DeployCloudtower, Prepare};
    site.plan.deployment.stages = vec![Prepare, DeployCloudtower, AttachCluster, CheckClusterHealthy];
    site
}

fn assert_inspected(site: &Site, ran: &Ran) {
    ran.succeeded();
    let result = result(ran);
    let told = &result["check_cluster_healthy"];
    assert_eq!((&told["status"], &told["items"]), (&json!("SUCCESS"), &json!(82)), "{told}");
    assert_eq!(told["cluster_uuid"], result["attach_cluster"]["cluster"]["local_id"]);
    assert_eq!(told["findings"], json!({"NORMAL": 81, "WARNING": 1}));
    assert_eq!(told["conspicuous"], json!(["master_redundancy_check"]));
    assert_eq!(ran.notes("inspection_ended").len(), 1);
    let report = site.job_dir().join(told["path"].as_str().unwrap());
    assert!(std::fs::read(report).unwrap().starts_with(b"PK"), "the report is a zip");
}

#[tokio::test]
async fn the_cluster_is_inspected_and_the_report_is_kept() {
    for mode in ["succeeded", "finished", "success", "slow_download"] {
        let site = site().await;
        site.modes(json!({"tower": {"inspector": mode}}));
        let ran = site.run(ALL).await;
        assert_inspected(&site, &ran);
        assert_eq!(site.tower().inspections.len(), 1, "{mode}");
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn an_inspection_that_fails_is_told_and_removes_nothing() {
    for (mode, code, words) in [
        ("failed", "inspection_failed", "FAILED"),
        ("version_refused", "tower_refused", "is not supported"),
        ("export_fails", "report_export_failed", "EXPORT_FAILED"),
    ] {
        let site = site().await;
        site.modes(json!({"tower": {"inspector": mode}}));
        let ran = site.run(ALL).await;
        let failure = ran.failure();
        assert_eq!(failure.code, code, "{mode}: {failure:?}");
        assert!(failure.message.contains(words), "{mode}: {}", failure.message);
        assert_eq!(ran.view.undo, Some(UndoState::Nothing), "{mode}");
        let result = result(&ran);
        assert_eq!(result["deploy_cloudtower"]["status"], "SERVICE_READY");
        assert_eq!(result["attach_cluster"]["status"], "SUCCESS");
        assert_eq!(result["check_cluster_healthy"]["error"]["code"], code);
        assert_eq!(site.tower().clusters.len(), 1);
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn t13_inspection_calls_with_lost_answers() {
    let check = |site: &Site, ran: &Ran, _| assert_inspected(site, ran);
    let call =
        |path: &'static str| move || Match { face: Some(Face::Tower), path: Some(path.to_owned()), ..Match::default() };
    // The calls without a body have none that could break off.
    lost::row(&lost::ALL, call("/api/inspector/api/v3/jobs"), ALL, site, check).await;
    lost::row(&lost::BODILESS, call("/api/inspector/api/v3/export/status"), ALL, site, check).await;
    lost::row(&lost::BODILESS, call("/api/inspector/api/v1/export/download"), ALL, site, check).await;
}

#[tokio::test]
async fn a_cluster_that_is_not_attached_is_not_inspected() {
    let mut site = site().await;
    site.plan.deployment.stages = vec![Stage::Prepare, Stage::DeployCloudtower, Stage::CheckClusterHealthy];
    let ran = site.run(ALL).await;
    assert_eq!(ran.code(), "cluster_not_attached");
    assert!(ran.failure().remedy.contains("attach_cluster"));
}

// --- the ISO ---

const CLEANED: Pipeline = &[&Preflight, &UploadIso, &Cleanup, &Finish];

async fn uploaded(pipeline: Pipeline) -> (Site, Ran) {
    let mut site = Site::new().await;
    site.plan.deployment.stages = vec![Stage::Prepare, Stage::DeployCloudtower, Stage::Cleanup];
    let ran = site.run(pipeline).await;
    (site, ran)
}

#[tokio::test]
async fn an_iso_of_ours_that_nothing_mounts_is_removed() {
    let (site, ran) = uploaded(CLEANED).await;
    ran.succeeded();
    assert_eq!(site.images(), []);
    let cleanup = &result(&ran)["cleanup"];
    assert_eq!(
        (&cleanup["status"], &cleanup["removed_image"]["id"]),
        (&json!("SUCCESS"), &json!(ran.facts.image.unwrap().image_uuid))
    );
    site.assert_invariants();
}

#[tokio::test]
async fn an_iso_that_is_mounted_or_not_ours_stays() {
    const MOUNTED: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &Cleanup, &Finish];
    let (site, ran) = uploaded(MOUNTED).await;
    ran.succeeded();
    assert_eq!((site.images().len(), ran.notes("image_stays").len()), (1, 1));
    assert_eq!(result(&ran)["cleanup"]["removed_image"], Value::Null);

    let mut site = Site::new().await;
    site.run(UPLOAD).await.succeeded();
    site.id = gantry_proto::JobId::new();
    site.plan.deployment.stages = vec![Stage::Prepare, Stage::DeployCloudtower, Stage::Cleanup];
    let ran = site.run(CLEANED).await;
    ran.succeeded();
    assert_eq!((site.images().len(), ran.notes("cleanup_nothing").len()), (1, 1), "another job has uploaded it");
}

#[tokio::test]
async fn an_iso_whose_removal_is_refused_is_a_warning() {
    let mut site = Site::new().await;
    site.plan.deployment.stages = vec![Stage::Prepare, Stage::DeployCloudtower, Stage::Cleanup];
    let call = Match::fisheye("DELETE", "/api/v2/images/*");
    site.arm(fault("refused", call, When::Before, Action::status(409)));
    let ran = site.run(CLEANED).await;
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)), "{:?}", ran.ended);
    assert_eq!((site.images().len(), ran.notes("image_stays").len()), (1, 1));
}
