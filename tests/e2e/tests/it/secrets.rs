//! Canaries: the workbook's secrets are in no file, no output, no argument list and no message between agent and controller
//! but sealed, in no encoding, whatever becomes of the job.

use std::{fs, net::Ipv4Addr};

use gantry_e2e::{Lab, LabOptions, canaries::Canaries, lab::merge, recorder::Recorder};
use gantry_proto::v1::{self, open_response::Item, order::Kind};
use gantry_sim::workbook::Workbook;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::quick;

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

fn options(scenario: &Value) -> (LabOptions, Canaries) {
    let mut options = quick();
    let address = |last| Ipv4Addr::new(127, 30, 40, last);
    let hosts: Vec<_> = options.nodes.iter().map(|node| node.0).collect();
    let workbook = Workbook::valid().addresses(options.vip, &hosts, address(20), address(1), "127.30.40.0/24");
    let workbook = SECRETS.iter().fold(workbook, |book, (cell, secret)| book.set(cell, *secret));
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
    assert_eq!(canaries.count, SECRETS.len(), "a secret cell has no canary");
    let mut lab = Lab::start(options).await?;
    lab.stop_agent().await?;
    let recorder = Recorder::between(&lab.controller_data(), &lab.dir().join("join.json")).await?;
    lab.start_agent().await?;
    lab.agent_in_contact().await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, exit, "{}", lab.logs());

    let log = lab.dir().join("audit.jsonl");
    let log = log.to_string_lossy();
    for args in [
        &["show", &job][..],
        &["-o", "json", "show", &job],
        &["-o", "json", "result", &job],
        &["-o", "ndjson", "watch", &job, "--from-seq", "1"],
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
    let messages = recorder.messages()?;
    let sealed = |message: &&Vec<u8>| {
        let item = v1::OpenResponse::decode(&message[..]).ok().and_then(|response| response.item);
        let Some(Item::Order(v1::Order { kind: Some(Kind::Start(start)), .. })) = item else { return false };
        start.secrets.is_some_and(|sealed| !sealed.ciphertext.is_empty())
    };
    assert_eq!(messages.down.iter().filter(sealed).count(), 1, "the recorder has heard the order");
    assert!(messages.up.len() > 10, "the recorder has heard the agent: {} messages", messages.up.len());
    for message in messages.up.iter().chain(&messages.down) {
        canaries.absent("a message between agent and controller", message)?;
    }
    let mut files = 0;
    for place in ["agent", "controller", "agent.log", "controller.log", "audit.jsonl"] {
        files += canaries.absent_below(&lab.dir().join(place))?;
    }
    assert!(files > 8, "only {files} files were searched");
    lab.stop().await
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
async fn what_is_searched_for_is_found() -> anyhow::Result<()> {
    let (_, canaries) = options(&json!({}));
    let dir = tempfile::tempdir()?;
    for (_, secret) in SECRETS {
        fs::write(dir.path().join("log"), format!("it was {secret}\n"))?;
        assert!(canaries.absent_below(dir.path()).is_err(), "{secret}");
    }
    Ok(())
}
