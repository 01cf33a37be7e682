//! The main path: a workbook becomes a ready CloudTower.

use std::{fs, net::Ipv4Addr, path::Path};

use gantry_e2e::{Lab, LabOptions};
use serde_json::{Value, json};

use crate::support::{SCALE, events, images, quick, quick_with, result, sha256_of, vms};

/// The readings of `to_upload` that a client has to succeed with (C4).
const READINGS: [&str; 5] = ["remaining", "echo", "single_then_empty", "growing", "absent"];

#[tokio::test]
async fn a_workbook_becomes_a_ready_cloudtower() -> anyhow::Result<()> {
    // Half as fast as the others: here simulated time is measured, and what our own processes take of real time counts as
    // so much more of it.
    let options = LabOptions { iso_bytes: 64 << 20, time_scale: SCALE / 2.0, ..LabOptions::default() };
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());

    let result = result(&lab, &job).await?;
    assert_eq!(result["status"], "SERVICE_READY");
    assert_eq!(result.get("error"), None);
    assert_eq!(result["ip"], "127.30.40.20");
    let port = lab.addresses()["tower_port"].as_u64().unwrap();
    assert_eq!(result["base_url"], format!("https://127.30.40.20:{port}"));
    assert_eq!(result["iso"], result["iso_upload"]);
    assert_eq!(result["iso"]["uploaded_chunks"], 8);
    assert_eq!(result["cloudtower"]["session"]["token"], "机密凭据");
    assert_eq!(result["cloudtower"]["plan_updates"][0]["cell"], "M3");
    assert_eq!(result["cloudtower"]["setup_status"]["created"], true);
    // R80, in simulated time.
    let total = result["timings"]["total_s"].as_f64().unwrap();
    assert!(total > 600.0 && total < 2_700.0, "the whole flow took {total} simulated seconds");

    the_image_equals_the_file(&lab, &result).await?;
    let vms = vms(&lab).await?;
    assert_eq!(vms.len(), 1);
    assert_eq!(vms[0]["uuid"], result["vm"]["uuid"]);
    lab.control()?.check_invariants().await?;
    the_files_are_there(&lab, &job, &result);
    the_log_has_no_gap(&events(&lab, &job).await?);
    the_calls_came_in_order(&lab).await?;
    lab.stop().await
}

/// `planning-valid-loopback.xlsx` against the stand-alone simulator, where that file is at hand; else the lab's own.
#[tokio::test]
async fn every_reading_of_to_upload_gives_the_same_image() -> anyhow::Result<()> {
    for mode in READINGS {
        let mut options = quick_with(json!({"modes": {"to_upload": mode}}));
        if let Ok(shared) = fs::read(shared_workbook()) {
            let node = |last| (Ipv4Addr::new(127, 0, 20, last), Ipv4Addr::new(127, 0, 21, last));
            options.workbook = shared;
            options.vip = Ipv4Addr::new(127, 0, 20, 10);
            options.nodes = (11..=13).map(node).collect();
            options.fisheye_password = "Lo!Fish3390m".to_owned();
        }
        let lab = Lab::start(options).await?;
        let job = lab.deploy(&[]).await?;
        assert_eq!(lab.watch(&job).await?, 0, "{mode}: {}", lab.logs());
        the_image_equals_the_file(&lab, &result(&lab, &job).await?).await?;
        lab.control()?.check_invariants().await?;
        lab.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_job_reuses_the_image_and_the_same_job_twice_is_one() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    // The first one leaves a complete image and is cancelled while it waits for the guest.
    let first = lab.deploy(&[]).await?;
    crate::cancel::when_step_starts(&lab, &first, "wait-guest-agent").await?;
    lab.ctl(&["cancel", &first, "--wait"]).await?;
    assert_eq!(images(&lab).await?.len(), 1);

    let id = gantry_proto::JobId::new().to_string();
    assert_eq!(lab.deploy(&["--job-id", &id]).await?, id);
    assert_eq!(lab.deploy(&["--job-id", &id]).await?, id);
    assert_eq!(lab.watch(&id).await?, 0, "{}", lab.logs());
    let result = result(&lab, &id).await?;
    assert_eq!(result["iso"]["skipped"], true);
    assert_eq!(result["iso"]["uploaded_chunks"], 0);
    assert_eq!(lab.ctl_json(&["-o", "json", "jobs"]).await?["jobs"].as_array().map(Vec::len), Some(2));
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

fn shared_workbook() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/planning-valid-loopback.xlsx")
}

async fn the_image_equals_the_file(lab: &Lab, result: &Value) -> anyhow::Result<()> {
    let images = images(lab).await?;
    assert_eq!(images.len(), 1, "{images:?}");
    let uuid = result["iso"]["image_uuid"].as_str().unwrap();
    assert_eq!(images[0]["uuid"], uuid);
    let stored = sha256_of(&lab.dir().join("spool").join(format!("{uuid}.iso")))?;
    assert_eq!(stored, sha256_of(&lab.iso())?);
    assert_eq!(result["iso"]["sha256"], stored.as_str());
    Ok(())
}

/// `flow.md` 8.3.
fn the_files_are_there(lab: &Lab, job: &str, result: &Value) {
    let dir = lab.agent_data().join("jobs").join(job);
    let stage = fs::read_to_string(dir.join("logs/stage_deploy_cloudtower.log")).unwrap();
    for line in stage.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["deployment_id"], job);
        assert_eq!(line["stage"], "deploy_cloudtower");
    }
    assert!(stage.contains("progress_percent"), "the stage log shows the upload's progress (R40)");
    let upload = fs::read_to_string(dir.join("logs/upload_cloudtower.json")).unwrap();
    let upload: Value = serde_json::from_str(&upload).unwrap();
    assert_eq!(upload["progress_percent"], 100.0);
    let install = result["logs"]["install"].as_str().unwrap();
    let install = fs::read_to_string(dir.join(install)).unwrap();
    assert!(install.contains("Install Operation Center Successfully"));
}

fn the_log_has_no_gap(events: &[Value]) {
    let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["event"], "job_finished");
}

/// `simulator-behaviours.md` 8: the order of the happy path, other calls in between allowed.
async fn the_calls_came_in_order(lab: &Lab) -> anyhow::Result<()> {
    let transcript = lab.control()?.transcript().await?;
    let calls: Vec<String> = transcript.iter().map(name_of).collect();
    let expected = [
        "POST /api/v3/sessions",
        "GET /api/v2/management/hosts",
        "GET /api/v2/vms",
        "GET /api/v2/storage_policies",
        "GET /api/v2/images",
        "GET /api/v2/images",
        "POST /api/v2/images/upload/volume",
        "POST /api/v2/images/upload",
        "GET /api/v2/images",
        "GET /api/v2/storage_policies",
        "GET /api/v2/vms",
        "POST /api/v2/vms",
        "GET /api/v2/jobs/",
        "GET /api/v2/vms/",
        "PUT /api/v2/vms/",
        "GET /api/v2/jobs/",
        "GET /api/v2/vms/",
        "ssh:resolv.conf",
        "ssh:preinstall.sh",
        "ssh:installer",
        "graphql:checkTowerIsSetup",
        "POST /v2/api/create-root-user",
        "graphql:createOrganization",
        "graphql:checkTowerIsSetup",
        "POST /v2/api/login",
        "graphql:updateCloudTowerNtpUrl",
        "graphql:deployedLicense",
        "DELETE /api/v3/sessions",
    ];
    let mut rest = calls.iter();
    for wanted in expected {
        let found = rest.any(|call| match wanted.strip_prefix("ssh:") {
            Some(word) => call.starts_with("ssh:") && call.contains(word),
            None => call.starts_with(wanted),
        });
        assert!(found, "{wanted} did not come, or not in its place:\n{}", calls.join("\n"));
    }
    Ok(())
}

fn name_of(entry: &Value) -> String {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if text("method") == Some("SSH") {
        return format!("ssh:{}", text("path").unwrap_or_default());
    }
    if let Some(operation) = text("operation") {
        return format!("graphql:{operation}");
    }
    format!("{} {}", text("method").unwrap_or("?"), text("path").unwrap_or("?"))
}
