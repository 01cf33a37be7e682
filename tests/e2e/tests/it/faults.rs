//! Whole runs with something going wrong in the outside world: the end state, the exit code, and the story told.

use gantry_e2e::{Lab, lab::text};
use serde_json::{Value, json};

use crate::support::{images, quick_with, result, vms};

/// Deploys in a world with this fault; gives the lab, the job and the exit code. The fault must have fired.
async fn run(scenario: Value) -> anyhow::Result<(Lab, String, i32)> {
    let lab = Lab::start(quick_with(scenario)).await?;
    let job = lab.deploy(&[]).await?;
    let code = lab.watch(&job).await?;
    let faults = lab.control()?.get("/faults").await?;
    let faults = faults.as_array().or_else(|| faults["faults"].as_array()).cloned().unwrap_or_default();
    for fault in faults {
        assert!(fault["fired"].as_u64() > Some(0), "the fault did not fire, so the test proves nothing: {fault}");
    }
    Ok((lab, job, code))
}

pub(crate) fn fault(matching: Value, when: &str, count: u64, action: Value) -> Value {
    json!({"faults": [{"id": "f", "match": matching, "when": when, "times": count, "action": action}]})
}

/// It ends well in spite of the fault: one VM, one image.
async fn is_borne(scenario: Value) -> anyhow::Result<()> {
    let (lab, job, code) = run(scenario).await?;
    assert_eq!(code, 0, "{}", lab.logs());
    assert_eq!((vms(&lab).await?.len(), images(&lab).await?.len()), (1, 1));
    assert_eq!(result(&lab, &job).await?["status"], "SERVICE_READY");
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

/// It fails, everything but the image is removed, and the story has this code and these words.
async fn fails_and_is_undone(scenario: Value, code: &str, words: &[&str]) -> anyhow::Result<()> {
    let (lab, job, exit) = run(scenario).await?;
    assert_eq!(exit, 4, "{}", lab.logs());
    assert_eq!(vms(&lab).await?, Vec::<Value>::new());
    lab.control()?.check_invariants().await?;
    let result = result(&lab, &job).await?;
    assert_eq!(result.get("status"), None);
    assert_eq!(result["error"]["code"], code, "{result:#}");
    let shown = text(&lab.ctl(&["show", &job]).await?);
    for word in words {
        assert!(shown.contains(word), "`ctl show` does not say \"{word}\":\n{shown}");
    }
    lab.stop().await
}

#[tokio::test]
async fn a_token_that_expires_in_mid_upload() -> anyhow::Result<()> {
    let unauthorized = json!({"answer": {"status": 401, "body": "<html>no</html>"}});
    let chunk = json!({"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload", "chunk": 5});
    is_borne(fault(chunk, "before", 1, unauthorized)).await
}

#[tokio::test]
async fn the_answer_to_the_creation_of_the_vm_is_lost() -> anyhow::Result<()> {
    let create = json!({"face": "fisheye", "method": "POST", "path": "/api/v2/vms"});
    is_borne(fault(create, "after", 1, json!({"close": {}}))).await
}

#[tokio::test]
async fn the_answer_to_the_volume_is_lost() -> anyhow::Result<()> {
    let volume = json!({"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload/volume"});
    is_borne(fault(volume, "after", 1, json!({"close": {}}))).await
}

#[tokio::test]
async fn a_chunk_that_fails_for_good_costs_one_more_volume() -> anyhow::Result<()> {
    let chunk = json!({"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload", "chunk": 3});
    is_borne(fault(chunk, "before", 4, json!({"answer": {"status": 500, "body": "oops"}}))).await
}

#[tokio::test]
async fn ssh_is_refused_for_a_while() -> anyhow::Result<()> {
    is_borne(json!({"latencies": {"ssh_open": [120_000, 120_000]}})).await
}

#[tokio::test]
async fn no_host_has_enough_memory() -> anyhow::Result<()> {
    let job = json!({"face": "job", "job": "VM_CREATE"});
    let failed =
        json!({"job": {"fail": {"code": "HostAvailableMemoryFilter", "message": "No host has enough memory"}}});
    fails_and_is_undone(fault(job, "before", 1, failed), "vm_create_failed", &["HostAvailableMemoryFilter"]).await
}

#[tokio::test]
async fn a_vm_of_the_name_exists_and_is_not_ours() -> anyhow::Result<()> {
    let scenario = json!({"vms": [{"name": "cloudtower"}]});
    let mut options = quick_with(scenario);
    options.workbook = gantry_sim::workbook::Workbook::valid().set("集群管理信息!B3", "cloudtower").bytes();
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    assert_eq!(vms(&lab).await?.len(), 1, "the foreign VM is untouched");
    assert_eq!(images(&lab).await?, Vec::<Value>::new(), "nothing was created");
    lab.control()?.check_invariants().await?;
    lab.stop().await
}
