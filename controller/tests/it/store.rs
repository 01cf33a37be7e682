//! The store alone: what is appended is there once, in order and for good.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use gantry_controller::{
    config,
    store::{
        AgentRow, Appended, Cancel, Inserted, JobFilter, JobRow, NewJob, OrderReport, Progress, SqliteStore, Store,
        StoreError,
    },
};
use gantry_proto::{AgentId, Body, JobId, JobOutcome, v1};
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::agent::{cancel_accepted, done, finished, started, step, wire};

pub(crate) fn agent() -> AgentId {
    "a1".parse().unwrap()
}

pub(crate) async fn open(dir: &Path) -> SqliteStore {
    let store = SqliteStore::open(&dir.join("gantry.db"), &config::Store::default()).await.unwrap();
    let row = AgentRow {
        id: agent(),
        site: "s1".into(),
        version: "1".into(),
        boot_id: "b".into(),
        sealing_key: vec![7; 32],
        isos: vec![v1::IsoFile { name: "x.iso".into(), size: 5, ..Default::default() }],
        remote_address: "127.0.0.1:1".into(),
        seen: Timestamp::UNIX_EPOCH,
    };
    store.put_agent(row).await.unwrap();
    store
}

fn new_job(id: JobId, target: &str) -> NewJob {
    let row = JobRow {
        id,
        epoch: 1,
        site: "s1".into(),
        agent: agent(),
        created: Timestamp::UNIX_EPOCH,
        submitted_by: "admin".into(),
        file_name: "p.xlsx".into(),
        plan_sha256: vec![1; 32],
        cluster: "c".into(),
        vm_name: "vm".into(),
        cloudtower_ip: format!("ip-{target}"),
        target: target.into(),
        keep_on_failure: false,
        cancel: v1::CancelStage::Unspecified,
        refusal: String::new(),
        moving_to: None,
        undo_only: false,
        progress: Progress::queued(),
    };
    let plan = v1::PlanDocument { schema: "x".into(), json: b"{}".to_vec(), sha256: vec![1; 32] };
    let start = v1::Order {
        job_id: id.to_string(),
        kind: Some(v1::order::Kind::Start(v1::StartJob::default())),
        ..Default::default()
    };
    NewJob { row, plan, start }
}

async fn stored(store: &SqliteStore) -> JobId {
    let id = JobId::new();
    let inserted = store.insert_job(new_job(id, &id.to_string())).await.unwrap();
    assert!(matches!(inserted, Inserted::Stored(_)), "{inserted:?}");
    id
}

async fn append(store: &SqliteStore, job: JobId, first: u64, bodies: Vec<Body>) -> Appended {
    store.append(job, agent(), wire(first, 1, bodies)).await.unwrap()
}

fn last(appended: &Appended) -> (u64, usize) {
    match appended {
        Appended::Stored { row, new } => (row.progress.last_seq, *new),
        other => panic!("not stored: {other:?}"),
    }
}

fn cancel(job: JobId) -> Cancel {
    let order = v1::Order {
        job_id: job.to_string(),
        kind: Some(v1::order::Kind::Cancel(v1::CancelOrder::default())),
        ..Default::default()
    };
    Cancel { job, request: String::new(), order, unstarted: finished(JobOutcome::Cancelled) }
}

#[tokio::test]
async fn an_append_is_idempotent_and_leaves_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    assert_eq!(last(&append(&store, job, 1, vec![started(), step("preflight")]).await), (2, 2));
    assert_eq!(last(&append(&store, job, 1, vec![started(), step("preflight")]).await), (2, 0));
    assert_eq!(last(&append(&store, job, 2, vec![step("preflight"), done("preflight")]).await), (3, 1));

    assert_eq!(append(&store, job, 5, vec![step("upload-iso")]).await, Appended::Gap { stored: 3, got: 5 });
    let mut torn = wire(4, 1, vec![step("upload-iso"), done("upload-iso")]);
    torn[1].seq = 6;
    assert_eq!(store.append(job, agent(), torn).await.unwrap(), Appended::Gap { stored: 4, got: 6 });
    let seqs: Vec<u64> = store.events(job, 0, 100).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    let page: Vec<u64> = store.events(job, 1, 1).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(page, [2]);
}

#[tokio::test]
async fn another_epoch_another_agent_and_an_unknown_job_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    for epoch in [0, 2] {
        let got = store.append(job, agent(), wire(1, epoch, vec![started()])).await.unwrap();
        assert_eq!(got, Appended::OtherEpoch { job: 1, got: epoch });
    }
    let other = "a2".parse().unwrap();
    assert_eq!(store.append(job, other, wire(1, 1, vec![started()])).await.unwrap(), Appended::NotOwner);
    let nobody = store.append(JobId::new(), agent(), wire(1, 1, vec![started()])).await.unwrap();
    assert_eq!(nobody, Appended::UnknownJob);
    assert!(store.events(job, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn everything_is_there_after_a_reopen_and_the_fold_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    append(&store, job, 1, vec![started(), step("preflight"), done("preflight"), step("upload-iso")]).await;
    let before = store.job(job).await.unwrap().unwrap();
    store.close().await;
    assert!(matches!(store.check().await, Err(StoreError::Closed | StoreError::Engine(_))));
    assert!(!dir.path().join("gantry.db-wal").exists(), "the write-ahead log is folded in");

    let store = open(dir.path()).await;
    assert_eq!(store.job(job).await.unwrap().unwrap(), before);
    assert_eq!((before.progress.percent, before.progress.current_step.as_str()), (25.0, "upload-iso"));
    let after = append(&store, job, 5, vec![done("upload-iso"), finished(JobOutcome::Succeeded)]).await;
    let Appended::Stored { row, .. } = after else { panic!("{after:?}") };
    assert!(row.finished() && row.progress.percent == 100.0);
    assert_eq!(row.progress.started, before.progress.started);
    let result = store.result(job).await.unwrap().unwrap();
    assert!(String::from_utf8(result).unwrap().contains("127.30.40.20"));
    assert!(store.open_orders(agent(), 0, 10).await.unwrap().is_empty(), "an ended job needs no order");
    let (row, active) = store.agents().await.unwrap().remove(0);
    assert_eq!((row.isos[0].name.as_str(), row.sealing_key, active), ("x.iso", vec![7; 32], 0));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await;
    let path = dir.path().join("gantry.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("UPDATE meta SET value = 99 WHERE key = 'form'").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let refused = SqliteStore::open(&path, &config::Store::default()).await.err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_tasks_share_commits() {
    const EVENTS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).await);
    let mut jobs = Vec::new();
    for _ in 0..8 {
        jobs.push(stored(&store).await);
    }
    let count = || store.stats().commits.load(Ordering::Relaxed);
    let before = count();
    let mut tasks = JoinSet::new();
    for job in jobs.clone() {
        let store = store.clone();
        tasks.spawn(async move {
            append(&store, job, 1, vec![started()]).await;
            for seq in 2..=EVENTS {
                assert_eq!(last(&append(&store, job, seq, vec![step("preflight")]).await), (seq, 1));
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    for job in jobs {
        assert_eq!(store.events(job, 0, 1000).await.unwrap().len() as u64, EVENTS);
    }
    let commits = count() - before;
    assert!(commits < 8 * EVENTS / 2, "{commits} commits for {} appends", 8 * EVENTS);
}

#[tokio::test]
async fn the_same_job_twice_is_one_and_a_target_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let id = JobId::new();
    assert!(matches!(store.insert_job(new_job(id, "t")).await.unwrap(), Inserted::Stored(_)));
    assert!(matches!(store.insert_job(new_job(id, "t")).await.unwrap(), Inserted::Known(_)));
    let mut other_plan = new_job(id, "t");
    other_plan.row.plan_sha256 = vec![2; 32];
    assert_eq!(store.insert_job(other_plan).await.unwrap(), Inserted::Conflict);

    let second = JobId::new();
    let busy = store.insert_job(new_job(second, "t")).await.unwrap();
    assert!(matches!(busy, Inserted::TargetBusy(row) if row.id == id));
    let mut same_address = new_job(second, "elsewhere");
    same_address.row.cloudtower_ip = "ip-t".into();
    assert!(matches!(store.insert_job(same_address).await.unwrap(), Inserted::TargetBusy(_)));

    append(&store, id, 1, vec![started(), finished(JobOutcome::Failed)]).await;
    assert!(matches!(store.insert_job(new_job(second, "t")).await.unwrap(), Inserted::Stored(_)));
    let newest: Vec<JobId> = list(&store, JobFilter { limit: 10, ..JobFilter::default() }).await;
    assert_eq!(newest, [second, id]);
    let active = list(&store, JobFilter { limit: 10, active_only: true, ..JobFilter::default() }).await;
    assert_eq!(active, [second]);
    let older = list(&store, JobFilter { limit: 10, before: Some(second), ..JobFilter::default() }).await;
    assert_eq!(older, [id]);
    assert_eq!(store.jobs_beginning(second.to_string()[..30].to_owned()).await.unwrap().len(), 1);
    assert_eq!(store.jobs_beginning(second.short()).await.unwrap(), [second]);
    assert!(store.jobs_beginning("ffffffff".into()).await.unwrap().is_empty());
}

async fn list(store: &SqliteStore, filter: JobFilter) -> Vec<JobId> {
    store.list_jobs(filter).await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_start_that_was_never_sent_is_withdrawn_by_a_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    let number = store.open_orders(agent(), 0, 10).await.unwrap()[0].number;
    let row = store.cancel(cancel(job)).await.unwrap().unwrap().row;
    assert_eq!((row.progress.state, row.cancel), (v1::JobState::Cancelled, v1::CancelStage::Undone));
    assert!(!store.sending(agent(), number).await.unwrap(), "it may no longer be sent");
    assert!(store.open_orders(agent(), 0, 10).await.unwrap().is_empty());
    assert_eq!(store.events(job, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.cancel(cancel(job)).await.unwrap().unwrap().row.cancel, v1::CancelStage::Undone);
}

#[tokio::test]
async fn a_start_that_may_have_arrived_is_followed_by_a_cancel_and_the_agent_decides() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    assert!(store.sending(agent(), 1).await.unwrap());
    for _ in 0..2 {
        let row = store.cancel(cancel(job)).await.unwrap().unwrap().row;
        assert_eq!((row.progress.state, row.cancel), (v1::JobState::Queued, v1::CancelStage::Requested));
    }
    let open = store.open_orders(agent(), 0, 10).await.unwrap();
    assert_eq!(open.iter().map(|order| order.number).collect::<Vec<_>>(), [1, 2], "asked twice, ordered once");

    assert!(store.sending(agent(), 2).await.unwrap());
    let report = |number, stage| OrderReport { number, stage, refused: finished(JobOutcome::Failed), why: "no".into() };
    let row = store.order_report(agent(), report(2, v1::OrderStage::Delivered)).await.unwrap().unwrap();
    assert_eq!(row.cancel, v1::CancelStage::Delivered);
    assert!(store.order_report(agent(), report(2, v1::OrderStage::Delivered)).await.unwrap().is_none());
    append(&store, job, 1, vec![started(), cancel_accepted()]).await;
    assert_eq!(store.job(job).await.unwrap().unwrap().cancel, v1::CancelStage::Stopped);
    append(&store, job, 3, vec![finished(JobOutcome::Cancelled)]).await;
    assert_eq!(store.job(job).await.unwrap().unwrap().cancel, v1::CancelStage::Undone);
}

#[tokio::test]
async fn a_cancel_after_the_end_is_too_late_and_a_refused_one_may_be_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    store.sending(agent(), 1).await.unwrap();
    store.cancel(cancel(job)).await.unwrap();
    store.sending(agent(), 2).await.unwrap();
    let refused = OrderReport {
        number: 2,
        stage: v1::OrderStage::Refused,
        refused: finished(JobOutcome::Failed),
        why: "no".into(),
    };
    store.order_report(agent(), refused).await.unwrap();
    store.cancel(cancel(job)).await.unwrap();
    let open = store.open_orders(agent(), 1, 10).await.unwrap();
    assert_eq!(open.iter().map(|order| order.number).collect::<Vec<_>>(), [3]);
    append(&store, job, 1, vec![started(), finished(JobOutcome::Succeeded)]).await;
    let row = store.cancel(cancel(job)).await.unwrap().unwrap().row;
    assert_eq!((row.progress.state, row.cancel), (v1::JobState::Succeeded, v1::CancelStage::TooLate));
}

#[tokio::test]
async fn a_second_cancel_is_an_order_only_while_the_job_is_being_undone_and_never_a_repeated_call() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    store.sending(agent(), 1).await.unwrap();
    let ask = async |request: &str| {
        let wish = Cancel { request: request.to_owned(), ..cancel(job) };
        store.cancel(wish).await.unwrap().unwrap().cut_short
    };
    let orders = async || store.open_orders(agent(), 0, 10).await.unwrap().len();
    append(&store, job, 1, vec![started(), step("preflight")]).await;
    assert!(!ask("one").await && !ask("two").await, "the step is still running");
    let undoing = Body::UndoStarted { step: "preflight".into() };
    append(&store, job, 3, vec![cancel_accepted(), undoing]).await;
    assert!(!ask("one").await, "its answer was lost, and it was asked before the undo");
    assert_eq!(orders().await, 2);
    assert!(ask("three").await && ask("three").await && ask("four").await);
    assert_eq!(orders().await, 3, "one order ends the waiting");
}

#[tokio::test]
async fn a_refused_start_ends_the_job_and_empties_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    let refused = || OrderReport {
        number: 1,
        stage: v1::OrderStage::Refused,
        refused: finished(JobOutcome::Failed),
        why: "no".into(),
    };
    assert!(store.order_report(agent(), refused()).await.unwrap().is_none(), "nobody refuses what was never sent");
    store.sending(agent(), 1).await.unwrap();
    let row = store.order_report(agent(), refused()).await.unwrap().unwrap();
    assert_eq!((row.id, row.progress.state, row.progress.last_seq), (job, v1::JobState::Failed, 1));
    assert!(store.open_orders(agent(), 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_steps_take_is_kept_by_site_and_only_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let took = |ms: u64| Body::StepSucceeded { step: "preflight".into(), elapsed_ms: ms };
    let job = stored(&store).await;
    append(&store, job, 1, vec![started(), step("preflight"), took(2_500)]).await;
    // Twice is the same as once.
    append(&store, job, 3, vec![took(2_500)]).await;
    let (home, elsewhere) = store.step_times("s1").await.unwrap();
    assert_eq!((home, elsewhere), (vec![("preflight".to_owned(), 2.5)], Vec::new()));
    let (home, elsewhere) = store.step_times("another").await.unwrap();
    assert_eq!((home.len(), elsewhere.len()), (0, 1));
    append(&store, job, 4, (0..1_500).map(took).collect()).await;
    let (home, _) = store.step_times("s1").await.unwrap();
    assert_eq!(home.len(), 1_000);
    assert_eq!(home.iter().map(|(_, seconds)| *seconds).fold(f64::MAX, f64::min), 0.5, "the oldest are gone");
}

#[tokio::test]
async fn a_file_of_form_2_is_brought_to_the_newest_and_keeps_its_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let job = stored(&store).await;
    append(&store, job, 1, vec![started(), step("preflight")]).await;
    store.close().await;
    let path = dir.path().join("gantry.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for back in [
        "DROP TABLE step_times",
        "DROP TABLE audit",
        "DROP TABLE sites",
        "DROP TABLE operators",
        "DROP TABLE enrolled",
        "DROP TABLE tokens",
        "DROP VIEW job_rows",
        "DROP TABLE moves",
        "ALTER TABLE jobs DROP COLUMN undo_only",
        "ALTER TABLE jobs DROP COLUMN question",
        "ALTER TABLE jobs DROP COLUMN question_seq",
        "ALTER TABLE orders DROP COLUMN question",
        "UPDATE meta SET value = 2 WHERE key = 'form'",
    ] {
        sqlx::query(back).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();

    let store = open(dir.path()).await;
    let row = store.job(job).await.unwrap().unwrap();
    assert_eq!((row.progress.last_seq, row.moving_to, row.undo_only), (2, None, false));
    assert_eq!(row.progress.question, None);
    assert_eq!(last(&append(&store, job, 3, vec![done("preflight")]).await), (3, 1));
    assert_eq!(store.open_orders(agent(), 0, 10).await.unwrap().len(), 1);
    // The agent of before is in, at its site.
    let enrolled = store.enrollments().await.unwrap();
    assert_eq!((enrolled.len(), &enrolled[0].agent, enrolled[0].revoked), (1, &agent(), false));
    assert_eq!(store.sites().await.unwrap()[0].name, enrolled[0].site);
}
