//! A controller that does as the test tells it: real TLS with client certificates, real gRPC, and a relay in front of it
//! that can be cut or frozen.

use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use gantry_agent::{
    config::Settings, identity::Identity, journal::Tail, link::Link, pipeline::Pipeline, runner::Runner,
};
use gantry_proto::{AgentId, Event, JobId, Redactor, sealed::seal, token::sha256_hex, v1};
use gantry_telemetry::Spool;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig},
};
use v1::{
    agent_link_server::{AgentLink, AgentLinkServer},
    enrollment_service_server::{EnrollmentService, EnrollmentServiceServer},
    open_request::Item as In,
    open_response::Item as Out,
};

use crate::bench::{plan, secrets};

/// Longer than anything in these tests takes.
const LIMIT: Duration = Duration::from_secs(20);

/// A CA and what it signs.
#[derive(Clone)]
pub(crate) struct Ca {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Arc::new(Issuer::new(params, key)), pem }
    }

    /// Certificate and key, PEM.
    pub(crate) fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        self.issue_with(name, usage, |_| {})
    }

    /// The same with something changed.
    pub(crate) fn issue_with(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &*self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// The agent's certificate for the key of a request, from so long ago until so long from now, seconds.
    pub(crate) fn sign(&self, request_der: &[u8], agent: &str, began: i64, ends: i64) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&request_der.into()).unwrap();
        request.params = agent_params(agent, began, ends);
        request.signed_by(&*self.issuer).unwrap().pem()
    }

    /// An agent's certificate and key, as [`Ca::sign`].
    pub(crate) fn issue_agent(&self, agent: &str, began: i64, ends: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (agent_params(agent, began, ends).signed_by(&key, &*self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a token carries.
    pub(crate) fn sha256(&self) -> String {
        sha256_hex(&CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
    }
}

fn agent_params(agent: &str, began: i64, ends: i64) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let uri = format!("spiffe://gantry/site/s1/agent/{agent}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let at = |seconds: i64| SystemTime::from(Timestamp::now() + SignedDuration::from_secs(seconds));
    params.not_before = at(-began).into();
    params.not_after = at(ends).into();
    params
}

/// Writes a join file for this address into the agent's directory.
pub(crate) fn join(settings: &Settings, ca: &Ca, signed_by: &Ca, address: SocketAddr) {
    write_join(settings, ca, signed_by.issue_agent("a1", 60, 30 * 24 * 3600), address);
}

/// The same with this certificate and key.
pub(crate) fn write_join(settings: &Settings, ca: &Ca, (cert, key): (String, String), address: SocketAddr) {
    let join = serde_json::json!({
        "controller": format!("https://{address}"), "server_name": "controller.test", "ca_pem": ca.pem,
        "cert_pem": cert, "key_pem": key, "agent": "a1", "site": "s1",
    });
    fs::create_dir_all(&settings.data_dir).unwrap();
    let file = settings.data_dir.join("join.json");
    fs::write(&file, join.to_string()).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The controller.
pub(crate) struct Controller {
    pub(crate) ca: Ca,
    pub(crate) relay: Relay,
    sessions: mpsc::Receiver<Session>,
    /// Telemetry as it comes; each waits for its answer.
    pub(crate) batches: mpsc::Receiver<Batch>,
    pub(crate) desk: Arc<Desk>,
    _tasks: JoinSet<()>,
}

/// What agents without a certificate have asked, and what they are answered, in turn.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) joins: Mutex<Vec<v1::JoinRequest>>,
    pub(crate) returns: Mutex<Vec<v1::ReturnRequest>>,
    answers: Mutex<VecDeque<Answer>>,
}

type Answer = Box<dyn FnOnce(&[u8]) -> Result<v1::JoinResponse, Status> + Send>;

impl Desk {
    /// The answer to the next call, made of its certificate request.
    pub(crate) fn answer(&self, answer: impl FnOnce(&[u8]) -> Result<v1::JoinResponse, Status> + Send + 'static) {
        self.answers.lock().unwrap().push_back(Box::new(answer));
    }

    fn next(&self, request_der: &[u8]) -> Result<v1::JoinResponse, Status> {
        let answer = self.answers.lock().unwrap().pop_front();
        answer.ok_or_else(|| Status::unavailable("nothing more is answered"))?(request_der)
    }
}

struct EnrollmentDesk(Arc<Desk>);

#[tonic::async_trait]
impl EnrollmentService for EnrollmentDesk {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        assert!(request.peer_certs().is_none(), "a certificate is shown");
        let request = request.into_inner();
        self.0.joins.lock().unwrap().push(request.clone());
        self.0.next(&request.request_der).map(Response::new)
    }

    async fn r#return(&self, request: Request<v1::ReturnRequest>) -> Result<Response<v1::ReturnResponse>, Status> {
        assert!(request.peer_certs().is_none(), "a certificate is shown");
        let request = request.into_inner();
        self.0.returns.lock().unwrap().push(request.clone());
        let v1::JoinResponse { cert_pem, ca_pem, .. } = self.0.next(&request.request_der)?;
        let key_sha256 = sha256_hex(&request.request_der);
        Ok(Response::new(v1::ReturnResponse { cert_pem, ca_pem, ask_again_ms: 1, key_sha256 }))
    }
}

/// One session, after its Hello.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) hello: v1::Hello,
    /// The certificate that the agent has shown, DER.
    pub(crate) shown: Vec<u8>,
    inbound: Streaming<v1::OpenRequest>,
    out: mpsc::Sender<Result<v1::OpenResponse, Status>>,
}

struct Service(mpsc::Sender<Session>, mpsc::Sender<Batch>);

/// A batch of telemetry, and how it is answered.
pub(crate) type Batch = (v1::SendTelemetryRequest, tokio::sync::oneshot::Sender<Result<(), Status>>);

#[tonic::async_trait]
impl AgentLink for Service {
    type OpenStream = ReceiverStream<Result<v1::OpenResponse, Status>>;

    async fn open(&self, request: Request<Streaming<v1::OpenRequest>>) -> Result<Response<Self::OpenStream>, Status> {
        let shown = request.peer_certs().and_then(|chain| Some(chain.first()?.to_vec()));
        let Some(shown) = shown else { return Err(Status::permission_denied("no certificate")) };
        let mut inbound = request.into_inner();
        let Some(v1::OpenRequest { item: Some(In::Hello(hello)), .. }) = inbound.message().await? else {
            return Err(Status::invalid_argument("no Hello"));
        };
        let (out, answers) = mpsc::channel(64);
        let _ = self.0.send(Session { hello, shown, inbound, out }).await;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn send_telemetry(
        &self,
        request: Request<v1::SendTelemetryRequest>,
    ) -> Result<Response<v1::SendTelemetryResponse>, Status> {
        if request.peer_certs().is_none_or(|chain| chain.is_empty()) {
            return Err(Status::permission_denied("no certificate"));
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let _ = self.1.send((request.into_inner(), answer)).await;
        match answered.await {
            Ok(answer) => answer.map(|()| Response::new(v1::SendTelemetryResponse {})),
            Err(_) => Err(Status::unavailable("the test has gone")),
        }
    }
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let ca = Ca::new();
        let (cert, key) = ca.issue("controller.test", ExtendedKeyUsagePurpose::ServerAuth);
        // The CA goes along, for agents that know only its fingerprint.
        let tls = ServerTlsConfig::new()
            .identity(TlsIdentity::from_pem(format!("{cert}{}", ca.pem), key))
            .client_ca_root(Certificate::from_pem(&ca.pem))
            .client_auth_optional(true);
        let desk = Arc::new(Desk::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let (telling, batches) = mpsc::channel(1);
        let link = AgentLinkServer::new(Service(sender, telling)).accept_compressed(CompressionEncoding::Gzip);
        let server = Server::builder().tls_config(tls).unwrap().add_service(link);
        let server = server.add_service(EnrollmentServiceServer::new(EnrollmentDesk(desk.clone())));
        tasks.spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { ca, relay: Relay::start(address).await, sessions, batches, desk, _tasks: tasks }
    }

    /// The next session that an agent opens.
    pub(crate) async fn session(&mut self) -> Session {
        timeout(LIMIT, self.sessions.recv()).await.expect("no agent dials").unwrap()
    }

    /// A session that an agent opens, if it opens one.
    pub(crate) async fn session_if_any(&mut self) -> Option<Session> {
        self.sessions.recv().await
    }

    /// Whether an agent has opened a session that nobody has asked for.
    pub(crate) fn is_dialled(&mut self) -> bool {
        self.sessions.try_recv().is_ok()
    }

    /// The next session, welcomed: everything is replayed from `stored`.
    pub(crate) async fn welcomed(&mut self, stored: u64) -> Session {
        let session = self.session().await;
        session.welcome(stored, 10_000, 15_000).await;
        session
    }
}

impl Session {
    pub(crate) async fn welcome(&self, stored: u64, heartbeat_ms: u32, silence_ms: u32) {
        self.welcome_places(heartbeat_ms, silence_ms, |job| v1::ReplayFrom {
            job_id: job.job_id.clone(),
            stored_seq: stored,
            unknown: false,
            moved: false,
        })
        .await;
    }

    /// Another agent has every job.
    pub(crate) async fn welcome_moved(&self) {
        self.welcome_places(10_000, 15_000, |job| v1::ReplayFrom {
            job_id: job.job_id.clone(),
            stored_seq: 0,
            unknown: false,
            moved: true,
        })
        .await;
    }

    async fn welcome_places(
        &self,
        heartbeat_ms: u32,
        silence_ms: u32,
        place: impl Fn(&v1::JobPosition) -> v1::ReplayFrom,
    ) {
        let replay = self.hello.jobs.iter().map(place).collect();
        self.say(Out::Welcome(v1::Welcome {
            protocol: 1,
            version: "test".into(),
            session_id: "s".into(),
            heartbeat_ms,
            silence_ms,
            replay,
            capabilities: Vec::new(),
        }))
        .await;
    }

    pub(crate) async fn say(&self, item: Out) {
        let _ = self.out.send(Ok(v1::OpenResponse { item: Some(item), trace: Default::default() })).await;
    }

    pub(crate) async fn fail(&self, status: Status) {
        let _ = self.out.send(Err(status)).await;
    }

    pub(crate) async fn ack(&self, job: JobId, seq: u64) {
        self.say(Out::Ack(v1::EventAck { job_id: job.to_string(), seq })).await;
    }

    /// The next thing that is said; `None` when the session has ended.
    pub(crate) async fn hear(&mut self) -> Option<In> {
        let heard = timeout(LIMIT, self.inbound.message()).await.expect("the agent says nothing");
        heard.ok().flatten().and_then(|request| request.item)
    }

    /// The next events.
    pub(crate) async fn events(&mut self) -> Option<v1::EventBatch> {
        loop {
            if let In::Events(batch) = self.hear().await? {
                return Some(batch);
            }
        }
    }

    /// Sequence numbers until the job's last event, acknowledged as they come.
    pub(crate) async fn until_the_end(&mut self, job: JobId) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            let batch = self.events().await.expect("the session ends too early");
            assert_eq!(batch.job_id, job.to_string());
            seqs.extend(batch.events.iter().map(|event| event.seq));
            self.ack(job, *seqs.last().unwrap()).await;
            let last = batch.events.last().unwrap().body.clone();
            if matches!(last, Some(v1::event::Body::JobFinished(_) | v1::event::Body::Surrendered(_))) {
                return seqs;
            }
        }
    }

    /// The next word about an order.
    pub(crate) async fn update(&mut self) -> v1::OrderUpdate {
        loop {
            if let In::OrderUpdate(update) = self.hear().await.expect("the session ends too early") {
                return update;
            }
        }
    }

    /// Gives an order and hears what becomes of it at once.
    pub(crate) async fn order(&mut self, order: v1::Order) -> v1::OrderUpdate {
        let number = order.number;
        self.say(Out::Order(order)).await;
        loop {
            let update = self.update().await;
            if update.number == number && update.stage() != v1::OrderStage::Delivered {
                return update;
            }
        }
    }
}

/// An order to begin a job.
pub(crate) fn start_order(number: u64, job: JobId, key: &[u8], ip: &str) -> v1::Order {
    let agent: AgentId = "a1".parse().unwrap();
    let start = v1::StartJob {
        plan: Some(plan(ip).to_document().unwrap()),
        secrets: Some(seal(&secrets(), job, &agent, key).unwrap()),
        keep_on_failure: false,
        submitted_by: "op".into(),
    };
    let kind = Some(v1::order::Kind::Start(start));
    v1::Order { kind, ..blank(number, job, 1) }
}

/// An order for the tests' agent that asks for nothing yet.
pub(crate) fn blank(number: u64, job: JobId, epoch: u32) -> v1::Order {
    let expires_micros = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).as_microsecond();
    v1::Order { number, job_id: job.to_string(), epoch, site: "s1".into(), expires_micros, ..Default::default() }
}

/// An order to stop a job.
pub(crate) fn cancel_order(number: u64, job: JobId) -> v1::Order {
    let kind = Some(v1::order::Kind::Cancel(v1::CancelOrder { by: "op".into(), reason: "because".into() }));
    v1::Order { kind, ..blank(number, job, 1) }
}

/// Any order.
pub(crate) fn order(number: u64, job: JobId, epoch: u32, kind: v1::order::Kind) -> v1::Order {
    v1::Order { kind: Some(kind), ..blank(number, job, epoch) }
}

/// An order to let go of a job.
pub(crate) fn surrender_order(number: u64, job: JobId, to: &str) -> v1::Order {
    let surrender = v1::SurrenderOrder { by: "op".into(), to_agent: to.into() };
    order(number, job, 1, v1::order::Kind::Surrender(surrender))
}

/// An agent at work in this process.
pub(crate) struct Agent {
    pub(crate) runner: Arc<Runner>,
    pub(crate) redactor: Redactor,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Agent {
    pub(crate) async fn start(settings: &Settings, pipeline: Pipeline) -> Self {
        Self::try_start(settings, pipeline).await.unwrap()
    }

    /// The same for one that may not be able to start.
    pub(crate) async fn try_start(settings: &Settings, pipeline: Pipeline) -> std::io::Result<Self> {
        Self::telling(settings, pipeline, None).await
    }

    /// The same for one that hands over what is in a spool.
    pub(crate) async fn telling(
        settings: &Settings,
        pipeline: Pipeline,
        spool: Option<Arc<Spool>>,
    ) -> std::io::Result<Self> {
        let settings = Arc::new(settings.clone());
        let identity = Arc::new(Identity::load(&settings).unwrap());
        let redactor = Redactor::new();
        let runner = Runner::start(
            settings.clone(),
            identity.clone(),
            redactor.clone(),
            pipeline,
            Arc::new(gantry_agent::journal::OsDisk),
        )
        .await?;
        let iso = || vec![v1::IsoFile { name: "cloudtower-v1.oe.x86_64.iso".into(), ..Default::default() }];
        let link = Link::new(settings, identity, runner.clone(), Arc::new(iso)).unwrap().telling(spool);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let token = stop.clone();
        tasks.spawn(async move { link.run(token).await });
        Ok(Self { runner, redactor, stop, tasks })
    }

    /// What the journal of a job holds.
    pub(crate) async fn told(&self, job: JobId) -> Vec<Event> {
        let (_, journal) = self.runner.journals().into_iter().find(|(id, _)| *id == job).unwrap();
        let mut reader = journal.events_after(0);
        let mut all = Vec::new();
        loop {
            let page = reader.page(100, 1 << 20).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Waits until the journal of a job stands like this.
    pub(crate) async fn until(&self, job: JobId, stands: impl Fn(&Tail) -> bool) -> Tail {
        let wait = async {
            loop {
                let journals = self.runner.journals();
                match journals.iter().find(|(id, _)| *id == job).map(|(_, journal)| journal.tail()) {
                    Some(tail) if stands(&tail) => return tail,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        timeout(LIMIT, wait).await.expect("the job does not come so far")
    }

    /// As `run` does it. Returns whether every job came to a safe point.
    pub(crate) async fn stop(mut self) -> bool {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
        self.runner.shutdown(LIMIT).await
    }
}

/// A TCP relay that can be cut and frozen.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    cut: Arc<Mutex<CancellationToken>>,
    frozen: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let frozen = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let (token, ice) = (cut.clone(), frozen.clone());
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let (from, _) = listener.accept().await.unwrap();
                let (cut, ice) = (token.lock().unwrap().clone(), ice.subscribe());
                lines.spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = carry(from, to, ice) => {}
                    }
                });
            }
        });
        Self { address, cut, frozen, _tasks: tasks }
    }

    /// Cuts every line; new ones can be made.
    pub(crate) fn cut(&self) {
        let old = std::mem::take(&mut *self.cut.lock().unwrap());
        old.cancel();
    }

    /// Carries nothing any more, in neither direction, without closing anything.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

async fn carry(from: TcpStream, to: SocketAddr, ice: watch::Receiver<bool>) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    tokio::join!(pass(from_read, to_write, ice.clone()), pass(to_read, from_write, ice));
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut ice: watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if ice.wait_for(|frozen| !*frozen).await.is_err() || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Settings and join file for an agent that reaches `controller` through its relay.
pub(crate) fn joined(dir: &Path, controller: &Controller) -> Settings {
    let settings = crate::bench::settings(dir);
    join(&settings, &controller.ca, &controller.ca, controller.relay.address);
    settings
}
