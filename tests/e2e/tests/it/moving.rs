//! A job moves to another agent, by real processes: by the old one's leave, and away from one that is off.

use anyhow::Context as _;
use gantry_e2e::{
    Lab,
    lab::{AGENT, SECOND_AGENT, text},
};
use serde_json::{Value, json};

use crate::{
    cancel::when_step_starts,
    support::{events, images, quick, result, sha256_of, vms},
};

/// What the world and the log are like after a job that has moved once.
async fn check(lab: &Lab, job: &str) -> anyhow::Result<Vec<Value>> {
    let all = events(lab, job).await?;
    assert!(all.iter().zip(1..).all(|(event, seq)| event["seq"] == seq), "one numbering over both agents");
    let begun: Vec<&Value> = all.iter().filter(|event| event["event"] == "job_started").collect();
    assert_eq!(begun.iter().map(|event| &event["agent"]).collect::<Vec<_>>(), [AGENT, SECOND_AGENT]);
    assert_eq!(begun[1]["taken_over"]["from"], AGENT);
    assert_eq!((vms(lab).await?.len(), images(lab).await?.len()), (1, 1));
    let iso = result(lab, job).await?["iso_upload"]["sha256"].clone();
    assert_eq!(iso, json!(sha256_of(&lab.iso())?));
    lab.control()?.check_invariants().await?;
    Ok(all)
}

fn plan(lab: &Lab) -> String {
    lab.workbook().to_string_lossy().into_owned()
}

#[tokio::test]
async fn a_job_moves_once_its_agent_has_let_go_of_it() -> anyhow::Result<()> {
    for step in ["upload-iso", "install"] {
        let mut lab = Lab::start(quick()).await?;
        let job = lab.deploy(&[]).await?;
        lab.start_second_agent().await?;
        when_step_starts(&lab, &job, step).await?;
        let moved = lab.ctl(&["move", &job, "--agent", SECOND_AGENT, "--plan", &plan(&lab), "--watch"]).await?;
        assert_eq!(moved.status.code(), Some(0), "{step}: {}\n{}", text(&moved), lab.logs());
        let all = check(&lab, &job).await?;
        let let_go = all.iter().position(|event| event["event"] == "surrendered").context("never let go of")?;
        assert!(all[..=let_go].iter().all(|event| event["epoch"] == 1) && all[let_go + 1]["epoch"] == 2);
        let shown = lab.ctl_json(&["-o", "json", "show", &job]).await?;
        assert_eq!(shown["job"]["agent_id"], SECOND_AGENT, "{shown}");
        lab.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_off_loses_its_job_and_touches_nothing_when_it_returns() -> anyhow::Result<()> {
    let mut lab = Lab::start(quick()).await?;
    let job = lab.deploy(&["--agent", AGENT]).await?;
    lab.start_second_agent().await?;
    when_step_starts(&lab, &job, "wait-guest-agent").await?;
    lab.kill_agent().await?;

    let plan = plan(&lab);
    let args = ["move", &job, "--agent", SECOND_AGENT, "--plan", &plan, "--old-agent-is-off"];
    let unasked = lab.ctl(&args).await?;
    assert_eq!(unasked.status.code(), Some(2), "nobody has said yes: {}", text(&unasked));
    let moved = lab.ctl(&[&args[..], &["--yes"]].concat()).await?;
    assert!(moved.status.success() && text(&moved).contains("vouch"), "{}", text(&moved));
    when_step_starts(&lab, &job, "install").await?;
    lab.start_agent().await?;
    lab.agent_in_contact().await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    let all = check(&lab, &job).await?;
    let taken = all.iter().find(|event| event["event"] == "job_started" && event["epoch"] == 2);
    assert_eq!(taken.context("never taken over")?["taken_over"]["confirmed"], false);
    assert!(lab.agent_log().contains("another agent has"), "the old agent says why it does nothing:\n{}", lab.logs());
    lab.stop().await
}

#[tokio::test]
async fn another_workbook_or_an_agent_that_cannot_have_it_does_not_move_a_job() -> anyhow::Result<()> {
    let mut lab = Lab::start(quick()).await?;
    let job = lab.deploy(&[]).await?;
    let plan = plan(&lab);
    let refused = async |lab: &Lab, more: &[&str], code: i32, word: &str| -> anyhow::Result<()> {
        let refused = lab.ctl(&[&["move", job.as_str(), "--plan", plan.as_str()], more].concat()).await?;
        assert_eq!(refused.status.code(), Some(code), "{more:?}: {}", text(&refused));
        assert!(text(&refused).contains(word), "{more:?}: {}", text(&refused));
        Ok(())
    };
    refused(&lab, &["--agent", SECOND_AGENT], 7, "contact").await?;
    refused(&lab, &["--agent", AGENT], 2, "already").await?;
    lab.start_second_agent().await?;
    refused(&lab, &["--agent", SECOND_AGENT, "--set", "cloudtower.vm_name=other"], 2, "workbook").await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    lab.stop().await
}
