//! What is done to a job from its page, and its report: with the rights, the records and the answers of the same calls by
//! gRPC.

use gantry_controller::audit::act;
use gantry_proto::{
    Body, Choice, Failure, JobId, JobOutcome,
    audit::Outcome,
    sealed::SealingKey,
    v1::{self, Role, open_request::Item as Up, order::Kind},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    agent::{FakeAgent, done, finished, hello, started, step},
    lab::{Lab, submission, submit},
    web::{Browser, read, told},
};

/// A job at work, and its agent.
async fn at_work() -> (Lab, FakeAgent, JobId) {
    let lab = Lab::start().await;
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    let order = agent.order().await;
    agent.report(order.number, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight"), done("preflight")]).await;
    (lab, agent, job)
}

#[tokio::test]
async fn a_web_act_needs_the_role_the_site_and_this_page() {
    let (mut lab, _agent, job) = at_work().await;
    lab.admin().await.add_site(v1::AddSiteRequest { site: "s2".into() }).await.unwrap();
    let viewer = Browser::entered(&lab, lab.operator("wang", Role::Viewer, &[]).await).await;
    let other = Browser::entered(&lab, lab.operator("zhao", Role::Operator, &["s2"]).await).await;
    let nobody = Browser::new(&lab);
    let wish = json!({"request_id": "r1", "choice": "undo", "question": 3}).to_string();
    let words = [
        ("pause", act::PAUSE),
        ("resume", act::RESUME),
        ("decide", act::DECIDE),
        ("retry", act::RETRY),
        ("move", act::MOVE),
    ];
    for (name, _) in words {
        let path = format!("web/api/jobs/{job}/{name}");
        let (status, refused) = told(viewer.post(&path).body(wish.clone())).await;
        assert_eq!((status, &refused["code"]), (StatusCode::FORBIDDEN, &json!("not_allowed")), "{name}");
        assert_eq!(told(other.post(&path).body(wish.clone())).await.0, StatusCode::FORBIDDEN, "{name}");
        assert_eq!(told(nobody.post(&path).body(wish.clone())).await.0, StatusCode::UNAUTHORIZED, "{name}");
        let bare = other.dressed(other.client.post(format!("{}/{path}", other.base))).body(wish.clone());
        assert_eq!(told(bare).await.1["code"], "foreign_origin", "{name}");
    }
    let (records, _) = lab.audit().await;
    for (name, word) in words {
        let of = records.iter().filter(|r| r.entry.act == word);
        let of: Vec<_> = of.map(|r| (r.entry.operator.as_str(), r.entry.outcome)).collect();
        let refused = [("wang", Outcome::Refused), ("zhao", Outcome::Refused), ("", Outcome::Refused)];
        assert_eq!(of, refused, "{name}");
    }
    // A report of somebody else's site is not to be had.
    let report = format!("web/api/jobs/{job}/report");
    assert_eq!(told(other.get(&report)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(told(nobody.get(&report)).await.0, StatusCode::UNAUTHORIZED);
    lab.stop().await;
}

#[tokio::test]
async fn a_web_page_holds_answers_and_takes_up_again() {
    let (mut lab, mut agent, job) = at_work().await;
    let li = Browser::entered(&lab, lab.operator("li", Role::Operator, &["s1"]).await).await;
    let post = |name: &str, wish: Value| li.post(&format!("web/api/jobs/{job}/{name}")).body(wish.to_string());
    let (status, _) = told(post("pause", json!({"reason": "the line is needed", "request_id": "p1"}))).await;
    assert_eq!(status, StatusCode::OK);
    let Some(Kind::Pause(pause)) = agent.order().await.kind else { panic!("no pause") };
    assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("li", "the line is needed"));
    agent.tell(job, 4, vec![Body::Paused { by: "li".into(), reason: pause.reason }]).await;
    let (_, answer) = told(post("resume", json!({"request_id": "p2"}))).await;
    assert_eq!(answer["job"]["state"], "paused", "only the agent says that it goes on");
    assert!(matches!(agent.order().await.kind, Some(Kind::Resume(_))));

    let choices = vec![Choice { id: "undo".into(), text: "remove what was made".into() }];
    let failure = Failure { code: "vm_name_taken".into(), message: "a VM is in the way".into(), ..Failure::default() };
    let asks = Body::OperatorNeeded { step: "upload-iso".into(), failure, choices };
    agent.tell(job, 5, vec![Body::Resumed { by: "li".into() }, step("upload-iso"), asks]).await;
    let (status, refused) = told(post("decide", json!({"choice": "undo", "question": 3, "request_id": "d1"}))).await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("job_state")));
    assert!(refused["message"].as_str().unwrap().contains("ctl decide"), "what to do is said: {refused}");
    let (_, answer) = told(post("decide", json!({"choice": "undo", "question": 7, "request_id": "d2"}))).await;
    assert_eq!(answer["job"]["question"]["answered"], true, "{answer}");
    assert!(matches!(agent.order().await.kind, Some(Kind::Decide(_))));

    agent.tell(job, 8, vec![finished(JobOutcome::Failed)]).await;
    let retry = |query: &str| li.post(&format!("web/api/jobs/{job}/retry?{query}"));
    let (_, dry) = told(retry("dry_run=true&request_id=t1")).await;
    let fates: Vec<_> = dry["steps"].as_array().unwrap().iter().map(|step| step["fate"].clone()).collect();
    assert_eq!((fates, &dry["accepted"]), (vec![json!("kept"), json!("redone")], &json!(false)), "{dry}");
    let (_, rejected) = told(retry("request_id=t2&file_name=x.xlsx").body("rubbish")).await;
    assert_eq!((&rejected["verdict"], &rejected["accepted"]), (&json!("unreadable"), &json!(false)), "{rejected}");
    for _ in 0..2 {
        let (_, again) = told(retry("request_id=t3&on_failure=keep")).await;
        assert_eq!((&again["accepted"], &again["job"]["epoch"]), (&json!(true), &json!(2)), "{again}");
        assert_eq!(again["job"]["on_failure"], "keep");
    }
    let (status, nowhere) = told(li.post(&format!("web/api/jobs/{job}/move?agent=a1&request_id=m1"))).await;
    assert_eq!((status, &nowhere["code"]), (StatusCode::BAD_REQUEST, &json!("bad_request")), "{nowhere}");
    let (records, _) = lab.audit().await;
    let done = |word: &str| {
        records
            .iter()
            .filter(|r| r.entry.act == word && r.entry.outcome == Outcome::Done && r.entry.operator == "li")
            .count()
    };
    assert_eq!([act::PAUSE, act::RESUME, act::DECIDE].map(done), [1, 1, 1]);
    assert_eq!(done(act::RETRY), 3, "a look is recorded too");
    lab.stop().await;
}

#[tokio::test]
async fn a_web_report_is_the_one_of_ctl_and_tells_the_audit_log_to_admins_only() {
    let (mut lab, mut agent, job) = at_work().await;
    agent.tell(job, 4, vec![step("upload-iso"), done("upload-iso"), finished(JobOutcome::Succeeded)]).await;
    let admin = Browser::entered(&lab, lab.operator_identity()).await;
    let viewer = Browser::entered(&lab, lab.operator("wang", Role::Viewer, &[]).await).await;
    let path = format!("web/api/jobs/{job}/report");
    for (lang, word) in [("zh", "交付报告"), ("en", "Hand-over report")] {
        let answer = admin.get(&format!("{path}?lang={lang}")).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline';"), "{policy}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let page = answer.text().await.unwrap();
        assert!(page.contains(word) && page.contains("job.submit") && page.contains("127.30.40.20"), "{page}");
    }
    let file = admin.get(&format!("{path}?form=json")).send().await.unwrap();
    let name = file.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert_eq!(name, format!("attachment; filename=\"report-{job}.json\""));
    let document: Value = serde_json::from_str(&file.text().await.unwrap()).unwrap();
    assert_eq!((&document["outcome"], &document["versions"]["ctl"]), (&json!("succeeded"), &Value::Null));
    assert_eq!(document["audit"]["records"][0]["act"], "job.submit", "{}", document["audit"]);
    let (_, less) = told(viewer.get(&format!("{path}?form=json"))).await;
    assert_eq!(less["audit"]["records"], Value::Null);
    assert!(less["audit"]["reason"].as_str().unwrap().contains("role admin"), "{}", less["audit"]);
    lab.stop().await;
}

#[tokio::test]
async fn a_web_page_that_is_opened_late_hears_how_fast_it_was_before() {
    let (mut lab, mut agent, job) = at_work().await;
    let browser = Browser::entered(&lab, lab.operator_identity()).await;
    agent.tell(job, 4, vec![step("upload-iso")]).await;
    for second in 1..=3_i64 {
        let sample = v1::Sample {
            job_id: job.to_string(),
            step: "upload-iso".into(),
            at_micros: second * 2_000_000,
            unit: "bytes".into(),
            per_second: 1000.0 * second as f64,
            ..Default::default()
        };
        agent.say(Up::Sample(sample)).await;
    }
    // Answered in order: the samples have come before.
    agent.tell(job, 5, vec![Body::Paused { by: "li".into(), reason: String::new() }]).await;
    let path = format!("web/api/jobs/{job}/events");
    let heard = read(browser.get(&path).send().await.unwrap(), "view").await;
    assert_eq!((heard[0].0.as_str(), heard[1].0.as_str()), ("job", "speeds"));
    let points = heard[1].2["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["per_second"].as_f64().unwrap()).collect::<Vec<_>>(), [1e3, 2e3, 3e3]);
    assert_eq!(points[0]["at"], "1970-01-01T00:00:02Z");
    // Nothing of it is kept when the job has ended.
    agent.tell(job, 6, vec![finished(JobOutcome::Failed)]).await;
    let ended = read(browser.get(&path).send().await.unwrap(), "never").await;
    assert!(ended.iter().all(|line| line.0 != "speeds"));
    lab.stop().await;
}
