//! `deploy`, then `cancel` in each phase: the world is as before, a complete ISO is kept, the log says what was undone.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use gantry_e2e::Lab;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use crate::support::{event_of, events, images, quick, quick_with, vms};

/// How long a step may take to begin.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// Waits until a step of the job has begun.
pub(crate) async fn when_step_starts(lab: &Lab, job: &str, step: &str) -> anyhow::Result<()> {
    when(lab, job, "step_started", step).await
}

/// Waits for an event of a step.
async fn when(lab: &Lab, job: &str, name: &str, step: &str) -> anyhow::Result<()> {
    let mut watch = lab.ctl_command(&["-o", "ndjson", "watch", job]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no stdout")?).lines();
    let seen = timeout(STEP_LIMIT, async {
        while let Some(line) = lines.next_line().await? {
            let event = event_of(&serde_json::from_str::<Value>(&line)?);
            if event.is_some_and(|event| event["event"] == name && event["step"] == step) {
                return Ok(());
            }
        }
        bail!("the job ended before {name} of {step}\n{}", lab.logs())
    });
    seen.await.with_context(|| format!("no {name} of {step} within {STEP_LIMIT:?}\n{}", lab.logs()))?
}

/// Deploys, cancels in `step`, and checks that nothing but a complete image is left.
async fn cancel_in(step: &str, hold: Value, image_is_kept: bool) -> anyhow::Result<()> {
    let options = if hold.is_null() { quick() } else { quick_with(json!({"faults": [hold]})) };
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, step).await?;
    let output = lab.ctl(&["cancel", &job, "--reason", "wrong night", "--wait"]).await?;
    assert_eq!(output.status.code(), Some(0), "{}\n{}", gantry_e2e::lab::text(&output), lab.logs());
    assert_eq!(lab.watch(&job).await?, 130, "{}", lab.logs());

    assert_eq!(vms(&lab).await?, Vec::<Value>::new(), "{}", lab.logs());
    let images = images(&lab).await?;
    assert_eq!(images.len(), usize::from(image_is_kept), "{images:?}");
    lab.control()?.check_invariants().await?;

    let events = events(&lab, &job).await?;
    let last = events.last().context("no events")?;
    assert_eq!((&last["event"], &last["outcome"]), (&json!("job_finished"), &json!("cancelled")), "{last}");
    assert!(events.iter().any(|event| event["event"] == "cancel_accepted" && event["reason"] == "wrong night"));
    let made_vm = events.iter().any(|event| event["event"] == "intent" && event["call"] == "create_vm");
    let told = events.iter().any(|event| {
        event["event"] == "undo_finished" && event["removed"].as_array().is_some_and(|removed| !removed.is_empty())
    });
    assert!(!made_vm || told, "the log does not say what was undone: {events:#?}");
    assert_eq!(last["leftovers"], json!([]));
    let result = crate::support::result(&lab, &job).await?;
    assert_eq!(result.get("status"), None);
    lab.stop().await
}

/// A request that waits long enough for a cancel to arrive in its step; virtual milliseconds.
fn delay(face: &str, key: &str, value: &str) -> Value {
    json!({"id": "hold", "match": {"face": face, key: value}, "when": "before", "times": 1,
           "action": {"delay": {"ms": 600_000}}})
}

#[tokio::test]
async fn in_the_pre_checks() -> anyhow::Result<()> {
    cancel_in("preflight", delay("fisheye", "path", "/api/v2/management/hosts"), false).await
}

#[tokio::test]
async fn in_the_upload() -> anyhow::Result<()> {
    let slow = json!({"id": "slow", "match": {"face": "fisheye", "path": "/api/v2/images/upload"}, "when": "before", "action": {"delay": {"ms": 60_000}}});
    cancel_in("upload-iso", slow, false).await
}

#[tokio::test]
async fn in_the_creation_of_the_vm() -> anyhow::Result<()> {
    cancel_in("create-vm", delay("fisheye", "path", "/api/v2/jobs/*"), true).await
}

#[tokio::test]
async fn in_the_wait_for_the_guest_agent() -> anyhow::Result<()> {
    cancel_in("wait-guest-agent", Value::Null, true).await
}

#[tokio::test]
async fn in_the_network_configuration() -> anyhow::Result<()> {
    cancel_in("configure-network", Value::Null, true).await
}

#[tokio::test]
async fn in_the_installation() -> anyhow::Result<()> {
    cancel_in("install", Value::Null, true).await
}

#[tokio::test]
async fn in_the_wait_for_https() -> anyhow::Result<()> {
    cancel_in("verify-https", delay("tower", "operation", "checkTowerIsSetup"), true).await
}

#[tokio::test]
async fn in_the_set_up() -> anyhow::Result<()> {
    cancel_in("initial-setup", delay("tower", "operation", "createOrganization"), true).await
}

#[tokio::test]
async fn in_the_configuration_of_services() -> anyhow::Result<()> {
    cancel_in("configure-services", delay("tower", "operation", "updateCloudTowerNtpUrl"), true).await
}

#[tokio::test]
async fn a_second_cancel_ends_the_waiting_of_the_undo_and_what_may_be_left_is_listed() -> anyhow::Result<()> {
    let stuck = json!({"id": "stuck", "match": {"face": "job", "job": "VM_DELETE"},
                       "action": {"job": {"stuck": {"state": "processing"}}}});
    let lab = Lab::start(quick_with(json!({"faults": [stuck]}))).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "wait-guest-agent").await?;
    let first = lab.ctl_json(&["-o", "json", "cancel", &job]).await?;
    assert_eq!(first["undo_cut_short"], false, "{first}");
    when(&lab, &job, "undo_started", "create-vm").await?;
    let second = lab.ctl_json(&["-o", "json", "cancel", &job]).await?;
    assert_eq!((&second["undo_cut_short"], &second["job"]["cancel"]), (&json!(true), &json!("stopped")), "{second}");
    assert_eq!(lab.watch(&job).await?, 5, "{}", lab.logs());

    let events = events(&lab, &job).await?;
    let last = events.last().context("no events")?;
    assert_eq!((&last["outcome"], &last["undo"]), (&json!("cancelled"), &json!("rollback_incomplete")), "{last}");
    let vms = vms(&lab).await?;
    assert_eq!((last["leftovers"].as_array().map(Vec::len), vms.len()), (Some(1), 1), "{last}");
    assert_eq!((&last["leftovers"][0]["kind"], &last["leftovers"][0]["id"]), (&json!("vm"), &vms[0]["uuid"]));
    assert!(events.iter().any(|event| event["event"] == "note" && event["code"] == "cancelled_again"));
    lab.stop().await
}
