//! Telemetry of agents: kept for the jobs of their own site only, marked with whose it is, and refused when it is none.

use gantry_proto::{JobId, JoinFile, TELEMETRY, sealed::SealingKey, v1};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tonic::{Code, Status, transport::Identity};
use v1::{agent_link_client::AgentLinkClient, job_service_client::JobServiceClient};

use crate::{
    agent::{FakeAgent, hello},
    lab::{Lab, submission, submit},
};

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A batch with one span of a job, by somebody who says to be another agent.
fn span(name: &str, job: JobId) -> Vec<u8> {
    let attributes = vec![pair("job.id", &job.to_string())];
    let span = Span { name: name.into(), trace_id: vec![1; 16], span_id: vec![2; 8], attributes, ..Span::default() };
    let attributes = vec![pair("service.name", "gantry-agent"), pair("service.instance.id", "somebody-else")];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let part = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![part] }.encode_to_vec()
}

async fn send(lab: &Lab, join: &JoinFile, signal: v1::Signal, otlp: Vec<u8>) -> Result<(), Status> {
    let identity = Identity::from_pem(&join.cert_pem, join.key_pem.expose());
    let mut link = AgentLinkClient::new(lab.channel(Some(identity)).await);
    let lost = Some(v1::TelemetryLoss { spans: 3, ..v1::TelemetryLoss::default() });
    let request = v1::SendTelemetryRequest { signal: signal.into(), otlp, lost, waiting_bytes: 4711 };
    link.send_telemetry(request).await.map(drop)
}

/// The spans of a job, and the resources that they stand below.
async fn trace(client: &mut JobServiceClient<tonic::transport::Channel>, job: JobId) -> Vec<(String, Vec<KeyValue>)> {
    let request = v1::GetJobTraceRequest { job_id: job.to_string(), with_logs: true };
    let mut parts = client.get_job_trace(request).await.unwrap().into_inner();
    let mut spans = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        for resource in ExportTraceServiceRequest::decode(part.otlp.as_slice()).unwrap().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let names = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| span.name);
            spans.extend(names.map(|name| (name, attributes.clone())));
        }
    }
    spans
}

#[tokio::test]
async fn an_agent_tells_of_jobs_of_its_site_and_under_its_own_name() {
    let lab = Lab::start().await;
    let (own, other) = (lab.join("a1", "s1").await, lab.join("a2", "s2").await);
    let agent = FakeAgent::dial(&lab, &own, hello(&SealingKey::generate())).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, v1::SubmitJobRequest { site: "s1".into(), ..submission(job) }).await.unwrap();

    send(&lab, &own, v1::Signal::Traces, span("ours", job)).await.unwrap();
    send(&lab, &other, v1::Signal::Traces, span("a stranger's", job)).await.unwrap();
    send(&lab, &own, v1::Signal::Traces, span("of no job", JobId::new())).await.unwrap();
    let spans = trace(&mut client, job).await;
    let [(name, resource)] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(name, "ours");
    for mark in [pair("service.instance.id", "a1"), pair("gantry.site", "s1"), pair("service.name", "gantry-agent")] {
        assert!(resource.contains(&mark), "{mark:?} in {resource:?}");
    }
    assert!(!resource.contains(&pair("service.instance.id", "somebody-else")), "{resource:?}");

    let mut fleet = lab.fleet().await;
    let agents = fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    let told = agents.iter().find(|agent| agent.agent_id == "a1").unwrap();
    assert_eq!((told.telemetry_waiting_bytes, told.telemetry_lost.unwrap().spans), (4711, 3));
    drop(agent);
}

#[tokio::test]
async fn what_is_no_telemetry_is_refused_for_good() {
    let lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    for (what, signal, otlp) in [
        ("no kind", v1::Signal::Unspecified, span("x", JobId::new())),
        ("no message", v1::Signal::Traces, vec![0xff; 40]),
        ("no message", v1::Signal::Logs, vec![0xff; 40]),
        ("no message", v1::Signal::Metrics, vec![0xff; 40]),
        ("too large", v1::Signal::Traces, vec![0; (1 << 20) + 1]),
    ] {
        let status = send(&lab, &join, signal, otlp).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }
    let mut anybody = AgentLinkClient::new(lab.channel(Some(lab.operator_identity())).await);
    let status = anybody.send_telemetry(v1::SendTelemetryRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "an operator is no agent: {status}");
}

#[tokio::test]
async fn an_operator_of_another_site_sees_no_trace() {
    let lab = Lab::start().await;
    let own = lab.join("a1", "s1").await;
    let _agent = FakeAgent::dial(&lab, &own, hello(&SealingKey::generate())).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, submission(job)).await.unwrap();
    lab.join("a9", "s9").await;
    let stranger = lab.operator("li", v1::Role::Viewer, &["s9"]).await;
    let mut stranger = JobServiceClient::new(lab.channel(Some(stranger)).await);
    let request = v1::GetJobTraceRequest { job_id: job.to_string(), with_logs: false };
    let status = stranger.get_job_trace(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
}

#[tokio::test]
async fn the_controller_says_that_it_takes_telemetry() {
    let lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let agent = FakeAgent::dial(&lab, &join, hello(&SealingKey::generate())).await.unwrap();
    assert!(agent.welcome.capabilities.iter().any(|word| word == TELEMETRY), "{:?}", agent.welcome);
}
