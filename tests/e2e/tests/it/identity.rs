//! The whole life of an identity with the real programs: join, renew, revoke; roles; and what the audit log says of it.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use gantry_e2e::{
    Lab, LabOptions,
    lab::{AGENT, text},
    process::command,
};
use serde_json::{Value, json};

/// Waits until what is seen is as wanted.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    for _ in 0..1200 {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("{what} does not come")
}

async fn agent(lab: &Lab) -> anyhow::Result<Value> {
    let agents = lab.ctl_json(&["-o", "json", "agents"]).await?;
    Ok(agents["agents"][0].clone())
}

#[tokio::test]
async fn a_certificate_is_renewed_while_the_agent_works_and_a_revoked_agent_goes_at_once() -> anyhow::Result<()> {
    let short = json!({"certificates": {"agent_life_s": 12}});
    let mut lab = Lab::start(LabOptions {
        controller: short,
        agent: json!({"link": {"renew_again_s": 1}}),
        ..LabOptions::default()
    })
    .await?;
    let identity = lab.dir().join("join.json");
    let first = fs::read_to_string(&identity)?;
    let job = lab.deploy(&[]).await?;
    until("a new certificate", async || Ok((fs::read_to_string(&identity)? != first).then_some(()))).await?;
    let watched = lab.ctl(&["watch", &job]).await?;
    ensure!(watched.status.success(), "{}", text(&watched));
    // Longer than one life: it has come through by its renewals.
    let records = lab.ctl_json(&["-o", "json", "audit", "--limit", "1000"]).await?;
    let acts = |word: &str| {
        let records = records["records"].as_array().into_iter().flatten();
        records.filter(|record| record["act"] == word).count()
    };
    ensure!(acts("agent.join") == 1 && acts("agent.renew") >= 1 && acts("agent.token") == 2, "{records:#}");

    lab.told(&["agent", "revoke", AGENT]).await?;
    until("the end of its session", async || Ok((agent(&lab).await?["in_contact"] == false).then_some(()))).await?;
    until("the reason in the agent's log", async || Ok(lab.agent_log().contains("was shut out").then_some(()))).await?;
    until("the same in the controller's", async || Ok(lab.controller_log().contains("was shut out").then_some(())))
        .await?;
    lab.stop_agent().await?;

    // Dark past its end: it asks, but one that was shut out does not come back by asking.
    let refused = lab.ctl(&["agent", "approve", AGENT]).await?;
    ensure!(refused.status.code() == Some(7), "{}", text(&refused));
    lab.stop().await
}

#[tokio::test]
async fn an_agent_that_was_dark_past_its_end_comes_back_with_an_admins_word() -> anyhow::Result<()> {
    let short = json!({"certificates": {"agent_life_s": 4}, "enrollment": {"ask_again_ms": 200}});
    let mut lab = Lab::start(LabOptions { controller: short, ..LabOptions::default() }).await?;
    lab.kill_agent().await?;
    let ended = |agent: &Value| {
        let until: Option<jiff::Timestamp> = agent["certificate_until"].as_str().and_then(|text| text.parse().ok());
        until.is_some_and(|until| until < jiff::Timestamp::now())
    };
    until("the end of the certificate", async || Ok(ended(&agent(&lab).await?).then_some(()))).await?;
    lab.start_agent().await?;
    let key =
        until("its wish to come back", async || Ok(agent(&lab).await?["asks_to_return"].as_str().map(str::to_owned)))
            .await?;
    let says = format!("ctl agent approve {AGENT} --key {key}");
    until("what to do, in its log", async || Ok(lab.agent_log().contains(&says).then_some(()))).await?;
    let wrong = lab.ctl(&["agent", "approve", AGENT, "--key", &"0".repeat(64)]).await?;
    ensure!(!wrong.status.success(), "another key is let in");
    lab.told(&["agent", "approve", AGENT, "--key", &key]).await?;
    lab.agent_in_contact().await?;
    lab.stop().await
}

#[tokio::test]
async fn a_viewer_looks_and_does_nothing_and_a_lost_profile_is_refused() -> anyhow::Result<()> {
    let lab = Lab::start(LabOptions::default()).await?;
    let viewer = lab.dir().join("viewer");
    let out = viewer.to_string_lossy().into_owned();
    lab.told(&["operator", "add", "wang", "--role", "viewer", "--out", &out]).await?;
    let profile = viewer.join("ctl.toml").to_string_lossy().into_owned();
    let as_viewer = async |args: &[&str]| lab.ctl(&[&["--profile", &profile], args].concat()).await;
    ensure!(as_viewer(&["agents"]).await?.status.success(), "a viewer may look");
    let workbook = lab.workbook().to_string_lossy().into_owned();
    for args in [&["deploy", &workbook][..], &["agent", "token", "--site", "rehearsal"], &["audit"]] {
        let refused = as_viewer(args).await?;
        let said = text(&refused);
        ensure!(refused.status.code() == Some(7) && said.contains("has the role viewer"), "{args:?}: {said}");
    }
    lab.told(&["operator", "revoke", "wang"]).await?;
    let refused = as_viewer(&["agents"]).await?;
    let said = text(&refused);
    ensure!(refused.status.code() == Some(7) && said.contains("was revoked"), "{said}");
    lab.stop().await
}

#[tokio::test]
async fn a_token_works_once_and_a_stranger_gets_no_further() -> anyhow::Result<()> {
    let lab = Lab::start(LabOptions::default()).await?;
    let token = lab.told(&["agent", "token", "--site", "rehearsal", "--agent", "other"]).await?;
    let join = async |place: &str| {
        let mut join = command(&lab.binary("agent"), ["join", token.trim(), "--no-run", "--data"]);
        join.arg(lab.dir().join(place)).stdin(Stdio::null()).output().await.context("agent join")
    };
    let first = join("other").await?;
    ensure!(first.status.success(), "{}", text(&first));
    let second = join("thief").await?;
    let said = text(&second);
    ensure!(!second.status.success() && said.contains("has been used already"), "{said}");
    let secret = token.trim().split_once('.').context("a token")?.1.to_owned();
    for log in [lab.controller_log(), lab.agent_log()] {
        ensure!(!log.contains(&secret), "a log shows the token");
    }
    lab.stop().await
}
