//! A job that goes to another agent: by an order to let go of it, and by the controller's word that another one has it.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use gantry_agent::{
    config::Settings,
    diff::Diff,
    facts::Facts,
    joblog::dir_of,
    journal::{FILE_NAME, Record, decode},
    pipeline::Pipeline,
    step::{Step, StepCx, StepError},
};
use gantry_proto::{
    Body, Code, JobId, StepInfo,
    event::{Extra, IntentResult},
    v1,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use v1::{OrderStage, open_request::Item as In, order::Kind};

use crate::{
    bench::{Act, Table, Undo, failure, words},
    controller::{Agent, Controller, Session, cancel_order, joined, order, start_order, surrender_order},
};

/// Long enough for a job that does not wait to begin.
const SOON: Duration = Duration::from_millis(150);

/// An agent with a job whose second step hangs.
struct Lab {
    dir: tempfile::TempDir,
    table: Table,
    controller: Controller,
    settings: Settings,
    job: JobId,
}

impl Lab {
    async fn new() -> Self {
        let (dir, table, controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
        table.acts(1, &[Act::Hang]);
        let settings = joined(dir.path(), &controller);
        Self { dir, table, controller, settings, job: JobId::new() }
    }

    async fn agent(&self) -> Agent {
        Agent::start(&self.settings, self.table.pipeline).await
    }

    /// The job hangs in its second step.
    async fn hanging(&mut self) -> (Agent, Session) {
        let agent = self.agent().await;
        let mut session = self.controller.welcomed(0).await;
        let key = session.hello.sealing_key.clone();
        session.order(start_order(1, self.job, &key, "192.0.2.20")).await;
        self.table.steps[1].hanging.notified().await;
        (agent, session)
    }

    fn journal(&self) -> std::path::PathBuf {
        dir_of(&self.settings, self.job).join(FILE_NAME)
    }
}

fn records(path: &Path) -> Vec<Record> {
    fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').map(|line| decode(line).unwrap()).collect()
}

async fn refused(session: &mut Session, order: v1::Order, code: Code, says: &str) {
    let update = session.order(order).await;
    assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, code.word()), "{}", update.message);
    assert!(update.message.contains(says), "{}", update.message);
}

#[tokio::test]
async fn a_job_is_let_go_of_in_the_middle_of_a_step_and_is_over_then() {
    let mut lab = Lab::new().await;
    let (agent, mut session) = lab.hanging().await;
    let job = lab.job;
    assert_eq!(session.order(surrender_order(2, job, "a2")).await.stage(), OrderStage::Applied);
    session.until_the_end(job).await;
    let done = [session.update().await, session.update().await].map(|update| (update.number, update.stage()));
    assert_eq!(done, [(1, OrderStage::Done), (2, OrderStage::Done)]);
    assert_eq!(words(&agent.told(job).await), ["started", "a 1", "a ok", "b 1", "surrendered to a2"]);
    assert_eq!(lab.table.diary(), ["run a", "run b"], "nothing is undone");

    // Twice is once; anything new is for the other agent.
    assert_eq!(session.order(surrender_order(2, job, "a2")).await.stage(), OrderStage::Done);
    let key = session.hello.sealing_key.clone();
    assert_eq!(session.order(start_order(1, job, &key, "192.0.2.20")).await.stage(), OrderStage::Done);
    let pause = Kind::Pause(v1::PauseOrder { by: "op".into(), reason: String::new() });
    let retry = Kind::Retry(v1::RetryJob { by: "op".into(), ..Default::default() });
    for order in [
        cancel_order(3, job),
        order(4, job, 1, pause),
        order(5, job, 2, retry),
        start_order(6, job, &key, "192.0.2.20"),
        surrender_order(7, job, "a3"),
    ] {
        refused(&mut session, order, Code::JobState, "agent a2").await;
    }
    assert!(agent.stop().await);

    // Neither is it taken up at the next start, nor is it in another one's way.
    let agent = lab.agent().await;
    let mut session = lab.controller.welcomed(agent.told(job).await.len() as u64).await;
    assert!(session.hello.jobs[0].finished);
    let other = start_order(8, JobId::new(), &key, "192.0.2.20");
    assert_eq!(session.order(other).await.stage(), OrderStage::Applied);
    lab.table.steps[1].hanging.notified().await;
    assert_eq!(lab.table.diary(), ["run a", "run b"], "those of the other job");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_is_let_go_of_in_an_undo() {
    let mut lab = Lab::new().await;
    lab.table.acts(1, &[Act::Succeed]);
    lab.table.acts(2, &[Act::Permanent]);
    lab.table.undo(1, Undo::Hangs);
    let (agent, mut session) = lab.hanging().await;
    assert_eq!(session.order(surrender_order(2, lab.job, "a2")).await.stage(), OrderStage::Applied);
    session.until_the_end(lab.job).await;
    let told = words(&agent.told(lab.job).await);
    assert_eq!(told[told.len() - 5..], ["c permanent", "undo c", "undone c", "undo b", "surrendered to a2"]);
    assert_eq!(lab.table.diary(), ["run a", "run b", "run c", "undo c", "undo b"]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_is_let_go_of_before_its_start_and_while_it_is_held() {
    let mut lab = Lab::new().await;
    lab.settings.jobs.concurrent = 1;
    let (agent, mut session) = lab.hanging().await;
    let key = session.hello.sealing_key.clone();
    let (waiting, held) = (JobId::new(), JobId::new());
    session.order(start_order(2, waiting, &key, "192.0.2.30")).await;
    session.order(start_order(3, held, &key, "192.0.2.40")).await;
    assert_eq!(session.order(surrender_order(4, waiting, "a2")).await.stage(), OrderStage::Applied);
    agent.until(waiting, |tail| tail.surrendered).await;
    assert_eq!(words(&agent.told(waiting).await), ["surrendered to a2"]);

    let pause = Kind::Pause(v1::PauseOrder { by: "op".into(), reason: String::new() });
    session.order(order(5, held, 1, pause)).await;
    session.order(surrender_order(6, lab.job, "a2")).await;
    // Two events: begun and held.
    agent.until(held, |tail| tail.last_seq >= 2).await;
    session.order(surrender_order(7, held, "a3")).await;
    agent.until(held, |tail| tail.surrendered).await;
    assert_eq!(words(&agent.told(held).await), ["started", "paused op", "surrendered to a3"]);
    assert_eq!(lab.table.diary(), ["run a", "run b"], "those of the first job");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_that_has_ended_is_not_let_go_of() {
    let mut lab = Lab::new().await;
    lab.table.acts(1, &[Act::Succeed]);
    let agent = lab.agent().await;
    let mut session = lab.controller.welcomed(0).await;
    let key = session.hello.sealing_key.clone();
    session.order(start_order(1, lab.job, &key, "192.0.2.20")).await;
    session.until_the_end(lab.job).await;
    assert_eq!(session.order(surrender_order(2, lab.job, "a2")).await.stage(), OrderStage::Done);
    assert_eq!(*words(&agent.told(lab.job).await).last().unwrap(), "finished Succeeded Nothing");
    assert!(!records(&lab.journal()).iter().any(|record| matches!(record, Record::Surrender(_))));
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_surrender_that_makes_no_sense_is_refused() {
    let mut lab = Lab::new().await;
    let (agent, mut session) = lab.hanging().await;
    refused(&mut session, surrender_order(2, JobId::new(), "a2"), Code::JobNotFound, "does not have").await;
    refused(&mut session, surrender_order(3, lab.job, "a 2"), Code::BadRequest, "new agent").await;
    refused(&mut session, surrender_order(4, lab.job, "a1"), Code::BadRequest, "already").await;
    let late = v1::Order { epoch: 2, ..surrender_order(5, lab.job, "a2") };
    refused(&mut session, late, Code::JobConflict, "epoch 2").await;
    assert_eq!(lab.table.diary(), ["run a", "run b"], "it goes on");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_crash_at_any_line_around_the_surrender_ends_in_the_same_way() {
    let mut lab = Lab::new().await;
    let (agent, mut session) = lab.hanging().await;
    session.order(surrender_order(2, lab.job, "a2")).await;
    agent.until(lab.job, |tail| tail.surrendered).await;
    let whole = words(&agent.told(lab.job).await);
    assert!(agent.stop().await);
    let bytes = fs::read(lab.journal()).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let ordered = |lines: &[&[u8]]| lines.iter().any(|line| matches!(decode(line), Ok(Record::Surrender(_))));
    assert!(lines.len() > 8 && ordered(&lines));
    lab.table.diary();
    for kept in 1..lines.len() {
        for torn in [false, true] {
            let what = format!("after line {kept}, torn: {torn}");
            let half = if torn { &lines[kept][..lines[kept].len() / 2] } else { &[] };
            fs::write(lab.journal(), [&lines[..kept].concat(), half].concat()).unwrap();
            // The number of an order is written down behind the order itself.
            fs::write(lab.settings.data_dir.join("orders.seen"), "1\n").unwrap();
            let agent = lab.agent().await;
            let mut session = lab.controller.welcomed(0).await;
            if ordered(&lines[..kept]) {
                agent.until(lab.job, |tail| tail.surrendered).await;
                assert!(lab.table.diary().is_empty(), "{what}: no step is walked");
            } else {
                lab.table.steps[1].hanging.notified().await;
                assert_eq!(session.order(surrender_order(2, lab.job, "a2")).await.stage(), OrderStage::Applied);
                agent.until(lab.job, |tail| tail.surrendered).await;
                lab.table.diary();
            }
            assert_eq!(session.order(surrender_order(2, lab.job, "a2")).await.stage(), OrderStage::Done, "{what}");
            let told = agent.told(lab.job).await;
            assert!(told.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{what}");
            let told = words(&told);
            assert_eq!(told.last(), whole.last(), "{what}");
            assert_eq!(told.iter().filter(|word| word.starts_with("surrendered")).count(), 1, "{what}");
            assert!(agent.stop().await);
        }
    }
}

// --- another agent has it ---

#[tokio::test]
async fn a_job_that_another_agent_has_stops_and_nothing_more_is_told_of_it() {
    let mut lab = Lab::new().await;
    let (agent, session) = lab.hanging().await;
    let before = lab.table.diary();
    drop(session);
    lab.controller.relay.cut();
    let mut session = lab.controller.session().await;
    session.welcome_moved().await;
    agent.until(lab.job, |tail| tail.moved).await;
    // Not one event comes before the answer.
    for (number, order) in [(2, cancel_order(2, lab.job)), (3, surrender_order(3, lab.job, "a2"))] {
        session.say(v1::open_response::Item::Order(order)).await;
        let update = loop {
            match session.hear().await.unwrap() {
                In::OrderUpdate(update) if update.number == number && update.stage() != OrderStage::Delivered => {
                    break update;
                }
                In::OrderUpdate(_) | In::Heartbeat(_) | In::Isos(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, Code::JobState.word()));
        assert!(update.message.contains("another agent"), "{}", update.message);
    }
    assert_eq!((before, lab.table.diary()), (vec!["run a".to_owned(), "run b".to_owned()], Vec::new()));
    assert!(agent.stop().await);
    assert!(records(&lab.journal()).contains(&Record::Moved(1)));

    // Not after a restart either, with or without the word.
    let agent = lab.agent().await;
    let session = lab.controller.session().await;
    assert!(session.hello.jobs[0].finished);
    session.welcome_moved().await;
    timeout(SOON, lab.table.steps[1].hanging.notified()).await.expect_err("it has gone on");
    assert!(lab.table.diary().is_empty());
    assert!(agent.stop().await);
    let moved = records(&lab.journal()).iter().filter(|record| matches!(record, Record::Moved(_))).count();
    assert_eq!(moved, 1, "it is written once");
}

#[tokio::test]
async fn a_job_that_another_agent_has_is_forgotten_without_an_acknowledgement() {
    let mut lab = Lab::new().await;
    lab.settings.jobs.keep_finished = 0;
    let (agent, session) = lab.hanging().await;
    drop(session);
    lab.controller.relay.cut();
    lab.controller.session().await.welcome_moved().await;
    // It goes as soon as nobody is at work on it any more.
    let gone = async {
        while !agent.runner.positions().is_empty() || dir_of(&lab.settings, lab.job).exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
    assert!(agent.stop().await);
}

/// Makes one call after the other, on the way or on the way back.
struct Calls {
    in_undo: bool,
    made: AtomicUsize,
    begun: Notify,
    ended: Notify,
}

impl Calls {
    async fn call(&self, cx: &StepCx) -> Result<(), StepError> {
        loop {
            let intent = cx.intend("call", Extra::default()).await.inspect_err(|_| self.ended.notify_one())?;
            if self.made.fetch_add(1, Ordering::SeqCst) == 5 {
                self.begun.notify_one();
            }
            cx.outcome(intent, IntentResult::Done, Extra::default()).await?;
        }
    }
}

#[async_trait::async_trait]
impl Step for Calls {
    fn info(&self) -> StepInfo {
        StepInfo { id: "calls".into(), title: "Calls".into(), weight: 1, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, _facts: &mut Facts) -> Result<(), StepError> {
        if self.in_undo { Err(StepError::Permanent(failure("permanent"))) } else { self.call(cx).await }
    }

    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(&self, cx: &StepCx, _facts: &mut Facts) -> Result<Vec<String>, StepError> {
        self.call(cx).await.map(|()| Vec::new())
    }
}

#[tokio::test]
async fn not_one_more_call_is_made_for_a_job_that_another_agent_has() {
    for in_undo in [false, true] {
        let mut lab = Lab::new().await;
        let step: &'static Calls = Box::leak(Box::new(Calls {
            in_undo,
            made: AtomicUsize::new(0),
            begun: Notify::new(),
            ended: Notify::new(),
        }));
        let pipeline: Pipeline = Box::leak(vec![step as &'static dyn Step].into_boxed_slice());
        let agent = Agent::start(&lab.settings, pipeline).await;
        let mut session = lab.controller.welcomed(0).await;
        let key = session.hello.sealing_key.clone();
        session.order(start_order(1, lab.job, &key, "192.0.2.20")).await;
        step.begun.notified().await;
        drop(session);
        lab.controller.relay.cut();
        lab.controller.session().await.welcome_moved().await;
        timeout(Duration::from_secs(20), step.ended.notified()).await.unwrap();
        agent.until(lab.job, |tail| tail.moved).await;
        let made = step.made.load(Ordering::SeqCst);
        assert!(agent.stop().await);
        assert_eq!(step.made.load(Ordering::SeqCst), made);
        let (mut done, mut not_called, mut intents) = (0, 0, 0);
        for record in records(&lab.journal()) {
            let Record::Event(event) = record else { continue };
            match event.body {
                Body::Intent { .. } => intents += 1,
                Body::IntentOutcome { result: IntentResult::Done, .. } => done += 1,
                Body::IntentOutcome { result: IntentResult::Failed, .. } => not_called += 1,
                _ => {}
            }
        }
        assert_eq!((done, done + not_called), (made, intents), "every intent has its outcome");
    }
}

// --- asked first ---

#[tokio::test]
async fn after_a_start_a_job_waits_for_the_controllers_word_and_goes_on_then() {
    let mut lab = Lab::new().await;
    lab.settings.jobs.ask_first_s = 3_600.0;
    lab.settings.timing.time_scale = 100.0;
    let (agent, _session) = lab.hanging().await;
    assert!(agent.stop().await);
    lab.table.diary();
    let agent = lab.agent().await;
    let session = lab.controller.session().await;
    timeout(SOON, lab.table.steps[1].hanging.notified()).await.expect_err("it has not waited");
    assert!(lab.table.diary().is_empty());
    session.welcome(0, 10_000, 15_000).await;
    lab.table.steps[1].hanging.notified().await;
    assert_eq!(lab.table.diary(), ["run b"]);
    assert!(agent.stop().await, "it does not wait any more when the agent stops");
}

#[tokio::test]
async fn a_job_that_waits_for_the_controllers_word_stops_with_the_agent() {
    let mut lab = Lab::new().await;
    lab.settings.jobs.ask_first_s = 3_600.0;
    lab.settings.timing.time_scale = 100.0;
    let (agent, _session) = lab.hanging().await;
    assert!(agent.stop().await);
    lab.table.diary();
    lab.controller.relay.freeze(true);
    assert!(lab.agent().await.stop().await);
    assert!(lab.table.diary().is_empty());
}

#[tokio::test]
async fn without_a_controller_a_job_goes_on_after_the_time_that_the_settings_say() {
    let mut lab = Lab::new().await;
    lab.settings.jobs.ask_first_s = 300.0;
    let (agent, _session) = lab.hanging().await;
    assert!(agent.stop().await);
    lab.controller.relay.freeze(true);
    let begun = Instant::now();
    let agent = lab.agent().await;
    lab.table.steps[1].hanging.notified().await;
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(agent.stop().await);
}

#[tokio::test]
async fn an_agent_that_comes_back_makes_no_call_for_a_job_that_was_moved() {
    // On the way, and on the way back after a cancel.
    for cancelled in [false, true] {
        let mut lab = Lab::new().await;
        lab.table.undo(1, Undo::Hangs);
        lab.settings.jobs.ask_first_s = 3_600.0;
        lab.settings.timing.time_scale = 100.0;
        let (agent, mut session) = lab.hanging().await;
        if cancelled {
            session.order(cancel_order(2, lab.job)).await;
            lab.table.steps[1].hanging.notified().await;
        }
        assert!(agent.stop().await);
        lab.table.diary();
        let agent = lab.agent().await;
        let session = lab.controller.session().await;
        session.welcome_moved().await;
        agent.until(lab.job, |tail| tail.moved).await;
        assert!(agent.stop().await);
        assert!(lab.table.diary().is_empty(), "cancelled: {cancelled}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_down_stops_the_job_all_the_same() {
    let mut lab = Lab::new().await;
    let (agent, session) = lab.hanging().await;
    drop(session);
    // No journal can be opened for writing, nor the one that is open be told from a directory.
    let closed = agent.runner.journals()[0].1.clone();
    closed.on_disk(|journal| journal.close()).await.unwrap();
    let aside = lab.dir.path().join("aside");
    fs::rename(lab.journal(), &aside).unwrap();
    lab.controller.relay.cut();
    lab.controller.session().await.welcome_moved().await;
    // The session ends for it, and the next one says it again.
    let session = lab.controller.session().await;
    fs::rename(&aside, lab.journal()).unwrap();
    session.welcome_moved().await;
    agent.until(lab.job, |tail| tail.moved).await;
    assert_eq!(lab.table.diary(), ["run a", "run b"], "nothing is undone");
    assert!(agent.stop().await);
}
