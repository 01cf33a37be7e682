//! A collector of OpenTelemetry: takes OTLP messages over gRPC.

use std::{env, fmt, time::Duration};

use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
};
use tonic::{
    Code, Extensions, Request, Status,
    codec::CompressionEncoding::Gzip,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use crate::signal::{Record, Signal};

/// Where the collector is; the OpenTelemetry specification's names.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one message may take.
const SEND: Duration = Duration::from_secs(10);

/// A collector. Connects when there is something to send.
#[derive(Clone)]
pub struct Collector {
    channel: Channel,
    headers: MetadataMap,
}

/// Why telemetry would not arrive there.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The endpoint.
    #[error("the OTLP endpoint \"{0}\" cannot be used: write something like \"http://127.0.0.1:4317\"")]
    Endpoint(String, #[source] tonic::transport::Error),
    /// The headers.
    #[error("{HEADERS} cannot be read: write \"name=value\", several with commas")]
    Headers,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It may be taken later.
    #[error("the collector does not take it now")]
    Later(#[source] Box<Status>),
    /// It will never be taken.
    #[error("the collector refuses it")]
    Never(#[source] Box<Status>),
}

impl Collector {
    /// The collector of the environment, else of the settings; `None`: there is none.
    ///
    /// # Errors
    /// When the endpoint is no address, or the headers cannot be read.
    pub fn find(configured: Option<&str>) -> Result<Option<Self>, CollectorError> {
        let set = |name| env::var(name).ok().filter(|text: &String| !text.is_empty());
        let Some(address) = set(ENDPOINT).or_else(|| configured.map(str::to_owned)) else { return Ok(None) };
        let headers = headers(&set(HEADERS).unwrap_or_default()).ok_or(CollectorError::Headers)?;
        let bad = |error| CollectorError::Endpoint(address.clone(), error);
        let mut endpoint = Endpoint::from_shared(address.clone()).map_err(bad)?.connect_timeout(CONNECT).timeout(SEND);
        if address.starts_with("https://") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(bad)?;
        }
        Ok(Some(Self { channel: endpoint.connect_lazy(), headers }))
    }

    /// Sends a batch. Gives how many of its items the collector refused.
    ///
    /// # Errors
    /// When it was not taken.
    pub async fn send(&self, record: &Record) -> Result<u64, SendError> {
        let otlp = record.otlp.as_slice();
        let refused = match record.signal {
            Signal::Traces => {
                let mut client = TraceServiceClient::new(self.channel.clone()).send_compressed(Gzip);
                let sent = client.export(self.request::<ExportTraceServiceRequest>(otlp)?).await.map_err(sort)?;
                sent.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans)
            }
            Signal::Logs => {
                let mut client = LogsServiceClient::new(self.channel.clone()).send_compressed(Gzip);
                let sent = client.export(self.request::<ExportLogsServiceRequest>(otlp)?).await.map_err(sort)?;
                sent.into_inner().partial_success.map_or(0, |partial| partial.rejected_log_records)
            }
            Signal::Metrics => {
                let mut client = MetricsServiceClient::new(self.channel.clone()).send_compressed(Gzip);
                let sent = client.export(self.request::<ExportMetricsServiceRequest>(otlp)?).await.map_err(sort)?;
                sent.into_inner().partial_success.map_or(0, |partial| partial.rejected_data_points)
            }
        };
        Ok(u64::try_from(refused).unwrap_or(0))
    }

    fn request<M: prost::Message + Default>(&self, otlp: &[u8]) -> Result<Request<M>, SendError> {
        let message = M::decode(otlp);
        let message =
            message.map_err(|error| SendError::Never(Box::new(Status::invalid_argument(error.to_string()))))?;
        Ok(Request::from_parts(self.headers.clone(), Extensions::default(), message))
    }
}

impl fmt::Debug for Collector {
    /// Headers hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

/// What may be sent again, by the OTLP specification.
fn sort(status: Status) -> SendError {
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => SendError::Never(Box::new(status)),
        _ => SendError::Later(Box::new(status)),
    }
}

/// `name=value,name=value`; what is no header is not sent half.
fn headers(text: &str) -> Option<MetadataMap> {
    let mut headers = MetadataMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let name = MetadataKey::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
        let mut value: MetadataValue<_> = value.trim().parse().ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_names_and_values() {
        let map = headers(" Api-Key = abc=1 ,tenant=b").unwrap();
        let told = |name| map.get(name).unwrap().to_str().unwrap();
        assert_eq!((told("api-key"), told("tenant")), ("abc=1", "b"));
        assert!(headers("").unwrap().is_empty());
        for wrong in ["abc", "a b=c", "a=\u{7f}\n"] {
            assert!(headers(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_a_collector_says_decides_whether_it_is_asked_again() {
        assert!(matches!(sort(Status::unavailable("")), SendError::Later(_)));
        assert!(matches!(sort(Status::resource_exhausted("")), SendError::Later(_)));
        assert!(matches!(sort(Status::invalid_argument("")), SendError::Never(_)));
    }
}
