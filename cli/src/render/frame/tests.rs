//! Pictures of a job at work, in all widths and states.

use gantry_proto::{Body, Choice, Event, Failure, StepInfo, v1};

use super::*;
use crate::{args::Lang, follow::Heard, language::within};

const BEGIN: i64 = 1_924_999_445;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + seconds).unwrap()
}

fn begun() -> Body {
    let row =
        |(id, title, weight): (&str, &str, u32)| StepInfo { id: id.into(), title: title.into(), weight, attempts: 2 };
    let steps = [
        ("preflight", "Check the site before anything is made", 10),
        ("upload-iso", "Upload the CloudTower ISO", 300),
        ("create-vm", "创建虚拟机", 60),
        ("install", "Install CloudTower", 1200),
        ("set-up", "Set up organisation, time and names", 30),
    ];
    Body::JobStarted {
        agent: "bj-1".parse().unwrap(),
        agent_version: "1".into(),
        steps: steps.map(row).into(),
        kept: Vec::new(),
        taken_over: None,
    }
}

/// A job whose first step is done and whose upload is at work.
fn uploading(more: Vec<Body>) -> Known {
    let mut known = Known::default();
    let job = v1::Job {
        job_id: "01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c".into(),
        state: v1::JobState::Running.into(),
        agent_id: "bj-1".into(),
        agent_in_contact: true,
        agent_seen_micros: at(0).as_microsecond(),
        vm_name: "cloudtower-exlab".into(),
        cloudtower_ip: "192.0.2.20".into(),
        cluster: "CN-SH-SMTX-Test-Cls01".into(),
        last_seq: 99,
        ..Default::default()
    };
    known.take(&Heard::Job(Box::new(job)));
    let mut bodies = vec![
        begun(),
        Body::StepStarted { step: "preflight".into(), attempt: 1 },
        Body::StepSucceeded { step: "preflight".into(), elapsed_ms: 3200 },
        Body::StepStarted { step: "upload-iso".into(), attempt: 1 },
    ];
    bodies.extend(more);
    for (body, seq) in bodies.into_iter().zip(1..) {
        known.take(&Heard::Event(Box::new(Event { seq, epoch: 1, at: at(seq as i64), body })));
    }
    known
}

fn sample(text: &str) -> Sample {
    Sample {
        job: "01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c".parse().unwrap(),
        step: "upload-iso".into(),
        at: at(100),
        done: 3 << 30,
        total: 7_952_123_904,
        unit: "bytes".into(),
        per_second: 40_055_603.2,
        text: text.into(),
        extra: Default::default(),
    }
}

fn picture(known: &Known, size: (usize, usize), broken: Option<Duration>) -> String {
    let scene = Scene { known, broken, now: at(120), size, paint: Paint::PLAIN };
    let lines = scene.lines();
    for line in &lines {
        assert!(text::width(line) <= size.0, "{} columns: {line}", text::width(line));
    }
    assert!(lines.len() <= size.1.max(6), "{} lines: {lines:#?}", lines.len());
    lines.join("\n")
}

fn shows(name: &str, picture: &str) {
    insta::with_settings!({ snapshot_path => "../../../tests/it/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, picture);
    });
}

#[test]
fn an_upload_in_all_widths() {
    let mut known = uploading(vec![]);
    known.view.sample(&sample("chunk 387 of 948"));
    for columns in [120, 80, 60, 40, 24] {
        shows(&format!("frame_upload_{columns}"), &picture(&known, (columns, 24), None));
    }
}

#[test]
fn few_rows_count_what_is_done_and_what_is_to_come() {
    let mut known = uploading(vec![]);
    known.view.sample(&sample("chunk 387 of 948"));
    shows("frame_upload_few_rows", &picture(&known, (80, 7), None));
}

#[test]
fn states_that_are_no_failure() {
    let mut known = uploading(vec![]);
    if let Some(job) = &mut known.job {
        job.agent_in_contact = false;
        job.set_cancel(CancelStage::Requested);
    }
    shows("frame_states", &picture(&known, (80, 24), Some(Duration::from_secs(7))));
}

#[test]
fn a_second_attempt_and_an_undo() {
    let failed = |attempt, will_retry| Body::StepFailed {
        step: "upload-iso".into(),
        attempt,
        failure: Failure::default(),
        will_retry,
    };
    let again = Body::StepStarted { step: "upload-iso".into(), attempt: 2 };
    shows("frame_will_retry", &picture(&uploading(vec![failed(1, true)]), (80, 24), None));
    let mut known = uploading(vec![failed(1, true), again.clone()]);
    known.view.sample(&sample(""));
    shows("frame_second_attempt", &picture(&known, (80, 24), None));
    shows("frame_second_attempt_40", &picture(&known, (40, 24), None));
    let undoing = vec![failed(1, true), again, failed(2, false), Body::UndoStarted { step: "upload-iso".into() }];
    shows("frame_undoing", &picture(&uploading(undoing), (80, 24), None));
}

#[test]
fn a_question_with_its_answers_in_all_widths() {
    let choice = |id: &str, text: &str| Choice { id: id.into(), text: text.into() };
    let failure = Failure { message: "a VM named cloudtower-exlab is in the way".into(), ..Failure::default() };
    let choices = vec![choice("look-again", "look once more"), choice("undo", "remove what was made")];
    let mut known = uploading(vec![Body::OperatorNeeded { step: "upload-iso".into(), failure, choices }]);
    if let Some(job) = &mut known.job {
        job.set_state(JobState::NeedsOperator);
    }
    for columns in [80, 40] {
        shows(&format!("frame_question_{columns}"), &picture(&known, (columns, 24), None));
    }
}

#[test]
fn a_job_on_its_way_and_an_order_that_was_refused() {
    let mut known = uploading(vec![]);
    if let Some(job) = &mut known.job {
        (job.moving_to, job.refusal) = ("bj-2".into(), "the disk is full".into());
    }
    let picture = picture(&known, (80, 24), None);
    assert!(picture.contains("on its way to agent bj-2, as soon as agent bj-1 has let go of the job"), "{picture}");
    assert!(picture.contains("refused: the disk is full"), "{picture}");
}

#[test]
fn pictures_in_chinese() {
    let mut known = uploading(vec![]);
    known.view.sample(&sample("chunk 387 of 948"));
    let failure = Failure {
        code: "vm_name_taken".into(),
        message: "a VM named cloudtower-exlab is in the way".into(),
        ..Failure::default()
    };
    let choice = |id: &str, text: &str| Choice { id: id.into(), text: text.into() };
    let choices = vec![choice("look-again", "look once more"), choice("wait", "a word of a newer agent")];
    let mut asks = uploading(vec![Body::OperatorNeeded { step: "upload-iso".into(), failure, choices }]);
    let mut cancelled = uploading(vec![]);
    if let (Some(asks), Some(cancelled)) = (&mut asks.job, &mut cancelled.job) {
        asks.set_state(JobState::NeedsOperator);
        cancelled.agent_in_contact = false;
        cancelled.set_cancel(CancelStage::Requested);
        cancelled.moving_to = "bj-2".into();
    }
    within(Lang::Zh, || {
        for columns in [80, 40] {
            shows(&format!("frame_upload_{columns}_zh"), &picture(&known, (columns, 24), None));
            shows(&format!("frame_question_{columns}_zh"), &picture(&asks, (columns, 24), None));
        }
        shows("frame_states_zh", &picture(&cancelled, (80, 24), Some(Duration::from_secs(7))));
        shows("frame_few_rows_zh", &picture(&known, (80, 7), None));
    });
}

#[test]
fn nothing_is_known_yet() {
    shows("frame_nothing", &picture(&Known::default(), (80, 24), None));
}

#[test]
fn a_sample_that_makes_no_sense_does_no_harm() {
    let mut known = uploading(vec![]);
    let wild = Sample { done: u64::MAX, total: 1, per_second: f64::MAX, text: "\u{1b}[2J".into(), ..sample("") };
    known.view.sample(&wild);
    assert!(picture(&known, (80, 24), None).contains("100 %"));
}
