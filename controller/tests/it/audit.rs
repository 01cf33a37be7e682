//! Who did what is written down, before and after; what cannot be written down does not happen.

use std::{net::SocketAddr, path::Path, sync::Arc};

use gantry_controller::{
    STORE_FILE,
    access::Caller,
    audit::{Audit, AuditApi, CALLS, Call, Who, act},
    config,
    refusal::Refusal,
    store::{AuditFilter, SqliteStore, Store as _},
};
use gantry_proto::{
    Code, JobId, Redactor, Secret,
    audit::{BEGIN, Entry, Outcome, Record, Verifier},
    sealed::SealingKey,
    v1::{self, audit_service_server::AuditService as _},
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Request;
use tonic_prost::ProstCodec;

use crate::{
    agent::{FakeAgent, hello},
    lab::{Lab, get, soon, submission, submit},
};

/// The log alone, over a store of its own.
struct Log {
    _dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    audit: Arc<Audit>,
    redactor: Redactor,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Log {
    async fn open(settings: config::Audit) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join(STORE_FILE), &config::Store::default()).await.unwrap();
        let (store, redactor) = (Arc::new(store), Redactor::new());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let audit = Audit::new(store.clone(), redactor.clone(), settings, tasks.clone(), stop.clone());
        Self { _dir: dir, store, audit: Arc::new(audit), redactor, tasks, stop }
    }

    async fn records(&self) -> Vec<Record> {
        self.store.audit(all()).await.unwrap()
    }

    async fn list(&self, wish: v1::ListAuditRequest) -> Vec<v1::ListAuditResponse> {
        let api = AuditApi { audit: self.audit.clone() };
        let stream = api.list_audit(Request::new(wish)).await.unwrap().into_inner();
        stream.map(Result::unwrap).collect().await
    }

    /// Numbers of the records that a list gives.
    async fn numbers(&self, wish: v1::ListAuditRequest) -> Vec<u64> {
        self.list(wish).await.iter().flat_map(|page| &page.records).map(|record| record.number).collect()
    }
}

fn all() -> AuditFilter {
    AuditFilter {
        after: 0,
        upto: u64::MAX,
        limit: 1000,
        newest: false,
        job: String::new(),
        operator: String::new(),
        since_micros: 0,
    }
}

fn by<T>(name: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller { name: name.to_owned(), role: v1::Role::Operator, sites: Vec::new() });
    request
}

fn sound(records: &[Record]) {
    let mut verifier = Verifier::new(None);
    records.iter().for_each(|record| verifier.line(&record.line()));
    assert_eq!(verifier.end().faults, []);
}

async fn file(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

fn about(record: &Record) -> (&str, Outcome, u64) {
    (&record.entry.act, record.entry.outcome, record.entry.asked)
}

#[tokio::test]
async fn an_act_is_recorded_before_and_after_with_who_where_what_and_the_plan() {
    let mut lab = Lab::start().await;
    let agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    let pause =
        v1::PauseJobRequest { job_id: job.to_string()[..30].into(), reason: "lunch".into(), request_id: "r1".into() };
    client.pause_job(pause).await.unwrap();
    let plan = get(&mut client, job).await.plan_sha256;

    let (records, head) = lab.audit().await;
    sound(&records);
    assert_eq!(head, records.last().unwrap().head());
    let told: Vec<_> = records.iter().map(about).collect();
    assert_eq!(
        told,
        [
            (BEGIN, Outcome::Done, 0),
            (act::START, Outcome::Done, 0),
            (act::SITE_ADD, Outcome::Asked, 0),
            (act::SITE_ADD, Outcome::Done, 3),
            (act::AGENT_TOKEN, Outcome::Asked, 0),
            (act::AGENT_TOKEN, Outcome::Done, 5),
            (act::AGENT_JOIN, Outcome::Done, 0),
            (act::SUBMIT, Outcome::Asked, 0),
            (act::SUBMIT, Outcome::Done, 8),
            (act::PAUSE, Outcome::Asked, 0),
            (act::PAUSE, Outcome::Done, 10),
        ]
    );
    for record in &records[7..] {
        let Entry { operator, role, remote, job: about, .. } = &record.entry;
        assert_eq!((operator.as_str(), role.as_str(), about.as_str()), ("admin", "admin", &*job.to_string()));
        let remote: SocketAddr = remote.parse().unwrap();
        assert!(remote.ip().is_loopback());
    }
    assert_eq!(records[7].entry.detail, "workbook planning.xlsx");
    for record in &records[8..] {
        let Entry { site, agent, plan_sha256, .. } = &record.entry;
        assert_eq!((site.as_str(), agent.as_str(), plan_sha256), ("s1", "a1", &plan), "{record:?}");
    }
    for record in &records[9..] {
        assert_eq!((record.entry.detail.as_str(), record.entry.request_id.as_str()), ("lunch", "r1"));
    }
    drop(agent);
    lab.stop().await;
}

#[tokio::test]
async fn no_act_of_the_contract_goes_by_without_a_record() {
    let mut lab = Lab::with(|config| config.audit.refusals_per_peer = 100).await;
    let channel = lab.channel(Some(lab.operator_identity())).await;
    let (before, _) = lab.audit().await;
    let acts = CALLS.iter().filter_map(|(path, call)| match call {
        Call::Acts(word) => Some((*path, *word)),
        Call::Reads | Call::Records(_) | Call::Link => None,
    });
    let acts: Vec<_> = acts.collect();
    assert!(acts.len() >= 8);
    for (path, _) in &acts {
        // An empty message is one of every kind.
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<(), ()>::default();
        let answer = grpc.unary(Request::new(()), http_path(path), codec).await;
        assert!(answer.is_err(), "{path}");
    }
    let (after, _) = lab.audit().await;
    let told: Vec<_> = after[before.len()..].iter().map(|record| (&*record.entry.act, record.entry.outcome)).collect();
    let wanted: Vec<_> = acts.iter().map(|(_, word)| (*word, Outcome::Refused)).collect();
    assert_eq!(told, wanted);
    let last = &after.last().unwrap().entry;
    assert_eq!((last.operator.as_str(), last.code.as_str()), ("admin", "bad_request"));
    lab.stop().await;
}

fn http_path(path: &str) -> tonic::codegen::http::uri::PathAndQuery {
    path.parse().unwrap()
}

#[tokio::test]
async fn a_refusal_behind_the_record_says_why() {
    let mut lab = Lab::start().await;
    let mut client = lab.jobs().await;
    let refused = submit(&mut client, submission(JobId::new())).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::NoAgent), "{refused:?}");
    let rejected = v1::SubmitJobRequest { workbook: b"rubbish".to_vec(), ..submission(JobId::new()) };
    client.submit_job(rejected).await.unwrap();
    let (records, _) = lab.audit().await;
    let [asked, no_agent, _, no_plan] = &records[2..] else { panic!("{records:?}") };
    assert_eq!((asked.entry.outcome, about(no_agent)), (Outcome::Asked, (act::SUBMIT, Outcome::Refused, asked.number)));
    assert_eq!((no_agent.entry.code.as_str(), no_agent.entry.message.as_str()), ("no_agent", refused.message()));
    assert_eq!((no_plan.entry.outcome, no_plan.entry.code.as_str()), (Outcome::Refused, "plan_rejected"));
    lab.stop().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_happen() {
    let mut lab = Lab::start().await;
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    let mut file = file(&lab.config.data.join(STORE_FILE)).await;
    let full = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END";
    sqlx::query(full).execute(&mut file).await.unwrap();
    let refused = submit(&mut client, submission(job)).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::Internal));
    assert!(refused.message().contains("could not be recorded, so it was not carried out"), "{refused:?}");
    let jobs = client.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs, []);

    sqlx::query("DROP TRIGGER full").execute(&mut file).await.unwrap();
    submit(&mut client, submission(job)).await.unwrap();
    assert_eq!(agent.order().await.job_id, job.to_string(), "the first order that there ever was");
    file.close().await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let mut lab = Lab::start().await;
    let (before, head) = lab.audit().await;
    lab.restart().await;
    let (after, _) = lab.audit().await;
    sound(&after);
    assert_eq!((&after[..before.len()], after.len()), (&before[..], 3));
    assert_eq!((about(&after[2]).0, after[2].previous), (act::START, head.hash));
    assert!(after.iter().all(|record| record.entry.subject == after[0].entry.subject), "one CA");
    lab.stop().await;
}

#[tokio::test]
async fn the_file_itself_takes_no_change() {
    let mut lab = Lab::start().await;
    let (records, _) = lab.audit().await;
    lab.stop().await;
    let mut file = file(&lab.config.data.join(STORE_FILE)).await;
    let columns = "act, outcome, asked, code, message, operator, role, remote, job, site, agent, subject, plan_sha256, \
                   request_id, detail, previous, hash";
    let again = |verb: &str, number: u32| {
        format!("{verb} INTO audit SELECT {number}, at, {columns} FROM audit WHERE number = 1")
    };
    for statement in [
        "UPDATE audit SET operator = 'nobody'".to_owned(),
        "DELETE FROM audit".to_owned(),
        again("INSERT OR REPLACE", 1),
        again("INSERT", 9),
    ] {
        let refused = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut file).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
    file.close().await.unwrap();
    lab.restart().await;
    assert_eq!(lab.audit().await.0[..records.len()], records);
    lab.stop().await;
}

#[tokio::test]
async fn a_flood_of_refused_calls_is_counted_and_does_not_fill_the_log() {
    let log = Log::open(config::Audit { refusals_per_peer: 3, ..config::Audit::default() }).await;
    let refusal = Refusal::new(Code::NotAllowed, "none was shown");
    let port = |port| Who { remote: Some(SocketAddr::from(([192, 0, 2, 7], port))), ..Who::default() };
    for at in 0..500 {
        log.audit.refused(&port(1000 + at), "/gantry.v1.JobService/CancelJob", &refusal).await;
    }
    let viewer = Who { name: "li".into(), role: "viewer".into(), remote: None };
    log.audit.refused(&viewer, "/gantry.v1.JobService/ListJobs", &refusal).await;
    log.stop.cancel();
    soon("the last window", log.audit.clone().keep()).await;

    let records = log.records().await;
    let told: Vec<_> = records.iter().map(|record| (&*record.entry.act, &*record.entry.operator)).collect();
    let wanted = [act::CANCEL, act::CANCEL, act::CANCEL].map(|word| (word, ""));
    assert_eq!(told, [&wanted[..], &[(act::CALL, "li"), (act::REFUSED_CALLS, "")]].concat());
    assert!(records.iter().all(|record| record.entry.outcome == Outcome::Refused));
    let (first, counted) = (&records[0].entry, &records[4].entry);
    assert_eq!((first.remote.as_str(), first.code.as_str()), ("192.0.2.7:1000", "not_allowed"));
    assert_eq!((counted.remote.as_str(), &counted.detail[..8]), ("192.0.2.7", "497 more"));
}

#[tokio::test]
async fn an_act_whose_caller_goes_away_is_not_left_open() {
    let log = Log::open(config::Audit::default()).await;
    let (mut act, ()) = log.audit.act(by("li", ()), act::CANCEL).unwrap();
    assert_eq!(act.asked().await.unwrap(), "li");
    drop(act);
    let (unasked, ()) = log.audit.act(by("li", ()), act::CANCEL).unwrap();
    drop(unasked);
    log.tasks.close();
    soon("what is to be written", log.tasks.wait()).await;
    let records = log.records().await;
    let told: Vec<_> = records.iter().map(about).collect();
    assert_eq!(told, [(act::CANCEL, Outcome::Asked, 0), (act::CANCEL, Outcome::CutOff, 1)]);
    let nobody = log.audit.act(Request::new(()), act::CANCEL).map(drop).unwrap_err();
    assert_eq!(Code::of(&nobody), Some(Code::NotAllowed));
}

#[tokio::test]
async fn texts_are_bounded_and_hold_no_secret() {
    let log = Log::open(config::Audit::default()).await;
    log.redactor.register(&Secret::new("hunter2hunter2"));
    let (mut act, ()) = log.audit.act(by("li", ()), act::CANCEL).unwrap();
    act.about().detail = format!("the password is hunter2hunter2 {}", "x".repeat(1 << 20));
    act.asked().await.unwrap();
    act.end(Err::<(), _>(Code::JobState.status("hunter2hunter2"))).await.unwrap_err();
    for record in log.records().await {
        let line = record.line();
        assert!(line.len() < 2000 && !line.contains("hunter2") && line.contains("机密凭据"), "{line}");
    }
}

#[tokio::test]
async fn lists_are_paged_filtered_and_end_at_the_head() {
    let log = Log::open(config::Audit { readers: 1, ..config::Audit::default() }).await;
    for number in 1..=300_u32 {
        let (operator, job) = (["li", "wang"][number as usize % 2].to_owned(), format!("j{}", number / 100));
        log.audit.record(Entry { act: "x".into(), operator, job, ..Entry::default() }).await.unwrap();
    }
    let pages = log.list(v1::ListAuditRequest::default()).await;
    assert_eq!(pages.iter().map(|page| page.records.len()).collect::<Vec<_>>(), [0, 128, 128, 44]);
    assert_eq!((pages[0].head.as_ref().unwrap().number, pages[1].head.as_ref()), (300, None));
    let list = |change: fn(&mut v1::ListAuditRequest)| {
        let mut wish = v1::ListAuditRequest { limit: 2, ..Default::default() };
        change(&mut wish);
        log.numbers(wish)
    };
    assert_eq!(list(|_| {}).await, [1, 2]);
    assert_eq!(list(|wish| wish.newest = true).await, [299, 300]);
    assert_eq!(list(|wish| wish.after_number = 299).await, [300]);
    assert_eq!(list(|wish| wish.job_id = "j1".into()).await, [100, 101]);
    assert_eq!(list(|wish| (wish.operator, wish.newest) = ("li".into(), true)).await, [298, 300]);
    assert_eq!(list(|wish| wish.since_micros = i64::MAX).await, [0; 0]);
    let nothing = v1::ListAuditRequest { job_id: "j9".into(), newest: true, ..Default::default() };
    assert_eq!(log.numbers(nothing).await, [0; 0]);

    let api = AuditApi { audit: log.audit.clone() };
    let first = api.list_audit(Request::new(v1::ListAuditRequest::default())).await.unwrap();
    let second = api.list_audit(Request::new(v1::ListAuditRequest::default())).await.map(drop).unwrap_err();
    assert_eq!(Code::of(&second), Some(Code::Busy));
    drop(first);
    log.stop.cancel();
    let stopped = api.list_audit(Request::new(v1::ListAuditRequest::default())).await.unwrap().into_inner();
    let answers: Vec<_> = stopped.collect().await;
    assert_eq!(answers[1].as_ref().err().and_then(Code::of), Some(Code::Busy), "an end that is none is told");
}
