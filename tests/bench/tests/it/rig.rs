//! Whole runs of the benchmark, small: its table, its verdicts, its exit code, and what it leaves behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use gantry_bench::{
    clients::Agent,
    kills::{self, Pace},
    material::{CHUNK, Material},
    rig::{Choice, Rig},
};
use serde_json::Value;

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/stand-in");

/// `bench-upload` of 4 chunks, with everything below `dir`.
fn bench(dir: &Path, agent: &Path, arguments: &[&str]) -> (Output, Value) {
    let json = dir.join("report.json");
    let files = dir.join("files");
    fs::create_dir(&files).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-upload"));
    command.args(["--no-build", "--gib", "0.03125", "--rounds", "1"]).args(arguments);
    command.arg("--dir").arg(&files).arg("--json").arg(&json).arg("--agent").arg(agent);
    let out = command.output().unwrap();
    assert_eq!(fs::read_dir(&files).unwrap().count(), 0, "something was left behind");
    let report = fs::read(&json).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    (out, serde_json::from_slice(&report).unwrap())
}

/// A program that does this.
fn script(dir: &Path, text: &str) -> PathBuf {
    let program = dir.join("agent");
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    program
}

fn row<'a>(report: &'a Value, scene: &str, client: &str) -> &'a Value {
    let mut rows = report["table"]["rows"].as_array().unwrap().iter();
    let found = rows.find(|row| row["scene"] == scene && row["client"] == client);
    &found.unwrap_or_else(|| panic!("{scene} {client} is missing in {report:#}"))["figures"]
}

#[test]
fn every_client_is_measured_and_everything_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let parts = ["proof", "0ms", "20ms", "serial", "cold", "memory"];
    let arguments: Vec<&str> = parts.iter().flat_map(|part| ["--only", part]).collect();
    let (out, report) = bench(dir.path(), Path::new(STAND_IN), &arguments);
    let text = String::from_utf8(out.stdout).unwrap();
    for client in ["curl-seq", "curl-par2", "curl-par4", "curl-par8", "curl-par16", "dgst+curl-par4", "loop", "agent-4"]
    {
        let figures = row(&report, "0ms", client);
        assert!(figures["wall_s"].as_f64().unwrap() > 0.0, "{client}: {figures}");
        assert!(figures["cpu_s"].as_f64().unwrap() > 0.0 && figures["peak_bytes"].as_u64().unwrap() > 1 << 20);
        assert_eq!(figures["bytes"], 32 << 20);
        assert!(text.contains(client), "{text}");
    }
    // There are only 4 chunks.
    assert_eq!(row(&report, "0ms", "curl-par16")["in_flight"], 4);
    assert_eq!(row(&report, "0ms", "curl-par2")["in_flight"], 2);
    assert_eq!(row(&report, "0ms", "loop")["in_flight"], 1);
    assert_eq!(row(&report, "0ms", "agent-idle")["result"]["reused"], true);
    assert!(row(&report, "20ms", "loop")["wall_s"].as_f64().unwrap() >= 0.08, "4 chunks take 20 ms each");
    for client in ["large sparse file", "64 MiB chunks"] {
        assert!(row(&report, "memory", client)["peak_bytes"].as_u64().unwrap() > 0);
    }
    assert_eq!(row(&report, "memory", "large sparse file")["bytes"], 128 << 20);
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["failed"].is_null()), "{report:#}");
    assert_eq!(report["proofs"].as_array().unwrap().len(), 4);
    assert!(text.contains("bars") && text.contains("not run") && text.contains("this run says little"), "{text}");
}

#[test]
fn a_chunk_sent_twice_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let agent = script(dir.path(), &format!("GANTRY_STAND_IN=careless exec '{STAND_IN}' \"$@\""));
    let (out, report) = bench(dir.path(), &agent, &["--only", "0ms", "--only", "agent-4"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(row(&report, "0ms", "agent-4")["failed"], "the sink got 1 chunks twice");
}

#[test]
fn an_agent_without_the_command_fails_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let agent = script(dir.path(), "[ \"$1\" = --version ] && echo old-agent 0 && exit 0\nexit 2");
    let only = ["--only", "0ms", "--only", "agent-4", "--only", "curl-par4", "--only", "kill"];
    let (out, report) = bench(dir.path(), &agent, &only);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert_eq!(row(&report, "0ms", "agent-4")["failed"], "this agent has no `iso push`");
    assert!(row(&report, "0ms", "curl-par4")["wall_s"].as_f64().is_some());
    let failed = |line: &&str| line.contains("FAILED");
    assert!(text.lines().filter(failed).count() >= 4, "{text}");
    assert!(text.contains("this agent has no `iso push`"), "{text}");
}

#[test]
fn a_name_that_there_is_not_is_a_usage_error() {
    let out = Command::new(env!("CARGO_BIN_EXE_bench-upload")).args(["--only", "300ms"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("300ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_agent_sends_again_is_counted_at_the_sink() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path(), &["kill", "kills"]).await;
    let pace = Pace { mib_per_s: 20, every: Duration::from_millis(1_500) };
    let outcome = kills::strike(&rig, pace).await.unwrap();
    let half_way = outcome.half_way[0].0.as_ref().unwrap();
    assert!(half_way.before >= half_way.size / 2 && half_way.before < half_way.size, "{half_way:?}");
    // The stand-in has one chunk in flight and notes each that is acknowledged.
    assert_eq!(half_way.in_flight, 1);
    assert!(half_way.total >= half_way.size && half_way.resent() <= 1.0, "{half_way:?}");
    let kills = outcome.again[0].0.as_ref().unwrap();
    assert!(kills.kills >= 1 && kills.total >= kills.size, "{kills:?}");
    assert!(kills.total <= kills.size + kills.kills * CHUNK, "{kills:?}");
}

async fn rig(dir: &Path, scenes: &[&str]) -> Rig {
    let beside = |name: &str| PathBuf::from(env!("CARGO_BIN_EXE_bench-upload")).with_file_name(name);
    let warm = dir.join("warm");
    fs::create_dir(&warm).unwrap();
    Rig {
        agent: Agent::ask(Path::new(STAND_IN), &dir.join("password")).unwrap(),
        sink: beside("sink"),
        measure: beside("measure"),
        dir: dir.to_owned(),
        material: Material::make(dir, 8 * CHUNK).await.unwrap(),
        warm,
        rounds: 1,
        choice: Choice { scenes: scenes.iter().map(|scene| (*scene).to_owned()).collect(), clients: Vec::new() },
    }
}
