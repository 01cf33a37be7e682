//! A running controller in a directory of its own, and the ways to reach it.

use std::{future::Future, net::SocketAddr, path::PathBuf, time::Duration};

use gantry_controller::{Config, Controller};
use gantry_proto::{
    JobId, JoinFile, JoinToken, Redactor, Secret,
    audit::{Head, Record},
    v1::{
        self, access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
        enrollment_service_client::EnrollmentServiceClient, fleet_service_client::FleetServiceClient,
        job_service_client::JobServiceClient,
    },
};
use gantry_sim::workbook::Workbook;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// What should happen at once may take so long on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Awaits something that should happen at once.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: nothing came"))
}

pub(crate) struct Lab {
    dir: TempDir,
    pub(crate) config: Config,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinSet<()>,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config =
            Config { data: dir.path().join("data"), listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        change(&mut config);
        let mut lab =
            Self { dir, address: config.listen, config, shutdown: CancellationToken::new(), running: JoinSet::new() };
        lab.run().await;
        lab
    }

    async fn run(&mut self) {
        let controller = Controller::bind(self.config.clone(), Redactor::new()).await.unwrap();
        self.address = controller.address();
        self.shutdown = CancellationToken::new();
        let shutdown = self.shutdown.clone();
        self.running.spawn(async move { controller.serve(shutdown).await.unwrap() });
    }

    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        while let Some(ended) = soon("shutdown", self.running.join_next()).await {
            ended.unwrap();
        }
    }

    /// Begins to stop, without waiting.
    pub(crate) fn shut(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.config.data.join("ca/ca.pem")).unwrap()
    }

    /// A new agent of a site; the one that had the name before has it no more.
    pub(crate) async fn join(&self, agent: &str, site: &str) -> JoinFile {
        let token = self.token(agent, site).await;
        self.join_with(&token, "", &KeyPair::generate().unwrap()).await.unwrap()
    }

    /// A token for an agent; an empty name leaves it to the agent.
    pub(crate) async fn token(&self, agent: &str, site: &str) -> JoinToken {
        let mut admin = self.admin().await;
        admin.add_site(v1::AddSiteRequest { site: site.into() }).await.unwrap();
        let wish = v1::MakeTokenRequest { site: site.into(), agent_id: agent.into(), life_s: 0 };
        let token = admin.make_token(wish).await.unwrap().into_inner().token;
        JoinToken::parse(&token).unwrap()
    }

    /// Uses a token with a key, as `agent join` does.
    pub(crate) async fn join_with(&self, token: &JoinToken, name: &str, key: &KeyPair) -> Result<JoinFile, Status> {
        let mut client = EnrollmentServiceClient::new(self.channel(None).await);
        let wish = v1::JoinRequest {
            secret: token.secret.to_vec(),
            agent_id: name.into(),
            request_der: request(key),
            version: "0.1.0".into(),
        };
        let v1::JoinResponse { cert_pem, ca_pem, agent_id, site } = client.join(wish).await?.into_inner();
        let key_pem = Secret::new(key.serialize_pem());
        let (controller, server_name) = (token.controller.clone(), token.server_name.clone());
        Ok(JoinFile { controller, server_name, ca_pem, cert_pem, key_pem, agent: agent_id, site })
    }

    pub(crate) async fn admin(&self) -> AccessServiceClient<Channel> {
        AccessServiceClient::new(self.channel(Some(self.operator_identity())).await)
    }

    /// A new operator with a role, limited to sites unless there are none.
    pub(crate) async fn operator(&self, name: &str, role: v1::Role, sites: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let wish = v1::AddOperatorRequest {
            operator: name.into(),
            role: role.into(),
            sites: sites.iter().map(|site| (*site).to_owned()).collect(),
            request_der: request(&key),
        };
        let answer = self.admin().await.add_operator(wish).await.unwrap().into_inner();
        Identity::from_pem(answer.cert_pem, key.serialize_pem())
    }

    pub(crate) fn operator_identity(&self) -> Identity {
        let dir = self.config.data.join("operators/admin");
        let read = |name| std::fs::read(dir.join(name)).unwrap();
        Identity::from_pem(read("cert.pem"), read("key.pem"))
    }

    pub(crate) fn endpoint(&self, identity: Option<Identity>) -> Endpoint {
        let mut tls = ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(self.ca()));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Endpoint::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls).unwrap()
    }

    pub(crate) async fn channel(&self, identity: Option<Identity>) -> Channel {
        soon("connect", self.endpoint(identity).connect()).await.unwrap()
    }

    pub(crate) async fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel(Some(self.operator_identity())).await)
    }

    pub(crate) async fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel(Some(self.operator_identity())).await)
    }

    /// The audit log, and its head.
    pub(crate) async fn audit(&self) -> (Vec<Record>, Head) {
        let mut client = AuditServiceClient::new(self.channel(Some(self.operator_identity())).await);
        let answer = client.list_audit(v1::ListAuditRequest::default()).await.unwrap();
        let (mut stream, mut records, mut head) = (answer.into_inner(), Vec::new(), None);
        while let Some(page) = soon("audit log", stream.message()).await.unwrap() {
            head = head.or(page.head);
            records.extend(page.records.into_iter().map(|record| Record::try_from(record).unwrap()));
        }
        (records, head.unwrap().try_into().unwrap())
    }

    /// Waits until the first agent is out of contact.
    pub(crate) async fn first_agent_is_gone(&self) {
        let mut fleet = self.fleet().await;
        soon("loss of contact", async {
            while fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents[0].in_contact {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// One HTTP/1.1 request without a client certificate; the whole answer.
    pub(crate) async fn get(&self, path: &str) -> String {
        let tls = client_tls(&self.ca(), rustls::DEFAULT_VERSIONS);
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
        let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("answer", stream.read_to_end(&mut answer)).await;
        String::from_utf8(answer).unwrap()
    }
}

/// A certificate request of a key, PKCS#10, DER.
pub(crate) fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// A client that trusts one CA and shows no certificate.
pub(crate) fn client_tls(ca: &str, versions: &[&'static rustls::SupportedProtocolVersion]) -> rustls::ClientConfig {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A wish to deploy the valid workbook.
pub(crate) fn submission(job: JobId) -> v1::SubmitJobRequest {
    submission_of(job, &Workbook::valid())
}

pub(crate) fn submission_of(job: JobId, workbook: &Workbook) -> v1::SubmitJobRequest {
    v1::SubmitJobRequest {
        job_id: job.to_string(),
        workbook: workbook.bytes(),
        file_name: "planning.xlsx".into(),
        ..Default::default()
    }
}

pub(crate) async fn submit(
    client: &mut JobServiceClient<Channel>,
    request: v1::SubmitJobRequest,
) -> Result<v1::JobAccepted, Status> {
    let answer = soon("submit", client.submit_job(request)).await?.into_inner();
    match answer.outcome.unwrap() {
        v1::submit_job_response::Outcome::Accepted(accepted) => Ok(accepted),
        v1::submit_job_response::Outcome::Rejected(rejected) => panic!("rejected: {:?}", rejected.problems),
    }
}

pub(crate) async fn get(client: &mut JobServiceClient<Channel>, job: JobId) -> v1::Job {
    let request = v1::GetJobRequest { job_id: job.to_string() };
    soon("get", client.get_job(request)).await.unwrap().into_inner().job.unwrap()
}

pub(crate) async fn watch(
    client: &mut JobServiceClient<Channel>,
    job: JobId,
    after_seq: u64,
) -> Streaming<v1::WatchJobResponse> {
    let request = v1::WatchJobRequest { job_id: job.to_string(), after_seq, no_follow: false };
    soon("watch", client.watch_job(request)).await.unwrap().into_inner()
}

/// The next thing on a watch stream; `None` at its end.
pub(crate) async fn next(stream: &mut Streaming<v1::WatchJobResponse>) -> Option<v1::watch_job_response::Item> {
    soon("watch stream", stream.message()).await.unwrap().map(|response| response.item.unwrap())
}

/// Reads until the job looks as wanted.
pub(crate) async fn until(stream: &mut Streaming<v1::WatchJobResponse>, wanted: impl Fn(&v1::Job) -> bool) -> v1::Job {
    loop {
        match next(stream).await.expect("the stream ended before the job looked as wanted") {
            v1::watch_job_response::Item::Job(job) if wanted(&job) => return job,
            _ => {}
        }
    }
}

/// Reads to the end; the numbers of the events.
pub(crate) async fn event_numbers(stream: &mut Streaming<v1::WatchJobResponse>) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(item) = next(stream).await {
        if let v1::watch_job_response::Item::Event(event) = item {
            numbers.push(event.seq);
        }
    }
    numbers
}
