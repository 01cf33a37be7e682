//! Submitting a job: once, whatever happens to the answer.

use gantry_proto::v1::{self, JobState};
use serde_json::json;

use crate::{fake::Fake, log, run::ctl};

/// A fake and a file to deploy; only the controller's planner looks into it.
async fn ready() -> (Fake, String) {
    let fake = Fake::with(log::success(), JobState::Queued).await;
    let file = fake.home().join("planning.xlsx");
    std::fs::write(&file, "the workbook's bytes").unwrap();
    let file = file.to_str().unwrap().to_owned();
    (fake, file)
}

#[tokio::test]
async fn a_job_is_stored_and_followed_later() {
    let (fake, file) = ready().await;
    let args = ["deploy", &file, "--agent", "bj-1", "--set", "organization=A=B", "--on-failure", "keep"];
    let ran = ctl(fake.home(), &args).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let state = fake.state.lock().unwrap();
    let sent = &state.submitted[0];
    assert_eq!((sent.workbook.as_slice(), sent.file_name.as_str()), (&b"the workbook's bytes"[..], "planning.xlsx"));
    assert_eq!((sent.agent_id.as_str(), sent.on_failure()), ("bj-1", v1::OnFailure::Keep));
    assert_eq!(sent.overrides.get("organization").map(String::as_str), Some("A=B"));
    assert!(sent.job_id.parse::<gantry_proto::JobId>().is_ok());
    assert!(ran.out.contains(&format!("ctl watch {}", sent.job_id)), "{}", ran.out);
    assert!(state.watched.is_empty());
    assert!(state.traceparent.as_ref().is_some_and(|trace| trace.starts_with("00-")), "the trace begins here");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_id() {
    let (fake, file) = ready().await;
    fake.state.lock().unwrap().lose_answers = 2;
    let ran = ctl(fake.home(), &["deploy", &file, "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let sent: Vec<_> = fake.state.lock().unwrap().submitted.iter().map(|request| request.job_id.clone()).collect();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|id| *id == sent[0]), "{sent:?}");
    let answer = ran.json();
    assert_eq!((&answer["job"]["job_id"], &answer["already_known"]), (&json!(sent[0]), &json!(true)));
}

#[tokio::test]
async fn an_answer_that_never_comes_leaves_the_operator_a_way() {
    let (fake, file) = ready().await;
    fake.state.lock().unwrap().lose_answers = u32::MAX;
    let ran = ctl(fake.home(), &["deploy", &file, "--job-id", log::JOB]).await;
    assert_eq!((ran.code, ran.out.as_str()), (6, ""), "{ran:?}");
    assert!(ran.err.contains("it is not known whether job"), "{}", ran.err);
    assert!(ran.err.contains(&format!("--job-id {}", log::JOB)), "{}", ran.err);
    assert_eq!(fake.state.lock().unwrap().submitted.len(), 6);
}

#[tokio::test]
async fn watching_goes_on_to_the_end() {
    let (fake, file) = ready().await;
    let ran = ctl(fake.home(), &["deploy", &file, "--watch", "--job-id", log::JOB]).await;
    assert!(ran.code == 0 && ran.out.contains("CloudTower is ready: https://192.0.2.20"), "{ran:?}");
    let ran = ctl(fake.home(), &["deploy", &file, "--watch", "-o", "json", "--job-id", log::JOB]).await;
    let document = ran.json();
    assert_eq!((&document["view"]["outcome"], &document["problems"]), (&json!("succeeded"), &json!([])));
}

#[tokio::test]
async fn a_rejected_workbook_reads_like_plan_check() {
    let (fake, file) = ready().await;
    let problem = |severity: v1::Severity, cell: &str, remedy: &str| v1::Problem {
        severity: severity.into(),
        code: "not_in_subnet".into(),
        rule: "W8".into(),
        sheet: "集群管理信息".into(),
        cell: cell.into(),
        related: vec!["虚拟网络!H4".into()],
        label: "IP地址, Cloudtower".into(),
        value: Some("198.51.100.20".into()),
        message: "expected an address in 192.0.2.0/24 other than .0 and .255".into(),
        remedy: remedy.into(),
    };
    let problems =
        vec![problem(v1::Severity::Error, "E3", "take a free one"), problem(v1::Severity::Warning, "E4", "")];
    let rejected = v1::PlanRejected { verdict: v1::PlanVerdict::Invalid.into(), problems };
    fake.state.lock().unwrap().reject = Some(rejected);
    let ran = ctl(fake.home(), &["deploy", &file, "--watch"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    insta::assert_snapshot!("rejected", ran.out);
    let document = ctl(fake.home(), &["deploy", &file, "-o", "json"]).await.json();
    assert_eq!((&document["outcome"], &document["plan"]), (&json!("invalid"), &json!(null)));
    assert_eq!(document["problems"][0]["cell"], "E3");
}
