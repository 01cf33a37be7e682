//! An upload is steered while it runs: by real processes, as an operator does it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use gantry_e2e::Lab;
use serde_json::{Value, json};

use crate::support::{events, images, quick, result};

/// Bytes a second that the agent's settings allow: the ISO of a quick lab would take 32 s.
const SLOW: u64 = 32 << 10;

/// How soon a wish has to be in effect.
const IN_EFFECT: Duration = Duration::from_secs(2);

async fn until(what: &str, mut there: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !there().await? {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(60), "{what} does not come");
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_is_paused_and_let_go_on_without_its_limit() -> anyhow::Result<()> {
    let mut options = quick();
    options.agent = json!({"upload": {"limit_bytes_per_s": SLOW}});
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    let received = async || -> anyhow::Result<usize> {
        let all = images(&lab).await?;
        Ok(all.first().and_then(|image| image["received"].as_object()).map_or(0, serde_json::Map::len))
    };
    until("the first chunk", async || Ok(received().await? > 0)).await?;

    let asked = Instant::now();
    let said = lab.ctl(&["upload", &job, "--pause"]).await?;
    assert!(said.status.success(), "{}", gantry_e2e::lab::text(&said));
    let told = async |words: &str| -> anyhow::Result<bool> { Ok(lab.logs().contains(words)) };
    until("the wish at the agent", async || told("wants the upload so").await).await?;
    assert!(asked.elapsed() < IN_EFFECT, "{:?}", asked.elapsed());

    lab.ctl(&["upload", &job, "--resume", "--limit", "none", "--in-flight", "2"]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    let wishes: Vec<Value> =
        events(&lab, &job).await?.into_iter().filter(|event| event["code"] == "upload_tuned").collect();
    assert_eq!(wishes.len(), 2);
    let message = wishes.last().and_then(|wish| wish["message"].as_str()).context("no second wish")?;
    assert!(message.contains("no limit, 2 in flight") && !message.contains("paused"), "{message}");
    let upload = result(&lab, &job).await?["iso"]["upload"].clone();
    assert!(upload["seconds"].as_f64().is_some_and(|seconds| seconds < 30.0), "{upload}");
    assert_eq!((&upload["resent_bytes"], &upload["sent_bytes"]), (&json!(0), &json!((1 << 20) + 1)), "{upload}");
    let audit = lab.ctl_json(&["audit", "-o", "json"]).await?.to_string();
    assert!(audit.contains("job.tune_upload") && audit.contains("in flight 2"), "{audit}");
    lab.control()?.check_invariants().await?;
    lab.stop().await
}
