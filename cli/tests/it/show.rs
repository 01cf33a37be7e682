//! Lists, pages and documents.

use gantry_proto::{
    UndoState,
    v1::{self, JobState},
};
use serde_json::json;

use crate::{
    fake::Fake,
    log,
    run::{command, ctl, finish},
};

#[tokio::test]
async fn a_page_about_a_job_that_failed() {
    let fake = Fake::with(log::failing(UndoState::RollbackIncomplete), JobState::Failed).await;
    let ran = ctl(fake.home(), &["show", "3f2a1b0c"]).await;
    insta::assert_snapshot!("show_failed", ran.all());
    let asked = fake.state.lock().unwrap().watched.clone();
    assert!(asked.iter().all(|request| request.no_follow && request.after_seq == 0));
}

#[tokio::test]
async fn a_page_about_a_job_that_went_well() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    insta::assert_snapshot!("show_success", ctl(fake.home(), &["show", log::JOB]).await.all());
    let document = ctl(fake.home(), &["show", log::JOB, "-o", "json"]).await.json();
    assert_eq!(document["view"]["facts"]["image"]["uuid"], "b0d3c1a9");
    assert_eq!(document["job"]["state"], "succeeded");
    assert!(document.get("plan").is_some());
}

#[tokio::test]
async fn jobs_as_a_table_as_json_and_as_lines() {
    let fake = Fake::with(log::success()[..5].to_vec(), JobState::Running).await;
    let ran = ctl(fake.home(), &["jobs", "--active", "--site", "beijing"]).await;
    assert_eq!(ran.code, 0);
    let row = ran.out.lines().nth(1).unwrap();
    for word in ["3f2a1b0c", "running", "42 %", "upload-iso", "bj-1", "cloudtower-exlab", "192.0.2.20"] {
        assert!(row.contains(word), "{word}: {row}");
    }
    let asked = fake.state.lock().unwrap().listed[0].clone();
    assert_eq!((asked.site.as_str(), asked.active_only, asked.limit), ("beijing", true, 100));
    let document = ctl(fake.home(), &["jobs", "-o", "json"]).await.json();
    assert_eq!(document["jobs"][0]["job_id"], log::JOB);
    let line = ctl(fake.home(), &["jobs", "-o", "ndjson"]).await.json();
    assert_eq!(line["state"], "running");
}

#[tokio::test]
async fn a_part_of_an_id_is_found_on_any_page() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    let newer =
        (0..2300).map(|n| v1::Job { job_id: format!("01976f2e-0000-7000-8000-{n:012x}"), ..Default::default() });
    let mut all: Vec<_> = newer.collect();
    all.append(&mut fake.state.lock().unwrap().jobs);
    fake.state.lock().unwrap().jobs = all;
    assert_eq!(ctl(fake.home(), &["show", "3f2a1b0c"]).await.code, 0);
    assert_eq!(fake.state.lock().unwrap().listed.len(), 3);
}

#[tokio::test]
async fn agents_and_their_isos() {
    let fake = Fake::with(vec![], JobState::Queued).await;
    let ran = ctl(fake.home(), &["agents"]).await;
    insta::assert_snapshot!("agents", ran.all());
    let document = ctl(fake.home(), &["agents", "-o", "json"]).await.json();
    assert_eq!(document["agents"][0]["isos"][0]["version"], "v4.6.2");
    assert_eq!(document["agents"][1]["seen"], json!(null));
}

#[tokio::test]
async fn the_result_is_the_document_of_the_job() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    let ran = ctl(fake.home(), &["result", log::JOB]).await;
    assert!(ran.code == 7 && ran.err.contains("has not ended"), "{ran:?}");
    fake.state.lock().unwrap().result = br#"{"deploy_cloudtower":{"status":"SERVICE_READY"}}"#.to_vec();
    for form in ["table", "json", "ndjson"] {
        let document = ctl(fake.home(), &["result", log::JOB, "-o", form]).await.json();
        assert_eq!(document["deploy_cloudtower"]["status"], "SERVICE_READY");
    }
    fake.state.lock().unwrap().result = b"null".to_vec();
    assert_eq!(ctl(fake.home(), &["result", log::JOB]).await.code, 7);
}

#[tokio::test]
async fn both_versions() {
    let fake = Fake::with(vec![], JobState::Queued).await;
    let ran = ctl(fake.home(), &["version"]).await;
    assert!(ran.code == 0 && ran.out.contains("controller  0.1.0 (protocol 1) at https://"), "{ran:?}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    let mut child = command(fake.home(), &["show", log::JOB]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[tokio::test]
async fn the_environment_chooses_the_profile() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    let empty = tempfile::tempdir().unwrap();
    let mut elsewhere = command(empty.path(), &["jobs"]);
    elsewhere.env("GANTRY_PROFILE", fake.home().join(".config/gantry/ctl.toml"));
    assert_eq!(finish(elsewhere).await.code, 0);
    let mut elsewhere = command(empty.path(), &["jobs"]);
    elsewhere.env("XDG_CONFIG_HOME", fake.home().join(".config"));
    assert_eq!(finish(elsewhere).await.code, 0);
}
