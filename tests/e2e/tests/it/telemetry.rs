//! Telemetry over a line and to a collector that are not always there: everything arrives, once and with its own times.

use std::{
    process::Stdio,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use gantry_e2e::{Lab, Mode};
use serde_json::json;
use tokio::{process::Command, time::sleep};

use crate::{
    cancel::when_step_starts,
    collector::{Collector, attribute},
    support::quick,
};

fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// The line is gone for the rest of a job; neither is the collector there. When they are back, the whole job is told.
#[tokio::test]
async fn what_happens_while_line_and_collector_are_gone_is_told_afterwards() -> anyhow::Result<()> {
    let place = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut options = quick();
    options.proxied = true;
    options.otlp = Some(format!("http://{place}"));
    options.controller =
        json!({"link": {"heartbeat_ms": 500, "silence_ms": 1_000}, "telemetry": {"metrics_every_s": 1}});
    options.agent = json!({"link": {"connect_timeout_ms": 2_000, "hello_timeout_ms": 2_000, "retry_first_ms": 50,
        "retry_cap_ms": 500}, "telemetry": {"metrics_every_s": 1}});
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "wait-guest-agent").await?;
    lab.line()?.set(Mode::refuse());
    lab.line()?.cut();
    // The agent goes on alone until the job has ended; its journal says so.
    let journal = lab.agent_data().join("jobs");
    let began = Instant::now();
    while !ended(&journal)? {
        ensure!(began.elapsed() < Duration::from_secs(120), "the job did not end\n{}", lab.logs());
        sleep(Duration::from_millis(50)).await;
    }
    let gone = lab.ctl_json(&["-o", "json", "trace", &job]).await?;
    let names = |told: &serde_json::Value| -> Vec<String> {
        let spans = told["spans"].as_array().cloned().unwrap_or_default();
        spans.iter().filter_map(|span| span["name"].as_str().map(str::to_owned)).collect()
    };
    assert!(!names(&gone).contains(&"step install".to_owned()), "the line is gone: {:?}", names(&gone));

    let back = nanos();
    lab.line()?.set(Mode::PASS);
    let collector = Collector::at(place).await?;
    collector
        .until("the job's own span", |arrived| {
            let own = |span: &opentelemetry_proto::tonic::trace::v1::Span| {
                span.name == "job" && attribute(&span.attributes, "job.id") == Some(job.as_str())
            };
            arrived.spans.values().any(|(service, span)| service == "agent" && own(span))
        })
        .await?;
    {
        let arrived = collector.arrived();
        let ours = arrived.spans.values().filter(|(service, _)| service == "agent").map(|(_, span)| span);
        let installs: Vec<_> = ours.filter(|span| attribute(&span.attributes, "step.id") == Some("install")).collect();
        assert!(installs.len() > 5, "the calls of the installer's step: {}", installs.len());
        assert!(installs.iter().all(|span| span.end_time_unix_nano < back), "they keep their own times");
    }
    for service in ["agent", "controller"] {
        let told = |arrived: &crate::collector::Arrived| {
            arrived.records.iter().any(|(of, _, _)| of == service)
                && arrived.metrics.iter().any(|(of, _)| of == service)
        };
        collector.until(&format!("log records and metrics of {service}"), told).await?;
    }
    let agents = lab.ctl_json(&["-o", "json", "agents"]).await?;
    let lost = &agents["agents"][0]["telemetry"]["lost"];
    assert_eq!(*lost, json!({"spans": 0, "log_records": 0, "data_points": 0}), "{agents:#}");
    let told = lab.ctl_json(&["-o", "json", "trace", &job]).await?;
    for step in ["preflight", "upload-iso", "create-vm", "wait-guest-agent", "install", "finish"] {
        assert!(names(&told).contains(&format!("step {step}")), "{step}: {:?}", names(&told));
    }
    lab.stop().await
}

/// Everything of a run goes through a collector that is not ours, and out of it again.
#[tokio::test]
async fn a_collector_of_somebody_else_takes_and_hands_on_everything() -> anyhow::Result<()> {
    let (behind, port) = (Collector::start().await?, std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    let http = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut rotel = Command::new(rotel()?);
    rotel.arg("start").args(["--otlp-grpc-endpoint", &port.to_string(), "--otlp-http-endpoint", &http.to_string()]);
    rotel.args(["--exporter", "otlp", "--otlp-exporter-endpoint", &behind.endpoint(), "--batch-timeout", "200ms"]);
    let _rotel = rotel.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let mut options = quick();
    options.otlp = Some(format!("http://{port}"));
    options.controller = json!({"telemetry": {"metrics_every_s": 1}});
    options.agent = json!({"telemetry": {"metrics_every_s": 1}});
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&["--watch"]).await?;
    let told = lab.ctl_json(&["-o", "json", "trace", &job]).await?;
    ensure!(told["spans"].as_array().is_some_and(|spans| spans.len() > 50), "{told}");
    behind
        .until("the job's spans of all three", |arrived| {
            let trace = arrived
                .spans
                .values()
                .find(|(of, span)| of == "agent" && span.name == "job")
                .map(|(_, span)| &span.trace_id);
            let inside = |service: &str| {
                trace.is_some()
                    && arrived.spans.values().any(|(of, span)| of == service && Some(&span.trace_id) == trace)
            };
            ["ctl", "controller", "agent"].into_iter().all(inside)
        })
        .await?;
    for service in ["agent", "controller"] {
        let told = |arrived: &crate::collector::Arrived| {
            arrived.records.iter().any(|(of, _, _)| of == service)
                && arrived.metrics.iter().any(|(of, _)| of == service)
        };
        behind.until(&format!("log records and metrics of {service}"), told).await?;
    }
    assert!(behind.arrived().records.iter().any(|(of, _, of_job)| of == "agent" && *of_job == job));
    lab.stop().await
}

/// The collector of PyPI's package rotel.
fn rotel() -> anyhow::Result<std::path::PathBuf> {
    let lib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/rotel/lib");
    let pythons =
        std::fs::read_dir(&lib).with_context(|| format!("{}: tests/run installs rotel there", lib.display()))?;
    let programs = pythons.filter_map(|entry| Some(entry.ok()?.path().join("site-packages/rotel/rotel-agent")));
    programs.into_iter().find(|program| program.exists()).context("no rotel-agent: tests/run installs it")
}

/// Whether a journal below this place says that its job has ended.
fn ended(jobs: &std::path::Path) -> anyhow::Result<bool> {
    for entry in walk(jobs)? {
        if std::fs::read(&entry).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("job_finished")) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn walk(place: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place).with_context(|| format!("reading {}", place.display()))? {
        let path = entry?.path();
        if path.is_dir() { files.extend(walk(&path)?) } else { files.push(path) }
    }
    Ok(files)
}
