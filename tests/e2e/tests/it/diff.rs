//! `ctl plan diff` by real processes: nothing but reads and logins arrives at the site, and the deployment that follows makes
//! the calls that were told.

use gantry_e2e::{
    Lab,
    lab::{SITE, text},
};
use serde_json::Value;

use crate::support::quick;

const STAGES: &str = "deploy_cloudtower,attach_cluster,check_cluster_healthy";

/// The calls that would be made.
fn said(diff: &Value) -> Vec<String> {
    let lines = diff["lines"].as_array().into_iter().flatten();
    let acts = lines.filter(|line| line["kind"] == "create" || line["kind"] == "change");
    acts.filter_map(|line| line["call"].as_str().map(str::to_owned)).collect()
}

/// Calls of the intents that are done, in order.
async fn done(lab: &Lab, job: &str) -> anyhow::Result<Vec<String>> {
    let log = text(&lab.ctl(&["watch", job, "--from-seq", "1", "-o", "ndjson"]).await?);
    let (mut calls, mut done) = (std::collections::BTreeMap::new(), Vec::new());
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        match event["event"].as_str() {
            Some("intent") => drop(calls.insert(event["id"].to_string(), event["call"].clone())),
            Some("intent_outcome") if event["result"] == "done" => {
                done.extend(calls.get(&event["intent"].to_string()).and_then(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
    }
    Ok(done)
}

#[tokio::test]
async fn a_diff_only_looks_and_the_deployment_makes_what_it_says() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    let workbook = lab.workbook();
    let file = workbook.to_str().unwrap_or_default();
    let args = ["-o", "json", "plan", "diff", file, "--site", SITE, "--stages", STAGES];
    let diff = lab.ctl_json(&args).await?;
    assert!(said(&diff).len() >= 10, "{diff}");
    assert_eq!(diff["counts"]["refuse"], 0, "{diff}");
    let transcript = lab.control()?.transcript().await?;
    assert!(!transcript.is_empty());
    for entry in &transcript {
        assert!(entry["method"] == "GET" || entry["path"] == "/api/v3/sessions", "a diff has made the call {entry}");
    }
    assert_eq!(lab.ctl_json(&["-o", "json", "jobs"]).await?["jobs"].as_array().map_or(0, Vec::len), 0);

    let job = lab.deploy(&["--stages", STAGES]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    assert_eq!(done(&lab, &job).await?, said(&diff));

    // The same again would be refused, in the words of the deployment.
    let refused = lab.ctl(&["plan", "diff", file, "--site", SITE]).await?;
    assert_eq!(refused.status.code(), Some(7), "{}", text(&refused));
    let told = text(&refused);
    assert!(told.contains("is not of this job") && told.contains("is in use") && told.contains("reused"), "{told}");
    lab.stop().await
}
