//! A job moves from agent to agent, with agents that the test plays.

use gantry_proto::{
    Body, Code, JobId, JobOutcome, TakenOver, UndoState,
    sealed::SealingKey,
    v1::{self, CancelStage, JobState, open_request::Item as Up, open_response::Item as Down, order::Kind},
};
use gantry_sim::workbook::Workbook;
use serde_json::json;
use tonic::Status;

use crate::{
    agent::{FakeAgent, batch, cancel_accepted, done, finished, hello, started, step, wire},
    lab::{Lab, event_numbers, get, submission, submit, until, watch},
};

type Client = v1::job_service_client::JobServiceClient<tonic::transport::Channel>;

/// Two agents of one site, and a job at the first.
struct Site {
    lab: Lab,
    keys: [SealingKey; 2],
    a: FakeAgent,
    b: FakeAgent,
    client: Client,
    job: JobId,
}

impl Site {
    async fn new() -> Self {
        let (lab, keys) = (Lab::start().await, [SealingKey::generate(), SealingKey::generate()]);
        let a = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&keys[0])).await.unwrap();
        let b = FakeAgent::dial(&lab, &lab.join("b1", "s1").await, hello(&keys[1])).await.unwrap();
        let (mut client, job) = (lab.jobs().await, JobId::new());
        let request = v1::SubmitJobRequest { agent_id: "a1".into(), ..submission(job) };
        submit(&mut client, request).await.unwrap();
        Self { lab, keys, a, b, client, job }
    }

    /// The job has a VM and does not know whether it has another; five events.
    async fn at_work() -> Self {
        let mut site = Self::new().await;
        let start = site.a.order().await;
        site.a.report(start.number, v1::OrderStage::Applied).await;
        let vm = Some(json!({"name": "tower", "uuid": "vm-1"}));
        let fact = Body::Fact { step: "upload-iso".into(), key: "vm".into(), value: vm };
        let intent = |id| Body::Intent {
            step: "upload-iso".into(),
            id,
            call: "create_vm".into(),
            detail: serde_json::Map::new(),
        };
        site.a.tell(site.job, 1, vec![started(), step("upload-iso"), intent(6), intent(7), fact]).await;
        site
    }

    fn wish(&self, to: &str, request: &str) -> v1::MoveJobRequest {
        v1::MoveJobRequest {
            job_id: self.job.to_string(),
            agent_id: to.into(),
            workbook: Workbook::valid().bytes(),
            file_name: "planning.xlsx".into(),
            request_id: request.into(),
            ..Default::default()
        }
    }

    fn vouched(&self, to: &str, request: &str) -> v1::MoveJobRequest {
        v1::MoveJobRequest { old_agent_is_off: true, ..self.wish(to, request) }
    }

    async fn ask(&mut self, wish: v1::MoveJobRequest) -> Result<v1::MoveJobResponse, Status> {
        Ok(self.client.move_job(wish).await?.into_inner())
    }

    async fn job(&mut self) -> v1::Job {
        get(&mut self.client, self.job).await
    }

    async fn cancel(&mut self) -> v1::Job {
        let request = v1::CancelJobRequest { job_id: self.job.to_string(), ..Default::default() };
        self.client.cancel_job(request).await.unwrap().into_inner().job.unwrap()
    }

    async fn dial(&self, agent: &str, epoch: u32, last_seq: u64) -> FakeAgent {
        let (job_id, key) = (self.job.to_string(), &self.keys[usize::from(agent != "a1")]);
        let position = v1::JobPosition { job_id, epoch, last_seq, acked_seq: 0, finished: false };
        let said = v1::Hello { jobs: vec![position], ..hello(key) };
        FakeAgent::dial(&self.lab, &self.lab.join(agent, "s1").await, said).await.unwrap()
    }

    /// Moves the job to the second agent, on the word that the first one is off, and returns the order.
    async fn taken_over(&mut self) -> (v1::Order, v1::TakeOverJob) {
        let wish = self.vouched("b1", "m1");
        assert!(self.ask(wish).await.unwrap().moved);
        take_over(&mut self.b).await
    }
}

async fn take_over(agent: &mut FakeAgent) -> (v1::Order, v1::TakeOverJob) {
    let order = agent.order().await;
    match order.kind.clone() {
        Some(Kind::TakeOver(taken)) => (order, taken),
        other => panic!("no take-over but {other:?}"),
    }
}

fn surrendered() -> Body {
    Body::Surrendered { by: "admin".into(), to: "b1".parse().unwrap() }
}

fn begun_by(agent: &str, from: &str, confirmed: bool) -> Body {
    let Body::JobStarted { agent_version, steps, kept, .. } = started() else { unreachable!() };
    let taken_over = Some(TakenOver { from: from.parse().unwrap(), by: "admin".into(), confirmed });
    Body::JobStarted { agent: agent.parse().unwrap(), agent_version, steps, kept, taken_over }
}

fn code(answer: Result<v1::MoveJobResponse, Status>) -> (Code, String) {
    let refused = answer.unwrap_err();
    (Code::of(&refused).unwrap(), refused.message().to_owned())
}

#[tokio::test]
async fn a_job_moves_when_its_agent_has_let_go_and_not_before() {
    let mut site = Site::at_work().await;
    let mut stream = watch(&mut site.client, site.job, 5).await;
    for _ in 0..2 {
        let wish = site.wish("b1", "m1");
        let answer = site.ask(wish).await.unwrap();
        let job = answer.job.unwrap();
        assert_eq!((answer.moved, job.agent_id.as_str(), job.moving_to.as_str()), (false, "a1", "b1"));
    }
    until(&mut stream, |job| job.moving_to == "b1").await;
    let again = site.wish("b1", "m2");
    assert!(!site.ask(again).await.unwrap().moved, "it is asked for already");
    let order = site.a.order().await;
    let Some(Kind::Surrender(surrender)) = &order.kind else { panic!("no surrender") };
    assert_eq!((order.number, surrender.by.as_str(), surrender.to_agent.as_str()), (2, "admin", "b1"));
    let pause = v1::PauseJobRequest { job_id: site.job.to_string(), ..Default::default() };
    let refused = site.client.pause_job(pause).await.unwrap_err();
    assert!(refused.message().contains("on its way to agent b1"), "{refused:?}");

    site.a.report(order.number, v1::OrderStage::Applied).await;
    assert_eq!(site.a.tell(site.job, 6, vec![surrendered()]).await, 6, "its last event is acknowledged");
    let job = site.job().await;
    assert_eq!((job.state(), job.epoch, job.agent_id.as_str()), (JobState::Queued, 2, "b1"));
    assert_eq!((job.last_seq, job.moving_to.as_str(), job.agent_in_contact), (6, "", true));

    let (order, taken) = take_over(&mut site.b).await;
    assert_eq!((order.epoch, order.number, taken.last_seq, taken.last_intent), (2, 1, 6, 7));
    assert_eq!(taken.facts.get("vm").map(String::as_str), Some(r#"{"name":"tower","uuid":"vm-1"}"#));
    assert_eq!(
        taken.open_intents.iter().map(|one| (one.id, one.call.as_str())).collect::<Vec<_>>(),
        [(6, "create_vm"), (7, "create_vm")]
    );
    let from = taken.from.unwrap();
    assert_eq!((from.from_agent.as_str(), from.by.as_str(), from.confirmed), ("a1", "admin", true));
    assert!(!taken.undo_only && taken.submitted_by == "admin");
    let secrets = site.keys[1].open(site.job, &site.b.id, &taken.secrets.unwrap()).unwrap();
    assert!(!secrets.root_password.is_empty(), "sealed to the new agent");

    let bodies = vec![begun_by("b1", "a1", true), step("preflight"), done("preflight")];
    site.b.tell_events(site.job, wire(7, 2, bodies)).await;
    until(&mut stream, |job| job.agent_id == "b1" && job.state() == JobState::Running).await;
    site.b.tell_events(site.job, wire(10, 2, vec![finished(JobOutcome::Succeeded)])).await;
    assert_eq!(event_numbers(&mut watch(&mut site.client, site.job, 0).await).await, (1..=10).collect::<Vec<_>>());
    let wish = site.wish("a1", "m9");
    assert_eq!(code(site.ask(wish).await).0, Code::JobState, "it has succeeded");
    site.lab.stop().await;
}

#[tokio::test]
async fn what_cannot_be_moved_is_told_and_nothing_is_stored() {
    let mut site = Site::at_work().await;
    let _far = FakeAgent::dial(&site.lab, &site.lab.join("c1", "s2").await, hello(&site.keys[0])).await.unwrap();
    for (to, wanted, word) in [
        ("a1", Code::BadRequest, "at agent a1 already"),
        ("", Code::BadRequest, "which agent"),
        ("c1", Code::BadRequest, "site \"s2\""),
        ("nobody", Code::AgentUnknown, "never been in contact"),
    ] {
        let wish = site.wish(to, "m1");
        let (code, message) = code(site.ask(wish).await);
        assert_eq!(code, wanted, "{message}");
        assert!(message.contains(word), "{message}");
    }
    let other = Workbook::valid().set("集群管理信息!E3", "127.30.40.99").bytes();
    let wish = v1::MoveJobRequest { workbook: other, ..site.wish("b1", "m1") };
    let (code, message) = code(site.ask(wish).await);
    assert!(code == Code::BadRequest && message.contains("not the workbook that was planned"), "{message}");
    let wish = v1::MoveJobRequest { workbook: b"no workbook".to_vec(), ..site.wish("b1", "m1") };
    assert!(site.ask(wish).await.unwrap().rejected.is_some());
    let job = site.job().await;
    assert_eq!((job.epoch, job.agent_id.as_str(), job.moving_to.as_str()), (1, "a1", ""));
    site.lab.stop().await;
}

#[tokio::test]
async fn a_start_that_was_never_sent_moves_at_once() {
    let (mut lab, key) = (Lab::start().await, SealingKey::generate());
    let a = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    drop(a);
    lab.first_agent_is_gone().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let mut b = FakeAgent::dial(&lab, &lab.join("b1", "s1").await, hello(&key)).await.unwrap();
    let wish = v1::MoveJobRequest {
        job_id: job.to_string(),
        agent_id: "b1".into(),
        workbook: Workbook::valid().bytes(),
        ..Default::default()
    };
    assert!(client.move_job(wish).await.unwrap().into_inner().moved);
    let (_, taken) = take_over(&mut b).await;
    assert_eq!((taken.last_seq, taken.facts.len(), taken.from.unwrap().confirmed), (0, 0, true));
    let mut a = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&key)).await.unwrap();
    let next = JobId::new();
    b.tell_events(job, wire(1, 2, vec![finished(JobOutcome::Failed)])).await;
    let request = v1::SubmitJobRequest { agent_id: "a1".into(), ..submission(next) };
    submit(&mut client, request).await.unwrap();
    assert_eq!(a.order().await.job_id, next.to_string(), "the withdrawn start never comes");
    lab.stop().await;
}

#[tokio::test]
async fn on_the_word_that_its_agent_is_off_a_job_moves_at_once_and_the_agent_hears_it_when_it_is_not() {
    let mut site = Site::at_work().await;
    let (order, taken) = site.taken_over().await;
    let from = taken.from.unwrap();
    assert_eq!((order.epoch, taken.last_seq, from.confirmed), (2, 5, false));
    let told = site.a.hear().await.unwrap();
    assert!(matches!(&told, Some(Down::Goodbye(bye)) if bye.retry_after_ms == 0), "{told:?}");

    let mut a = site.dial("a1", 1, 6).await;
    let place = a.welcome.replay[0].clone();
    assert_eq!((place.moved, place.unknown, place.stored_seq), (true, false, 0));
    // What it tells all the same is not taken, not acknowledged, and no reason to part.
    a.say(Up::Events(batch(site.job, 6, vec![done("upload-iso")]))).await;
    a.say(Up::Events(v1::EventBatch { job_id: JobId::new().to_string(), events: Vec::new() })).await;
    site.b.tell_events(site.job, wire(6, 2, vec![begun_by("b1", "a1", false)])).await;
    let job = site.job().await;
    assert_eq!((job.last_seq, job.state()), (6, JobState::Running));

    // And back to the first agent, which had it in an older epoch.
    let wish = site.wish("a1", "m2");
    assert!(!site.ask(wish).await.unwrap().moved);
    let order = site.b.order().await;
    assert!(matches!(order.kind, Some(Kind::Surrender(_))));
    site.b.tell_events(site.job, wire(7, 2, vec![surrendered()])).await;
    let (order, taken) = take_over(&mut a).await;
    assert_eq!((order.epoch, taken.last_seq), (3, 7));
    drop(a);
    let mut a = site.dial("a1", 1, 6).await;
    assert!(a.welcome.replay[0].moved, "the order is on its way, and the old epoch is over all the same");
    take_over(&mut a).await;
    // Number 6 is here, but it is the other agent's.
    a.say(Up::Events(batch(site.job, 6, vec![done("upload-iso")]))).await;
    a.tell_events(site.job, wire(8, 3, vec![begun_by("a1", "b1", true)])).await;
    a.say(Up::Events(batch(site.job, 5, Vec::new()))).await;
    assert!(matches!(a.hear().await.unwrap(), Some(Down::Ack(ack)) if ack.seq == 8));
    let replayed =
        v1::EventBatch { job_id: site.job.to_string(), events: wire(1, 1, vec![started(), step("upload-iso")]) };
    a.say(Up::Events(replayed)).await;
    assert!(matches!(a.hear().await.unwrap(), Some(Down::Ack(ack)) if ack.seq == 2), "no more than it has");
    site.lab.stop().await;
}

#[tokio::test]
async fn the_word_that_its_agent_is_off_replaces_a_move_that_waits() {
    let mut site = Site::at_work().await;
    let wish = site.wish("b1", "m1");
    site.ask(wish).await.unwrap();
    let _c = FakeAgent::dial(&site.lab, &site.lab.join("c1", "s1").await, hello(&site.keys[0])).await.unwrap();
    let wish = site.wish("c1", "m2");
    let (refused, message) = code(site.ask(wish).await);
    assert!(refused == Code::JobState && message.contains("on its way to agent b1"), "{message}");
    let wish = site.vouched("b1", "m3");
    let answer = site.ask(wish).await.unwrap();
    let job = answer.job.unwrap();
    assert_eq!((answer.moved, job.epoch, job.moving_to.as_str()), (true, 2, ""));
    let (_, taken) = take_over(&mut site.b).await;
    assert!(!taken.from.unwrap().confirmed);
    site.lab.stop().await;
}

#[tokio::test]
async fn a_job_that_ends_first_stays_and_says_so() {
    let mut site = Site::at_work().await;
    let wish = site.wish("b1", "m1");
    site.ask(wish).await.unwrap();
    site.a.order().await;
    site.a.tell(site.job, 6, vec![finished(JobOutcome::Failed)]).await;
    let job = site.job().await;
    assert_eq!((job.state(), job.epoch, job.agent_id.as_str()), (JobState::Failed, 1, "a1"));
    assert!(job.moving_to.is_empty() && job.refusal.contains("ended before agent a1 let go"), "{}", job.refusal);

    // It has ended, so there is nobody to wait for: a retry elsewhere.
    let wish = site.wish("b1", "m2");
    assert!(site.ask(wish).await.unwrap().moved);
    let (order, taken) = take_over(&mut site.b).await;
    let from = taken.from.unwrap();
    assert_eq!((order.epoch, taken.last_seq, taken.undo_only, from.confirmed), (2, 6, false, true));
    assert_eq!(site.job().await.state(), JobState::Queued);
    site.lab.stop().await;
}

#[tokio::test]
async fn an_agent_that_will_not_let_go_keeps_the_job() {
    let mut site = Site::at_work().await;
    let wish = site.wish("b1", "m1");
    site.ask(wish).await.unwrap();
    let order = site.a.order().await;
    site.a.refuse(order.number, "incompatible", "this agent does not know the order").await;
    let job = site.job().await;
    assert_eq!((job.agent_id.as_str(), job.moving_to.as_str()), ("a1", ""));
    assert_eq!(job.refusal, "this agent does not know the order");
    let wish = site.wish("b1", "m2");
    assert!(!site.ask(wish).await.unwrap().moved, "and it may be asked again");
    site.lab.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_that_moves_is_undone_there() {
    let mut site = Site::at_work().await;
    let wish = site.wish("b1", "m1");
    site.ask(wish).await.unwrap();
    assert_eq!(site.cancel().await.cancel(), CancelStage::Requested);
    site.a.order().await;
    let order = site.a.order().await;
    assert!(matches!(order.kind, Some(Kind::Cancel(_))), "the cancel goes to the agent that has it");
    site.a.tell(site.job, 6, vec![surrendered()]).await;
    let (_, taken) = take_over(&mut site.b).await;
    assert!(taken.undo_only);
    let job = site.job().await;
    assert_eq!((job.state(), job.cancel()), (JobState::Queued, CancelStage::Stopped), "no step runs any more");
    let undo = Body::UndoStarted { step: "upload-iso".into() };
    site.b.tell_events(site.job, wire(7, 2, vec![begun_by("b1", "a1", true), undo])).await;
    assert_eq!(site.job().await.cancel(), CancelStage::Stopped);
    site.b.tell_events(site.job, wire(9, 2, vec![finished(JobOutcome::Cancelled)])).await;
    let job = site.job().await;
    assert_eq!((job.state(), job.cancel()), (JobState::Cancelled, CancelStage::Undone));
    site.lab.stop().await;
}

#[tokio::test]
async fn an_undo_goes_on_at_the_next_agent_and_the_one_after_it() {
    let mut site = Site::at_work().await;
    let undo = Body::UndoStarted { step: "upload-iso".into() };
    site.a.tell(site.job, 6, vec![undo]).await;
    let wish = site.wish("b1", "m1");
    site.ask(wish).await.unwrap();
    site.a.order().await;
    site.a.tell(site.job, 7, vec![surrendered()]).await;
    let (order, taken) = take_over(&mut site.b).await;
    assert!(taken.undo_only);
    assert_eq!(site.job().await.cancel(), CancelStage::Unspecified, "nobody has asked for a cancel");
    site.b.refuse(order.number, "busy", "another job has the cluster").await;
    let mut c = FakeAgent::dial(&site.lab, &site.lab.join("c1", "s1").await, hello(&site.keys[0])).await.unwrap();
    let wish = site.wish("c1", "m2");
    assert!(site.ask(wish).await.unwrap().moved, "no agent has it");
    let (order, taken) = take_over(&mut c).await;
    let from = taken.from.unwrap();
    assert_eq!((order.epoch, taken.undo_only), (3, true));
    assert_eq!((from.from_agent.as_str(), from.confirmed), ("a1", true), "the agent that refused never had it");
    site.lab.stop().await;
}

#[tokio::test]
async fn a_refused_take_over_is_told_can_be_asked_again_and_can_be_cancelled() {
    let mut site = Site::at_work().await;
    let (order, _) = site.taken_over().await;
    site.b.refuse(order.number, "sealed_for_another_key", "the secrets do not open").await;
    let job = site.job().await;
    assert_eq!((job.state(), job.agent_id.as_str()), (JobState::Queued, "b1"));
    assert_eq!(job.refusal, "the secrets do not open");

    let wish = site.wish("b1", "m2");
    assert!(site.ask(wish).await.unwrap().moved, "once the cause is gone, the same agent may get it");
    let (order, taken) = take_over(&mut site.b).await;
    let from = taken.from.unwrap();
    assert_eq!((order.epoch, from.from_agent.as_str(), from.confirmed), (3, "a1", false), "the word stays on record");
    site.b.refuse(order.number, "busy", "not now").await;

    let ended = site.cancel().await;
    assert_eq!((ended.state(), ended.undo()), (JobState::Cancelled, v1::UndoState::Incomplete));
    let request = v1::GetJobResultRequest { job_id: site.job.to_string() };
    let result = site.client.get_job_result(request).await.unwrap().into_inner().result_json;
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["deploy_cloudtower"]["leftovers"][0]["id"], "vm-1");
    site.lab.stop().await;
}

#[tokio::test]
async fn a_move_that_nobody_has_taken_yet_outlives_a_restart_and_a_cancel_follows_it() {
    let mut site = Site::at_work().await;
    let wish = site.wish("b1", "m1");
    site.ask(wish).await.unwrap();
    site.a.order().await;
    site.lab.restart().await;
    site.client = site.lab.jobs().await;
    assert_eq!(site.job().await.moving_to, "b1");
    let mut a = site.dial("a1", 1, 5).await;
    assert!(!a.welcome.replay[0].moved);
    assert!(matches!(a.order().await.kind, Some(Kind::Surrender(_))), "never confirmed, so it comes again");
    a.tell(site.job, 6, vec![surrendered()]).await;
    let job = site.job().await;
    assert_eq!((job.agent_id.as_str(), job.agent_in_contact), ("b1", false));
    let job = site.cancel().await;
    assert_eq!((job.state(), job.cancel()), (JobState::Queued, CancelStage::Requested), "who gets it has to undo it");
    let mut b = site.dial("b1", 2, 6).await;
    assert!(matches!(b.order().await.kind, Some(Kind::TakeOver(_))));
    assert!(matches!(b.order().await.kind, Some(Kind::Cancel(_))), "right behind it");
    site.lab.stop().await;
}

#[tokio::test]
async fn a_cancel_of_an_undo_that_moved_is_an_order_to_the_new_agent() {
    let mut site = Site::at_work().await;
    site.cancel().await;
    site.a.order().await;
    site.a.tell(site.job, 6, vec![cancel_accepted()]).await;
    let (_, taken) = site.taken_over().await;
    assert!(taken.undo_only);
    assert_eq!(site.cancel().await.cancel(), CancelStage::Stopped, "a stage that was reached stays");
    assert!(matches!(site.b.order().await.kind, Some(Kind::Cancel(_))));
    site.lab.stop().await;
}

#[tokio::test]
async fn a_sweep_that_was_never_sent_is_a_sweep_at_the_next_agent_too() {
    let mut site = Site::at_work().await;
    let kept = Body::JobFinished {
        outcome: JobOutcome::Failed,
        undo: UndoState::Kept,
        failure: None,
        leftovers: Vec::new(),
        result: serde_json::Value::Null,
    };
    site.a.tell(site.job, 6, vec![kept]).await;
    let mut stream = watch(&mut site.client, site.job, 0).await;
    assert_eq!(event_numbers(&mut stream).await.len(), 6);
    // With the first agent gone the sweep stays where it is.
    let Site { mut lab, keys: _, a, mut b, mut client, job } = site;
    drop(a);
    lab.first_agent_is_gone().await;
    client.sweep_job(v1::SweepJobRequest { job_id: job.to_string(), request_id: "s1".into() }).await.unwrap();
    let wish = v1::MoveJobRequest {
        job_id: job.to_string(),
        agent_id: "b1".into(),
        workbook: Workbook::valid().bytes(),
        ..Default::default()
    };
    assert!(client.move_job(wish).await.unwrap().into_inner().moved);
    let (order, taken) = take_over(&mut b).await;
    let from = taken.from.unwrap();
    assert_eq!((order.epoch, taken.undo_only, from.from_agent.as_str(), from.confirmed), (3, true, "a1", true));
    lab.stop().await;
}
