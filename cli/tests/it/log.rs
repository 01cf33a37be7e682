//! Logs of jobs, made by hand: each shows one way in which a job can go.

use gantry_proto::{Body, Event, Failure, JobOutcome, Leftover, Level, Sample, StepInfo, UndoState, v1};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The job of all logs.
pub(crate) const JOB: &str = "01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c";

/// Seconds after which event 1 happened.
const BEGIN: i64 = 1_924_999_445;

/// Numbers bodies from 1, ten seconds apart.
pub(crate) fn numbered(bodies: Vec<Body>) -> Vec<Event> {
    let at = |seq: u64| Timestamp::from_second(BEGIN + 10 * i64::try_from(seq).unwrap()).unwrap();
    bodies.into_iter().zip(1..).map(|(body, seq)| Event { seq, epoch: 1, at: at(seq), body }).collect()
}

pub(crate) fn begun() -> Body {
    let row = |(id, title, weight, attempts): (&str, &str, u32, u32)| StepInfo {
        id: id.into(),
        title: title.into(),
        weight,
        attempts,
    };
    let steps = [
        ("preflight", "Check the site", 10, 1),
        ("upload-iso", "Upload the CloudTower ISO", 300, 2),
        ("create-vm", "Create the VM", 60, 3),
        ("install", "Install CloudTower", 1200, 1),
    ];
    Body::JobStarted {
        agent: "bj-1".parse().unwrap(),
        agent_version: "0.1.0".into(),
        steps: steps.map(row).into(),
        kept: Vec::new(),
        taken_over: None,
    }
}

pub(crate) fn start(step: &str, attempt: u32) -> Body {
    Body::StepStarted { step: step.into(), attempt }
}

pub(crate) fn done(step: &str, seconds: u64) -> Body {
    Body::StepSucceeded { step: step.into(), elapsed_ms: seconds * 1000 }
}

pub(crate) fn failed(step: &str, attempt: u32, will_retry: bool) -> Body {
    Body::StepFailed { step: step.into(), attempt, failure: failure(), will_retry }
}

pub(crate) fn failure() -> Failure {
    Failure {
        code: "fisheye_unreliable".into(),
        message: "chunk 17 of the ISO could not be sent to https://192.0.2.10".into(),
        causes: vec!["no progress for 30 s".into(), "connection reset by peer".into()],
        remedy: "check the way from the bastion to the cluster VIP, then deploy again: the ISO goes on where it was"
            .into(),
        detail: serde_json::Map::new(),
    }
}

pub(crate) fn warning(step: Option<&str>, message: &str) -> Body {
    Body::Note {
        step: step.map(Into::into),
        level: Level::Warning,
        code: "test".into(),
        message: message.into(),
        extra: serde_json::Map::new(),
    }
}

pub(crate) fn fact(step: &str, key: &str, value: Value) -> Body {
    Body::Fact { step: step.into(), key: key.into(), value: Some(value) }
}

pub(crate) fn undone(step: &str, removed: &[&str]) -> [Body; 2] {
    let removed = removed.iter().map(|text| (*text).to_owned()).collect();
    [Body::UndoStarted { step: step.into() }, Body::UndoFinished { step: step.into(), failure: None, removed }]
}

pub(crate) fn finished(outcome: JobOutcome, undo: UndoState, leftovers: Vec<Leftover>, result: Value) -> Body {
    let failure = (outcome == JobOutcome::Failed).then(failure);
    Body::JobFinished { outcome, undo, failure, leftovers, result }
}

/// Everything goes well, with one warning and one retry.
pub(crate) fn success() -> Vec<Event> {
    let result = json!({"deploy_cloudtower": {
        "status": "SERVICE_READY", "ip": "192.0.2.20", "base_url": "https://192.0.2.20",
        "iso": {"file_name": "cloudtower-v4.6.2.oe2003.x86_64.iso", "skipped": false},
        "vm": {"name": "cloudtower-exlab", "uuid": "8d5b0f9e"}, "network": {"ip": "192.0.2.20"},
        "cloudtower": {"session": {"username": "root"}, "license": {"type": "TRIAL", "expire_date": "2031-12-29"}},
    }});
    numbered(vec![
        begun(),
        start("preflight", 1),
        warning(Some("preflight"), "the workbook names CloudTower 4.7.1, the ISO is 4.6.2"),
        done("preflight", 20),
        start("upload-iso", 1),
        failed("upload-iso", 1, true),
        start("upload-iso", 2),
        fact("upload-iso", "image", json!({"uuid": "b0d3c1a9", "name": "cloudtower-v4.6.2"})),
        done("upload-iso", 20),
        start("create-vm", 1),
        Body::Intent { step: "create-vm".into(), id: 1, call: "create_vm".into(), detail: serde_json::Map::new() },
        done("create-vm", 20),
        start("install", 1),
        Body::Unknown,
        done("install", 20),
        finished(JobOutcome::Succeeded, UndoState::Nothing, vec![], result),
    ])
}

/// The upload fails for good; all is undone, or a leftover remains.
pub(crate) fn failing(undo: UndoState) -> Vec<Event> {
    let left = Leftover {
        kind: "volume".into(),
        id: "5d2f0b6a".into(),
        name: "upload-cloudtower".into(),
        remedy: "delete the upload volume 5d2f0b6a in Fisheye, Images".into(),
    };
    let leftovers = if undo == UndoState::RollbackIncomplete { vec![left] } else { vec![] };
    let mut bodies = vec![begun(), start("preflight", 1), done("preflight", 10), start("upload-iso", 1)];
    bodies.extend([failed("upload-iso", 1, true), start("upload-iso", 2), failed("upload-iso", 2, false)]);
    bodies.extend(undone("upload-iso", &["removed the unfinished image b0d3c1a9"]));
    bodies.push(finished(JobOutcome::Failed, undo, leftovers, json!({"deploy_cloudtower": {"error": {}}})));
    numbered(bodies)
}

/// An operator stops it.
pub(crate) fn cancelled(undo: UndoState) -> Vec<Event> {
    let mut bodies = vec![begun(), start("preflight", 1), done("preflight", 10), start("upload-iso", 1)];
    bodies.push(Body::CancelAccepted { by: "ops".into(), reason: "wrong VLAN".into() });
    bodies.extend(undone("upload-iso", &["removed the unfinished image b0d3c1a9"]));
    bodies.push(finished(JobOutcome::Cancelled, undo, vec![], Value::Null));
    numbered(bodies)
}

/// Progress of the upload.
pub(crate) fn sample(done: u64, at: i64) -> Sample {
    Sample {
        job: JOB.parse().unwrap(),
        step: "upload-iso".into(),
        at: Timestamp::from_second(at).unwrap(),
        done: done << 20,
        total: 7_584 << 20,
        unit: "bytes".into(),
        per_second: 40_055_603.0,
        text: String::new(),
        extra: serde_json::Map::new(),
    }
}

/// The job as the controller tells it.
pub(crate) fn job(state: v1::JobState, last_seq: u64) -> v1::Job {
    let micros = |seconds: i64| seconds * 1_000_000;
    v1::Job {
        job_id: JOB.into(),
        epoch: 1,
        state: state.into(),
        site: "beijing".into(),
        agent_id: "bj-1".into(),
        agent_in_contact: true,
        agent_seen_micros: micros(BEGIN),
        created_micros: micros(BEGIN - 60),
        started_micros: micros(BEGIN),
        last_seq,
        submitted_by: "ops".into(),
        file_name: "planning.xlsx".into(),
        plan_sha256: "ab".repeat(32),
        cluster: "CN-SH-SMTX-Test-Cls01".into(),
        vm_name: "cloudtower-exlab".into(),
        cloudtower_ip: "192.0.2.20".into(),
        percent: 42.5,
        current_step: "upload-iso".into(),
        ..Default::default()
    }
}
