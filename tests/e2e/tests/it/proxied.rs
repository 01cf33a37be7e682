//! A site whose agent reaches the controller through a proxy only: a real squid that wants a user and a password.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, ensure};
use gantry_e2e::{Lab, LabOptions};
use gantry_sim::squid::{Squid, SquidOptions};
use serde_json::{Value, json};
use tokio::{process::Command, task::spawn_blocking, time::sleep};

use crate::support::{quick, vms};

const PASSWORD: &str = "canary of the proxy";

#[tokio::test]
async fn a_job_is_carried_through_squid_and_the_doctor_sees_the_way() -> anyhow::Result<()> {
    let user = Some(("bastion".to_owned(), PASSWORD.to_owned()));
    let squid = spawn_blocking(|| Squid::start(&SquidOptions { user, ..SquidOptions::default() })).await??;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("proxy.password");
    fs::write(&file, PASSWORD)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let proxy = json!({"url": format!("http://bastion@{}", squid.address()), "password_file": file});
    let lab = Lab::start(LabOptions { agent: json!({"link": {"proxy": proxy}}), ..quick() }).await?;
    let job = lab.deploy(&[]).await?;
    ensure!(lab.watch(&job).await? == 0, "the job has not succeeded\n{}", lab.logs());
    assert_eq!(vms(&lab).await?.len(), 1);

    let report = doctor(&lab).await?;
    let seen = |name: &str| {
        let check = report["checks"].as_array()?.iter().find(|check| check["name"] == name)?;
        Some(format!("{} {}", check["verdict"].as_str()?, check["seen"].as_str()?))
    };
    for (name, wanted) in [
        ("proxy", "as bastion (from link.proxy.url)"),
        ("route", "ok the proxy answers"),
        ("tunnel", "has connected to 127.0.0.1:"),
        ("alpn", "ok h2"),
        ("welcome", "ok the certificate is taken"),
        ("clock", "ok this machine"),
        // Of the job that has just been done.
        ("fisheye", "its certificate is "),
    ] {
        let said = seen(name).with_context(|| format!("there is no check {name}: {report}"))?;
        assert!(said.contains(wanted), "{name}: {said}");
    }
    assert_eq!(report["good"], true, "{report}");
    assert!(!report.to_string().contains("canary") && !lab.agent_log().contains("canary"));

    // All of it went through squid, once: the link, and the doctor's own looks.
    lab.stop().await?;
    for _ in 0..600 {
        let log = squid.access_log();
        let carried: Vec<_> = log.lines().filter(|line| line.contains("TCP_TUNNEL/200")).collect();
        if carried.len() >= 2 && carried.iter().all(|line| line.contains(" bastion ")) {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("squid has not carried it:\n{}", squid.access_log())
}

async fn doctor(lab: &Lab) -> anyhow::Result<Value> {
    let config = lab.dir().join("agent.toml");
    let ran = Command::new(lab.binaries_dir().join("agent"))
        .args(["doctor", "--json", "--config"])
        .arg(config)
        .kill_on_drop(true)
        .output()
        .await?;
    serde_json::from_slice(&ran.stdout).with_context(|| {
        format!("no JSON: {}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
    })
}
