//! A job that failed, in one archive: what somebody needs who was not there.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use gantry_e2e::{Lab, lab::text};
use gantry_proto::reason;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::{quick_with, unpacked};

#[tokio::test]
async fn a_failed_job_is_bundled_and_its_code_explained() -> anyhow::Result<()> {
    let lab = Lab::start(quick_with(json!({"modes": {"guest": {"installer": "fails"}}}))).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let shown = text(&lab.ctl(&["show", &job]).await?);
    assert!(shown.contains("ctl explain installer_failed"), "{shown}");
    let explained = lab.ctl(&["explain", "installer_failed", "--lang", "zh"]).await?;
    let title = reason::page("installer_failed").unwrap().zh.title;
    assert!(explained.status.success() && text(&explained).contains(title), "{}", text(&explained));

    // The job's own span comes last of all that its agent hands over.
    let whole =
        |trace: &Value| trace["spans"].as_array().is_some_and(|all| all.iter().any(|span| span["name"] == "job"));
    timeout(Duration::from_secs(60), async {
        while !whole(&lab.ctl_json(&["-o", "json", "trace", &job]).await?) {
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    let out = lab.dir().join("case.zip");
    let manifest = lab.ctl_json(&["-o", "json", "bundle", &job, "--out", out.to_str().unwrap()]).await?;
    let gaps: Vec<&Value> =
        manifest["parts"].as_array().unwrap().iter().filter(|part| part.get("missing").is_some()).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
    assert_eq!(fs::metadata(&out)?.permissions().mode() & 0o777, 0o600);
    let files = unpacked(&out)?;
    let document = |name: &str| -> Value { serde_json::from_slice(&files[name]).unwrap() };
    assert_eq!(document("manifest.json"), manifest);
    assert_eq!(document("job.json")["job_id"], *job);
    assert_eq!(document("result.json")["deploy_cloudtower"]["error"]["code"], "installer_failed");
    assert_eq!(document("plan.json")["cloudtower"]["root_password"], Value::Null);
    assert_eq!(document("agents.json")[0]["agent_id"], gantry_e2e::lab::AGENT);
    assert!(document("times.json")["timings"]["phases"]["upload_s"].is_number(), "{}", document("times.json"));
    let lines = |name: &str| String::from_utf8_lossy(&files[name]).lines().count();
    let objects = |name: &str| -> Vec<Value> {
        String::from_utf8_lossy(&files[name]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let spans = objects("spans.jsonl");
    let install = spans.iter().find(|span| span["name"] == "step install").unwrap();
    assert_eq!(install["attributes"]["error.type"], "installer_failed");
    assert!(manifest["trace"]["trace_ids"].as_array().unwrap().contains(&install["trace_id"]), "{manifest:#}");
    let records = objects("log.jsonl");
    let settings = records.iter().find_map(|record| record["fields"]["settings"].as_str()).unwrap();
    let settings: Value = serde_json::from_str(settings)?;
    assert_eq!(settings["timing"]["time_scale"], crate::support::SCALE, "{settings}");
    let last = document("job.json")["last_seq"].as_u64().unwrap();
    assert_eq!(lines("events.jsonl") as u64, last);
    assert!(lines("audit.jsonl") >= 2, "asked and done");
    assert!(!manifest["trace"]["request_ids"].is_null() && !manifest["versions"]["controller"]["version"].is_null());
    lab.stop().await
}
