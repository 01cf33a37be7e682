//! Pause, resume, retry and sweep at the controller, with an agent that the test plays.

use gantry_proto::{
    Body, Code, Failure, JobId, JobOutcome, UndoState,
    sealed::SealingKey,
    v1::{self, JobState, StepFate, order::Kind},
};
use gantry_sim::workbook::Workbook;

use crate::{
    agent::{FakeAgent, done, hello, started, step, wire},
    lab::{Lab, event_numbers, get, submission, submit, watch},
};

type Client = v1::job_service_client::JobServiceClient<tonic::transport::Channel>;

/// A job that failed in its second step, and what it had made was kept.
async fn failed_and_kept() -> (Lab, FakeAgent, SealingKey, Client, JobId) {
    let (lab, key) = (Lab::start().await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let start = agent.order().await;
    agent.report(start.number, v1::OrderStage::Applied).await;
    let failure = Failure { code: "x".into(), ..Failure::default() };
    let failed = Body::StepFailed { step: "upload-iso".into(), attempt: 1, failure, will_retry: false };
    agent.tell(job, 1, vec![started(), step("preflight"), done("preflight"), step("upload-iso"), failed]).await;
    agent.tell(job, 6, vec![ended(UndoState::Kept)]).await;
    assert_eq!(get(&mut client, job).await.state(), JobState::Failed);
    (lab, agent, key, client, job)
}

fn ended(undo: UndoState) -> Body {
    let (outcome, failure) = (JobOutcome::Failed, Some(Failure::default()));
    Body::JobFinished { outcome, undo, failure, leftovers: Vec::new(), result: serde_json::Value::Null }
}

fn retry(job: JobId) -> v1::RetryJobRequest {
    v1::RetryJobRequest { job_id: job.to_string(), request_id: "r1".into(), ..Default::default() }
}

#[tokio::test]
async fn a_pause_is_claimed_only_when_the_agent_says_so() {
    let (mut lab, key) = (Lab::start().await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    agent.order().await;
    agent.tell(job, 1, vec![started(), step("preflight")]).await;
    let request = v1::PauseJobRequest { job_id: job.to_string(), reason: "the line".into(), request_id: "p1".into() };
    for _ in 0..2 {
        let paused = client.pause_job(request.clone()).await.unwrap().into_inner().job.unwrap();
        assert_eq!(paused.state(), JobState::Running, "nothing is claimed");
    }
    let order = agent.order().await;
    let Some(Kind::Pause(pause)) = &order.kind else { panic!("no pause") };
    assert_eq!((order.number, pause.by.as_str(), pause.reason.as_str()), (2, "admin", "the line"));
    agent.tell(job, 3, vec![done("preflight"), Body::Paused { by: "admin".into(), reason: String::new() }]).await;
    assert_eq!(get(&mut client, job).await.state(), JobState::Paused);
    let request = v1::ResumeJobRequest { job_id: job.to_string(), request_id: "p2".into() };
    client.resume_job(request.clone()).await.unwrap();
    let order = agent.order().await;
    assert!(order.number == 3 && matches!(order.kind, Some(Kind::Resume(_))), "the repeated pause was no order");
    agent.tell(job, 5, vec![Body::Resumed { by: "admin".into() }, ended(UndoState::Nothing)]).await;
    let late = client.resume_job(v1::ResumeJobRequest { request_id: "p3".into(), ..request }).await.unwrap_err();
    assert_eq!(Code::of(&late), Some(Code::JobFinished));
    lab.stop().await;
}

#[tokio::test]
async fn a_refused_pause_is_told_with_the_job() {
    let (mut lab, key) = (Lab::start().await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    agent.order().await;
    agent.tell(job, 1, vec![started()]).await;
    client.pause_job(v1::PauseJobRequest { job_id: job.to_string(), ..Default::default() }).await.unwrap();
    let order = agent.order().await;
    agent.refuse(order.number, "busy", "not now").await;
    assert_eq!(get(&mut client, job).await.refusal, "not now");
    lab.stop().await;
}

#[tokio::test]
async fn a_retry_begins_the_next_epoch_once_and_the_log_goes_on() {
    let (mut lab, mut agent, _key, mut client, job) = failed_and_kept().await;
    let dry = v1::RetryJobRequest { dry_run: true, ..retry(job) };
    let judged = client.retry_job(dry).await.unwrap().into_inner();
    let fates: Vec<StepFate> = judged.steps.iter().map(v1::StepVerdict::fate).collect();
    assert_eq!((fates, judged.accepted), (vec![StepFate::Kept, StepFate::Redone], false));
    assert_eq!(get(&mut client, job).await.epoch, 1, "a dry run changes nothing");

    for _ in 0..2 {
        let answer = client.retry_job(retry(job)).await.unwrap_or_else(|error| panic!("{error}")).into_inner();
        assert!(answer.accepted, "the same request twice is one retry");
    }
    let order = agent.order().await;
    let Some(Kind::Retry(wish)) = &order.kind else { panic!("no retry") };
    assert_eq!((order.epoch, wish.kept.as_slice(), wish.undo_only), (2, &["preflight".to_owned()][..], false));
    assert!(wish.plan.is_none() && wish.secrets.is_none() && !wish.keep_on_failure);
    let queued = get(&mut client, job).await;
    assert_eq!((queued.state(), queued.epoch, queued.last_seq, queued.outcome), (JobState::Queued, 2, 6, 0));

    let mut stream = watch(&mut client, job, 6).await;
    let Body::JobStarted { agent: id, agent_version, steps, .. } = started() else { unreachable!() };
    let again = Body::JobStarted { agent: id, agent_version, steps, kept: vec!["preflight".into()], taken_over: None };
    let finished = crate::agent::finished(JobOutcome::Succeeded);
    let events = wire(7, 2, vec![again, step("upload-iso"), done("upload-iso"), finished]);
    agent.tell_events(job, events).await;
    assert_eq!(event_numbers(&mut stream).await, [7, 8, 9, 10]);
    let ended = get(&mut client, job).await;
    assert_eq!((ended.state(), ended.percent), (JobState::Succeeded, 100.0));
    let done = client.retry_job(v1::RetryJobRequest { request_id: "r2".into(), ..retry(job) }).await.unwrap_err();
    assert_eq!(Code::of(&done), Some(Code::JobState));
    lab.stop().await;
}

#[tokio::test]
async fn a_retry_that_the_agent_refuses_leaves_the_job_as_it_was() {
    let (mut lab, mut agent, _key, mut client, job) = failed_and_kept().await;
    client.retry_job(retry(job)).await.unwrap();
    let order = agent.order().await;
    agent.refuse(order.number, "job_not_found", "the agent no longer has this job").await;
    let back = get(&mut client, job).await;
    assert_eq!((back.state(), back.epoch, back.undo()), (JobState::Failed, 1, v1::UndoState::Kept));
    assert_eq!(back.refusal, "the agent no longer has this job");
    let again = v1::RetryJobRequest { request_id: "r2".into(), ..retry(job) };
    assert!(client.retry_job(again).await.unwrap().into_inner().accepted, "and it may be asked for again");
    lab.stop().await;
}

#[tokio::test]
async fn a_corrected_workbook_is_sealed_anew_and_a_step_in_its_way_is_named() {
    let (mut lab, mut agent, key, mut client, job) = failed_and_kept().await;
    let with = |workbook: Vec<u8>| v1::RetryJobRequest { workbook, file_name: "new.xlsx".into(), ..retry(job) };
    let unreadable = client.retry_job(with(b"no workbook".to_vec())).await.unwrap().into_inner();
    assert!(unreadable.rejected.is_some() && !unreadable.accepted);

    let corrected = Workbook::valid().set("集群管理信息!G3", "An#ther9Pass").bytes();
    let answer = client.retry_job(with(corrected)).await.unwrap().into_inner();
    assert!(answer.accepted, "{answer:?}");
    let order = agent.order().await;
    let Some(Kind::Retry(wish)) = &order.kind else { panic!("no retry") };
    let secrets = key.open(job, &agent.id, wish.secrets.as_ref().unwrap()).unwrap();
    assert_eq!(secrets.root_password.expose(), "An#ther9Pass");
    assert_eq!(get(&mut client, job).await.file_name, "new.xlsx");
    lab.stop().await;
}

#[tokio::test]
async fn a_sweep_is_for_what_was_left_and_nothing_else() {
    let (mut lab, mut agent, _key, mut client, job) = failed_and_kept().await;
    let request = v1::SweepJobRequest { job_id: job.to_string(), request_id: "s1".into() };
    let swept = client.sweep_job(request.clone()).await.unwrap().into_inner().job.unwrap();
    assert_eq!((swept.state(), swept.epoch), (JobState::Queued, 2));
    let order = agent.order().await;
    let Some(Kind::Retry(wish)) = &order.kind else { panic!("no sweep") };
    assert!(wish.undo_only && wish.kept.is_empty());
    let events = wire(7, 2, vec![started(), ended(UndoState::RolledBack)]);
    agent.tell_events(job, events).await;
    assert_eq!(get(&mut client, job).await.undo(), v1::UndoState::RolledBack);
    let nothing = v1::SweepJobRequest { request_id: "s2".into(), ..request };
    assert_eq!(Code::of(&client.sweep_job(nothing).await.unwrap_err()), Some(Code::JobState));
    lab.stop().await;
}
