//! One trace from `ctl` through controller and link to every step, HTTP call and SSH command of the agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use gantry_e2e::Lab;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use crate::support::quick;

/// What arrived: service name and span.
type Arrived = Arc<Mutex<Vec<(String, Span)>>>;

struct Collector(Arrived);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let service = resource.resource.map(|r| format!("{:?}", r.attributes)).unwrap_or_default();
            let service = ["gantry-controller", "gantry-agent", "gantry-ctl", "controller", "agent", "ctl"]
                .into_iter()
                .find(|name| service.contains(&format!("\"{name}\"")))
                .unwrap_or("?")
                .trim_start_matches("gantry-")
                .to_owned();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn the_trace_is_one_tree() -> anyhow::Result<()> {
    let arrived = Arrived::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let service = TraceServiceServer::new(Collector(arrived.clone())).accept_compressed(CompressionEncoding::Gzip);
    let mut server = JoinSet::new();
    server.spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut options = quick();
    options.otlp = Some(endpoint);
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&["--watch"]).await?;
    // The last spans leave when the processes end.
    lab.stop().await?;

    let spans = arrived.lock().unwrap().clone();
    let deploy = spans.iter().find(|(service, span)| service == "ctl" && span.name.contains("deploy"));
    let (_, deploy) = deploy.expect("a span of ctl deploy");
    let ours: Vec<_> = spans.iter().filter(|(_, span)| span.trace_id == deploy.trace_id).collect();
    let ids: BTreeSet<_> = ours.iter().map(|(_, span)| span.span_id.clone()).collect();
    let orphans: Vec<_> = ours
        .iter()
        .filter(|(_, span)| !span.parent_span_id.is_empty() && !ids.contains(&span.parent_span_id))
        .map(|(service, span)| format!("{service}: {}", span.name))
        .collect();
    assert_eq!(orphans, Vec::<String>::new(), "spans whose parent did not arrive");

    let mut by_service: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (service, span) in &ours {
        by_service.entry(service).or_default().push(&span.name);
    }
    assert!(by_service.contains_key("controller") && by_service.contains_key("agent"), "{by_service:?}");
    let agent = &by_service["agent"];
    for wanted in [
        "preflight",
        "upload-iso",
        "create-vm",
        "wait-guest-agent",
        "configure-network",
        "install",
        "verify-https",
        "initial-setup",
        "configure-services",
        "finish",
        "POST /api/v2/images/upload",
        "POST /v2/api login",
        "createOrganization",
        "ssh write-resolv-conf",
        "preinstall",
    ] {
        assert!(agent.iter().any(|name| name.contains(wanted)), "no span named like {wanted}: {agent:?}");
    }
    let text = format!("{ours:?}");
    assert!(text.contains(&job), "the job's id is an attribute");
    Ok(())
}
