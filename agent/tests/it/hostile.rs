//! Orders of a controller that has fallen into wrong hands, over real sockets, against a real agent: each is refused with
//! its word, and nothing happens.

use std::{path::Path, time::Duration};

use gantry_agent::config::Settings;
use gantry_proto::{
    Code, JobId, Plan, order as word,
    plan::{PLAN_MAX_BYTES, PLAN_SCHEMA},
    sealed::{SEALED_MAX_BYTES, SealingKey, seal},
    v1,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tonic::Status;
use v1::{OrderStage, open_response::Item as Out, order::Kind};

use crate::{
    bench::{Act, Table, plan, secrets},
    controller::{Agent, Controller, Session, cancel_order, joined, order, start_order, surrender_order},
};

/// The number of the order that began the job at work.
const STARTED: u64 = 10;
/// What is not the agent's business waits so long for a sign of it.
const QUIET: Duration = Duration::from_millis(500);

/// A hostile order: what is wrong with it, the order, the word of its refusal, and what the refusal says.
struct Row(&'static str, v1::Order, &'static str, &'static str);

/// What the rows are made of.
struct Hostile {
    /// At work, in epoch 2.
    job: JobId,
    /// Not known to the agent.
    fresh: JobId,
    key: Vec<u8>,
}

impl Hostile {
    /// A start of the fresh job that would be taken.
    fn start(&self) -> v1::Order {
        start_order(STARTED + 1, self.fresh, &self.key, "192.0.2.30")
    }

    /// The same with something else in it.
    fn start_with(&self, change: impl FnOnce(&mut v1::StartJob)) -> v1::Order {
        let mut order = self.start();
        if let Some(Kind::Start(start)) = &mut order.kind {
            change(start);
        }
        order
    }

    /// The same with another plan, hashed as it should be.
    fn plan_with(&self, change: impl FnOnce(&mut Value)) -> v1::Order {
        let mut value = serde_json::to_value(plan("192.0.2.30")).unwrap();
        change(&mut value);
        let plan: Plan = serde_json::from_value(value).unwrap();
        self.start_with(|start| start.plan = Some(plan.to_document().unwrap()))
    }

    /// The same with these bytes for a plan, hashed as it should be.
    fn plan_of(&self, json: Vec<u8>) -> v1::Order {
        let sha256 = Sha256::digest(&json).to_vec();
        self.start_with(|start| start.plan = Some(v1::PlanDocument { schema: PLAN_SCHEMA.into(), json, sha256 }))
    }

    fn sealed(&self, job: JobId, agent: &str, key: &[u8]) -> v1::Order {
        let sealed = seal(&secrets(), job, &agent.parse().unwrap(), key).unwrap();
        self.start_with(|start| start.secrets = Some(sealed))
    }

    fn take_over(&self, facts: &[(&str, &str)]) -> v1::Order {
        let Some(Kind::Start(start)) = self.start().kind else { unreachable!() };
        let take_over = v1::TakeOverJob {
            plan: start.plan,
            secrets: start.secrets,
            facts: facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            undo_only: true,
            from: Some(v1::TakenOver { from_agent: "a0".into(), by: "op".into(), confirmed: true }),
            ..Default::default()
        };
        order(STARTED + 1, self.fresh, 2, Kind::TakeOver(take_over))
    }

    /// For whom, until when, and its number.
    fn about_the_order(&self) -> Vec<Row> {
        let (other, bad) = (word::OTHER_SITE, Code::BadRequest.word());
        let (replayed, conflict) = (word::REPLAYED, Code::JobConflict.word());
        let hour_ago = (Timestamp::now() - SignedDuration::from_hours(1)).as_microsecond();
        let retry = order(STARTED, self.job, 3, Kind::Retry(v1::RetryJob::default()));
        let cancel = |number, epoch| v1::Order { epoch, ..cancel_order(number, self.job) };
        vec![
            Row("another site", v1::Order { site: "s2".into(), ..self.start() }, other, "\"s2\""),
            Row("no site", v1::Order { site: String::new(), ..self.start() }, other, "\"s1\""),
            Row("a cancel for another site", v1::Order { site: "s2".into(), ..cancel(11, 2) }, other, "\"s2\""),
            Row("expired", v1::Order { expires_micros: hour_ago, ..self.start() }, word::EXPIRED, "clock"),
            Row("an expired cancel", v1::Order { expires_micros: hour_ago, ..cancel(11, 2) }, word::EXPIRED, "until"),
            Row("for ever", v1::Order { expires_micros: 0, ..self.start() }, bad, "until when"),
            Row("no time at all", v1::Order { expires_micros: i64::MAX, ..self.start() }, bad, "until when"),
            Row("an older epoch", cancel(11, 1), conflict, "epoch 1"),
            Row("a later epoch", cancel(11, 7), conflict, "epoch 7"),
            Row("no epoch", cancel(11, 0), bad, "epoch"),
            Row("a used number for something else", cancel(STARTED, 2), replayed, "order 10"),
            Row("a used number for a retry", retry, replayed, "order 10"),
            Row("a number that was passed over", v1::Order { number: 3, ..self.start() }, replayed, "order 3"),
            Row("no number", v1::Order { number: 0, ..self.start() }, bad, "no order 0"),
            Row("a number beyond all", v1::Order { number: u64::MAX, ..self.start() }, bad, "no order"),
            Row("of no known kind", v1::Order { kind: None, ..self.start() }, Code::Incompatible.word(), "update"),
            Row("a path for a job", v1::Order { job_id: "../../etc/cron.d/x".into(), ..self.start() }, bad, "job id"),
            Row("no job", v1::Order { job_id: String::new(), ..self.start() }, bad, "job id"),
        ]
    }

    /// Where its plan would lead the agent.
    fn about_the_plan(&self) -> Vec<Row> {
        let (foreign, bad) = (word::ADDRESS_NOT_ALLOWED, Code::BadRequest.word());
        let tower = |ip: &'static str| self.plan_with(move |plan| plan["cloudtower"]["ip"] = json!(ip));
        let host = |ip: &str, bmc: Value| {
            let host = json!({
                "row": 3, "hostname": null, "mgmt_ip": ip, "storage_ip": null, "bmc_ip": bmc, "bmc_user": null,
                "ssh_user": null,
            });
            self.plan_with(move |plan| plan["hosts"] = json!([host]))
        };
        let iso = |name: &'static str| self.plan_with(move |plan| plan["deployment"]["iso"]["file_name"] = json!(name));
        vec![
            Row("CloudTower in the internet", tower("8.8.8.8"), foreign, "8.8.8.8 (the CloudTower VM)"),
            Row("CloudTower on the bastion", tower("127.0.0.1"), foreign, "127.0.0.1"),
            Row("where clouds hand out credentials", tower("169.254.169.254"), foreign, "`allow`"),
            Row(
                "a VIP elsewhere",
                self.plan_with(|plan| plan["cluster"]["vip"] = json!("198.51.100.1")),
                foreign,
                "198.51.100.1 (the cluster's VIP)",
            ),
            Row("a host elsewhere", host("198.51.100.2", Value::Null), foreign, "198.51.100.2 (a host"),
            Row("a BMC elsewhere", host("192.0.2.3", json!("198.51.100.3")), foreign, "198.51.100.3 (a host's BMC)"),
            Row("an ISO above its directory", iso("../../etc/shadow"), bad, "not the name of a file"),
            Row("an ISO anywhere", iso("/etc/shadow"), bad, "not the name of a file"),
            Row("the ISO directory itself", iso(".."), bad, "not the name of a file"),
            Row("no plan", self.start_with(|start| start.plan = None), bad, "no plan"),
            Row("a plan of another form", self.plan_of(b"{}".to_vec()), bad, "not valid JSON"),
            Row("a plan of no form", self.plan_of(vec![0xff; 9]), bad, "not valid JSON"),
            Row("a plan too large", self.plan_of(vec![b' '; PLAN_MAX_BYTES + 1]), bad, "limit"),
            Row(
                "a plan of a newer schema",
                self.start_with(|start| start.plan.as_mut().unwrap().schema = "gantry.plan/2; rm -rf /".into()),
                bad,
                "form",
            ),
            Row(
                "a plan that was altered",
                self.start_with(|start| start.plan.as_mut().unwrap().sha256[0] ^= 1),
                bad,
                "hash",
            ),
        ]
    }

    /// The secrets, and what is said of a job's past.
    fn about_the_rest(&self) -> Vec<Row> {
        let bad = Code::BadRequest.word();
        let stranger = SealingKey::generate();
        let decide = v1::DecideOrder { question: 3, choice: "go".into(), by: "op".into(), reason: String::new() };
        vec![
            Row("sealed to another agent", self.sealed(self.fresh, "a2", &self.key), bad, "agent a2"),
            Row("sealed for another job", self.sealed(self.job, "a1", &self.key), bad, "another job"),
            Row("sealed to another key", self.sealed(self.fresh, "a1", stranger.public_bytes()), bad, "key"),
            Row("no secrets", self.start_with(|start| start.secrets = None), bad, "no secrets"),
            Row(
                "secrets of another agent under our name",
                self.start_with(|start| {
                    let sealed = seal(&secrets(), self.fresh, &"a2".parse().unwrap(), &self.key).unwrap();
                    start.secrets = Some(v1::SealedSecrets { agent_id: "a1".into(), ..sealed });
                }),
                bad,
                "do not open",
            ),
            Row(
                "secrets without end",
                self.start_with(|start| {
                    start.secrets.as_mut().unwrap().ciphertext = vec![7; SEALED_MAX_BYTES + 1];
                }),
                bad,
                "form",
            ),
            Row(
                "a foreign VM as the job's own",
                self.take_over(&[("vm", r#"{"name":"db","uuid":"db-1","mark":"production"}"#)]),
                bad,
                "not this job's",
            ),
            Row(
                "any file of the VM as a log",
                self.take_over(&[("installer", r#"{"starts":1,"log_file":"../../etc/shadow"}"#)]),
                bad,
                "none of the installer's logs",
            ),
            Row("a past that is no JSON", self.take_over(&[("vm", "{")]), bad, "no JSON"),
            Row(
                "a job to its own agent",
                v1::Order { epoch: 2, ..surrender_order(11, self.job, "a1") },
                bad,
                "at this agent already",
            ),
            Row(
                "a job to a path",
                v1::Order { epoch: 2, ..surrender_order(11, self.job, "../a2") },
                bad,
                "the new agent",
            ),
            Row(
                "an answer that nobody asked for",
                order(11, self.job, 2, Kind::Decide(decide)),
                Code::JobState.word(),
                "does not ask",
            ),
            Row(
                "a retry of a job at work",
                order(11, self.job, 3, Kind::Retry(v1::RetryJob::default())),
                Code::JobNotFinished.word(),
                "at work",
            ),
            Row("a cancel of nothing", cancel_order(11, self.fresh), Code::JobNotFound.word(), "does not have"),
        ]
    }
}

/// Every file below the agent's directory, but for the log of the job at work.
fn files(dir: &Path, but: JobId) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == but.to_string().as_str() => {}
            true => all.extend(files(&entry.path(), but)),
            false => all.push(entry.path().display().to_string()),
        }
    }
    all.sort();
    all
}

/// The agent may speak with documentation addresses only.
fn settings(dir: &Path, controller: &Controller) -> Settings {
    let mut settings = joined(dir, controller);
    settings.allow = vec!["192.0.2.0/24".parse().unwrap()];
    settings
}

/// A job at work in epoch 2.
async fn begun(table: &Table, session: &mut Session) -> Hostile {
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    let start = v1::Order { epoch: 2, ..start_order(STARTED, job, &key, "192.0.2.20") };
    assert_eq!(session.order(start).await.stage(), OrderStage::Applied);
    table.steps[1].hanging.notified().await;
    Hostile { job, fresh: JobId::new(), key }
}

#[tokio::test]
async fn every_hostile_order_is_refused_with_its_word_and_nothing_happens() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&settings(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let hostile = begun(&table, &mut session).await;
    let before = files(dir.path(), hostile.job);
    let tables = [hostile.about_the_order(), hostile.about_the_plan(), hostile.about_the_rest()];
    let rows: Vec<Row> = tables.into_iter().flatten().collect();
    assert!(rows.len() >= 40, "{}", rows.len());
    for Row(what, order, code, says) in rows {
        let update = session.order(order).await;
        assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, code), "{what}: {}", update.message);
        assert!(update.message.contains(says), "{what}: {}", update.message);
        assert!(!update.message.contains("canary"), "{what}: {}", update.message);
    }
    assert_eq!(files(dir.path(), hostile.job), before, "nothing is on disk of what was refused");
    assert_eq!(table.diary(), ["run a", "run b"], "the job at work has not noticed");
    let known = agent.runner.positions();
    assert_eq!((known.len(), known[0].epoch, known[0].finished), (1, 2, false));
    assert_eq!(agent.runner.last_order(), STARTED, "a refusal uses no number up");
    // The order that they were all made of is taken.
    assert_eq!(session.order(hostile.start()).await.stage(), OrderStage::Applied);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn an_order_that_was_carried_out_is_known_after_a_restart_even_when_nothing_is_left_of_its_job() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let mut settings = settings(dir.path(), &controller);
    settings.jobs.keep_finished = 0;
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    assert_eq!(session.hello.last_order, 0);
    let (job, key) = (JobId::new(), session.hello.sealing_key.clone());
    let start = start_order(7, job, &key, "192.0.2.20");
    assert_eq!(session.order(start.clone()).await.stage(), OrderStage::Applied);
    session.until_the_end(job).await;
    let gone = async {
        while dir.path().join("jobs").join(job.to_string()).exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
    assert!(agent.stop().await);
    table.diary();

    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    assert_eq!((session.hello.last_order, session.hello.jobs.len()), (7, 0));
    let update = session.order(start).await;
    assert_eq!((update.stage(), update.code.as_str()), (OrderStage::Refused, word::REPLAYED), "{}", update.message);
    assert!(table.diary().is_empty(), "it is not carried out a second time");
    assert_eq!(session.order(start_order(8, JobId::new(), &key, "192.0.2.20")).await.stage(), OrderStage::Applied);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_repeated_order_is_answered_as_what_it_was_even_past_its_time() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&settings(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let hostile = begun(&table, &mut session).await;
    let late = |order| v1::Order { expires_micros: 1, epoch: 2, ..order };
    let start = late(start_order(STARTED, hostile.job, &hostile.key, "192.0.2.20"));
    assert_eq!(session.order(start.clone()).await.stage(), OrderStage::Applied);
    let cancel = v1::Order { epoch: 2, ..cancel_order(11, hostile.job) };
    assert_eq!(session.order(cancel.clone()).await.stage(), OrderStage::Applied);
    assert_eq!(session.order(late(cancel.clone())).await.code, "", "a cancel that is known is no news");
    // Its last events may have come before the last answer.
    agent.until(hostile.job, |tail| tail.finished).await;
    for order in [start, late(cancel)] {
        assert_eq!(session.order(order).await.stage(), OrderStage::Done);
    }
    // In a second epoch every step may have made something in the first one.
    assert_eq!(table.diary(), ["run a", "run b", "undo c", "undo b", "undo a"]);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_file_of_orders_that_is_damaged_stops_the_agent_with_a_word() {
    let (dir, table, controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let settings = settings(dir.path(), &controller);
    std::fs::write(dir.path().join("orders.seen"), "no number").unwrap();
    let refused = Agent::try_start(&settings, table.pipeline).await.err().unwrap();
    assert!(refused.to_string().contains("orders.seen"), "{refused}");
}

/// A message of more than 4 MiB: it is not read, the session ends, and the job goes on.
#[tokio::test]
async fn an_oversized_frame_ends_the_session_and_nothing_else() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&settings(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let hostile = begun(&table, &mut session).await;
    let huge = hostile.start_with(|start| start.submitted_by = "x".repeat(5 << 20));
    session.say(Out::Order(huge)).await;
    while session.hear().await.is_some() {}
    let again = controller.welcomed(0).await;
    let known: Vec<&str> = again.hello.jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(known, [hostile.job.to_string()], "of the order nothing is known");
    assert_eq!(table.diary(), ["run a", "run b"]);
    assert!(agent.stop().await);
}

/// A stream that never ends: what does not fit is dropped, and what is asked then is answered.
#[tokio::test]
async fn a_flood_of_orders_makes_no_job_and_drowns_no_answer() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&settings(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let hostile = begun(&table, &mut session).await;
    for _ in 0..3_000 {
        session.say(Out::Order(v1::Order { site: "s2".into(), ..hostile.start() })).await;
        session.say(Out::Ack(v1::EventAck { job_id: hostile.fresh.to_string(), seq: u64::MAX })).await;
    }
    let meant = v1::Order { epoch: 2, ..cancel_order(12, hostile.job) };
    assert_eq!(session.order(meant).await.stage(), OrderStage::Applied);
    assert_eq!(agent.runner.positions().len(), 1);
    assert!(agent.stop().await);
}

/// What is no order, or comes out of its place, ends the session; the agent comes back and has done nothing.
#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session_and_nothing_else() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    table.acts(1, &[Act::Hang]);
    let agent = Agent::start(&settings(dir.path(), &controller), table.pipeline).await;
    let mut session = controller.welcomed(0).await;
    let hostile = begun(&table, &mut session).await;
    let welcome = v1::Welcome { protocol: 1, heartbeat_ms: 10_000, silence_ms: 15_000, ..Default::default() };
    let job_id = hostile.job.to_string();
    for broken in [
        Out::Welcome(welcome),
        Out::Ack(v1::EventAck { job_id: "../x".into(), seq: 1 }),
        Out::Ack(v1::EventAck { job_id, seq: u64::MAX }),
        Out::Goodbye(v1::Goodbye { retry_after_ms: 0, reason: "\u{1b}[2J".repeat(9_999) }),
    ] {
        session.say(broken).await;
        while session.hear().await.is_some() {}
        session = controller.welcomed(0).await;
    }
    session.fail(Status::internal("x".repeat(2_000))).await;
    // An order before Welcome is none.
    let early = controller.session().await;
    early.say(Out::Order(hostile.start())).await;
    let session = controller.welcomed(0).await;
    assert_eq!(session.hello.jobs.len(), 1);
    assert!(timeout(QUIET, table.steps[1].hanging.notified()).await.is_err(), "no step is walked");
    assert_eq!((table.diary(), agent.runner.last_order()), (vec!["run a".into(), "run b".into()], STARTED));
    assert!(agent.stop().await);
}
