//! A job that another agent had: by an order over the link, with made-up steps.

use gantry_agent::{config::Settings, joblog::dir_of};
use gantry_proto::{AgentId, Body, Code, Event, JobId, JobOutcome, JobView, TakenOver, sealed::seal, v1};
use v1::{OrderStage, order::Kind};

use crate::{
    bench::{Act, Table, plan, secrets, words},
    controller::{Agent, Controller, Session, joined, order, start_order, surrender_order},
};

/// The last event and the last intent of the agent that had the job.
const LAST: (u64, u64) = (40, 7);

fn take_over(job: JobId, key: &[u8], ip: &str) -> v1::TakeOverJob {
    let agent: AgentId = "a1".parse().unwrap();
    let intent = v1::Intent { step: "b".into(), id: 7, call: "make".into(), detail_json: "{\"name\":\"x\"}".into() };
    let iso = r#"{"path":"/there/a.iso","file_name":"a.iso","size":5}"#;
    let facts = [("ssh_user", "\"me\""), ("iso", iso), ("timings", r#"{"upload_s":3.0}"#)];
    v1::TakeOverJob {
        plan: Some(plan(ip).to_document().unwrap()),
        secrets: Some(seal(&secrets(), job, &agent, key).unwrap()),
        keep_on_failure: false,
        submitted_by: "op".into(),
        last_seq: LAST.0,
        last_intent: LAST.1,
        facts: facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        open_intents: vec![intent],
        undo_only: false,
        from: Some(v1::TakenOver { from_agent: "a0".into(), by: "op".into(), confirmed: true }),
    }
}

struct Lab {
    _dir: tempfile::TempDir,
    table: Table,
    controller: Controller,
    settings: Settings,
    job: JobId,
}

impl Lab {
    async fn new() -> Self {
        let (dir, table, controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
        let settings = joined(dir.path(), &controller);
        Self { _dir: dir, table, controller, settings, job: JobId::new() }
    }

    async fn agent(&mut self, stored: u64) -> (Agent, Session) {
        let agent = Agent::start(&self.settings, self.table.pipeline).await;
        (agent, self.controller.welcomed(stored).await)
    }

    /// The order, in epoch 3.
    fn order(&self, session: &Session, change: impl FnOnce(&mut v1::TakeOverJob)) -> v1::Order {
        let mut take_over = take_over(self.job, &session.hello.sealing_key, "192.0.2.20");
        change(&mut take_over);
        order(20, self.job, 3, Kind::TakeOver(take_over))
    }
}

fn assert_numbered(events: &[Event], from: u64) {
    assert!(events.iter().zip(from..).all(|(event, seq)| event.seq == seq), "{events:#?}");
}

#[tokio::test]
async fn numbers_facts_and_epoch_go_on_where_the_other_agent_was() {
    let mut lab = Lab::new().await;
    lab.table.acts(1, &[Act::Hang, Act::Succeed]);
    let (agent, mut session) = lab.agent(0).await;
    let order = lab.order(&session, |_| {});
    assert_eq!(session.order(order.clone()).await.stage(), OrderStage::Applied);
    let first = session.events().await.unwrap();
    assert_eq!(first.events[0].seq, LAST.0 + 1, "only what is new is sent");
    lab.table.steps[1].hanging.notified().await;
    assert_eq!(session.order(order.clone()).await.stage(), OrderStage::Applied, "twice is once");
    let position = agent.runner.positions()[0].clone();
    assert_eq!((position.epoch, position.finished), (3, false));
    assert!(position.acked_seq >= LAST.0 && position.last_seq > LAST.0);
    assert!(agent.stop().await);

    // A restart goes on with the same numbers.
    let (agent, mut session) = lab.agent(LAST.0).await;
    let seqs = session.until_the_end(lab.job).await;
    assert_eq!(seqs[0], LAST.0 + 1);
    assert_eq!(session.order(order).await.stage(), OrderStage::Done);
    let events = agent.told(lab.job).await;
    assert_numbered(&events, LAST.0 + 1);
    assert!(events.iter().all(|event| event.epoch == 3));
    let Body::JobStarted { kept, taken_over, .. } = &events[0].body else { panic!("{:?}", events[0]) };
    let from = TakenOver { from: "a0".parse().unwrap(), by: "op".into(), confirmed: true };
    assert_eq!((kept.len(), taken_over.as_ref()), (0, Some(&from)));
    let intents: Vec<u64> = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Intent { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(intents, (LAST.1 + 1..).take(intents.len()).collect::<Vec<_>>());
    // What lies on the other agent's disk is forgotten, and that is told.
    let forgotten =
        |event: &Event| matches!(&event.body, Body::Fact { key, value: None, .. } if key == "iso" && event.seq < 45);
    assert!(events.iter().any(forgotten), "{events:#?}");
    let mut view = JobView { last_seq: LAST.0, ..JobView::default() };
    events.iter().for_each(|event| view.apply(event));
    assert_eq!(view.outcome, Some(JobOutcome::Succeeded));
    assert_eq!(view.facts["timings"]["upload_s"], 3.0, "facts that did not change are kept: {:?}", view.facts);
    assert_eq!(lab.table.diary(), ["run a", "run b", "run b", "run c"], "every step is walked");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_that_was_being_undone_walks_no_step() {
    let mut lab = Lab::new().await;
    let (agent, mut session) = lab.agent(0).await;
    let order = lab.order(&session, |order| order.undo_only = true);
    assert_eq!(session.order(order).await.stage(), OrderStage::Applied);
    session.until_the_end(lab.job).await;
    assert_eq!(lab.table.diary(), ["undo c", "undo b", "undo a"]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn what_the_other_agent_may_have_made_is_undone_when_an_early_step_fails() {
    let mut lab = Lab::new().await;
    lab.table.acts(0, &[Act::Hang, Act::Permanent]);
    let (agent, mut session) = lab.agent(0).await;
    let order = lab.order(&session, |_| {});
    session.order(order).await;
    lab.table.steps[0].hanging.notified().await;
    assert!(agent.stop().await);
    let (agent, mut session) = lab.agent(LAST.0).await;
    session.until_the_end(lab.job).await;
    assert_eq!(lab.table.diary(), ["run a", "run a", "undo c", "undo b", "undo a"]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_whose_secrets_are_lost_still_says_where_it_comes_from() {
    let mut lab = Lab::new().await;
    lab.settings.jobs.concurrent = 1;
    lab.table.acts(0, &[Act::Hang]);
    let (agent, mut session) = lab.agent(0).await;
    let key = session.hello.sealing_key.clone();
    session.order(start_order(2, JobId::new(), &key, "192.0.2.30")).await;
    lab.table.steps[0].hanging.notified().await;
    let order = lab.order(&session, |_| {});
    session.order(order).await;
    assert!(agent.stop().await);
    std::fs::remove_file(lab.settings.data_dir.join("identity/sealing.key")).unwrap();
    let (agent, _session) = lab.agent(LAST.0).await;
    agent.until(lab.job, |tail| tail.finished).await;
    let events = agent.told(lab.job).await;
    assert_numbered(&events, LAST.0 + 1);
    assert!(matches!(&events[0].body, Body::JobStarted { taken_over: Some(_), .. }), "{:?}", events[0]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn orders_that_cannot_stand_are_refused() {
    let mut lab = Lab::new().await;
    lab.table.acts(0, &[Act::Hang]);
    lab.settings.jobs.unfinished = 2;
    let (agent, mut session) = lab.agent(0).await;
    let key = session.hello.sealing_key.clone();
    let other = JobId::new();
    session.order(start_order(9, other, &key, "192.0.2.30")).await;
    type Spoil = fn(&mut v1::TakeOverJob);
    let spoiled: [(Code, Spoil); 10] = [
        (Code::BadRequest, |order| order.plan = None),
        (Code::BadRequest, |order| order.plan.as_mut().unwrap().sha256[0] ^= 1),
        (Code::BadRequest, |order| order.secrets = None),
        (Code::BadRequest, |order| order.secrets.as_mut().unwrap().ciphertext[0] ^= 1),
        (Code::BadRequest, |order| order.from = None),
        (Code::BadRequest, |order| order.last_seq = u64::MAX),
        (Code::BadRequest, |order| order.last_intent = 41),
        (Code::BadRequest, |order| drop(order.facts.insert("vm".into(), "7".into()))),
        // Far more than one message used to hold: read, and refused.
        (Code::BadRequest, |order| drop(order.facts.insert("vm".into(), format!("\"{}\"", "x".repeat(2 << 20))))),
        (Code::TargetBusy, |order| order.plan = Some(plan("192.0.2.30").to_document().unwrap())),
    ];
    for (number, (code, spoil)) in spoiled.into_iter().enumerate() {
        let order = lab.order(&session, spoil);
        let update = session.order(order).await;
        assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, code.word()), "{number}");
        assert!(!update.message.is_empty() && !dir_of(&lab.settings, lab.job).exists(), "{number}");
    }
    let no_epoch = v1::Order { epoch: 0, ..lab.order(&session, |_| {}) };
    assert_eq!(session.order(no_epoch).await.code, Code::BadRequest.word());
    // One that is at work here is not taken over, in no epoch.
    let take_over = take_over(other, &key, "192.0.2.30");
    for epoch in [1, 2] {
        let update = session.order(order(19, other, epoch, Kind::TakeOver(take_over.clone()))).await;
        assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, Code::JobConflict.word()));
    }
    session.order(start_order(10, JobId::new(), &key, "192.0.2.40")).await;
    let order = lab.order(&session, |_| {});
    assert_eq!(session.order(order).await.code, Code::Busy.word());
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_may_come_back() {
    let mut lab = Lab::new().await;
    lab.table.acts(1, &[Act::Hang, Act::Succeed]);
    let (agent, mut session) = lab.agent(0).await;
    let key = session.hello.sealing_key.clone();
    session.order(start_order(9, lab.job, &key, "192.0.2.20")).await;
    lab.table.steps[1].hanging.notified().await;
    session.order(surrender_order(10, lab.job, "a2")).await;
    session.until_the_end(lab.job).await;
    let (first, mark) = (agent.told(lab.job).await, dir_of(&lab.settings, lab.job).join("mark"));
    std::fs::write(&mark, "of the first time").unwrap();
    let same_epoch = v1::Order { epoch: 1, ..lab.order(&session, |_| {}) };
    assert_eq!(session.order(same_epoch).await.code, Code::JobConflict.word());
    let order = lab.order(&session, |_| {});
    assert_eq!(session.order(order.clone()).await.stage(), OrderStage::Applied);
    let seqs = session.until_the_end(lab.job).await;
    assert_eq!(seqs, (LAST.0 + 1..).take(seqs.len()).collect::<Vec<_>>(), "in the same session, each once");
    assert!(!mark.exists(), "only what the order carries is kept");
    assert_eq!(*words(&first).last().unwrap(), "surrendered to a2");
    let second = words(&agent.told(lab.job).await);
    assert_eq!((second[0].as_str(), second.last().unwrap().as_str()), ("started", "finished Succeeded Nothing"));
    assert_eq!(session.order(order).await.stage(), OrderStage::Done);
    assert!(agent.stop().await);
}
