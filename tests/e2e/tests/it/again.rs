//! Held and let go on, kept and taken up again, swept: by real processes, as an operator does it.

use anyhow::Context as _;
use gantry_e2e::Lab;
use serde_json::{Value, json};

use crate::{
    cancel::when_step_starts,
    support::{events, images, quick, quick_with, vms},
};

/// An installer that fails, until the faults are taken away.
fn failing() -> Value {
    json!({"modes": {"guest": {"installer": "fails"}}})
}

/// The state of a job, once it is one of these.
async fn until_state(lab: &Lab, job: &str, states: &[&str]) -> anyhow::Result<Value> {
    let seen = tokio::time::timeout(std::time::Duration::from_secs(120), async {
        loop {
            let shown = lab.ctl_json(&["-o", "json", "show", job]).await?;
            let state = shown["job"]["state"].as_str().unwrap_or_default().to_owned();
            if states.contains(&state.as_str()) {
                return Ok(shown);
            }
        }
    });
    seen.await.with_context(|| format!("job {job} never came to {states:?}\n{}", lab.logs()))?
}

#[tokio::test]
async fn a_held_job_goes_on_where_it_was_held() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "create-vm").await?;
    lab.ctl_json(&["-o", "json", "pause", &job, "--reason", "the line is needed"]).await?;
    let shown = until_state(&lab, &job, &["paused"]).await?;
    let held = usize::try_from(shown["job"]["last_seq"].as_u64().context("no last_seq")?)?;
    lab.ctl_json(&["-o", "json", "resume", &job]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    let all = events(&lab, &job).await?;
    assert_eq!(all[held - 1]["event"], "paused", "nothing was told while it was held");
    assert_eq!(all[held]["event"], "resumed");
    let begun = |step: &str| all.iter().filter(|e| e["event"] == "step_started" && e["step"] == step).count();
    assert!(["create-vm", "wait-guest-agent", "install"].iter().all(|step| begun(step) == 1), "no step is done twice");
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

#[tokio::test]
async fn a_job_that_was_kept_is_taken_up_again_and_then_swept() -> anyhow::Result<()> {
    let lab = Lab::start(quick_with(failing())).await?;
    let job = lab.deploy(&["--on-failure", "keep"]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let vm = vms(&lab).await?[0]["uuid"].clone();
    let ledger = lab.ctl_json(&["-o", "json", "resources", &job]).await?;
    let made: Vec<&Value> = ledger["resources"].as_array().context("no resources")?.iter().collect();
    assert!(made.iter().any(|one| one["kind"] == "vm" && one["id"] == vm && one["state"] == "made"), "{ledger}");

    let dry = lab.ctl_json(&["-o", "json", "retry", &job, "--dry-run"]).await?;
    let fate =
        |step: &str| dry["steps"].as_array().unwrap().iter().find(|one| one["step"] == step).unwrap()["fate"].clone();
    let (image, before) = (fate("upload-iso"), (fate("create-vm"), fate("install")));
    assert_eq!((image, before, &dry["accepted"]), (json!("kept"), (json!("redone"), json!("redone")), &json!(false)));
    // The installer fails again: the second epoch keeps everything too, but in a VM that no installer had spoilt.
    let retried = lab.ctl(&["retry", &job, "--watch"]).await?;
    assert_eq!(retried.status.code(), Some(4), "{}\n{}", gantry_e2e::lab::text(&retried), lab.logs());
    assert_eq!(vms(&lab).await?.len(), 1);
    let (spoilt, vm) = (vm, vms(&lab).await?[0]["uuid"].clone());
    assert_ne!(vm, spoilt, "another VM");

    let listed = lab.ctl_json(&["-o", "json", "sweep", "--site", gantry_e2e::lab::SITE]).await?;
    assert_eq!(listed["jobs"][0]["resources"][0]["id"], vm, "{listed}");
    assert_eq!(vms(&lab).await?.len(), 1, "listing touches nothing");
    let swept = lab.ctl_json(&["-o", "json", "sweep", "--site", gantry_e2e::lab::SITE, "--yes"]).await?;
    assert_eq!(swept["jobs"][0]["undo"], "rolled_back", "{swept}");
    assert_eq!((vms(&lab).await?.len(), images(&lab).await?.len()), (0, 1), "the complete image stays");
    let all = events(&lab, &job).await?;
    assert!(all.iter().zip(1..).all(|(event, seq)| event["seq"] == seq), "one numbering over three epochs");
    assert_eq!(all.last().context("no events")?["epoch"], 3);
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

#[tokio::test]
async fn what_failed_is_repaired_and_retried_to_the_end() -> anyhow::Result<()> {
    for from in [None, Some("install")] {
        let lab = Lab::start(quick_with(failing())).await?;
        let job = lab.deploy(&["--on-failure", "keep"]).await?;
        assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
        let failed = vms(&lab).await?[0]["uuid"].clone();
        lab.control()?.post("/modes", &json!({"guest": {"installer": "succeeds"}})).await?;
        let mut retry = vec!["retry", &job, "--watch"];
        retry.extend(from.iter().flat_map(|step| ["--from", step]));
        let retried = lab.ctl(&retry).await?;
        assert_eq!(retried.status.code(), Some(0), "{}\n{}", gantry_e2e::lab::text(&retried), lab.logs());
        let now = vms(&lab).await?;
        assert_eq!(now.len(), 1);
        // The operator who says where to begin has looked into the VM, and means it.
        assert_eq!(now[0]["uuid"] == failed, from.is_some(), "the VM of the failure");
        lab.stop().await?;
    }
    Ok(())
}
