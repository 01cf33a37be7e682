//! The link against a played controller over real TLS: Hello, replay, orders, cuts, silence, bounds.

use std::{collections::BTreeSet, time::Duration};

use gantry_agent::{
    dialer::{DialError, Dialer},
    identity::Identity,
};
use gantry_proto::{Code, JobId, error::causes, v1};
use tokio::{net::TcpListener, time::Instant};
use v1::{OrderStage, open_request::Item as In, open_response::Item as Out};

use crate::{
    bench::{Act, Table, settings},
    controller::{Agent, Ca, Controller, cancel_order, join, joined, start_order},
};

#[tokio::test]
async fn hello_says_who_the_agent_is_and_heartbeats_follow() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.session().await;
    let hello = &session.hello;
    assert_eq!((hello.protocol, hello.sealing_key.len(), hello.jobs.len()), (1, 32, 0));
    assert_eq!(hello.isos[0].name, "cloudtower-v1.oe.x86_64.iso");
    assert!(!hello.boot_id.is_empty() && !hello.version.is_empty());
    session.welcome(0, 50, 10_000).await;
    for number in 1..=3 {
        let Some(In::Heartbeat(beat)) = session.hear().await else { panic!("something else") };
        assert_eq!(beat.number, number);
    }
    assert!(agent.stop().await);
    assert!(session.hear().await.is_none());
}

#[tokio::test]
async fn an_order_becomes_a_job_whose_events_arrive_in_order() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let mut settings = joined(dir.path(), &controller);
    settings.link.batch_events = 3;
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let job = JobId::new();
    session.say(Out::Order(start_order(1, job, &session.hello.sealing_key.clone(), "192.0.2.20"))).await;
    assert_eq!(session.update().await.stage(), OrderStage::Delivered);
    assert_eq!(session.update().await.stage(), OrderStage::Applied);
    let seqs = session.until_the_end(job).await;
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let done = session.update().await;
    assert_eq!((done.number, done.stage()), (1, OrderStage::Done));
    assert_eq!(agent.redactor.text("canary-ssh-password"), "canary-ssh-password", "an ended job leaves no secret");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn secrets_are_known_as_long_as_their_job_is_at_work() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    table.steps[1].hanging.notified().await;
    let words = ["canary-root-password", "canary-fisheye-password", "canary-ssh-password"];
    words.iter().for_each(|word| assert_eq!(agent.redactor.text(word), gantry_proto::REDACTED));
    session.order(cancel_order(2, job)).await;
    session.until_the_end(job).await;
    while session.update().await.stage() != OrderStage::Done {}
    words.iter().for_each(|word| assert_eq!(agent.redactor.text(word), *word));
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_cancel_that_comes_too_late_is_done_and_leaves_no_event() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    let last = *session.until_the_end(job).await.last().unwrap();
    assert_eq!(session.order(cancel_order(2, job)).await.stage(), OrderStage::Done);
    assert_eq!(agent.runner.positions()[0].last_seq, last);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn only_so_many_finished_jobs_are_kept_and_none_that_is_not_told() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let mut settings = joined(dir.path(), &controller);
    settings.jobs.keep_finished = 1;
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let key = session.hello.sealing_key.clone();
    let mut jobs: Vec<JobId> = (0..3).map(|_| JobId::new()).collect();
    jobs.sort();
    for (number, job) in (1..).zip(&jobs) {
        session.order(start_order(number, *job, &key, "192.0.2.20")).await;
        session.until_the_end(*job).await;
        while session.update().await.number != number {}
    }
    // Acknowledgements are taken in order: what is said after the last one comes back after it.
    session.order(cancel_order(9, jobs[2])).await;
    let kept: Vec<String> = agent.runner.positions().into_iter().map(|position| position.job_id).collect();
    assert_eq!(kept, [jobs[2].to_string()]);
    let on_disk: Vec<bool> = jobs.iter().map(|job| dir.path().join("jobs").join(job.to_string()).exists()).collect();
    assert_eq!(on_disk, [false, false, true]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn after_any_cut_everything_arrives_without_a_gap() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let mut settings = joined(dir.path(), &controller);
    (settings.link.batch_events, settings.link.window_events) = (2, 4);
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let job = JobId::new();
    let key = session.hello.sealing_key.clone();
    assert_eq!(session.order(start_order(1, job, &key, "192.0.2.20")).await.stage(), OrderStage::Applied);
    // The controller stores a batch; the line is cut now before and now after the acknowledgement.
    let (mut stored, mut finished, mut round) = (Vec::new(), false, 0);
    while !finished {
        let Some(batch) = session.events().await else { panic!("cut by somebody else") };
        for event in batch.events {
            if event.seq > stored.len() as u64 {
                stored.push(event.seq);
                finished |= matches!(event.body, Some(v1::event::Body::JobFinished(_)));
            }
        }
        if round % 2 == 0 {
            session.ack(job, stored.len() as u64).await;
        }
        round += 1;
        controller.relay.cut();
        session = controller.session().await;
        let here = session.hello.jobs.iter().find(|place| place.job_id == job.to_string()).unwrap();
        assert!(here.acked_seq <= stored.len() as u64 && here.last_seq >= stored.len() as u64);
        session.welcome(stored.len() as u64, 10_000, 15_000).await;
    }
    assert_eq!(stored, (1..=stored.len() as u64).collect::<Vec<_>>());
    assert!(round > 4, "it was cut often: {round}");
    assert_eq!(table.diary(), ["run a", "run b", "run c"], "the job does not notice");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn an_order_twice_is_an_order_once() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    let order = start_order(1, job, &key, "192.0.2.20");
    assert_eq!(session.order(order.clone()).await.stage(), OrderStage::Applied);
    assert_eq!(session.order(order.clone()).await.stage(), OrderStage::Applied);
    table.steps[1].hanging.notified().await;

    controller.relay.cut();
    let mut session = controller.welcomed(0).await;
    assert_eq!(session.order(order.clone()).await.stage(), OrderStage::Applied);
    assert_eq!(session.order(cancel_order(2, job)).await.stage(), OrderStage::Applied);
    session.until_the_end(job).await;
    let done: BTreeSet<u64> = [session.update().await.number, session.update().await.number].into();
    assert_eq!(done, [1, 2].into());
    assert_eq!(session.order(order).await.stage(), OrderStage::Done);
    assert_eq!(session.order(cancel_order(2, job)).await.stage(), OrderStage::Done, "too late is done, not refused");
    assert_eq!(table.diary(), ["run a", "run b", "undo b", "undo a"]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn orders_that_cannot_stand_are_refused_with_their_word() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(0, &[Act::Hang]);
    let mut settings = joined(dir.path(), &controller);
    settings.jobs.unfinished = 2;
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    let good = || start_order(1, job, &key, "192.0.2.20");
    assert_eq!(session.order(good()).await.stage(), OrderStage::Applied);

    let other_plan = start_order(2, job, &key, "192.0.2.99");
    let other_epoch = v1::Order { number: 3, epoch: 2, ..good() };
    let same_target = start_order(4, JobId::new(), &key, "192.0.2.20");
    let no_kind = v1::Order { number: 5, kind: None, ..good() };
    let no_job = v1::Order { number: 6, job_id: "../x".into(), ..good() };
    let nobody = cancel_order(7, JobId::new());
    let no_epoch = v1::Order { number: 8, epoch: 0, ..good() };
    let late = v1::Order { number: 9, epoch: 7, ..cancel_order(9, job) };
    let fresh = JobId::new();
    let mut bad_hash = start_order(10, fresh, &key, "192.0.2.30");
    if let Some(v1::order::Kind::Start(start)) = &mut bad_hash.kind {
        start.plan.as_mut().unwrap().sha256[0] ^= 1;
    }
    let mut not_ours = start_order(11, fresh, &key, "192.0.2.30");
    if let Some(v1::order::Kind::Start(start)) = &mut not_ours.kind {
        start.secrets.as_mut().unwrap().ciphertext[0] ^= 1;
    }
    for (order, code) in [
        (other_plan, Code::JobConflict),
        (other_epoch, Code::JobConflict),
        (same_target, Code::TargetBusy),
        (no_kind, Code::Incompatible),
        (no_job, Code::BadRequest),
        (nobody, Code::JobNotFound),
        (no_epoch, Code::BadRequest),
        (late, Code::JobConflict),
        (bad_hash, Code::BadRequest),
        (not_ours, Code::BadRequest),
    ] {
        let number = order.number;
        let update = session.order(order).await;
        assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, code.word()), "order {number}");
        assert!(!update.message.is_empty());
    }
    assert_eq!(session.order(start_order(12, fresh, &key, "192.0.2.30")).await.stage(), OrderStage::Applied);
    let full = session.order(start_order(13, JobId::new(), &key, "192.0.2.40")).await;
    assert_eq!(full.code, Code::Busy.word());
    assert!(agent.stop().await);
}

#[tokio::test]
async fn an_order_of_an_older_epoch_that_was_held_back_is_refused_and_the_job_goes_on() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    let second = v1::Order { epoch: 2, ..start_order(2, job, &key, "192.0.2.20") };
    assert_eq!(session.order(second).await.stage(), OrderStage::Applied);
    table.steps[1].hanging.notified().await;
    controller.relay.cut();
    let mut session = controller.welcomed(0).await;
    let refused = session.order(v1::Order { epoch: 1, ..cancel_order(1, job) }).await;
    assert_eq!((refused.stage(), refused.code.as_str()), (OrderStage::Refused, Code::JobConflict.word()));
    assert!(refused.message.contains("epoch 1") && refused.message.contains("epoch 2"), "{}", refused.message);
    assert_eq!(table.diary(), ["run a", "run b"], "nothing is undone");
    let meant = v1::Order { epoch: 2, ..cancel_order(3, job) };
    assert_eq!(session.order(meant).await.stage(), OrderStage::Applied);
    session.until_the_end(job).await;
    assert!(agent.stop().await);
}

#[tokio::test]
async fn both_sides_of_a_frozen_line_let_go_and_meet_again() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let session = controller.session().await;
    session.welcome(0, 100, 400).await;
    controller.relay.freeze(true);
    let frozen = Instant::now();
    // Frozen, the agent cannot even dial; when it thaws, it comes back on a new line.
    tokio::time::timeout(Duration::from_secs(2), controller.session()).await.expect_err("nothing gets through");
    controller.relay.freeze(false);
    let again = controller.welcomed(0).await;
    assert!(frozen.elapsed() < Duration::from_secs(15));
    drop((session, again));
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_silent_controller_is_left() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.session().await;
    session.welcome(0, 50, 200).await;
    while session.hear().await.is_some() {}
    controller.welcomed(0).await;
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_goodbye_is_honoured_with_its_delay() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let session = controller.welcomed(0).await;
    let said = Instant::now();
    session.say(Out::Goodbye(v1::Goodbye { retry_after_ms: 600, reason: "restart".into() })).await;
    controller.session().await;
    assert!(said.elapsed() >= Duration::from_millis(600));
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_session_that_is_refused_is_tried_again() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    controller.session().await.fail(Code::Incompatible.status("too old")).await;
    let strange = controller.session().await;
    strange.say(Out::Heartbeat(v1::Heartbeat { number: 1 })).await;
    let newer = controller.session().await;
    newer.say(Out::Welcome(v1::Welcome { protocol: 99, ..Default::default() })).await;
    controller.welcomed(0).await;
    assert!(agent.stop().await);
}

#[tokio::test]
async fn no_more_than_the_window_is_on_the_line() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let mut settings = joined(dir.path(), &controller);
    (settings.link.batch_events, settings.link.window_events) = (2, 5);
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.session().await;
    session.welcome(0, 50, 60_000).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    let (mut got, mut beats) = (0, 0);
    // Two heartbeats in a row without an event: the window is closed.
    while beats < 2 {
        match session.hear().await.unwrap() {
            In::Events(batch) => (got, beats) = (got + batch.events.len(), 0),
            In::Heartbeat(_) if got > 0 => beats += 1,
            _ => {}
        }
    }
    assert_eq!(got, 5);
    session.ack(job, 1).await;
    assert_eq!(session.events().await.unwrap().events.len(), 1);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn an_acknowledgement_of_what_does_not_exist_ends_the_session() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let agent = Agent::start(&joined(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    session.ack(job, 1_000).await;
    while session.hear().await.is_some() {}
    let mut session = controller.welcomed(0).await;
    session.until_the_end(job).await;
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_restarted_agent_takes_its_job_up_and_tells_the_rest() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang, Act::Succeed]);
    let settings = joined(dir.path(), &controller);
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    table.steps[1].hanging.notified().await;
    let boot = session.hello.boot_id.clone();
    assert!(agent.stop().await);

    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    assert_ne!(session.hello.boot_id, boot);
    assert_eq!(session.hello.sealing_key, key, "the key survives");
    assert_eq!((session.hello.jobs.len(), session.hello.jobs[0].finished), (1, false));
    let seqs = session.until_the_end(job).await;
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(table.diary(), ["run a", "run b", "run b", "run c"]);
    assert_eq!(session.update().await.stage(), OrderStage::Done);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_job_whose_key_is_lost_ends_and_lists_what_it_made() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let settings = joined(dir.path(), &controller);
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    session.order(start_order(1, job, &key, "192.0.2.20")).await;
    table.steps[1].hanging.notified().await;
    assert!(agent.stop().await);
    std::fs::remove_file(dir.path().join("identity/sealing.key")).unwrap();

    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let mut last = None;
    while last.is_none() {
        let batch = session.events().await.unwrap();
        last = batch.events.into_iter().find_map(|event| match event.body {
            Some(v1::event::Body::JobFinished(finished)) => Some(finished),
            _ => None,
        });
    }
    let finished = last.unwrap();
    assert_eq!(finished.outcome(), v1::JobOutcome::Failed);
    assert_eq!(finished.failure.unwrap().code, "secrets_lost");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn why_the_controller_is_not_reached_is_said_with_a_remedy() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let dial = |address, ca: &Ca| {
        let mut settings = settings(dir.path());
        settings.link.connect_timeout_ms = 300;
        join(&settings, ca, ca, address);
        Dialer::new(&Identity::load(&settings).unwrap().credentials.current(), &settings.link).unwrap()
    };
    let wrong_ca = dial(controller.relay.address, &Ca::new()).dial().await.unwrap_err();
    assert!(matches!(wrong_ca, DialError::Tls(..)) && wrong_ca.to_string().contains("another CA"), "{wrong_ca}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = dial(listener.local_addr().unwrap(), &controller.ca).dial().await.unwrap_err();
    assert!(matches!(mute, DialError::Late(..)), "{mute}");

    let gone = listener.local_addr().unwrap();
    drop(listener);
    let refused = dial(gone, &controller.ca).dial().await.unwrap_err();
    assert!(matches!(refused, DialError::Tcp(..)), "{}", causes(&refused).join(": "));
}

#[tokio::test]
async fn a_certificate_of_somebody_else_opens_no_session() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let settings = settings(dir.path());
    join(&settings, &controller.ca, &Ca::new(), controller.relay.address);
    let agent = Agent::start(&settings, table.pipeline).await;
    tokio::time::timeout(Duration::from_millis(700), controller.session()).await.expect_err("a session was opened");
    assert!(!controller.is_dialled());
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_join_file_that_leads_nowhere_is_refused() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let settings = settings(dir.path());
    join(&settings, &ca, &ca, "127.0.0.1:1".parse().unwrap());
    let good = gantry_proto::JoinFile::clone(&Identity::load(&settings).unwrap().credentials.current());
    type Spoil = fn(&mut gantry_proto::JoinFile);
    let cases: [(&str, Spoil); 6] = [
        ("controller", |join| join.controller = "http://127.0.0.1:1".into()),
        ("controller", |join| join.controller = "no url".into()),
        ("server_name", |join| join.server_name = "a b".into()),
        ("ca_pem", |join| join.ca_pem = "x".into()),
        ("cert_pem", |join| join.cert_pem = "x".into()),
        ("key_pem", |join| join.key_pem = gantry_proto::Secret::new("x")),
    ];
    for (what, spoil) in cases {
        let mut join = good.clone();
        spoil(&mut join);
        let Err(DialError::Join(named, _)) = Dialer::new(&join, &settings.link) else { panic!("{what} is taken") };
        assert_eq!(named, what);
    }
}
