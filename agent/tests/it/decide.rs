//! A job that cannot decide by itself: it asks, waits through everything, and goes by the answer, once.

use std::{fs, sync::Arc};

use gantry_agent::{
    executor::{self, Ended},
    joblog::JobLog,
    journal::{DecideRecord, FILE_NAME, Journal, Record, decode},
};
use gantry_proto::{Body, JobId, JobOutcome, UndoState, v1, view::Phase};
use gantry_sim::fault::{Action, Fault, Match, When, WorldAction};
use serde_json::json;
use v1::{OrderStage, order::Kind};

use crate::{
    bench::{Act, Bench, Table, words},
    controller::{Agent, Controller, Session, joined, order, start_order},
    site::{CREATE, Site, fault},
};

/// The number of the question, once the job asks.
pub(crate) async fn question(journal: &Arc<Journal>) -> u64 {
    loop {
        let view = journal.on_disk(|journal| journal.folded().map_err(std::io::Error::other)).await.unwrap().view;
        if let Some(question) = view.question.filter(|question| question.decided.is_none()) {
            return question.seq;
        }
        tokio::task::yield_now().await;
    }
}

/// An answer, as the runner does it.
pub(crate) async fn decide(log: &JobLog, question: u64, choice: &str) {
    let (choice, by) = (choice.to_owned(), "op".to_owned());
    let record = DecideRecord { order: 9, epoch: 1, question, choice, by, reason: String::new() };
    let write = record.clone();
    log.journal().on_disk(move |journal| journal.decide(write)).await.unwrap();
    log.request_decision(record);
}

/// Runs a job whose second step asks once, and answers.
async fn answered(bench: &Bench, table: &Table, choice: &str) -> Ended {
    let (job, strings) = bench.take_up();
    let answer = async { decide(&strings.log, question(strings.log.journal()).await, choice).await };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), answer);
    strings.log.finish().await.unwrap();
    ended
}

#[tokio::test]
async fn the_choices_are_named_and_each_is_followed() {
    for (choice, keep, diary, last) in [
        ("look-again", false, &["run a", "run b", "run b", "run c"][..], "finished Succeeded Nothing"),
        ("undo", true, &["run a", "run b", "undo b", "undo a"][..], "finished Failed RolledBack"),
        ("keep", false, &["run a", "run b"][..], "finished Failed Nothing"),
    ] {
        let (mut bench, table) = (Bench::new(), Table::new());
        bench.keep = keep;
        table.acts(1, &[Act::Asks, Act::Succeed]);
        answered(&bench, &table, choice).await;
        assert_eq!(table.diary(), diary, "{choice}");
        let events = bench.events().await;
        let told = words(&events);
        let asked = told.iter().position(|word| word == "asks b doubt").unwrap();
        assert_eq!(told[asked + 1], format!("decided {choice}"));
        assert_eq!(told.last().unwrap(), last);
        let named = events.iter().find_map(|event| match &event.body {
            Body::OperatorNeeded { choices, .. } => Some(choices.clone()),
            _ => None,
        });
        let named = named.unwrap();
        assert_eq!(named.iter().map(|choice| choice.id.as_str()).collect::<Vec<_>>(), ["look-again", "undo", "keep"]);
        assert!(named.iter().all(|choice| !choice.text.is_empty()));
    }
}

#[tokio::test]
async fn a_cancel_is_an_answer_too() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Asks]);
    let (job, strings) = bench.take_up();
    let cancel = async {
        question(strings.log.journal()).await;
        strings.cancel(9).await;
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), cancel);
    assert!(matches!(ended, Ended::Finished(JobOutcome::Cancelled)));
    assert_eq!(table.diary(), ["run a", "run b", "undo b", "undo a"]);
}

#[tokio::test]
async fn a_question_stands_through_restarts_without_the_step_being_run() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Asks, Act::Succeed]);
    let mut asked = None;
    for _ in 0..2 {
        let (job, strings) = bench.take_up();
        let stop = async {
            let question = question(strings.log.journal()).await;
            assert_eq!(*asked.get_or_insert(question), question);
            strings.stop.cancel();
        };
        let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), stop);
        assert!(matches!(ended, Ended::Stopped));
        assert_eq!(bench.view().await.phase, Phase::NeedsOperator);
    }
    assert_eq!(table.diary(), ["run a", "run b"]);
    assert!(matches!(answered(&bench, &table, "look-again").await, Ended::Finished(JobOutcome::Succeeded)));
    assert_eq!(table.diary(), ["run b", "run c"]);
    assert_eq!(words(&bench.events().await).iter().filter(|word| *word == "asks b doubt").count(), 1);
}

/// The agent dies after any line of its journal; whoever finds the question open answers it.
async fn crash_everywhere(choice: &str, outcome: JobOutcome, undo: UndoState) {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Asks, Act::Succeed]);
    answered(&bench, &table, choice).await;
    let whole = fs::read(bench.job_dir().join(FILE_NAME)).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for kept in 1..lines.len() {
        let what = format!("{choice}, cut after line {kept}");
        let mut again = Bench::new();
        again.id = bench.id;
        fs::create_dir_all(again.job_dir()).unwrap();
        fs::write(again.job_dir().join(FILE_NAME), lines[..kept].concat()).unwrap();
        let records: Vec<Record> = lines[..kept].iter().map(|line| decode(line).unwrap()).collect();
        let asked = records
            .iter()
            .any(|record| matches!(record, Record::Event(event) if matches!(event.body, Body::OperatorNeeded { .. })));
        let decided = records.iter().any(|record| matches!(record, Record::Decide(_)));
        table.acts(1, if asked { &[Act::Succeed] } else { &[Act::Asks, Act::Succeed] });
        if decided {
            again.run(table.pipeline).await;
        } else {
            answered(&again, &table, choice).await;
        }
        let told = words(&again.events().await);
        let count = |wanted: &str| told.iter().filter(|word| word.starts_with(wanted)).count();
        assert_eq!((count("asks"), count("decided"), count("finished")), (1, 1, 1), "{what}: {told:?}");
        let view = again.view().await;
        assert_eq!((view.outcome, view.undo), (Some(outcome), Some(undo)), "{what}");
    }
}

#[tokio::test]
async fn a_crash_around_look_again() {
    crash_everywhere("look-again", JobOutcome::Succeeded, UndoState::Nothing).await;
}

#[tokio::test]
async fn a_crash_around_undo() {
    crash_everywhere("undo", JobOutcome::Failed, UndoState::RolledBack).await;
}

#[tokio::test]
async fn a_crash_around_keep() {
    crash_everywhere("keep", JobOutcome::Failed, UndoState::Nothing).await;
}

fn decide_order(number: u64, job: JobId, question: u64, choice: &str) -> v1::Order {
    let decide = v1::DecideOrder { question, choice: choice.into(), by: "op".into(), reason: "I looked".into() };
    order(number, job, 1, Kind::Decide(decide))
}

async fn refused(session: &mut Session, order: v1::Order, code: &str) {
    let update = session.order(order).await;
    assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, code), "{update:?}");
}

#[tokio::test]
async fn an_order_answers_the_open_question_and_nothing_else() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Asks, Act::Asks, Act::Succeed]);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    refused(&mut session, decide_order(1, job, 1, "undo"), "job_not_found").await;
    session.order(start_order(2, job, &key, "192.0.2.20")).await;
    let journal = agent.runner.journals()[0].1.clone();
    let first = question(&journal).await;
    refused(&mut session, decide_order(3, job, first + 1, "undo"), "job_state").await;
    refused(&mut session, decide_order(4, job, first, "maybe"), "job_state").await;
    let other_epoch = v1::Order { epoch: 2, ..decide_order(5, job, first, "undo") };
    refused(&mut session, other_epoch, "job_conflict").await;
    for _ in 0..2 {
        let taken = session.order(decide_order(6, job, first, "look-again")).await;
        assert_eq!(taken.stage(), OrderStage::Applied, "twice is once: {taken:?}");
    }
    let second = question(&journal).await;
    assert!(second > first);
    refused(&mut session, decide_order(7, job, first, "undo"), "job_state").await;
    assert_eq!(session.order(decide_order(8, job, second, "look-again")).await.stage(), OrderStage::Applied);
    while !journal.tail().finished {
        tokio::task::yield_now().await;
    }
    for order in [6, 8] {
        assert_eq!(session.order(decide_order(order, job, second, "look-again")).await.stage(), OrderStage::Done);
    }
    refused(&mut session, decide_order(9, job, second, "undo"), "job_state").await;
    assert_eq!(table.diary(), ["run a", "run b", "run b", "run b", "run c"]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_foreign_vm_that_appears_after_the_upload_is_a_question() {
    let site = Site::new().await;
    let planted = serde_json::from_value(json!({"name": "cloudtower", "description": "of somebody else"})).unwrap();
    let plant = Action::World(WorldAction::PlantVm(planted));
    site.arm(fault("plant", Match::fisheye("POST", "/api/v2/images/upload/volume"), When::After, plant).times(1));
    let beside = async |strings: crate::site::Strings| {
        let question = question(strings.log.journal()).await;
        site.core().change_world(&WorldAction::DeleteVm { vm: "cloudtower".into() }).unwrap();
        decide(&strings.log, question, "look-again").await;
    };
    let ran = site.run_with(CREATE, beside).await;
    ran.succeeded();
    assert_eq!(site.vms(), 1);
    let asked = ran.events.iter().find_map(|event| match &event.body {
        Body::OperatorNeeded { failure, .. } => Some(failure.clone()),
        _ => None,
    });
    let asked = asked.unwrap();
    assert!(asked.code == "vm_name_taken" && asked.remedy.contains("look-again"), "{asked:?}");
    site.assert_invariants();
}

#[tokio::test]
async fn a_lost_answer_that_cannot_be_looked_up_is_a_question_and_one_vm_at_the_end() {
    let site = Site::new().await;
    site.arm(
        fault("lost", Match::fisheye("POST", "/api/v2/vms"), When::After, Action::Close(Default::default())).times(1),
    );
    let blind = |id: &str, path: &str| Fault {
        times: None,
        ..fault(id, Match::fisheye("GET", path), When::Before, Action::json(503, json!({})))
    };
    let beside = async |strings: crate::site::Strings| {
        while site.fired("lost") == 0 {
            tokio::task::yield_now().await;
        }
        site.arm(blind("blind", "/api/v2/vms"));
        let question = question(strings.log.journal()).await;
        site.core().faults.clear("blind");
        decide(&strings.log, question, "look-again").await;
    };
    let ran = site.run_with(CREATE, beside).await;
    ran.succeeded();
    assert_eq!(site.vms(), 1);
    assert!(words(&ran.events).iter().any(|word| word == "asks create-vm outcome_unknown"), "{:?}", words(&ran.events));
    site.assert_invariants();
}
