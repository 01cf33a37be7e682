//! Who gets in, and who does not; health without a certificate.

use std::sync::Arc;

use gantry_proto::{
    Code, JobId,
    sealed::SealingKey,
    v1::{
        self, agent_link_client::AgentLinkClient, fleet_service_client::FleetServiceClient,
        job_service_client::JobServiceClient, open_request::Item as Up,
    },
};
use tokio::net::TcpStream;
use tonic::{
    Status,
    transport::{Channel, Identity},
};

use crate::{
    agent::hello,
    lab::{Lab, client_tls, soon, submission},
};

/// Every call of the operators, in turn.
async fn as_operator(channel: Channel) -> Vec<(&'static str, Result<(), Status>)> {
    let mut jobs = JobServiceClient::new(channel.clone());
    let mut fleet = FleetServiceClient::new(channel);
    let job_id = JobId::new().to_string();
    vec![
        ("CheckPlan", jobs.check_plan(v1::CheckPlanRequest::default()).await.map(drop)),
        ("SubmitJob", jobs.submit_job(submission(JobId::new())).await.map(drop)),
        ("ListJobs", jobs.list_jobs(v1::ListJobsRequest::default()).await.map(drop)),
        ("GetJob", jobs.get_job(v1::GetJobRequest { job_id: job_id.clone() }).await.map(drop)),
        (
            "WatchJob",
            jobs.watch_job(v1::WatchJobRequest { job_id: job_id.clone(), ..Default::default() }).await.map(drop),
        ),
        (
            "CancelJob",
            jobs.cancel_job(v1::CancelJobRequest { job_id: job_id.clone(), ..Default::default() }).await.map(drop),
        ),
        ("GetJobResult", jobs.get_job_result(v1::GetJobResultRequest { job_id }).await.map(drop)),
        ("ListAgents", fleet.list_agents(v1::ListAgentsRequest::default()).await.map(drop)),
        ("GetVersion", fleet.get_version(v1::GetVersionRequest::default()).await.map(drop)),
    ]
}

async fn as_agent(channel: Channel) -> Result<(), Status> {
    let hello = Up::Hello(hello(&SealingKey::generate()));
    let request = tokio_stream::iter([v1::OpenRequest { item: Some(hello), ..Default::default() }]);
    AgentLinkClient::new(channel).open(request).await.map(drop)
}

fn refused(status: &Status, word: &str) {
    assert_eq!(Code::of(status), Some(Code::NotAllowed), "{status:?}");
    assert!(status.message().contains(word), "{status:?}");
}

#[tokio::test]
async fn an_agent_is_no_operator_and_an_operator_is_no_agent() {
    let mut lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let agent = Identity::from_pem(&join.cert_pem, join.key_pem.expose());
    for (call, answer) in as_operator(lab.channel(Some(agent)).await).await {
        refused(&answer.expect_err(call), "agent \"a1\"");
    }
    let operator = lab.channel(Some(lab.operator_identity())).await;
    refused(&as_agent(operator.clone()).await.unwrap_err(), "operator \"admin\"");
    for (call, answer) in as_operator(operator).await {
        let code = answer.as_ref().err().and_then(Code::of);
        assert!(code != Some(Code::NotAllowed), "{call}: {answer:?}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn without_a_certificate_every_call_is_refused() {
    let mut lab = Lab::start().await;
    for (call, answer) in as_operator(lab.channel(None).await).await {
        refused(&answer.expect_err(call), "none was shown");
    }
    refused(&as_agent(lab.channel(None).await).await.unwrap_err(), "none was shown");
    lab.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_does_not_shake_hands() {
    let mut lab = Lab::start().await;
    let mut foreign = Lab::start().await;
    let identity = foreign.operator_identity();
    // TLS 1.3: the refusal comes with the first call.
    let answer = match lab.endpoint(Some(identity)).connect().await {
        Ok(channel) => soon("call", as_operator(channel)).await.remove(0).1.map_err(|status| status.to_string()),
        Err(error) => Err(error.to_string()),
    };
    assert!(answer.is_err());
    lab.stop().await;
    foreign.stop().await;
}

#[tokio::test]
async fn the_servers_own_certificate_is_nobody() {
    let mut lab = Lab::start().await;
    let read = |name| std::fs::read(lab.config.data.join("tls").join(name)).unwrap();
    let identity = Identity::from_pem(read("server.pem"), read("server.key"));
    let answer = match lab.endpoint(Some(identity)).connect().await {
        Ok(channel) => soon("call", as_operator(channel)).await.remove(0).1.map_err(|status| status.to_string()),
        Err(error) => Err(error.to_string()),
    };
    assert!(answer.is_err());
    lab.stop().await;
}

#[tokio::test]
async fn only_tls_1_3_is_spoken() {
    let mut lab = Lab::start().await;
    let tls = client_tls(&lab.ca(), &[&rustls::version::TLS12]);
    let tcp = TcpStream::connect(lab.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    assert!(soon("handshake", connector.connect("localhost".try_into().unwrap(), tcp)).await.is_err());
    lab.stop().await;
}

#[tokio::test]
async fn health_needs_no_certificate_and_other_pages_are_not_found() {
    let mut lab = Lab::with(|config| config.ready_file = Some(config.data.with_file_name("ready"))).await;
    let health = lab.get("/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let body: serde_json::Value = serde_json::from_str(health.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&body["status"], &body["store"]), (&"ok".into(), &"ok".into()));
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert!(lab.get("/nowhere").await.starts_with("HTTP/1.1 404"));
    let ready = soon("ready file", async {
        loop {
            if let Ok(text) = std::fs::read_to_string(lab.path("ready")) {
                return text;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(ready.await.trim(), lab.address.to_string());
    lab.stop().await;
    assert!(!lab.path("ready").exists());
}

#[tokio::test]
async fn an_anonymous_connection_does_not_stay() {
    use tokio::io::AsyncReadExt as _;
    let mut lab = Lab::with(|config| config.limits.anonymous_ms = 50).await;
    let tcp = TcpStream::connect(lab.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_tls(&lab.ca(), rustls::DEFAULT_VERSIONS)));
    let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let mut byte = [0];
    let read = soon("end of the connection", async {
        loop {
            match stream.read(&mut byte).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    read.await;
    lab.stop().await;
}

#[tokio::test]
async fn a_second_controller_on_the_same_port_says_which_one() {
    let mut lab = Lab::start().await;
    let mut config = lab.config.clone();
    config.listen = lab.address;
    config.data = lab.path("second");
    let refused = gantry_controller::Controller::bind(config, gantry_proto::Redactor::new()).await.err().unwrap();
    assert!(refused.to_string().contains(&lab.address.to_string()), "{refused}");
    lab.stop().await;
}
