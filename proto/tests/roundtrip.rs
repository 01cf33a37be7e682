//! Every event there and back again: over the wire, and through the journal's JSON.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use gantry_proto::{
    Body, Choice, Event, Failure, JobId, JobOutcome, Leftover, Level, Sample, StepInfo, TakenOver, UndoState,
    event::{Extra, IntentResult},
    v1,
};
use jiff::Timestamp;
use prost::Message as _;
use serde_json::json;

fn extra() -> Extra {
    [("chunk_num".to_owned(), json!(3)), ("name".to_owned(), json!("名"))].into_iter().collect()
}

fn bodies() -> Vec<Body> {
    let failure = Failure {
        code: "x".into(),
        message: "m".into(),
        causes: vec!["a".into(), "b".into()],
        remedy: "r".into(),
        detail: extra(),
    };
    let step = || "upload-iso".into();
    let info = StepInfo { id: step(), title: "t".into(), weight: 6, attempts: 2 };
    let left = Leftover { kind: "vm".into(), id: "i".into(), name: "n".into(), remedy: "r".into() };
    vec![
        Body::JobStarted {
            agent: "a1".parse().unwrap(),
            agent_version: "1".into(),
            steps: vec![info],
            kept: vec!["preflight".into()],
            taken_over: Some(TakenOver { from: "a0".parse().unwrap(), by: "me".into(), confirmed: true }),
        },
        Body::StepStarted { step: step(), attempt: 2 },
        Body::StepSucceeded { step: step(), elapsed_ms: 5 },
        Body::StepFailed { step: step(), attempt: 1, failure: failure.clone(), will_retry: true },
        Body::Note { step: None, level: Level::Debug, code: "c".into(), message: "m".into(), extra: Extra::new() },
        Body::Note { step: Some(step()), level: Level::Error, code: "c".into(), message: "m".into(), extra: extra() },
        Body::Intent { step: step(), id: 7, call: "create_vm".into(), detail: extra() },
        Body::IntentOutcome { step: step(), intent: 7, result: IntentResult::Unknown, detail: Extra::new() },
        Body::Fact { step: step(), key: "vm".into(), value: Some(json!({"uuid": "u"})) },
        Body::Fact { step: step(), key: "vm".into(), value: None },
        Body::CancelAccepted { by: "me".into(), reason: String::new() },
        Body::Paused { by: "me".into(), reason: "r".into() },
        Body::Resumed { by: "me".into() },
        Body::OperatorNeeded {
            step: step(),
            failure: failure.clone(),
            choices: vec![Choice { id: "look-again".into(), text: "t".into() }],
        },
        Body::OperatorDecided { question: 14, choice: "undo".into(), by: "me".into(), reason: "r".into() },
        Body::Surrendered { by: "me".into(), to: "a2".parse().unwrap() },
        Body::UndoStarted { step: step() },
        Body::UndoFinished { step: step(), failure: Some(failure.clone()), removed: vec!["vm u".into()] },
        Body::UndoFinished { step: step(), failure: None, removed: vec![] },
        Body::JobFinished {
            outcome: JobOutcome::Cancelled,
            undo: UndoState::RollbackIncomplete,
            failure: Some(failure),
            leftovers: vec![left],
            result: json!({"deploy_cloudtower": {}}),
        },
    ]
}

fn events() -> impl Iterator<Item = Event> {
    bodies().into_iter().zip(1..).map(|(body, seq)| Event {
        seq,
        epoch: 2,
        at: Timestamp::from_microsecond(1_760_000_000_123_456).unwrap(),
        body,
    })
}

#[test]
fn over_the_wire() {
    for event in events() {
        let bytes = v1::Event::from(&event).encode_to_vec();
        let back = Event::try_from(v1::Event::decode(&bytes[..]).unwrap()).unwrap();
        assert_eq!(back, event);
    }
}

#[test]
fn through_the_journal() {
    for event in events() {
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
    }
}

#[test]
fn an_event_of_a_newer_peer_is_counted_and_skipped() {
    let wire = v1::Event { seq: 4, epoch: 1, at_micros: 0, body: None };
    assert_eq!(Event::try_from(wire).unwrap().body, Body::Unknown);
    let line = r#"{"seq":4,"epoch":1,"at":"2026-01-01T00:00:00Z","event":"from_the_future","x":{"y":1}}"#;
    assert_eq!(serde_json::from_str::<Event>(line).unwrap().body, Body::Unknown);
}

#[test]
fn a_sample_survives_and_a_rate_is_always_finite() {
    let sample = Sample {
        job: JobId::new(),
        step: "upload-iso".into(),
        at: Timestamp::from_microsecond(7).unwrap(),
        done: 1,
        total: 2,
        unit: "bytes".into(),
        per_second: 3.5,
        text: "t".into(),
        extra: extra(),
    };
    assert_eq!(Sample::try_from(v1::Sample::from(&sample)).unwrap(), sample);
    let odd = v1::Sample { per_second: f64::NAN, ..v1::Sample::from(&sample) };
    assert_eq!(Sample::try_from(odd).unwrap().per_second, 0.0);
}
