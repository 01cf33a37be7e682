//! Logs and traces, the same in every binary: structured logs by `tracing` on stderr, spans by OTLP (gRPC) when an
//! endpoint is configured. Every line and every span attribute that leaves has gone through a [`Redactor`].
//!
//! Trace contexts are passed on even where nothing is exported, so that a trace does not break at an agent that cannot
//! reach a collector.

mod export;
mod panics;
mod propagate;

use std::{io, time::Duration};

use gantry_proto::Redactor;
use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

pub use propagate::{context_of, extract, inject, inject_metadata, set_parent};

/// Libraries whose own spans would only be noise in a trace, and the exporter's would export themselves.
const NOT_TRACED: [&str; 9] =
    ["h2", "hyper", "hyper_util", "tonic", "tower", "reqwest", "opentelemetry", "rustls", "russh"];
/// How long the last spans may take to leave.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Logs and traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where spans go, such as `http://127.0.0.1:4317`. Nothing is exported without it; the environment variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` wins.
    pub otlp_endpoint: Option<String>,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter such as `info` or `gantry_agent=debug`; the environment variable `RUST_LOG` wins. Default `info`.
    pub log_filter: Option<String>,
}

/// Form of the log lines on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `RUST_LOG` or `log_filter`.
    #[error("the log filter \"{0}\" cannot be read: write something like \"info\" or \"gantry_agent=debug\"")]
    Filter(String),
    /// The endpoint.
    #[error("the OTLP endpoint \"{0}\" cannot be used: write something like \"http://127.0.0.1:4317\"")]
    Endpoint(String, #[source] opentelemetry_otlp::ExporterBuildError),
    /// A second start in one process.
    #[error("logging has been started already")]
    Twice,
}

/// Telemetry at work. Ends with [`Telemetry::shutdown`], which sends what is left.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Starts logs and traces, and takes the words of panics through the redactor, too. Needs a Tokio runtime where an
/// endpoint is configured.
pub fn init(
    service: &'static str,
    version: &'static str,
    settings: &Settings,
    redactor: &Redactor,
) -> Result<Telemetry, InitError> {
    panics::redact(redactor);
    let provider = provider(service, version, settings, redactor)?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    let quiet = NOT_TRACED.iter().fold(Targets::new().with_default(tracing::Level::DEBUG), |targets, name| {
        targets.with_target(*name, tracing::level_filters::LevelFilter::OFF)
    });
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(quiet);
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(RedactedStderr { redactor: redactor.clone() });
    let lines = match settings.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter(settings)?))
        .with(spans)
        .try_init()
        .map_err(|_| InitError::Twice)?;
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends what is left, for at most three seconds.
    pub async fn shutdown(self) {
        let sent = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(SHUTDOWN_LIMIT));
        if let Ok(Err(error)) = sent.await {
            tracing::debug!(%error, "the last spans were not delivered");
        }
    }
}

fn filter(settings: &Settings) -> Result<EnvFilter, InitError> {
    let text = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let text = text.or_else(|| settings.log_filter.clone()).unwrap_or_else(|| "info".to_owned());
    EnvFilter::try_new(&text).map_err(|_| InitError::Filter(text))
}

fn provider(
    service: &'static str,
    version: &'static str,
    settings: &Settings,
    redactor: &Redactor,
) -> Result<SdkTracerProvider, InitError> {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", version))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|text| !text.is_empty());
    let Some(endpoint) = endpoint.or_else(|| settings.otlp_endpoint.clone()) else { return Ok(builder.build()) };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&endpoint)
        .with_compression(opentelemetry_otlp::Compression::Gzip)
        .with_timeout(SHUTDOWN_LIMIT)
        .build()
        .map_err(|error| InitError::Endpoint(endpoint, error))?;
    Ok(builder.with_batch_exporter(export::Redacting::new(exporter, redactor.clone())).build())
}

/// Stderr behind the redactor. The formatter hands over whole lines.
struct RedactedStderr {
    redactor: Redactor,
}

impl<'a> MakeWriter<'a> for RedactedStderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { redactor: &self.redactor }
    }
}

struct Line<'a> {
    redactor: &'a Redactor,
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(self.redactor.bytes(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
