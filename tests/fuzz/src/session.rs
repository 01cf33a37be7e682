//! A whole session at the controller's end of the link: Hello, then whatever comes, over the real store. The store
//! stays whole, and whoever asks for the job afterwards gets an answer.
//!
//! The job [`JOB`] of an input becomes one that the store has just taken in, for the agent that speaks.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use gantry_controller::{
    Config,
    access::Access,
    agents::Agents,
    audit::Audit,
    authority::Authority,
    gateway::Gateway,
    jobs::Jobs,
    peer::{AdmittedAgent, AgentPeer},
    store::{
        AgentRow, IdentityChange, Inserted, JobFilter, JobRow, Joining, NewJob, Progress, SiteRow, SqliteStore, Store,
        TokenRow,
    },
    telemetry::{AgentTelemetry, Recorder},
};
use gantry_proto::{
    AgentId, JobId, PROTOCOL, Redactor,
    v1::{self, agent_link_server::AgentLink as _, open_request::Item},
};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Streaming, codec::Codec as _};
use tonic_prost::ProstCodec;

use super::{
    input::messages,
    stage::{dir, fresh, wait},
};

/// The job that inputs speak of.
pub(crate) const JOB: &str = "01900000-0000-7000-8000-000000000001";
/// The agent that speaks.
const AGENT: &str = "a1";
/// Inputs after which a store has grown enough.
const INPUTS_A_STORE: usize = 64;

struct Stage {
    store: Arc<SqliteStore>,
    inputs: usize,
}

static PLACE: LazyLock<TempDir> = LazyLock::new(dir);
static CA: LazyLock<TempDir> = LazyLock::new(dir);
static STAGE: Mutex<Option<Stage>> = Mutex::new(None);

pub(crate) fn run(input: &[u8]) {
    let mut said = messages::<v1::OpenRequest>(input);
    if said.is_empty() {
        return;
    }
    if !matches!(said[0].item, Some(Item::Hello(_))) {
        said.insert(0, v1::OpenRequest { item: Some(Item::Hello(hello())), ..Default::default() });
    }
    let mut held = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    wait(async {
        let stage = match held.take() {
            Some(stage) if stage.inputs < INPUTS_A_STORE => stage,
            old => anew(old).await,
        };
        let store = stage.store.clone();
        talk(store, said).await;
        *held = Some(Stage { inputs: stage.inputs + 1, ..stage });
    });
}

async fn anew(old: Option<Stage>) -> Stage {
    if let Some(old) = old {
        old.store.close().await;
        for entry in std::fs::read_dir(PLACE.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let store = SqliteStore::open(&fresh(&PLACE), &Config::default().store).await.unwrap();
    store.put_agent(known_agent()).await.unwrap();
    let agent: AgentId = AGENT.parse().unwrap();
    let (now, expires) = (Timestamp::now(), Timestamp::now() + SignedDuration::from_hours(24));
    let (site, by) = ("s1".to_owned(), String::new());
    let (hash, key) = ("token".to_owned(), "key".to_owned());
    let token = TokenRow { hash: hash.clone(), site: site.clone(), agent: Some(agent), expires, made_by: by.clone() };
    for change in [
        IdentityChange::AddSite(SiteRow { name: site, added: now, added_by: by }),
        IdentityChange::AddToken { token, now },
        IdentityChange::Join(Joining { hash, wish: None, key, now, expires }),
    ] {
        store.change_identity(change).await.unwrap();
    }
    Stage { store: Arc::new(store), inputs: 0 }
}

async fn talk(store: Arc<SqliteStore>, mut said: Vec<v1::OpenRequest>) {
    let (agent, job): (AgentId, _) = (AGENT.parse().unwrap(), JobId::new());
    let store: Arc<dyn Store> = store;
    let inserted = store.insert_job(new_job(job, &agent)).await.unwrap();
    assert!(matches!(inserted, Inserted::Stored(_)), "{inserted:?}");
    said.iter_mut().for_each(|request| rename(request, job));

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let config = Arc::new(Config::default());
    let agents = Arc::new(Agents::open(store.clone()).await.unwrap());
    let jobs = Jobs::new(store.clone(), agents.clone(), config.clone(), Redactor::new(), tasks.clone(), stop.clone());
    let jobs = Arc::new(jobs);
    let settings = config.link.clone();
    let audit = Audit::new(store.clone(), Redactor::new(), config.audit.clone(), tasks.clone(), stop.clone());
    let (authority, _) = Authority::open(&CA.path().join("ca"), 1).unwrap();
    let access = Access::new(&config, 1, authority, store.clone(), agents.clone(), Arc::new(audit));
    let recorder = Recorder::open(&Config { data: CA.path().join("data"), ..Config::default() }).unwrap();
    let gateway = Gateway {
        jobs: jobs.clone(),
        agents,
        access: Arc::new(access),
        store: store.clone(),
        telemetry: AgentTelemetry::new(Arc::new(recorder), store.clone()),
        settings,
        tasks: tasks.clone(),
        stop,
    };
    let mut request = Request::new(stream(&said));
    let peer = AgentPeer { id: agent, site: "s1".to_owned() };
    request.extensions_mut().insert(AdmittedAgent { peer, issued: Timestamp::now() });
    let mut answers = gateway.open(request).await.unwrap().into_inner();
    let mut acked = 0;
    while let Some(answer) = answers.next().await {
        let Ok(v1::OpenResponse { item: Some(v1::open_response::Item::Ack(ack)), .. }) = answer else { continue };
        acked = acked.max(ack.seq);
    }
    tasks.close();
    tasks.wait().await;
    drop(gateway);

    let row = store.job(job).await.unwrap().expect("the job is there");
    assert!(acked <= row.progress.last_seq, "acknowledged and not stored");
    let shown = jobs.describe(&row);
    assert!((0.0..=100.0).contains(&shown.percent));
    let _not_ended_yet = jobs.result(&row).await;
    store.list_jobs(JobFilter { limit: 1, ..JobFilter::default() }).await.unwrap();
}

/// The messages as they come over the wire.
fn stream(said: &[v1::OpenRequest]) -> Streaming<v1::OpenRequest> {
    let mut wire = BytesMut::new();
    for request in said {
        wire.put_u8(0);
        wire.put_u32(u32::try_from(request.encoded_len()).unwrap());
        request.encode(&mut wire).unwrap();
    }
    let decoder = ProstCodec::<v1::OpenResponse, v1::OpenRequest>::default().decoder();
    Streaming::new_request(decoder, Full::<Bytes>::new(wire.freeze()), None, None)
}

fn rename(request: &mut v1::OpenRequest, job: JobId) {
    let names: Vec<&mut String> = match &mut request.item {
        Some(Item::Hello(hello)) => hello.jobs.iter_mut().map(|position| &mut position.job_id).collect(),
        Some(Item::Events(batch)) => vec![&mut batch.job_id],
        Some(Item::Sample(sample)) => vec![&mut sample.job_id],
        _ => Vec::new(),
    };
    names.into_iter().filter(|name| *name == JOB).for_each(|name| *name = job.to_string());
}

/// A Hello that is accepted.
pub(crate) fn hello() -> v1::Hello {
    v1::Hello { protocol: PROTOCOL, sealing_key: vec![9; 32], ..Default::default() }
}

fn known_agent() -> AgentRow {
    AgentRow {
        id: AGENT.parse().unwrap(),
        site: "s1".to_owned(),
        version: "1".to_owned(),
        boot_id: "b".to_owned(),
        sealing_key: vec![7; 32],
        isos: Vec::new(),
        remote_address: String::new(),
        seen: Timestamp::UNIX_EPOCH,
    }
}

fn new_job(id: JobId, agent: &AgentId) -> NewJob {
    let row = JobRow {
        id,
        epoch: 1,
        site: "s1".to_owned(),
        agent: agent.clone(),
        created: Timestamp::UNIX_EPOCH,
        submitted_by: "admin".to_owned(),
        file_name: "p.xlsx".to_owned(),
        plan_sha256: vec![1; 32],
        cluster: "c".to_owned(),
        vm_name: "vm".to_owned(),
        cloudtower_ip: id.to_string(),
        target: id.to_string(),
        keep_on_failure: false,
        cancel: v1::CancelStage::Unspecified,
        refusal: String::new(),
        moving_to: None,
        undo_only: false,
        progress: Progress::queued(),
    };
    let plan = v1::PlanDocument { schema: "x".to_owned(), json: b"{}".to_vec(), sha256: vec![1; 32] };
    let kind = Some(v1::order::Kind::Start(v1::StartJob::default()));
    NewJob { row, plan, start: v1::Order { job_id: id.to_string(), kind, ..Default::default() } }
}
