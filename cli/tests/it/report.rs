//! Reports as an operator gets them.

use std::fs;

use gantry_proto::{Code, UndoState, v1::JobState};
use serde_json::json;

use crate::{fake::Fake, log, run::ctl};

#[tokio::test]
async fn a_report_is_a_page_or_a_document_on_stdout_or_in_a_file() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    let page = ctl(fake.home(), &["report", "3f2a1b0c"]).await;
    assert!(page.code == 0 && page.err.is_empty() && page.out.starts_with("<!DOCTYPE html>"), "{page:?}");
    for words in ["交付报告", "https://192.0.2.20", "cloudtower-exlab"] {
        assert!(page.out.contains(words), "{words}");
    }
    let english = ctl(fake.home(), &["report", "3f2a1b0c", "-o", "html", "--lang", "en"]).await;
    assert!(english.out.contains("<html lang=\"en\">") && english.out.contains("Hand-over report"));

    let document = ctl(fake.home(), &["report", "3f2a1b0c", "-o", "json"]).await.json();
    assert_eq!(document["form"], "gantry.report/1");
    assert_eq!((&document["outcome"], &document["job"]["submitted_by"]), (&json!("succeeded"), &json!("ops")));
    assert_eq!(document["steps"][1]["attempts"], 2);
    assert_eq!(document["attempts"]["entries"][0]["code"], "fisheye_unreliable");
    assert_eq!(document["warnings"]["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(document["versions"]["agents"][0]["version"], "0.1.0");
    assert_eq!(document["licence"]["type"], "TRIAL");
    assert_eq!(document["audit"], json!({"records": [], "reason": null}));
    let line = ctl(fake.home(), &["report", "3f2a1b0c", "-o", "ndjson"]).await;
    assert_eq!(line.out.lines().count(), 1);

    let file = fake.home().join("handover.html");
    let args = ["report", "3f2a1b0c", "--out", file.to_str().unwrap()];
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 0 && ran.out.is_empty() && ran.err.contains("handover.html is written"), "{ran:?}");
    assert!(fs::read_to_string(&file).unwrap().ends_with("</html>\n"));
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 2 && ran.err.contains("is there already"), "{ran:?}");
    assert_eq!(ctl(fake.home(), &[&args[..], &["--force"]].concat()).await.code, 0);
}

#[tokio::test]
async fn a_failure_is_told_with_what_is_left_over() {
    let fake = Fake::with(log::failing(UndoState::RollbackIncomplete), JobState::Failed).await;
    let page = ctl(fake.home(), &["report", "3f2a1b0c", "--lang", "en"]).await.out;
    for words in [
        "chunk 17 of the ISO could not be sent",
        "connection reset by peer",
        "delete the upload volume 5d2f0b6a in Fisheye, Images",
        "something could not be removed and is left over",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[tokio::test]
async fn a_job_that_runs_has_a_report_and_only_reports_are_pages() {
    let fake = Fake::with(log::success()[..5].to_vec(), JobState::Running).await;
    let page = ctl(fake.home(), &["report", "3f2a1b0c", "--lang", "en"]).await;
    assert!(page.code == 0 && page.out.contains("the job has not ended"), "{page:?}");
    let ran = ctl(fake.home(), &["jobs", "-o", "html"]).await;
    assert!(ran.code == 2 && ran.err.contains("only ctl report has the form html"), "{ran:?}");
}

/// The audit log is for admins; a report is for everybody who may see the job.
#[tokio::test]
async fn without_the_right_to_the_audit_log_the_report_says_so() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    fake.state.lock().unwrap().refuse_audit = Some(Code::NotAllowed.status("the audit log is for the role admin"));
    let document = ctl(fake.home(), &["report", "3f2a1b0c", "-o", "json"]).await.json();
    assert_eq!(document["audit"], json!({"records": null, "reason": "the audit log is for the role admin"}));
    let page = ctl(fake.home(), &["report", "3f2a1b0c", "--lang", "en"]).await.out;
    assert!(page.contains("not part of this report: the audit log is for the role admin"));
}
