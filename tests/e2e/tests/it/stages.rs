//! The stages after the deployment, by real processes as an operator runs them.

use gantry_e2e::{Lab, lab::text};
use serde_json::{Value, json};

use crate::support::{quick, quick_with};

const STAGES: &str = "deploy_cloudtower,attach_cluster,cloudtower_config,check_cluster_healthy,cleanup";

async fn document(lab: &Lab, job: &str) -> anyhow::Result<Value> {
    lab.ctl_json(&["-o", "json", "result", job]).await
}

#[tokio::test]
async fn a_cluster_is_attached_inspected_and_told_of_in_one_job() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    let job = lab.deploy(&["--stages", STAGES]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    let result = document(&lab, &job).await?;
    assert_eq!(result["deploy_cloudtower"]["status"], "SERVICE_READY");
    for stage in ["attach_cluster", "cloudtower_config", "check_cluster_healthy", "cleanup"] {
        assert_eq!(result[stage]["status"], "SUCCESS", "{stage}: {result}");
    }
    let cluster = &result["attach_cluster"]["cluster"];
    assert_eq!(cluster["connect_state"], "CONNECTED");
    let operations = result["cloudtower_config"]["operations"].as_array().cloned().unwrap_or_default();
    let told: Vec<(&Value, &Value)> = operations.iter().map(|one| (&one["name"], &one["result"])).collect();
    assert_eq!(told.len(), 3, "{operations:?}");
    assert_eq!(told[0], (&json!("storage_policy"), &json!("changed")));
    let report = result["check_cluster_healthy"]["path"].as_str().unwrap_or_default().to_owned();
    assert!(lab.agent_data().join("jobs").join(&job).join(report).is_file());

    let resources = lab.ctl(&["resources", &job]).await?;
    let told = text(&resources);
    assert!(told.contains("made, handed over") && told.contains(cluster["id"].as_str().unwrap_or("?")), "{told}");
    let shown = text(&lab.ctl(&["show", &job]).await?);
    assert!(shown.contains("CloudTower is ready") && shown.contains("attached"), "{shown}");
    let page = text(&lab.ctl(&["report", &job]).await?);
    assert!(page.contains(cluster["id"].as_str().unwrap_or("?")));
    for step in gantry_agent::pipeline::PIPELINE {
        assert!(!page.contains(&step.info().title), "{} is not translated", step.info().id);
    }
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

#[tokio::test]
async fn an_attach_that_fails_leaves_cloudtower_and_a_retry_goes_on_from_there() -> anyhow::Result<()> {
    let lab = Lab::start(quick_with(json!({"modes": {"tower": {"connect": "unhealthy"}}}))).await?;
    let job = lab.deploy(&["--stages", "deploy_cloudtower,attach_cluster"]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let failed = document(&lab, &job).await?;
    assert_eq!(failed["deploy_cloudtower"]["status"], "SERVICE_READY");
    assert_eq!(failed["attach_cluster"]["error"]["code"], "cluster_disconnected");
    let shown = text(&lab.ctl(&["show", &job]).await?);
    assert!(shown.contains("LOAD_CLUSTER_UNHEALTHY") && shown.contains("stays"), "{shown}");
    // What is handed over is not swept up.
    let sweep = text(&lab.ctl(&["sweep", "--job", &job]).await?);
    assert!(!sweep.contains("vm "), "{sweep}");

    lab.control()?.post("/modes", &json!({"tower": {"connect": "normal"}})).await?;
    let retried = lab.ctl(&["retry", &job, "--watch"]).await?;
    assert!(retried.status.success(), "{}", text(&retried));
    let result = document(&lab, &job).await?;
    assert_eq!(result["attach_cluster"]["status"], "SUCCESS");
    assert_eq!(result["deploy_cloudtower"]["vm"], failed["deploy_cloudtower"]["vm"], "the same VM");
    lab.control()?.check_invariants().await?;
    lab.stop().await
}
