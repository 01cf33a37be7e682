//! Telemetry over the link: spooled while there is no session, handed over in order and once, and what is lost is told.

use std::{sync::Arc, time::Duration};

use gantry_proto::v1;
use gantry_telemetry::{Intake as _, Record, Signal, Spool};
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::{
    bench::Table,
    controller::{Agent, Controller, joined},
};

fn record(number: u8, bytes: usize) -> Record {
    Record { signal: Signal::ALL[usize::from(number) % 3], items: u32::from(number) + 1, otlp: vec![number; bytes] }
}

/// An agent with an empty spool of the smallest size.
async fn telling(dir: &std::path::Path, controller: &Controller) -> (Agent, Arc<Spool>) {
    let mut settings = joined(dir, controller);
    settings.link.telemetry_bytes_per_s = u64::MAX;
    let spool = Arc::new(Spool::open(&dir.join("telemetry"), 0).unwrap());
    let agent = Agent::telling(&settings, Table::new().pipeline, Some(spool.clone())).await.unwrap();
    (agent, spool)
}

#[tokio::test]
async fn what_was_spooled_before_the_session_is_handed_over_in_order_and_once() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (agent, spool) = telling(dir.path(), &controller).await;
    (0..5).for_each(|number| spool.take(record(number, 1000)));
    let session = controller.session().await;
    session.welcome_telling().await;
    for number in 0..5 {
        let (request, answer) = controller.batch().await;
        assert_eq!(request.otlp, vec![number; 1000]);
        assert_eq!(request.signal(), v1::Signal::from(Signal::ALL[usize::from(number) % 3]));
        assert_eq!(request.lost, Some(v1::TelemetryLoss::default()));
        assert!(request.waiting_bytes >= 1000 * u64::from(5 - number), "{}", request.waiting_bytes);
        answer.send(Ok(())).unwrap();
    }
    // Something new is handed over at once.
    spool.take(record(9, 10));
    let (request, answer) = controller.batch().await;
    assert_eq!(request.otlp, vec![9; 10]);
    answer.send(Ok(())).unwrap();
    assert!(agent.stop().await);
    assert!(spool.loss().is_none());
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_comes_again_in_the_next_session() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (agent, spool) = telling(dir.path(), &controller).await;
    spool.take(record(1, 100));
    spool.take(record(2, 100));
    let session = controller.session().await;
    session.welcome_telling().await;
    let (request, answer) = controller.batch().await;
    assert_eq!(request.otlp, vec![1; 100]);
    controller.relay.cut();
    drop((session, answer));
    let session = controller.session().await;
    session.welcome_telling().await;
    for number in 1..=2 {
        let (request, answer) = controller.batch().await;
        assert_eq!(request.otlp, vec![number; 100]);
        answer.send(Ok(())).unwrap();
    }
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_batch_that_is_refused_for_good_is_counted_and_the_next_one_follows() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (agent, spool) = telling(dir.path(), &controller).await;
    spool.take(record(0, 100));
    spool.take(record(3, 100));
    let session = controller.session().await;
    session.welcome_telling().await;
    let (_, answer) = controller.batch().await;
    answer.send(Err(Status::invalid_argument("no"))).unwrap();
    let (request, answer) = controller.batch().await;
    assert_eq!(request.otlp, vec![3; 100]);
    assert_eq!(request.lost, Some(v1::TelemetryLoss { spans: 1, ..v1::TelemetryLoss::default() }));
    answer.send(Ok(())).unwrap();
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_controller_that_cannot_take_it_is_asked_again() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (agent, spool) = telling(dir.path(), &controller).await;
    spool.take(record(1, 100));
    let session = controller.session().await;
    session.welcome_telling().await;
    let (_, answer) = controller.batch().await;
    answer.send(Err(Status::unavailable("the disk is full"))).unwrap();
    let (request, answer) = controller.batch().await;
    assert_eq!(request.otlp, vec![1; 100]);
    answer.send(Ok(())).unwrap();
    assert!(agent.stop().await);
    assert!(spool.loss().is_none());
}

/// More than fits into the spool: what does not arrive is told, to the item.
#[tokio::test]
async fn an_outage_that_fills_the_spool_loses_the_oldest_and_says_exactly_how_many() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (agent, spool) = telling(dir.path(), &controller).await;
    let session = controller.session().await;
    // The session is not welcomed: there is no contact yet.
    let mut given = v1::TelemetryLoss::default();
    for number in 0..60 {
        let record = record(number, 300_000);
        count(&mut given, record.signal, record.items.into());
        spool.take(record);
    }
    session.welcome_telling().await;
    let (mut arrived, mut lost) = (v1::TelemetryLoss::default(), v1::TelemetryLoss::default());
    for _ in 0..spool_records(&spool) {
        let (request, answer) = controller.batch().await;
        let signal = Signal::try_from(request.signal()).unwrap();
        count(&mut arrived, signal, u64::from(request.otlp[0]) + 1);
        lost = request.lost.unwrap();
        answer.send(Ok(())).unwrap();
    }
    assert!(lost.spans > 0 && lost.log_records > 0 && lost.data_points > 0, "{lost:?}");
    assert_eq!(given.spans, arrived.spans + lost.spans);
    assert_eq!(given.log_records, arrived.log_records + lost.log_records);
    assert_eq!(given.data_points, arrived.data_points + lost.data_points);
    assert!(agent.stop().await);
}

fn count(all: &mut v1::TelemetryLoss, signal: Signal, items: u64) {
    match signal {
        Signal::Traces => all.spans += items,
        Signal::Logs => all.log_records += items,
        Signal::Metrics => all.data_points += items,
    }
}

/// Records of the last test that are in the spool.
fn spool_records(spool: &Spool) -> u64 {
    spool.bytes() / 300_000
}

#[tokio::test]
async fn a_controller_of_before_is_sent_none() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (agent, spool) = telling(dir.path(), &controller).await;
    spool.take(record(1, 100));
    let mut session = controller.session().await;
    session.welcome(0, 20, 10_000).await;
    for _ in 0..5 {
        session.hear().await.unwrap();
    }
    assert!(timeout(Duration::ZERO, controller.batch()).await.is_err(), "it does not know the call");
    assert!(agent.stop().await);
}

/// The line is the jobs' before it is the telemetry's.
#[tokio::test]
async fn it_keeps_to_its_rate() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let mut settings = joined(dir.path(), &controller);
    settings.link.telemetry_bytes_per_s = 100_000;
    let spool = Arc::new(Spool::open(&dir.path().join("telemetry"), 0).unwrap());
    (0..4).for_each(|number| spool.take(record(number, 20_000)));
    let agent = Agent::telling(&settings, Table::new().pipeline, Some(spool)).await.unwrap();
    let session = controller.session().await;
    session.welcome_telling().await;
    let began = Instant::now();
    for _ in 0..4 {
        controller.batch().await.1.send(Ok(())).unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(600), "three of four have to wait: {:?}", began.elapsed());
    assert!(agent.stop().await);
}
