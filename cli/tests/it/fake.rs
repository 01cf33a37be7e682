//! A controller of the test's own: real TLS, a log made by hand, and everything that can go wrong on demand.

use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
};

use gantry_proto::{
    Code, Event, Sample,
    audit::{Head, Record},
    v1::{
        self,
        access_service_server::AccessServiceServer,
        audit_service_server::{AuditService, AuditServiceServer},
        fleet_service_server::{FleetService, FleetServiceServer},
        job_service_server::{JobService, JobServiceServer},
        watch_job_response::Item,
    },
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::{
    fake_access::{Desk, FakeAccess},
    fake_many::Many,
    line::Line,
    log,
};

/// The name on the controller's certificate.
pub(crate) const SERVER_NAME: &str = "controller.test";

type Script = VecDeque<Watch>;
/// What a watcher gets.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;

/// What one call of `WatchJob` does. Without one, everything is sent.
#[derive(Clone, Debug)]
pub(crate) enum Watch {
    /// Sends events up to this number, then nothing more: the test cuts the line.
    HoldAfter(u64),
    /// Sends events up to this number, then this status.
    EndAfter(u64, Status),
    /// Leaves this event out.
    Skip(u64),
    /// Sends everything from the beginning again, whatever was asked for.
    Repeat,
    /// Refuses.
    Refuse(Status),
}

/// What the controller knows and what it has been asked.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) events: Vec<Event>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) job: v1::Job,
    pub(crate) jobs: Vec<v1::Job>,
    pub(crate) plan: Option<v1::PlanDocument>,
    pub(crate) result: Vec<u8>,
    pub(crate) trace: Vec<v1::GetJobTraceResponse>,
    pub(crate) script: Script,
    pub(crate) watched: Vec<v1::WatchJobRequest>,
    pub(crate) submitted: Vec<v1::SubmitJobRequest>,
    pub(crate) cancelled: Vec<v1::CancelJobRequest>,
    pub(crate) listed: Vec<v1::ListJobsRequest>,
    /// Metadata of the last submit.
    pub(crate) traceparent: Option<String>,
    /// The line breaks so many times after the job is stored and before the answer leaves.
    pub(crate) lose_answers: u32,
    pub(crate) refuse: Option<Status>,
    pub(crate) reject: Option<v1::PlanRejected>,
    pub(crate) cancel_answer: Option<v1::Job>,
    pub(crate) cut_short: bool,
    /// Pauses, resumes, retries, sweeps, decisions, moves and checks, in words.
    pub(crate) orders: Vec<String>,
    pub(crate) retry_answer: Option<v1::RetryJobResponse>,
    pub(crate) move_answer: Option<v1::MoveJobResponse>,
    /// Messages of a look at a site; the status ends it.
    pub(crate) diff_answer: Vec<Result<v1::DiffPlanResponse, Status>>,
    pub(crate) check_answer: Option<v1::CheckPlanResponse>,
    /// The audit log.
    pub(crate) records: Vec<Record>,
    /// How often it was asked for, and how.
    pub(crate) audited: Vec<v1::ListAuditRequest>,
    pub(crate) refuse_audit: Option<Status>,
    /// Records of it after which the line breaks.
    pub(crate) break_audit_after: Option<usize>,
    /// Many sites, in place of the one job.
    pub(crate) many: Option<Many>,
}

/// The controller.
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<State>>,
    /// What was asked about who may come in.
    pub(crate) desk: Arc<Mutex<Desk>>,
    pub(crate) line: Arc<Line>,
    /// Home of the operator, with the profile in its place.
    pub(crate) home: TempDir,
    authority: Authority,
    _serving: JoinSet<()>,
}

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, PEM.
    pub(crate) fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

impl Fake {
    /// A controller with one job whose log is this.
    pub(crate) async fn with(events: Vec<Event>, state: v1::JobState) -> Self {
        let job = log::job(state, events.last().map_or(0, |event| event.seq));
        Self::start(State { events, jobs: vec![job.clone()], job, ..State::default() }).await
    }

    pub(crate) async fn start(state: State) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::new();
        let (cert, key) = authority.issue(SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(&authority.pem));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Arc::new(Line::to(listener.local_addr().unwrap()).await);
        let state = Arc::new(Mutex::new(state));
        let desk = Arc::new(Mutex::new(Desk::default()));
        let service = Service { state: state.clone(), line: line.clone() };
        let mut serving = JoinSet::new();
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(JobServiceServer::new(service.clone()).max_decoding_message_size(64 << 20))
            .add_service(FleetServiceServer::new(service.clone()))
            .add_service(AuditServiceServer::new(service))
            .add_service(AccessServiceServer::new(FakeAccess { desk: desk.clone(), line: line.clone() }));
        serving.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        let home = tempfile::tempdir().unwrap();
        let fake = Self { state, desk, line, home, authority, _serving: serving };
        let (cert, key) = fake.authority.issue("ops", ExtendedKeyUsagePurpose::ClientAuth);
        fake.profile(&Profile { cert: &cert, key: &key, ..fake.good() });
        fake
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A profile that this controller accepts, but for its certificate.
    pub(crate) fn good(&self) -> Profile<'_> {
        Profile { address: self.line.address, server_name: SERVER_NAME, ca: &self.authority.pem, cert: "", key: "" }
    }

    /// A certificate of this controller's CA.
    pub(crate) fn operator(&self) -> (String, String) {
        self.authority.issue("ops", ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Puts a profile into the operator's home.
    pub(crate) fn profile(&self, profile: &Profile<'_>) -> PathBuf {
        write_profile(self.home(), profile)
    }

    /// Waits until `ctl` has asked for the stream so many times.
    pub(crate) async fn watched(&self, times: usize) -> Vec<v1::WatchJobRequest> {
        loop {
            let seen = self.state.lock().unwrap().watched.clone();
            if seen.len() >= times {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// What a profile says.
pub(crate) struct Profile<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: &'a str,
    pub(crate) ca: &'a str,
    pub(crate) cert: &'a str,
    pub(crate) key: &'a str,
}

impl<'a> Profile<'a> {
    pub(crate) fn pem_of(authority: &'a Authority) -> &'a str {
        &authority.pem
    }
}

/// Writes a profile where `ctl` looks for it.
pub(crate) fn write_profile(home: &Path, profile: &Profile<'_>) -> PathBuf {
    let directory = home.join(".config/gantry");
    fs::create_dir_all(&directory).unwrap();
    for (name, pem) in [("ca.pem", profile.ca), ("cert.pem", profile.cert), ("key.pem", profile.key)] {
        fs::write(directory.join(name), pem).unwrap();
    }
    let file = directory.join("ctl.toml");
    let text = format!(
        "controller = \"https://{}\"\nserver_name = \"{}\"\nca_pem_file = \"ca.pem\"\ncert_pem_file = \"cert.pem\"\n\
         key_pem_file = \"key.pem\"\n",
        profile.address, profile.server_name
    );
    fs::write(&file, text).unwrap();
    file
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    line: Arc<Line>,
}

impl Service {
    fn refused(&self) -> Result<(), Status> {
        self.state.lock().unwrap().refuse.clone().map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl JobService for Service {
    async fn check_plan(
        &self,
        request: Request<v1::CheckPlanRequest>,
    ) -> Result<Response<v1::CheckPlanResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        let request = request.into_inner();
        if let Some(many) = &mut state.many {
            return Ok(Response::new(many.check(&request.workbook)));
        }
        state.orders.push(format!("check {} bytes with {:?}", request.workbook.len(), request.overrides));
        state.check_answer.clone().map(Response::new).ok_or_else(|| Status::unimplemented("not here"))
    }

    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        self.refused()?;
        let trace = request.metadata().get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let request = request.into_inner();
        let lose = {
            let mut state = self.state.lock().unwrap();
            state.traceparent = trace;
            state.submitted.push(request.clone());
            if let Some(many) = &mut state.many {
                // It is stored before its answer can get lost.
                many.submit(&request)?;
            }
            state.lose_answers > 0 && {
                state.lose_answers -= 1;
                true
            }
        };
        if lose {
            self.line.cut();
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().unwrap();
        if let Some(many) = &mut state.many {
            let outcome = Some(v1::submit_job_response::Outcome::Accepted(many.submit(&request)?));
            return Ok(Response::new(v1::SubmitJobResponse { outcome }));
        }
        if let Some(rejected) = &state.reject {
            let outcome = Some(v1::submit_job_response::Outcome::Rejected(rejected.clone()));
            return Ok(Response::new(v1::SubmitJobResponse { outcome }));
        }
        let already_known = state.submitted.len() > 1;
        let job = v1::Job { job_id: request.job_id, ..state.job.clone() };
        let accepted = v1::JobAccepted { job: Some(job), already_known, problems: vec![] };
        let outcome = Some(v1::submit_job_response::Outcome::Accepted(accepted));
        Ok(Response::new(v1::SubmitJobResponse { outcome }))
    }

    type DiffPlanStream = Pin<Box<dyn Stream<Item = Result<v1::DiffPlanResponse, Status>> + Send>>;

    async fn diff_plan(&self, request: Request<v1::DiffPlanRequest>) -> Result<Response<Self::DiffPlanStream>, Status> {
        self.refused()?;
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.orders.push(format!(
            "diff {} of site \"{}\" agent \"{}\" with {:?}",
            request.file_name, request.site, request.agent_id, request.overrides
        ));
        Ok(Response::new(Box::pin(tokio_stream::iter(state.diff_answer.clone()))))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        self.refused()?;
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.listed.push(request.clone());
        let older = state
            .jobs
            .iter()
            .skip_while(|job| !request.before_job_id.is_empty() && job.job_id != request.before_job_id);
        let older = older.skip(usize::from(!request.before_job_id.is_empty()));
        let jobs = older.take(request.limit as usize).cloned().collect();
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        self.refused()?;
        let state = self.state.lock().unwrap();
        if let Some(many) = &state.many {
            let job = Some(many.row(&request.into_inner().job_id)?);
            return Ok(Response::new(v1::GetJobResponse { job, plan: None }));
        }
        Ok(Response::new(v1::GetJobResponse { job: Some(state.job.clone()), plan: state.plan.clone() }))
    }

    type WatchJobStream = Events;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.watched.push(request.clone());
        if let Some(many) = &state.many {
            return many.watch(&request.job_id, request.after_seq).map(Response::new);
        }
        let script = state.script.pop_front();
        let mut after = request.after_seq;
        let mut upto = u64::MAX;
        let mut left_out = 0;
        let mut end: Events = Box::pin(tokio_stream::empty());
        match script {
            Some(Watch::Refuse(status)) => return Err(status),
            Some(Watch::HoldAfter(seq)) => (upto, end) = (seq, Box::pin(tokio_stream::pending())),
            Some(Watch::EndAfter(seq, status)) => (upto, end) = (seq, Box::pin(tokio_stream::once(Err(status)))),
            Some(Watch::Skip(seq)) => left_out = seq,
            Some(Watch::Repeat) => after = 0,
            None => {}
        }
        let mut items = vec![Item::Job(state.job.clone())];
        for event in state.events.iter().filter(|e| e.seq > after && e.seq <= upto && e.seq != left_out) {
            items.push(Item::Event(event.into()));
            let step_begins =
                matches!(&event.body, gantry_proto::Body::StepStarted { step, .. } if step.as_str() == "upload-iso");
            if step_begins && !request.no_follow {
                items.extend(state.samples.iter().map(|sample| Item::Sample(sample.into())));
            }
        }
        let answers = items.into_iter().map(|item| Ok(v1::WatchJobResponse { item: Some(item) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers).chain(end))))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        state.cancelled.push(request.into_inner());
        let job = state.cancel_answer.clone().unwrap_or_else(|| state.job.clone());
        Ok(Response::new(v1::CancelJobResponse { job: Some(job), undo_cut_short: state.cut_short }))
    }

    async fn pause_job(&self, request: Request<v1::PauseJobRequest>) -> Result<Response<v1::PauseJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        state.orders.push(format!("pause {}", request.into_inner().reason));
        Ok(Response::new(v1::PauseJobResponse { job: Some(state.job.clone()) }))
    }

    async fn resume_job(&self, _: Request<v1::ResumeJobRequest>) -> Result<Response<v1::ResumeJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        state.orders.push("resume".to_owned());
        Ok(Response::new(v1::ResumeJobResponse { job: Some(state.job.clone()) }))
    }

    async fn tune_upload(
        &self,
        request: Request<v1::TuneUploadRequest>,
    ) -> Result<Response<v1::TuneUploadResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        let v1::TuneUploadRequest { limit_bytes_per_s, in_flight, paused, .. } = request.into_inner();
        state.orders.push(format!("upload {limit_bytes_per_s:?} {in_flight:?} {paused:?}"));
        Ok(Response::new(v1::TuneUploadResponse { job: Some(state.job.clone()) }))
    }

    async fn retry_job(&self, request: Request<v1::RetryJobRequest>) -> Result<Response<v1::RetryJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        let request = request.into_inner();
        state.orders.push(format!("retry from {} with {} bytes", request.from_step, request.workbook.len()));
        let answer = state.retry_answer.clone().unwrap_or_default();
        Ok(Response::new(v1::RetryJobResponse { job: Some(state.job.clone()), ..answer }))
    }

    async fn sweep_job(&self, request: Request<v1::SweepJobRequest>) -> Result<Response<v1::SweepJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        state.orders.push(format!("sweep {}", request.into_inner().job_id));
        Ok(Response::new(v1::SweepJobResponse { job: Some(state.job.clone()) }))
    }

    async fn decide_job(
        &self,
        request: Request<v1::DecideJobRequest>,
    ) -> Result<Response<v1::DecideJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        let request = request.into_inner();
        state.orders.push(format!("decide {} for {}: {}", request.choice, request.question, request.reason));
        Ok(Response::new(v1::DecideJobResponse { job: Some(state.job.clone()) }))
    }

    async fn move_job(&self, request: Request<v1::MoveJobRequest>) -> Result<Response<v1::MoveJobResponse>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        let request = request.into_inner();
        let off = if request.old_agent_is_off { ", the old one is off" } else { "" };
        state.orders.push(format!("move to {} with {} bytes{off}", request.agent_id, request.workbook.len()));
        let answer = state.move_answer.clone().unwrap_or_default();
        Ok(Response::new(v1::MoveJobResponse { job: Some(state.job.clone()), ..answer }))
    }

    async fn get_job_result(
        &self,
        _: Request<v1::GetJobResultRequest>,
    ) -> Result<Response<v1::GetJobResultResponse>, Status> {
        let state = self.state.lock().unwrap();
        if state.result.is_empty() {
            return Err(Code::JobNotFinished.status(format!("job {} has not ended", log::JOB)));
        }
        let (job, result_json) = (Some(state.job.clone()), state.result.clone());
        Ok(Response::new(v1::GetJobResultResponse { job, result_json }))
    }

    type GetJobTraceStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::GetJobTraceResponse, Status>>>;

    async fn get_job_trace(
        &self,
        request: Request<v1::GetJobTraceRequest>,
    ) -> Result<Response<Self::GetJobTraceStream>, Status> {
        self.refused()?;
        let with_logs = request.into_inner().with_logs;
        let parts = self.state.lock().unwrap().trace.clone();
        let parts = parts.into_iter().filter(|part| with_logs || part.signal() == v1::Signal::Traces).map(Ok);
        Ok(Response::new(tokio_stream::iter(parts.collect::<Vec<_>>())))
    }
}

#[tonic::async_trait]
impl FleetService for Service {
    async fn list_agents(&self, _: Request<v1::ListAgentsRequest>) -> Result<Response<v1::ListAgentsResponse>, Status> {
        self.refused()?;
        if let Some(many) = &self.state.lock().unwrap().many {
            return Ok(Response::new(v1::ListAgentsResponse { agents: many.agents() }));
        }
        let iso = v1::IsoFile {
            name: "cloudtower-v4.6.2.oe2003.x86_64.iso".into(),
            size: 7_952_123_904,
            version: "v4.6.2".into(),
            os: "oe2003".into(),
            arch: "x86_64".into(),
            sha256: String::new(),
        };
        let agent = v1::Agent {
            agent_id: "bj-1".into(),
            site: "beijing".into(),
            in_contact: true,
            version: "0.1.0".into(),
            isos: vec![iso],
            active_jobs: 1,
            ..Default::default()
        };
        let never = v1::Agent { agent_id: "sh-1".into(), site: "shanghai".into(), ..Default::default() };
        let out = v1::Agent { agent_id: "sh-2".into(), site: "shanghai".into(), revoked: true, ..Default::default() };
        let dark = v1::Agent {
            agent_id: "sh-3".into(),
            site: "shanghai".into(),
            expires_micros: 1_700_000_000_000_000,
            asks_to_return: "ab".repeat(32),
            ..Default::default()
        };
        Ok(Response::new(v1::ListAgentsResponse { agents: vec![agent, never, out, dark] }))
    }

    async fn make_web_link(
        &self,
        request: Request<v1::MakeWebLinkRequest>,
    ) -> Result<Response<v1::MakeWebLinkResponse>, Status> {
        self.refused()?;
        assert_eq!(request.into_inner().token_sha256.len(), 64);
        Ok(Response::new(v1::MakeWebLinkResponse { until_micros: 1_700_000_000_000_000, session_s: 28_800 }))
    }

    async fn get_version(&self, _: Request<v1::GetVersionRequest>) -> Result<Response<v1::GetVersionResponse>, Status> {
        Ok(Response::new(v1::GetVersionResponse { version: "0.1.0".into(), protocol: 1 }))
    }
}

#[tonic::async_trait]
impl AuditService for Service {
    type ListAuditStream = Pin<Box<dyn Stream<Item = Result<v1::ListAuditResponse, Status>> + Send>>;

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<Self::ListAuditStream>, Status> {
        self.refused()?;
        let mut state = self.state.lock().unwrap();
        state.refuse_audit.clone().map_or(Ok(()), Err)?;
        let request = request.into_inner();
        let head = state.records.last().map_or(Head::NONE, Record::head);
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let chosen = state.records.iter().filter(|record| record.number > request.after_number).take(limit);
        let page = |record: &Record| Ok(v1::ListAuditResponse { records: vec![record.into()], head: None });
        let mut answers = vec![Ok(v1::ListAuditResponse { records: vec![], head: Some(head.into()) })];
        answers.extend(chosen.map(page));
        if let Some(after) = state.break_audit_after {
            answers.truncate(after + 1);
            answers.push(Err(Status::unavailable("draining")));
        }
        state.audited.push(request);
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }
}
