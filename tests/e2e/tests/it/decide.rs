//! A job that cannot decide: it asks, waits, and goes by what the operator says.

use gantry_e2e::{Lab, lab::text};
use serde_json::{Value, json};

use crate::support::{events, quick_with, vms};

/// Somebody makes a VM of our name while we are uploading.
fn stranger() -> Value {
    let vm = json!({"name": "cloudtower-sim", "description": "of somebody else"});
    json!({"faults": [{
        "id": "stranger", "when": "after", "times": 1,
        "match": {"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload/volume"},
        "action": {"world": {"plant_vm": vm}},
    }]})
}

async fn stranger_goes(lab: &Lab) -> anyhow::Result<()> {
    lab.control()?.post("/world", &json!({"action": {"delete_vm": {"vm": "cloudtower-sim"}}})).await.map(drop)
}

#[tokio::test]
async fn a_question_is_shown_and_survives_a_restart_and_its_answer_is_followed() -> anyhow::Result<()> {
    let mut lab = Lab::start(quick_with(stranger())).await?;
    let job = lab.deploy(&[]).await?;
    let watched = lab.ctl(&["watch", &job]).await?;
    assert_eq!(watched.status.code(), Some(8), "{}\n{}", text(&watched), lab.logs());
    lab.kill_agent().await?;
    lab.start_agent().await?;
    lab.agent_in_contact().await?;

    let shown = lab.ctl(&["decide", &job]).await?;
    assert_eq!(shown.status.code(), Some(8), "{}", text(&shown));
    for word in ["cloudtower-sim", "look-again", "undo", "keep", &format!("ctl decide {job} look-again")] {
        assert!(text(&shown).contains(word), "\"{word}\" is missing: {}", text(&shown));
    }
    let wrong = lab.ctl(&["decide", &job, "maybe"]).await?;
    assert_eq!(wrong.status.code(), Some(7), "{}", text(&wrong));
    stranger_goes(&lab).await?;
    lab.ctl_json(&["-o", "json", "decide", &job, "look-again", "--reason", "it was removed"]).await?;
    let all = events(&lab, &job).await?;
    assert_eq!(all.last().map(|event| &event["outcome"]), Some(&json!("succeeded")), "{}", lab.logs());
    let count = |what: &str| all.iter().filter(|event| event["event"] == what).count();
    assert_eq!((count("operator_needed"), count("operator_decided")), (1, 1));
    assert_eq!(vms(&lab).await?.len(), 1);
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

#[tokio::test]
async fn the_job_may_be_ended_instead_and_touches_nothing_of_others() -> anyhow::Result<()> {
    let lab = Lab::start(quick_with(stranger())).await?;
    let job = lab.deploy(&["--on-failure", "keep"]).await?;
    assert_eq!(lab.watch(&job).await?, 8, "{}", lab.logs());
    lab.ctl_json(&["-o", "json", "decide", &job, "undo"]).await?;
    // The answer may still be on its way: until the agent has it, the job waits.
    let all = events(&lab, &job).await?;
    let last = all.last().expect("there are events");
    // A complete image is kept for reuse: there was nothing to remove.
    assert_eq!((&last["outcome"], &last["undo"]), (&json!("failed"), &json!("nothing")), "{last}");
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let left = vms(&lab).await?;
    assert_eq!((left.len(), &left[0]["description"]), (1, &json!("of somebody else")));
    lab.control()?.check_invariants().await?;
    lab.stop().await
}
