//! A job that cannot decide, with an agent that the test plays.

use gantry_proto::{
    Body, Choice, Code, Failure, JobId,
    sealed::SealingKey,
    v1::{self, JobState, order::Kind},
};

use crate::{
    agent::{FakeAgent, hello, started, step},
    lab::{Lab, get, submission, submit, until, watch},
};

type Client = v1::job_service_client::JobServiceClient<tonic::transport::Channel>;

/// A job whose event 3 asks.
async fn asking() -> (Lab, FakeAgent, Client, JobId) {
    let (lab, key) = (Lab::start().await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let start = agent.order().await;
    agent.report(start.number, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight"), asked()]).await;
    (lab, agent, client, job)
}

fn asked() -> Body {
    let choice = |id: &str, text: &str| Choice { id: id.into(), text: text.into() };
    let failure = Failure { code: "vm_name_taken".into(), message: "a VM is in the way".into(), ..Failure::default() };
    let choices = vec![choice("look-again", "look again"), choice("undo", "remove what was made")];
    Body::OperatorNeeded { step: "preflight".into(), failure, choices }
}

fn decided(question: u64) -> Body {
    Body::OperatorDecided { question, choice: "look-again".into(), by: "admin".into(), reason: String::new() }
}

fn decide(job: JobId, request: &str) -> v1::DecideJobRequest {
    v1::DecideJobRequest {
        job_id: job.to_string(),
        choice: "look-again".into(),
        question: 0,
        reason: "it is gone".into(),
        request_id: request.into(),
    }
}

#[tokio::test]
async fn a_question_is_told_answered_once_and_gone_when_the_agent_goes_by_the_answer() {
    let (mut lab, mut agent, mut client, job) = asking().await;
    let waits = get(&mut client, job).await;
    let question = waits.question.clone().unwrap();
    assert_eq!((waits.state(), question.seq, question.step.as_str()), (JobState::NeedsOperator, 3, "preflight"));
    assert_eq!(question.failure.unwrap().message, "a VM is in the way");
    assert_eq!(question.choices.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["look-again", "undo"]);

    for _ in 0..2 {
        let answered = client.decide_job(decide(job, "d1")).await.unwrap().into_inner().job.unwrap();
        assert_eq!(answered.state(), JobState::NeedsOperator, "nothing is claimed, and the same request is one answer");
    }
    let second = client.decide_job(decide(job, "d2")).await.unwrap_err();
    assert_eq!(Code::of(&second), Some(Code::JobState));
    assert!(second.message().contains("answered already"), "{second:?}");

    let order = agent.order().await;
    let Some(Kind::Decide(decision)) = order.kind else { panic!("no decision") };
    let told = (decision.question, decision.choice.as_str(), decision.by.as_str(), decision.reason.as_str());
    assert_eq!((order.number, told), (2, (3, "look-again", "admin", "it is gone")));
    agent.report(order.number, v1::OrderStage::Done).await;
    let late = client.decide_job(decide(job, "d3")).await.unwrap_err();
    assert!(late.message().contains("answered already"), "done, but the event is not here yet: {late:?}");

    agent.tell(job, 4, vec![decided(3)]).await;
    let on = get(&mut client, job).await;
    assert_eq!((on.state(), on.question), (JobState::Running, None));
    assert!(client.decide_job(decide(job, "d1")).await.is_ok(), "its answer was lost");
    let nothing = client.decide_job(decide(job, "d4")).await.unwrap_err();
    assert!(nothing.message().contains("does not wait for an operator"), "{nothing:?}");

    agent.tell(job, 5, vec![asked()]).await;
    let old = v1::DecideJobRequest { question: 3, ..decide(job, "d5") };
    assert!(client.decide_job(old).await.unwrap_err().message().contains("question 5 is"));
    let new = v1::DecideJobRequest { question: 5, ..decide(job, "d6") };
    assert!(client.decide_job(new).await.is_ok(), "the answer to an older question is none to this one");
    lab.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_named_or_nobody_wants_is_refused() {
    let (mut lab, mut agent, mut client, job) = asking().await;
    let wrong = v1::DecideJobRequest { choice: "guess".into(), ..decide(job, "d1") };
    let refused = client.decide_job(wrong).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::JobState));
    assert!(refused.message().contains("look-again (look again), undo (remove what was made)"), "{refused:?}");

    let request = v1::CancelJobRequest { job_id: job.to_string(), ..Default::default() };
    client.cancel_job(request).await.unwrap();
    let cancelled = client.decide_job(decide(job, "d2")).await.unwrap_err();
    assert!(cancelled.message().contains("was cancelled"), "{cancelled:?}");
    agent.order().await;
    agent.tell(job, 4, vec![crate::agent::finished(gantry_proto::JobOutcome::Cancelled)]).await;
    let ended = client.decide_job(decide(job, "d3")).await.unwrap_err();
    assert_eq!(Code::of(&ended), Some(Code::JobFinished));
    lab.stop().await;
}

#[tokio::test]
async fn a_refused_answer_is_told_and_another_may_follow() {
    let (mut lab, mut agent, mut client, job) = asking().await;
    let mut stream = watch(&mut client, job, 3).await;
    client.decide_job(decide(job, "d1")).await.unwrap();
    let order = agent.order().await;
    agent.refuse(order.number, "job_state", "the disk is full").await;
    let told = until(&mut stream, |job| !job.refusal.is_empty()).await;
    assert_eq!((told.refusal.as_str(), told.state()), ("the disk is full", JobState::NeedsOperator));
    let again = client.decide_job(decide(job, "d2")).await.unwrap().into_inner().job.unwrap();
    assert_eq!(again.refusal, "", "the newest order is not refused");
    assert!(matches!(agent.order().await.kind, Some(Kind::Decide(_))));
    lab.stop().await;
}

#[tokio::test]
async fn a_question_outlives_a_restart() {
    let (mut lab, agent, client, job) = asking().await;
    drop((agent, client));
    lab.restart().await;
    let mut client = lab.jobs().await;
    assert_eq!(get(&mut client, job).await.question.unwrap().seq, 3);
    let listed = client.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(listed[0].question.as_ref().map(|question| question.seq), Some(3));
    lab.stop().await;
}
