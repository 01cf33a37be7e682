//! Following a job: what is told, in which form, with which exit code, and over a line that breaks.

use std::process::Stdio;

use gantry_proto::{
    Code, UndoState,
    v1::{self, JobState},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::Status;

use crate::{
    fake::{Fake, Watch},
    log,
    run::{command, ctl},
};

/// The numbers of the events in lines of JSON.
fn numbers(text: &str) -> Vec<u64> {
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line.get("seq").and_then(serde_json::Value::as_u64)).collect()
}

#[tokio::test]
async fn a_job_that_goes_well_in_lines() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    // Told once for ten percent or half a minute, whatever comes.
    fake.state.lock().unwrap().samples =
        (0..100).map(|n| log::sample(n * 40, 1_924_999_500 + i64::try_from(n).unwrap() / 10)).collect();
    let ran = ctl(fake.home(), &["watch", "3f2a1b0c"]).await;
    insta::assert_snapshot!("lines_success", ran.all());
}

#[tokio::test]
async fn a_job_that_fails_and_is_undone() {
    let fake = Fake::with(log::failing(UndoState::RolledBack), JobState::Running).await;
    insta::assert_snapshot!("lines_failed", ctl(fake.home(), &["watch", log::JOB]).await.all());
}

#[tokio::test]
async fn a_job_that_leaves_something() {
    let fake = Fake::with(log::failing(UndoState::RollbackIncomplete), JobState::Running).await;
    insta::assert_snapshot!("lines_leftovers", ctl(fake.home(), &["watch", log::JOB]).await.all());
}

#[tokio::test]
async fn a_job_that_is_cancelled() {
    let fake = Fake::with(log::cancelled(UndoState::RolledBack), JobState::Running).await;
    insta::assert_snapshot!("lines_cancelled", ctl(fake.home(), &["watch", log::JOB]).await.all());
}

#[tokio::test]
async fn exit_codes_follow_the_outcome() {
    for (events, code) in [
        (log::success(), 0),
        (log::failing(UndoState::RolledBack), 4),
        (log::failing(UndoState::Kept), 4),
        (log::failing(UndoState::RollbackIncomplete), 5),
        (log::cancelled(UndoState::RolledBack), 130),
        (log::cancelled(UndoState::RollbackIncomplete), 5),
    ] {
        let fake = Fake::with(events, JobState::Running).await;
        for form in ["table", "json", "ndjson"] {
            let ran = ctl(fake.home(), &["watch", log::JOB, "-o", form]).await;
            assert_eq!(ran.code, code, "{form}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_it_began_has_no_events() {
    let fake = Fake::with(vec![], JobState::Cancelled).await;
    assert_eq!(ctl(fake.home(), &["watch", log::JOB]).await.code, 130);
}

#[tokio::test]
async fn a_job_that_waits_for_an_operator() {
    let fake = Fake::with(log::success()[..5].to_vec(), JobState::NeedsOperator).await;
    let ran = ctl(fake.home(), &["watch", log::JOB]).await;
    assert!(ran.code == 8 && ran.err.contains("waits for an operator"), "{ran:?}");
}

#[tokio::test]
async fn lines_of_json_are_the_events_themselves() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().samples = vec![log::sample(1, 1_924_999_500)];
    let ran = ctl(fake.home(), &["watch", log::JOB, "-o", "ndjson"]).await;
    assert_eq!(numbers(&ran.out), (1..=16).collect::<Vec<_>>());
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = serde_json::to_value(&log::success()[1]).unwrap();
    assert!(lines.contains(&event), "{}", ran.out);
    assert!(lines.iter().any(|line| line["event"] == "sample" && line["unit"] == "bytes"));
    assert!(lines.iter().any(|line| line["event"] == "job" && line["job"]["job_id"] == log::JOB));
}

#[tokio::test]
async fn one_document_at_the_end() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    let ran = ctl(fake.home(), &["watch", log::JOB, "-o", "json"]).await;
    let document = ran.json();
    assert_eq!(document["job"]["job_id"], log::JOB);
    assert_eq!(document["view"]["outcome"], "succeeded");
    assert_eq!(document["view"]["steps"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn from_seq_is_inclusive() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    let ran = ctl(fake.home(), &["watch", log::JOB, "--from-seq", "15", "-o", "ndjson"]).await;
    assert_eq!((ran.code, numbers(&ran.out)), (0, vec![15, 16]));
    let ran = ctl(fake.home(), &["watch", log::JOB, "--from-seq", "15"]).await;
    let told: Vec<_> = ran.err.lines().collect();
    assert_eq!(told.len(), 2, "{}", ran.err);
    assert!(told[0].contains("[4/4] Install CloudTower: done"), "the step table is known all the same: {}", ran.err);
}

#[tokio::test]
async fn a_job_that_ended_long_ago_still_tells_its_whole_log() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    let ran = ctl(fake.home(), &["watch", log::JOB, "-o", "ndjson"]).await;
    assert_eq!((ran.code, numbers(&ran.out)), (0, (1..=16).collect()));
    let ran = ctl(fake.home(), &["watch", log::JOB, "--from-seq", "15", "-o", "ndjson"]).await;
    assert_eq!((ran.code, numbers(&ran.out)), (0, vec![15, 16]));
    let ran = ctl(fake.home(), &["watch", log::JOB, "--from-seq", "99"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[tokio::test]
async fn a_line_that_is_cut_costs_no_event_and_repeats_none() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().script = [Watch::HoldAfter(6), Watch::HoldAfter(9)].into();
    let mut child = command(fake.home(), &["watch", log::JOB, "-o", "ndjson"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = String::new();
    for last in [6, 9] {
        while !numbers(&seen).contains(&last) {
            seen.push_str(&lines.next_line().await.unwrap().expect("more to come"));
            seen.push('\n');
        }
        fake.line.cut();
    }
    while let Some(line) = lines.next_line().await.unwrap() {
        seen.push_str(&line);
        seen.push('\n');
    }
    let output = child.wait_with_output().await.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert_eq!(numbers(&seen), (1..=16).collect::<Vec<_>>());
    assert_eq!(err.matches("the line to the controller broke").count(), 2, "{err}");
    assert!(err.contains("is back; going on after event 9"), "{err}");
    let asked: Vec<_> = fake.watched(3).await.iter().map(|request| request.after_seq).collect();
    assert_eq!(asked, [0, 6, 9]);
}

#[tokio::test]
async fn a_controller_that_restarts_repeats_or_skips_is_borne() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().script = [
        Watch::EndAfter(3, Status::unavailable("going down")),
        Watch::Refuse(Status::unavailable("not up yet")),
        Watch::Skip(7),
        Watch::Repeat,
    ]
    .into();
    let ran = ctl(fake.home(), &["watch", log::JOB, "-o", "ndjson"]).await;
    assert_eq!((ran.code, numbers(&ran.out)), (0, (1..=16).collect::<Vec<_>>()), "{}", ran.err);
    assert!(ran.err.contains("event 7 did not arrive"), "{}", ran.err);
}

#[tokio::test]
async fn a_log_with_a_gap_is_a_defect_and_not_waited_for() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().events.remove(4);
    let ran = ctl(fake.home(), &["watch", log::JOB, "-o", "ndjson"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("event 5 is missing"), "{}", ran.err);
    assert_eq!(numbers(&ran.out), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_refusal_in_the_middle_ends_it() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().script =
        [Watch::EndAfter(3, Status::unavailable("x")), Watch::Refuse(Code::NotAllowed.status("revoked"))].into();
    let ran = ctl(fake.home(), &["watch", log::JOB]).await;
    assert!(ran.code == 7 && ran.err.contains("revoked"), "{ran:?}");
}

#[tokio::test]
async fn an_interrupt_detaches() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().script = [Watch::HoldAfter(5)].into();
    let mut child = command(fake.home(), &["watch", log::JOB]).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("more to come").contains("Upload the CloudTower ISO: begun") {}
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest.push_str(&line);
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert!(rest.contains(&format!("ctl watch {} --from-seq 6", log::JOB)), "{rest}");
}

#[tokio::test]
async fn an_agent_out_of_contact_is_a_state() {
    let fake = Fake::with(log::success(), JobState::Running).await;
    fake.state.lock().unwrap().job.agent_in_contact = false;
    let ran = ctl(fake.home(), &["watch", log::JOB]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("agent bj-1 is out of contact for"), "{}", ran.err);
    assert!(ran.err.contains("the job goes on there"), "{}", ran.err);
}

#[tokio::test]
async fn what_an_agent_says_cannot_steer_the_terminal() {
    let mut events = log::success();
    events[2].body = log::warning(None, "\u{1b}]0;owned\u{7}\u{1b}[2Jhello\r\nworld");
    let fake = Fake::with(events, JobState::Running).await;
    let ran = ctl(fake.home(), &["watch", log::JOB]).await;
    assert!(
        ran.err.contains("hello world") && !ran.err.contains('\u{1b}') && !ran.err.contains('\u{7}'),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn cancel_asks_and_waits() {
    let fake = Fake::with(log::cancelled(UndoState::RolledBack), JobState::Running).await;
    fake.state.lock().unwrap().job.cancel = v1::CancelStage::Requested.into();
    let ran = ctl(fake.home(), &["cancel", "1b0c", "--reason", "wrong VLAN"]).await;
    assert!(ran.code == 0 && ran.out.contains("the agent has not got it yet"), "{ran:?}");
    let asked = fake.state.lock().unwrap().cancelled.clone();
    assert_eq!((asked[0].job_id.as_str(), asked[0].reason.as_str()), (log::JOB, "wrong VLAN"));
    fake.state.lock().unwrap().cut_short = true;
    let ran = ctl(fake.home(), &["cancel", "1b0c"]).await;
    assert!(ran.code == 0 && ran.out.contains("waits for nothing more"), "{ran:?}");
    let asked = fake.state.lock().unwrap().cancelled.clone();
    assert!(!asked[0].request_id.is_empty() && asked[0].request_id != asked[1].request_id, "each wish is its own");
    fake.state.lock().unwrap().cut_short = false;

    let ran = ctl(fake.home(), &["cancel", log::JOB, "--wait"]).await;
    assert!(ran.code == 0 && ran.out.contains("was cancelled"), "{ran:?}");
    assert!(ran.err.contains("undone: removed the unfinished image"), "{}", ran.err);
    let ran = ctl(fake.home(), &["cancel", log::JOB, "--wait", "-o", "json"]).await;
    assert_eq!(ran.json()["view"]["outcome"], "cancelled");
}

#[tokio::test]
async fn cancel_tells_what_is_left_over_and_what_came_too_late() {
    let fake = Fake::with(log::cancelled(UndoState::RollbackIncomplete), JobState::Running).await;
    assert_eq!(ctl(fake.home(), &["cancel", log::JOB, "--wait"]).await.code, 5);
    let ended = v1::Job { cancel: v1::CancelStage::TooLate.into(), ..log::job(JobState::Succeeded, 9) };
    fake.state.lock().unwrap().cancel_answer = Some(ended);
    let ran = ctl(fake.home(), &["cancel", log::JOB]).await;
    assert!(ran.code == 7 && ran.err.contains("cannot be cancelled any more"), "{ran:?}");
}
