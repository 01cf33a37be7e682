//! Held, let go on, taken up again in a new epoch, swept: with made-up steps, and by orders over the link.

use gantry_agent::{
    executor::{self, Ended},
    journal::{HoldRecord, StartRecord},
};
use gantry_proto::{JobId, JobOutcome, UndoState, v1};
use v1::{OrderStage, open_response::Item as Out, order::Kind};

use crate::{
    bench::{Act, Bench, Strings, Table, start_record, words},
    controller::{Agent, Controller, cancel_order, joined, order, start_order},
};

impl Strings {
    /// A pause or a resume, as the runner does it.
    async fn hold(&self, order: u64, hold: bool) {
        let record = HoldRecord { order, epoch: 1, hold, by: "op".into(), reason: "the line".into() };
        let write = record.clone();
        self.log.journal().on_disk(move |journal| journal.hold(write)).await.unwrap();
        self.log.request_hold(record);
    }
}

/// Waits until the journal of a job holds so many events.
async fn until_event(strings: &Strings, seq: u64) {
    let mut news = strings.log.journal().tail().last_seq;
    while news < seq {
        tokio::task::yield_now().await;
        news = strings.log.journal().tail().last_seq;
    }
}

#[tokio::test]
async fn a_pause_holds_between_two_steps_and_a_resume_lets_go_on() {
    let (bench, table) = (Bench::new(), Table::new());
    let (job, strings) = bench.take_up();
    strings.hold(7, true).await;
    let both = async {
        until_event(&strings, 2).await;
        assert!(table.diary().is_empty(), "nothing was begun");
        strings.hold(8, false).await;
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), both);
    assert!(matches!(ended, Ended::Finished(JobOutcome::Succeeded)));
    assert_eq!(words(&bench.events().await)[..4], ["started", "paused op", "resumed op", "a 1"]);
}

#[tokio::test]
async fn a_held_job_is_held_after_a_restart_and_told_once() {
    let (bench, table) = (Bench::new(), Table::new());
    let (job, strings) = bench.take_up();
    strings.hold(7, true).await;
    let stop = async {
        until_event(&strings, 2).await;
        strings.stop.cancel();
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), stop);
    assert!(matches!(ended, Ended::Stopped));
    let (job, strings) = bench.take_up();
    let go_on = async {
        until_event(&strings, 3).await;
        assert!(table.diary().is_empty(), "it is still held");
        strings.hold(8, false).await;
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), go_on);
    assert!(matches!(ended, Ended::Finished(JobOutcome::Succeeded)));
    assert_eq!(words(&bench.events().await)[..5], ["started", "paused op", "taken_up", "resumed op", "a 1"]);
}

#[tokio::test]
async fn a_cancel_goes_through_a_pause() {
    let (bench, table) = (Bench::new(), Table::new());
    let (job, strings) = bench.take_up();
    strings.hold(7, true).await;
    let cancel = async {
        until_event(&strings, 2).await;
        strings.cancel(8).await;
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), cancel);
    assert!(matches!(ended, Ended::Finished(JobOutcome::Cancelled)));
    assert_eq!(words(&bench.events().await), ["started", "paused op", "cancel op", "finished Cancelled Nothing"]);
}

/// Begins the next epoch, as the runner does it.
fn begin(bench: &Bench, epoch: u32, kept: &[&str], undo_only: bool) {
    let kept = kept.iter().map(|step| (*step).into()).collect();
    let record = StartRecord { kept, undo_only, ..start_record(epoch) };
    bench.take_up().0.log.journal().start(record).unwrap();
}

#[tokio::test]
async fn a_retry_keeps_what_is_done_and_undoes_that_too_when_it_fails_again() {
    let (mut bench, table) = (Bench::new(), Table::new());
    bench.keep = true;
    table.acts(1, &[Act::Permanent, Act::Permanent, Act::Succeed]);
    bench.run(table.pipeline).await;
    assert_eq!(table.diary(), ["run a", "run b"]);

    bench.keep = false;
    begin(&bench, 2, &["a"], false);
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Failed)));
    // What a step that this epoch never came to has made before is undone, too.
    assert_eq!(table.diary(), ["run b", "undo c", "undo b", "undo a"]);
    let view = bench.view().await;
    assert_eq!((view.epoch, view.undo), (2, Some(UndoState::RolledBack)));

    begin(&bench, 3, &[], false);
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Succeeded)));
    assert_eq!(table.diary(), ["run a", "run b", "run c"]);
    let events = bench.events().await;
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "one numbering over all epochs");
}

#[tokio::test]
async fn a_retry_is_taken_up_again_after_a_restart() {
    let (mut bench, table) = (Bench::new(), Table::new());
    bench.keep = true;
    table.acts(1, &[Act::Permanent, Act::Hang, Act::Succeed]);
    bench.run(table.pipeline).await;
    begin(&bench, 2, &["a"], false);
    table.diary();
    let (job, strings) = bench.take_up();
    let hanging = table.steps[1].hanging.clone();
    let stop = async {
        hanging.notified().await;
        strings.stop.cancel();
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), stop);
    assert!(matches!(ended, Ended::Stopped));
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Succeeded)));
    assert_eq!(table.diary(), ["run b", "run b", "run c"], "what is kept stays so");
}

#[tokio::test]
async fn a_sweep_walks_no_step_and_removes_what_was_kept() {
    let (mut bench, table) = (Bench::new(), Table::new());
    bench.keep = true;
    table.acts(2, &[Act::Permanent]);
    bench.run(table.pipeline).await;
    table.diary();
    begin(&bench, 2, &[], true);
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Cancelled)));
    assert_eq!(table.diary(), ["undo c", "undo b", "undo a"]);
    let view = bench.view().await;
    assert_eq!((view.undo, view.failure.unwrap().code.as_str()), (Some(UndoState::RolledBack), "swept"));
}

fn retry(number: u64, job: JobId, epoch: u32) -> v1::Order {
    let retry = v1::RetryJob { by: "op".into(), kept: vec!["a".into()], ..Default::default() };
    order(number, job, epoch, Kind::Retry(retry))
}

#[tokio::test]
async fn orders_hold_a_job_and_take_it_up_again_each_once() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang, Act::Succeed]);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    table.steps[1].hanging.notified().await;
    let pause = |number| order(number, job, 1, Kind::Pause(v1::PauseOrder { by: "op".into(), reason: String::new() }));
    assert_eq!(session.order(pause(2)).await.stage(), OrderStage::Applied);
    assert_eq!(session.order(pause(2)).await.stage(), OrderStage::Applied, "twice is once");
    let early = session.order(retry(3, job, 2)).await;
    assert_eq!((early.stage(), early.code.as_str()), (OrderStage::Refused, "job_not_finished"));
    let resume = order(4, job, 1, Kind::Resume(v1::ResumeOrder { by: "op".into() }));
    assert_eq!(session.order(resume).await.stage(), OrderStage::Applied);
    session.order(cancel_order(5, job)).await;
    session.until_the_end(job).await;
    while session.update().await.number != 5 {}

    for epoch in [1, 3] {
        let wrong = session.order(retry(6, job, epoch)).await;
        assert_eq!((wrong.stage(), wrong.code.as_str()), (OrderStage::Refused, "job_conflict"), "epoch {epoch}");
    }
    let again = session.order(retry(7, job, 2)).await;
    assert_eq!(again.stage(), OrderStage::Applied, "{again:?}");
    session.say(Out::Order(retry(7, job, 2))).await;
    let position = loop {
        let position = agent.runner.positions()[0].clone();
        if position.finished && position.epoch == 2 {
            break position;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(table.diary(), ["run a", "run b", "undo b", "undo a", "run b", "run c"]);
    assert!(position.last_seq > 0);
    let unknown = session.order(retry(8, JobId::new(), 2)).await;
    assert_eq!((unknown.stage(), unknown.code.as_str()), (OrderStage::Refused, "job_not_found"));
    assert!(agent.stop().await);
}
