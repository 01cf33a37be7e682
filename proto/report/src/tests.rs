//! Reports of logs made by hand, and of everything that somebody could put into one.

use gantry_proto::{StepInfo, result::JobResult};

use super::*;

const HOSTILE: &str = "</td><script>alert('\"x\"')</script><img src=x onerror=alert(1)>\u{202e}&amp;";

fn numbered(bodies: Vec<(u32, Body)>) -> Vec<Event> {
    let at = |seq: u64| Timestamp::from_second(1_800_000_000 + 10 * seq as i64).unwrap();
    bodies.into_iter().zip(1..).map(|((epoch, body), seq)| Event { seq, epoch, at: at(seq), body }).collect()
}

fn begun(kept: &[&str]) -> Body {
    let info = |(id, title): (&str, &str)| StepInfo { id: id.into(), title: title.into(), weight: 1, attempts: 2 };
    Body::JobStarted {
        agent: "bj-1".parse().unwrap(),
        agent_version: "0.1.0".into(),
        steps: [("upload-iso", "Upload the CloudTower ISO"), ("novel", "Something new")].map(info).to_vec(),
        kept: kept.iter().map(|id| (*id).into()).collect(),
        taken_over: None,
    }
}

fn failure(message: &str) -> Failure {
    Failure { code: "stalled".into(), message: message.into(), causes: vec![message.into()], ..Failure::default() }
}

fn note(level: Level, code: &str, message: &str) -> Body {
    let step = Some("upload-iso".into());
    Body::Note { step, level, code: code.into(), message: message.into(), extra: Map::new() }
}

fn started(step: &str, attempt: u32) -> Body {
    Body::StepStarted { step: step.into(), attempt }
}

fn done(step: &str) -> Body {
    Body::StepSucceeded { step: step.into(), elapsed_ms: 0 }
}

fn result() -> Value {
    let mut result = json!(JobResult::default());
    result["deploy_cloudtower"]["status"] = json!("SERVICE_READY");
    result["deploy_cloudtower"]["base_url"] = json!("https://192.0.2.20");
    result["deploy_cloudtower"]["timings"] = json!({"upload_s": 40.5, "total_s": 2800.0, "installer_s": null});
    result["deploy_cloudtower"]["cloudtower"]["license"] = json!({"license_serial": "7f2d7a0e", "type": "TRIAL"});
    result["check_cluster_healthy"] = json!({"status": "SUCCESS", "path": "/reports/health.pdf"});
    result["cloudtower_config"] = json!({"status": "SUCCESS", "operations": [
        {"name": "storage policy", "result": "made", "detail": {"id": "p-1"}},
        {"name": "alert", "result": "skipped"},
    ]});
    result["brand_new_stage"] = json!({"password": "hunter2hunter2", "deep": {"er": ["a", "b"]}});
    result
}

/// A retry, a second epoch in which the first step is kept, and everything that a job may tell.
fn events(text: &str) -> Vec<Event> {
    let left = Leftover { kind: "volume".into(), id: text.into(), name: text.into(), remedy: text.into() };
    let fact = json!({"image_uuid": text, "name": text, "state": "uploaded"});
    numbered(vec![
        (1, begun(&[])),
        (1, started("upload-iso", 1)),
        (1, note(Level::Warning, "chunk_retry", text)),
        (1, Body::StepFailed { step: "upload-iso".into(), attempt: 1, failure: failure(text), will_retry: true }),
        (1, started("upload-iso", 2)),
        (1, note(Level::Warning, "slow", text)),
        (1, Body::Fact { step: "upload-iso".into(), key: "image".into(), value: Some(fact) }),
        (1, done("upload-iso")),
        (1, Body::CancelAccepted { by: text.into(), reason: text.into() }),
        (2, begun(&["upload-iso"])),
        (2, started("novel", 1)),
        (2, done("novel")),
        (
            2,
            Body::JobFinished {
                outcome: JobOutcome::Succeeded,
                undo: UndoState::Nothing,
                failure: None,
                leftovers: vec![left],
                result: result(),
            },
        ),
    ])
}

fn report(events: Vec<Event>, text: &str) -> Report {
    let job = v1::Job {
        job_id: "01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c".into(),
        submitted_by: text.into(),
        file_name: text.into(),
        cluster: text.into(),
        vm_name: text.into(),
        created_micros: 1_800_000_000_000_000,
        ..Default::default()
    };
    let (view, job) = (JobView::of(&events), Some(job));
    let audit = Err(format!("role viewer {text}"));
    let (controller, ctl) = ("0.1.0".into(), Some("0.1.0"));
    let made = Timestamp::from_second(1_800_001_000).unwrap();
    let material = Material { events, view, job, plan: None, audit, controller, ctl, made };
    Report::of(material, &Redactor::new())
}

#[test]
fn attempts_of_all_epochs_count_and_retries_are_no_warnings() {
    let report = json!(report(events("text"), "ops"));
    let step = &report["steps"][0];
    assert_eq!((&step["attempts"], &step["seconds"], &step["state"]), (&json!(2), &json!(50.0), &json!("done")));
    assert_eq!(report["attempts"]["entries"].as_array().unwrap().len(), 2);
    assert_eq!(report["warnings"]["entries"].as_array().unwrap().len(), 1);
    assert_eq!(report["timings"]["phases"], json!({"total_s": 2800.0, "upload_s": 40.5}));
    assert_eq!(report["timings"]["within_goal"], json!(false));
    assert_eq!(report["versions"]["agents"][1]["epoch"], json!(2));
    assert_eq!(report["licence"]["license_serial"], json!("7f2d7a0e"));
    assert_eq!(report["health"]["status"], json!("SUCCESS"));
    assert_eq!(report["objects"][0]["id"], json!("text"));
    let acts = report["acts"]["entries"].as_array().unwrap();
    assert_eq!(
        acts.iter().map(|act| act["act"].as_str().unwrap()).collect::<Vec<_>>(),
        ["submit", "start", "cancel", "start"]
    );
}

#[test]
fn stages_that_nobody_knows_yet_are_shown_and_secrets_are_not() {
    let report = report(events("text"), "ops");
    for page in [page(&report, Lang::En), json!(report).to_string()] {
        for shown in ["brand_new_stage", "storage policy", "p-1", "/reports/health.pdf", "机密凭据", "Something new"]
        {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(!page.contains("hunter2"));
    }
    assert_eq!(json!(report)["stages"]["brand_new_stage"]["deep"]["er"][1], "b");
    let page = page(&report, Lang::En);
    assert!(page.contains("Cluster attached") || page.contains("CloudTower configured"));
}

#[test]
fn hostile_values_stay_text() {
    let report = report(events(HOSTILE), HOSTILE);
    for lang in [Lang::Zh, Lang::En] {
        let page = page(&report, lang);
        for bad in ["<script", "<img", "\u{202e}", "</td><script"] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.matches("&lt;script&gt;alert(&#39;&quot;x&quot;&#39;)&lt;/script&gt;").count() > 10);
        assert!(page.contains("&amp;amp;"));
        // Nothing is fetched, nothing is run.
        for word in ["http-equiv=\"Content-Security-Policy\"", "default-src 'none'"] {
            assert!(page.contains(word));
        }
        for word in ["<link", "src=\"", "href=", "url(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}

#[test]
fn every_tag_is_closed() {
    for report in [report(events("text"), "ops"), report(Vec::new(), "")] {
        let page = page(&report, Lang::Zh);
        for tag in
            ["html", "head", "body", "main", "section", "table", "thead", "tbody", "tr", "td", "h2", "h3", "p", "code"]
        {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}

#[test]
fn the_languages_differ_in_words_only() {
    let report = report(events("text"), "ops");
    let (zh, en) = (page(&report, Lang::Zh), page(&report, Lang::En));
    for (chinese, english) in [
        ("交付报告", "Hand-over report"),
        ("上传 CloudTower ISO", "Upload the CloudTower ISO"),
        ("超过 45 分钟目标", "longer than"),
    ] {
        assert!(zh.contains(chinese) && !en.contains(chinese), "{chinese}");
        assert!(en.contains(english) && !zh.contains(english), "{english}");
    }
    assert_eq!(zh.matches("<tr>").count(), en.matches("<tr>").count());
}

#[test]
fn a_job_that_has_not_begun_has_a_report_and_long_logs_are_cut() {
    let none = report(Vec::new(), "ops");
    assert!(page(&none, Lang::En).contains("the job has not ended"));
    assert_eq!(json!(none)["outcome"], Value::Null);

    // The end of an older epoch is not the end of a job that was taken up again.
    let events = events("text");
    let job = v1::Job { epoch: 3, last_seq: 13, ..Default::default() };
    let (view, job) = (JobView::of(&events), Some(job));
    let (controller, made) = (String::new(), Timestamp::UNIX_EPOCH);
    let material = Material { events, view, job, plan: None, audit: Ok(Vec::new()), controller, ctl: None, made };
    assert_eq!(json!(Report::of(material, &Redactor::new()))["outcome"], Value::Null);

    let many = (0..ENTRIES_MAX + 3).map(|n| (1, note(Level::Warning, "slow", &format!("number {n}."))));
    let many = report(numbered(many.collect()), "ops");
    assert_eq!((many.warnings.entries.len(), many.warnings.left_out), (ENTRIES_MAX, 3));
    let page = page(&many, Lang::En);
    assert!(page.contains("older entries left out: 3") && page.contains("number 3.") && !page.contains("number 2."));
}
