//! Jobs from submit to result, with an agent that the test plays.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use gantry_proto::{
    Body, Code, JobId, JobOutcome, Secret,
    redact::Redactor,
    sealed::SealingKey,
    v1::{self, open_request::Item as Up, watch_job_response::Item},
};
use gantry_sim::workbook::Workbook;
use tokio::task::JoinSet;

use crate::{
    agent::{FakeAgent, cancel_accepted, done, finished, hello, started, step},
    lab::{Lab, event_numbers, get, next, soon, submission, submission_of, submit, until, watch},
};

const CLOUDTOWER_IP: &str = "127.30.40.20";

async fn lab_with_agent() -> (Lab, FakeAgent, SealingKey) {
    let (lab, key) = (Lab::start().await, SealingKey::generate());
    let agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    (lab, agent, key)
}

#[tokio::test]
async fn a_workbook_becomes_a_job_and_the_job_a_result() {
    let (mut lab, mut agent, key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    let accepted = submit(&mut client, submission(job)).await.unwrap();
    let stored = accepted.job.unwrap();
    assert!(!accepted.already_known);
    assert_eq!((stored.state(), stored.agent_id.as_str(), stored.site.as_str()), (v1::JobState::Queued, "a1", "s1"));
    assert_eq!((stored.cloudtower_ip.as_str(), stored.submitted_by.as_str()), (CLOUDTOWER_IP, "admin"));

    let order = agent.order().await;
    let Some(v1::order::Kind::Start(start)) = order.kind else { panic!("no start") };
    let secrets = key.open(job, &agent.id, start.secrets.as_ref().unwrap()).unwrap();
    assert!(!secrets.root_password.is_empty());
    let plan = gantry_proto::Plan::from_document(start.plan.as_ref().unwrap()).unwrap();
    assert_eq!(plan.cloudtower.ip.to_string(), CLOUDTOWER_IP);
    assert_eq!(start.submitted_by, "admin");
    let early = client.get_job_result(v1::GetJobResultRequest { job_id: job.to_string() }).await.unwrap_err();
    assert_eq!(Code::of(&early), Some(Code::JobNotFinished));

    agent.report(order.number, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight"), done("preflight"), step("upload-iso")]).await;
    let running = get(&mut client, job).await;
    assert_eq!((running.state(), running.percent, running.last_seq), (v1::JobState::Running, 25.0, 4));
    assert_eq!(running.current_step, "upload-iso");
    let request = v1::GetJobRequest { job_id: job.short() };
    let by_end = client.get_job(request).await.unwrap().into_inner();
    assert_eq!(by_end.plan.unwrap().sha256, start.plan.unwrap().sha256);

    agent.tell(job, 5, vec![done("upload-iso"), finished(JobOutcome::Succeeded)]).await;
    let answer = client.get_job_result(v1::GetJobResultRequest { job_id: job.to_string() }).await.unwrap().into_inner();
    assert_eq!(answer.job.unwrap().state(), v1::JobState::Succeeded);
    assert!(String::from_utf8(answer.result_json).unwrap().contains(CLOUDTOWER_IP));
    let jobs = client.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 1);
    lab.stop().await;
}

#[tokio::test]
async fn the_same_submit_twice_is_one_job_and_another_plan_is_refused() {
    let (mut lab, _agent, _key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    assert!(!submit(&mut client, submission(job)).await.unwrap().already_known);
    lab.restart().await;
    let mut client = lab.jobs().await;
    assert!(submit(&mut client, submission(job)).await.unwrap().already_known);
    let other = Workbook::valid().set("集群管理信息!E3", "127.30.40.77");
    let refused = submit(&mut client, submission_of(job, &other)).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::JobConflict));
    let busy = submit(&mut client, submission(JobId::new())).await.unwrap_err();
    assert_eq!(Code::of(&busy), Some(Code::TargetBusy));
    assert!(busy.message().contains(&job.to_string()), "{busy:?}");
    lab.stop().await;
}

#[tokio::test]
async fn a_bad_workbook_stores_nothing() {
    let (mut lab, _agent, _key) = lab_with_agent().await;
    let mut client = lab.jobs().await;
    let bad = Workbook::valid().clear("集群管理信息!E3");
    for (workbook, verdict) in
        [(bad.bytes(), v1::PlanVerdict::Invalid), (b"no workbook".to_vec(), v1::PlanVerdict::Unreadable)]
    {
        let request = v1::SubmitJobRequest { workbook: workbook.clone(), ..submission(JobId::new()) };
        let answer = client.submit_job(request).await.unwrap().into_inner();
        let Some(v1::submit_job_response::Outcome::Rejected(rejected)) = answer.outcome else { panic!("accepted") };
        assert_eq!(rejected.verdict(), verdict);
        assert!(!rejected.problems.is_empty());
        let checked = client.check_plan(v1::CheckPlanRequest { workbook, ..Default::default() }).await.unwrap();
        assert_eq!(checked.into_inner().verdict(), verdict);
    }
    assert!(client.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs.is_empty());
    lab.stop().await;
}

#[tokio::test]
async fn a_workbook_or_an_id_beyond_the_bounds_is_refused() {
    let mut lab = Lab::with(|config| config.limits.workbook_bytes = 1 << 20).await;
    let mut client = lab.jobs().await;
    let request = v1::SubmitJobRequest { workbook: vec![0; (1 << 20) + 1], ..submission(JobId::new()) };
    let refused = client.submit_job(request).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::BadRequest));
    let request = v1::SubmitJobRequest { job_id: "1".into(), ..submission(JobId::new()) };
    assert_eq!(Code::of(&client.submit_job(request).await.unwrap_err()), Some(Code::BadRequest));
    let overrides = (0..500).map(|n| (n.to_string(), String::new())).collect();
    let request = v1::SubmitJobRequest { overrides, ..submission(JobId::new()) };
    assert_eq!(Code::of(&client.submit_job(request).await.unwrap_err()), Some(Code::BadRequest));
    for (job_id, code) in [("", Code::BadRequest), ("%", Code::BadRequest), ("ffffffff", Code::JobNotFound)] {
        let refused = client.get_job(v1::GetJobRequest { job_id: job_id.into() }).await.unwrap_err();
        assert_eq!(Code::of(&refused), Some(code), "{job_id}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn the_agent_is_chosen_or_the_choice_is_told() {
    let mut lab = Lab::start().await;
    let mut client = lab.jobs().await;
    let nobody = submit(&mut client, submission(JobId::new())).await.unwrap_err();
    assert_eq!(Code::of(&nobody), Some(Code::NoAgent));
    let key = SealingKey::generate();
    let iso =
        v1::IsoFile { name: "cloudtower-v0.0.1.oe1.x86_64.iso".into(), version: "v0.0.1".into(), ..Default::default() };
    let said = v1::Hello { isos: vec![iso], ..hello(&key) };
    let _a = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, said).await.unwrap();
    let _b = FakeAgent::dial(&lab, &lab.join("b1", "s2").await, hello(&key)).await.unwrap();
    let ambiguous = submit(&mut client, submission(JobId::new())).await.unwrap_err();
    assert_eq!(Code::of(&ambiguous), Some(Code::AgentAmbiguous));
    assert!(ambiguous.message().contains("a1") && ambiguous.message().contains("b1"), "{ambiguous:?}");
    let request = v1::SubmitJobRequest { agent_id: "nobody".into(), ..submission(JobId::new()) };
    assert_eq!(Code::of(&submit(&mut client, request).await.unwrap_err()), Some(Code::AgentUnknown));
    let request = v1::SubmitJobRequest { site: "s9".into(), ..submission(JobId::new()) };
    assert_eq!(Code::of(&submit(&mut client, request).await.unwrap_err()), Some(Code::NoAgent));

    let workbook = Workbook::valid();
    let request = v1::SubmitJobRequest {
        site: "s1".into(),
        on_failure: v1::OnFailure::Keep.into(),
        ..submission_of(JobId::new(), &workbook)
    };
    let accepted = submit(&mut client, request).await.unwrap();
    let job = accepted.job.unwrap();
    assert_eq!((job.agent_id.as_str(), job.on_failure()), ("a1", v1::OnFailure::Keep));
    lab.stop().await;
}

#[tokio::test]
async fn a_watch_from_any_number_sees_each_event_once_while_they_arrive() {
    const EVENTS: u64 = 300;
    let (mut lab, mut agent, _key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    agent.order().await;
    agent.tell(job, 1, vec![started()]).await;
    let mut watchers = JoinSet::new();
    for after in [0, 1, 7, 150, EVENTS, EVENTS + 500] {
        let mut stream = watch(&mut client, job, after).await;
        watchers.spawn(async move { (after, event_numbers(&mut stream).await) });
    }
    let mut seq = 2;
    while seq < EVENTS {
        let bodies: Vec<Body> = (seq..EVENTS.min(seq + 9)).map(|_| step("preflight")).collect();
        seq = agent.tell(job, seq, bodies).await + 1;
    }
    agent.tell(job, EVENTS, vec![finished(JobOutcome::Succeeded)]).await;
    while let Some(seen) = soon("watchers", watchers.join_next()).await {
        let (after, numbers) = seen.unwrap();
        assert_eq!(numbers, (after + 1..=EVENTS).collect::<Vec<_>>(), "after {after}");
    }
    let mut stored = watch(&mut client, job, 290).await;
    assert_eq!(event_numbers(&mut stored).await, (291..=300).collect::<Vec<_>>());
    lab.stop().await;
}

#[tokio::test]
async fn a_watch_shows_contact_samples_and_the_end() {
    let (mut lab, mut agent, _key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let mut stream = watch(&mut client, job, 0).await;
    let Some(Item::Job(first)) = next(&mut stream).await else { panic!("the job comes first") };
    assert!(first.agent_in_contact && first.state() == v1::JobState::Queued);
    agent.order().await;
    agent.tell(job, 1, vec![started(), step("preflight"), done("preflight"), step("upload-iso")]).await;
    let sample =
        v1::Sample { job_id: job.to_string(), step: "upload-iso".into(), done: 50, total: 100, ..Default::default() };
    agent.say(Up::Sample(sample.clone())).await;
    loop {
        if let Item::Sample(seen) = next(&mut stream).await.unwrap() {
            assert_eq!(seen, sample);
            break;
        }
    }
    let known = get(&mut client, job).await;
    assert_eq!(known.percent, 62.5);
    let learned: Vec<(&str, u32)> = known.expected.iter().map(|time| (time.step.as_str(), time.runs)).collect();
    assert_eq!(learned, [("preflight", 1)], "what a step took is known to those who follow");
    drop(agent);
    until(&mut stream, |job| !job.agent_in_contact).await;

    let now = v1::WatchJobRequest { job_id: job.to_string(), after_seq: 2, no_follow: true };
    let mut now = client.watch_job(now).await.unwrap().into_inner();
    assert_eq!(event_numbers(&mut now).await, [3, 4]);
    lab.shut();
    let ended = loop {
        match soon("end", stream.message()).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(Code::of(&ended.unwrap_err()), Some(Code::Busy));
    drop((stream, now, client));
    lab.stop().await;
}

#[tokio::test]
async fn too_many_watchers_are_told_so() {
    let mut lab = Lab::with(|config| config.limits.watchers = 1).await;
    let _agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let first = watch(&mut client, job, 0).await;
    let request = v1::WatchJobRequest { job_id: job.to_string(), ..Default::default() };
    let refused = client.watch_job(request.clone()).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::Busy));
    drop(first);
    soon("a free place", async {
        while client.watch_job(request.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    lab.stop().await;
}

#[tokio::test]
async fn a_cancel_tells_its_stages_as_they_are_reached() {
    let (mut lab, mut agent, _key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let start = agent.order().await;
    agent.report(start.number, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight")]).await;
    let mut stream = watch(&mut client, job, 0).await;
    let request =
        v1::CancelJobRequest { job_id: job.to_string(), reason: "wrong night".into(), request_id: "r1".into() };
    for _ in 0..2 {
        let answer = client.cancel_job(request.clone()).await.unwrap().into_inner().job.unwrap();
        assert_eq!(answer.cancel(), v1::CancelStage::Requested);
    }
    let order = agent.order().await;
    let Some(v1::order::Kind::Cancel(wish)) = order.kind else { panic!("no cancel") };
    assert_eq!((order.number, wish.by.as_str(), wish.reason.as_str()), (2, "admin", "wrong night"));
    agent.report(order.number, v1::OrderStage::Delivered).await;
    until(&mut stream, |job| job.cancel() == v1::CancelStage::Delivered).await;
    agent.tell(job, 3, vec![cancel_accepted()]).await;
    assert_eq!(get(&mut client, job).await.cancel(), v1::CancelStage::Delivered, "a step is still running");
    agent.tell(job, 4, vec![done("preflight"), Body::UndoStarted { step: "preflight".into() }]).await;
    until(&mut stream, |job| job.cancel() == v1::CancelStage::Stopped).await;
    agent.tell(job, 6, vec![finished(JobOutcome::Cancelled)]).await;
    let end = until(&mut stream, |job| job.cancel() == v1::CancelStage::Undone).await;
    assert_eq!(end.state(), v1::JobState::Cancelled);
    assert!(next(&mut stream).await.is_none());
    let again = client.cancel_job(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(again.cancel(), v1::CancelStage::Undone);
    lab.stop().await;
}

#[tokio::test]
async fn a_job_whose_agent_never_got_the_start_is_cancelled_at_once() {
    let (mut lab, agent, key) = lab_with_agent().await;
    drop(agent);
    lab.first_agent_is_gone().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let request = v1::CancelJobRequest { job_id: job.to_string(), reason: String::new(), request_id: String::new() };
    let cancelled = client.cancel_job(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!((cancelled.state(), cancelled.cancel()), (v1::JobState::Cancelled, v1::CancelStage::Undone));
    let mut stream = watch(&mut client, job, 0).await;
    assert_eq!(event_numbers(&mut stream).await, [1]);
    let result = client.get_job_result(v1::GetJobResultRequest { job_id: job.to_string() }).await.unwrap().into_inner();
    let result: serde_json::Value = serde_json::from_slice(&result.result_json).unwrap();
    assert_eq!(result["deploy_cloudtower"]["error"]["code"], "cancelled");
    assert_eq!(result["deploy_cloudtower"]["ip"], CLOUDTOWER_IP);

    // The agent that comes back hears nothing of it; the target is free again.
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let next_job = JobId::new();
    submit(&mut client, submission(next_job)).await.unwrap();
    assert_eq!(agent.order().await.job_id, next_job.to_string());
    lab.stop().await;
}

#[tokio::test]
async fn a_start_that_was_sent_is_cancelled_by_the_agent_and_both_orders_come_again_in_order() {
    let (mut lab, mut agent, key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    agent.order().await;
    // The line breaks before the agent could confirm anything.
    drop(agent);
    let request = v1::CancelJobRequest { job_id: job.to_string(), reason: String::new(), request_id: String::new() };
    let asked = client.cancel_job(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!((asked.state(), asked.cancel()), (v1::JobState::Queued, v1::CancelStage::Requested));
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let (first, second) = (agent.order().await, agent.order().await);
    assert!(matches!(first.kind, Some(v1::order::Kind::Start(_))));
    assert!(matches!(second.kind, Some(v1::order::Kind::Cancel(_))));
    agent.tell(job, 1, vec![started(), cancel_accepted(), finished(JobOutcome::Cancelled)]).await;
    assert_eq!(get(&mut client, job).await.cancel(), v1::CancelStage::Undone);
    lab.stop().await;
}

#[tokio::test]
async fn a_refused_start_fails_the_job_with_the_agents_words() {
    let (mut lab, mut agent, _key) = lab_with_agent().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let mut stream = watch(&mut client, job, 0).await;
    let order = agent.order().await;
    let update = v1::OrderUpdate {
        number: order.number,
        stage: v1::OrderStage::Refused.into(),
        code: "sealed_for_another_key".into(),
        message: "the secrets do not open".into(),
    };
    agent.say(Up::OrderUpdate(update)).await;
    let failed = until(&mut stream, |job| job.state() == v1::JobState::Failed).await;
    let failure = failed.failure.unwrap();
    assert_eq!(failure.code, "sealed_for_another_key");
    assert!(failure.message.contains("the secrets do not open") && !failure.remedy.is_empty());
    lab.stop().await;
}

#[tokio::test]
async fn no_secret_of_the_workbook_is_in_any_file() {
    const CANARIES: [(&str, &str); 3] = [
        ("集群管理信息!G3", "Canary-Tower-81f3!"),
        ("主机规划!M19", "Canary-Fisheye-2b77!"),
        ("集群管理信息!I3", "Canary-Guest-c09e!"),
    ];
    let (mut lab, mut agent, key) = lab_with_agent().await;
    let workbook = CANARIES.iter().fold(Workbook::valid(), |book, (cell, value)| book.set(cell, *value));
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission_of(job, &workbook)).await.unwrap();
    let order = agent.order().await;
    let Some(v1::order::Kind::Start(start)) = order.kind else { panic!("no start") };
    let secrets = key.open(job, &agent.id, &start.secrets.unwrap()).unwrap();
    assert_eq!(secrets.root_password.expose(), CANARIES[0].1, "the canaries are the secrets");
    let bad = workbook.clear("集群管理信息!E3");
    client.submit_job(submission_of(JobId::new(), &bad)).await.unwrap();
    agent.tell(job, 1, vec![started(), finished(JobOutcome::Failed)]).await;

    let finder = Redactor::new();
    CANARIES.iter().for_each(|(_, value)| finder.register(&Secret::new(*value)));
    let searched = search(&lab.config.data, &finder);
    lab.stop().await;
    assert!(searched + search(&lab.config.data, &finder) > 10);
}

/// Looks into every file; how many there were.
fn search(dir: &Path, finder: &Redactor) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += search(&path, finder);
            continue;
        }
        files += 1;
        let private = !matches!(path.extension().and_then(|end| end.to_str()), Some("pem" | "toml"));
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert!(!private || mode == 0o600, "{} is open to others: {mode:o}", path.display());
        let bytes = fs::read(&path).unwrap();
        let found = finder.bytes(&bytes).contains(gantry_proto::REDACTED);
        assert!(!found, "a secret is in {}", path.display());
    }
    files
}
