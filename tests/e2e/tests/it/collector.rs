//! A collector of OpenTelemetry in the test's process: keeps what it is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::ensure;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, codec::CompressionEncoding::Gzip, transport::Server};

/// Longer than it takes anything to arrive.
const LIMIT: Duration = Duration::from_secs(60);

/// What arrived. The service's name without `gantry-`.
#[derive(Default)]
pub(crate) struct Arrived {
    /// Each once.
    pub(crate) spans: BTreeMap<Vec<u8>, (String, Span)>,
    /// Service, text, and the job that it belongs to.
    pub(crate) records: Vec<(String, String, String)>,
    /// Service and name.
    pub(crate) metrics: BTreeSet<(String, String)>,
    /// The attributes of the resources of agents.
    pub(crate) agents: BTreeSet<(String, String)>,
}

/// The collector.
pub(crate) struct Collector {
    arrived: Arc<Mutex<Arrived>>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<Arrived>>);

impl Collector {
    /// On a free port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::at("127.0.0.1:0".parse()?).await
    }

    pub(crate) async fn at(address: SocketAddr) -> anyhow::Result<Self> {
        let (arrived, listener) = (Arc::<Mutex<Arrived>>::default(), TcpListener::bind(address).await?);
        let address = listener.local_addr()?;
        let service = Service(arrived.clone());
        let server = Server::builder()
            .add_service(TraceServiceServer::new(service.clone()).accept_compressed(Gzip))
            .add_service(LogsServiceServer::new(service.clone()).accept_compressed(Gzip))
            .add_service(MetricsServiceServer::new(service).accept_compressed(Gzip));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Ok(Self { arrived, address, _tasks: tasks })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what has arrived is like this.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Arrived) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !holds(&self.arrived()) {
            ensure!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}; spans: {}", self.arrived().spans.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// A text attribute.
pub(crate) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match &attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value {
        Some(Value::StringValue(text)) => Some(text),
        _ => None,
    }
}

/// Whether an `attempt failed` or a warning is on the span, with this code.
pub(crate) fn has_event(span: &Span, code: &str) -> bool {
    let says = |key| span.events.iter().any(|event| attribute(&event.attributes, key) == Some(code));
    says("error.type") || says("note")
}

impl Service {
    fn keep<T>(&self, resource: Option<&Resource>, keep: impl FnOnce(&mut Arrived, &str) -> T) -> T {
        let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
        let service = attribute(attributes, "service.name").unwrap_or("?").trim_start_matches("gantry-");
        let mut arrived = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if service == "agent" {
            let told = |key| attribute(attributes, key).unwrap_or_default().to_owned();
            arrived.agents.insert((told("service.instance.id"), told("gantry.site")));
        }
        keep(&mut arrived, service)
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for part in request.into_inner().resource_spans {
            self.keep(part.resource.as_ref(), |arrived, service| {
                for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    arrived.spans.insert(span.span_id.clone(), (service.to_owned(), span));
                }
            });
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        for part in request.into_inner().resource_logs {
            self.keep(part.resource.as_ref(), |arrived, service| {
                for record in part.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                    let job = attribute(&record.attributes, "job.id").unwrap_or_default().to_owned();
                    arrived.records.push((service.to_owned(), format!("{:?}", record.body), job));
                }
            });
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for part in request.into_inner().resource_metrics {
            self.keep(part.resource.as_ref(), |arrived, service| {
                for metric in part.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    assert!(!metric.description.is_empty() && !metric.unit.is_empty(), "{metric:?}");
                    arrived.metrics.insert((service.to_owned(), metric.name));
                }
            });
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
