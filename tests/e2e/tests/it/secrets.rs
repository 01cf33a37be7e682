//! Canaries: the workbook's secrets are in no file, no output, no argument list and no message between agent and controller
//! but sealed, in no encoding, whatever becomes of the job.

use std::{fs, net::Ipv4Addr};

use gantry_e2e::{Lab, LabOptions, canaries::Canaries, lab::merge, recorder::Recorder};
use gantry_proto::{
    REDACTED,
    v1::{self, open_response::Item, order::Kind},
};
use gantry_sim::workbook::Workbook;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{quick, unpacked, vms};

/// A secret of its own in every secret cell.
const SECRETS: [(&str, &str); 7] = [
    ("集群管理信息!G3", "Canary-Tower-81f3!"),
    ("集群管理信息!I3", "Canary-Guest-c09e!"),
    ("集群管理信息!K3", "Canary-Spare-4d52!"),
    ("主机规划!M19", "Canary-Fisheye-2b77!"),
    ("主机规划!G3", "Canary-Host-1a09!"),
    ("主机规划!K3", "Canary-Bmc-90e7!"),
    ("主机规划!M3", "Canary-Third-66b1!"),
];

/// The lab's workbook with these secrets.
fn workbook(options: &LabOptions) -> Workbook {
    let address = |last| Ipv4Addr::new(127, 30, 40, last);
    let hosts: Vec<_> = options.nodes.iter().map(|node| node.0).collect();
    let workbook = Workbook::valid().addresses(options.vip, &hosts, address(20), address(1), "127.30.40.0/24");
    SECRETS.iter().fold(workbook, |book, (cell, secret)| book.set(cell, *secret))
}

fn options(scenario: &Value) -> (LabOptions, Canaries) {
    let mut options = quick();
    let workbook = workbook(&options);
    let canaries = Canaries::of(&workbook);
    options.workbook = workbook.bytes();
    options.fisheye_password = SECRETS[3].1.to_owned();
    let accounts = json!([{"name": "cloudtower", "password": SECRETS[1].1}]);
    merge(&mut options.scenario, &json!({"guest": {"accounts": accounts}}));
    merge(&mut options.scenario, scenario);
    options.agent = json!({"telemetry": {"log_filter": "debug", "log_format": "json"}});
    options.controller = json!({"telemetry": {"log_filter": "debug", "log_format": "json"}});
    (options, canaries)
}

/// A job to its end, whose exit code must be this one; then everything is searched.
async fn no_secret_is_anywhere(scenario: Value, exit: i32) -> anyhow::Result<()> {
    let (options, canaries) = options(&scenario);
    let (lab, recorder) = recorded(options, &canaries).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, exit, "{}", lab.logs());
    search(&lab, &recorder, &canaries, &job, (exit, 1)).await?;
    lab.stop().await
}

/// A lab with a recorder on the agent's link.
async fn recorded(options: LabOptions, canaries: &Canaries) -> anyhow::Result<(Lab, Recorder)> {
    assert_eq!(canaries.count, SECRETS.len(), "a secret cell has no canary");
    let mut lab = Lab::start(options).await?;
    lab.stop_agent().await?;
    let recorder = Recorder::between(&lab.controller_data(), &lab.dir().join("join.json")).await?;
    lab.start_agent().await?;
    lab.agent_in_contact().await?;
    Ok((lab, recorder))
}

/// Searches everything that came of a job, which ended with this exit code, and was ordered so many times with its secrets.
async fn search(
    lab: &Lab,
    recorder: &Recorder,
    canaries: &Canaries,
    job: &str,
    (exit, orders): (i32, usize),
) -> anyhow::Result<()> {
    let log = lab.dir().join("audit.jsonl");
    let log = log.to_string_lossy();
    for args in [
        &["show", job][..],
        &["-o", "json", "show", job],
        &["-o", "json", "result", job],
        &["-o", "json", "report", job],
        &["-o", "html", "report", job],
        &["-o", "ndjson", "watch", job, "--from-seq", "1"],
        &["-o", "json", "plan", "check", &lab.workbook().to_string_lossy()],
        &["plan", "show", &lab.workbook().to_string_lossy()],
        &["audit"],
        &["audit", "-o", "json"],
        &["audit", "export", &log],
        &["audit", "verify", &log, "--head-from-controller"],
    ] {
        let output = lab.ctl(args).await?;
        let told = output.status.code();
        let shows_the_end = args.contains(&"watch");
        assert!(told == Some(0) || shows_the_end && told == Some(exit), "{args:?}: {}", gantry_e2e::lab::text(&output));
        canaries.absent(&format!("ctl {args:?}"), &output.stdout)?;
        canaries.absent(&format!("ctl {args:?}"), &output.stderr)?;
    }
    let bundle = lab.dir().join(format!("bundle-{exit}-{orders}.zip"));
    let output = lab.ctl(&["bundle", job, "--out", &bundle.to_string_lossy(), "-o", "json"]).await?;
    assert!(output.status.success(), "{}", gantry_e2e::lab::text(&output));
    canaries.absent("ctl bundle", &output.stdout)?;
    for (name, bytes) in unpacked(&bundle)? {
        canaries.absent(&format!("{name} of the bundle"), &bytes)?;
    }
    let messages = recorder.messages()?;
    let sealed = |message: &&Vec<u8>| {
        let item = v1::OpenResponse::decode(&message[..]).ok().and_then(|response| response.item);
        let secrets = match item {
            Some(Item::Order(v1::Order { kind: Some(Kind::Start(start)), .. })) => start.secrets,
            Some(Item::Order(v1::Order { kind: Some(Kind::Retry(retry)), .. })) => retry.secrets,
            _ => None,
        };
        secrets.is_some_and(|sealed| !sealed.ciphertext.is_empty())
    };
    assert_eq!(messages.down.iter().filter(sealed).count(), orders, "the recorder has heard the orders");
    assert!(messages.up.len() > 10, "the recorder has heard the agent: {} messages", messages.up.len());
    for message in messages.up.iter().chain(&messages.down) {
        canaries.absent("a message between agent and controller", message)?;
    }
    let mut files = 0;
    for place in ["agent", "controller", "agent.log", "controller.log", "audit.jsonl"] {
        files += canaries.absent_below(&lab.dir().join(place))?;
    }
    assert!(files > 8, "only {files} files were searched");
    Ok(())
}

#[tokio::test]
async fn no_secret_is_in_any_output() -> anyhow::Result<()> {
    no_secret_is_anywhere(json!({}), 0).await
}

#[tokio::test]
async fn no_secret_is_in_any_output_of_a_job_that_fails_and_is_undone() -> anyhow::Result<()> {
    no_secret_is_anywhere(json!({"modes": {"guest": {"installer": "fails"}}}), 4).await
}

#[tokio::test]
async fn no_secret_is_in_any_output_of_an_agent_that_panics() -> anyhow::Result<()> {
    let (mut options, canaries) = options(&json!({}));
    options.agent_program = "panicking-agent";
    let (lab, recorder) = recorded(options, &canaries).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let log = fs::read_to_string(lab.dir().join("agent.log"))?;
    let words = format!("panicked at {}", "tests/e2e/src/bin/panicking_agent.rs");
    assert!(log.contains(&words) && log.contains(&format!("in full: {REDACTED} and {REDACTED}")), "{log}");
    assert_eq!(vms(&lab).await?.len(), 0, "the panic of a step is undone like any other failure");
    search(&lab, &recorder, &canaries, &job, (4, 1)).await?;
    lab.stop().await
}

#[tokio::test]
async fn a_corrected_password_is_sealed_anew_and_both_stay_unseen() -> anyhow::Result<()> {
    const WRONG: &str = "Canary-Typo-5e21!";
    let (mut options, mut canaries) = options(&json!({}));
    let wrong = workbook(&options).set(SECRETS[3].0, WRONG).bytes();
    let right = std::mem::replace(&mut options.workbook, wrong);
    canaries.add(WRONG);
    let (lab, recorder) = recorded(options, &canaries).await?;
    let job = lab.deploy(&["--on-failure", "keep"]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let corrected = lab.dir().join("corrected.xlsx");
    fs::write(&corrected, right)?;
    let retried = lab.ctl(&["retry", &job, "--plan", &corrected.to_string_lossy(), "--watch"]).await?;
    assert_eq!(retried.status.code(), Some(0), "{}\n{}", gantry_e2e::lab::text(&retried), lab.logs());
    search(&lab, &recorder, &canaries, &job, (0, 2)).await?;
    lab.stop().await
}

#[tokio::test]
async fn what_is_searched_for_is_found() -> anyhow::Result<()> {
    let (_, canaries) = options(&json!({}));
    let dir = tempfile::tempdir()?;
    for (_, secret) in SECRETS {
        fs::write(dir.path().join("log"), format!("it was {secret}\n"))?;
        assert!(canaries.absent_below(dir.path()).is_err(), "{secret}");
    }
    Ok(())
}
