//! Logs, traces and metrics, the same in every binary: structured logs by `tracing` on stderr; spans, log records and
//! metrics as OTLP messages for an [`Intake`]: a [`Spool`] on disk, or [`Memory`] in a program that soon ends. Every line
//! and every value that leaves has gone through a [`Redactor`].
//!
//! Trace contexts are passed on even where nothing is exported, so that a trace does not break on its way.

mod clean;
mod collector;
mod export;
mod memory;
mod panics;
mod propagate;
mod queue;
mod scope;
mod signal;
mod spool;

use std::{io, sync::Arc, time::Duration};

use gantry_proto::Redactor;
use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider},
    propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use export::Export;
use scope::Scopes;

pub use collector::{Collector, CollectorError, SendError};
pub use export::points;
pub use memory::Memory;
pub use propagate::{context_of, extract, inject, inject_metadata, set_parent};
pub use signal::{Intake, Loss, Record, Signal};
pub use spool::{Spool, Waiting};

/// Libraries whose own spans would only be noise in a trace, and the exporter's would export themselves.
const NOT_TRACED: [&str; 9] =
    ["h2", "hyper", "hyper_util", "tonic", "tower", "reqwest", "opentelemetry", "rustls", "russh"];
/// Target of the events that belong into a span: attempts. All others are log records, which name their span.
pub const ATTEMPT: &str = "gantry::attempt";
/// How long the last batches may take to be made.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// What is logged, and what is told on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter such as `info` or `gantry_agent=debug`; the environment variable `RUST_LOG` wins. Default `info`.
    pub log_filter: Option<String>,
    /// The same for the log records that leave with the spans.
    pub export_filter: String,
    /// How often metrics leave, seconds.
    pub metrics_every_s: u64,
    /// Spans, log records and metrics that wait for their receiver take so much of the disk, MiB; at least 8. When it is
    /// full, the oldest are lost and counted.
    pub spool_mib: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Text,
            log_filter: None,
            export_filter: "info".to_owned(),
            metrics_every_s: 60,
            spool_mib: 64,
        }
    }
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
    /// `RUST_LOG`, `log_filter` or `export_filter`.
    #[error("the log filter \"{0}\" cannot be read: write something like \"info\" or \"gantry_agent=debug\"")]
    Filter(String),
    /// A second start in one process.
    #[error("logging has been started already")]
    Twice,
}

/// What a program tells of itself, and where to.
pub struct Telling<'a> {
    /// Name of the service: `gantry-agent`.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What is logged.
    pub settings: &'a Settings,
    /// Knows what must not leave.
    pub redactor: &'a Redactor,
    /// Where it goes; without one, only lines are logged.
    pub intake: Option<Arc<dyn Intake>>,
}

/// Telemetry at work. Ends with [`Telemetry::shutdown`], which hands over what is left.
#[derive(Debug)]
pub struct Telemetry {
    spans: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

/// Starts logs, traces and metrics, and takes the words of panics through the redactor, too.
///
/// # Errors
/// See [`InitError`].
pub fn init(telling: Telling<'_>) -> Result<Telemetry, InitError> {
    init_with(telling, |meters| meters)
}

/// The same with further readers of the metrics.
///
/// # Errors
/// See [`InitError`].
pub fn init_with(
    telling: Telling<'_>,
    readers: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
) -> Result<Telemetry, InitError> {
    let Telling { service, version, settings, redactor, intake } = telling;
    panics::redact(redactor);
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", version))
        .build();
    let scopes = Arc::new(Scopes::default());
    let mut spans = SdkTracerProvider::builder().with_resource(resource.clone());
    let mut logs = SdkLoggerProvider::builder().with_resource(resource.clone());
    let mut metrics = readers(SdkMeterProvider::builder().with_resource(resource));
    let told = intake.is_some();
    if let Some(intake) = intake {
        let export = || Export::new(intake.clone(), redactor.clone());
        spans = spans.with_span_processor(queue::Spans::new(export(), scopes.clone(), intake.clone()));
        logs = logs.with_log_processor(queue::Logs::new(export(), scopes, intake.clone()));
        let every = Duration::from_secs(settings.metrics_every_s.max(1));
        metrics = metrics.with_reader(PeriodicReader::builder(export()).with_interval(every).build());
    }
    let telemetry = Telemetry { spans: spans.build(), logs: logs.build(), metrics: metrics.build() };
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_meter_provider(telemetry.metrics.clone());
    let span_layer = tracing_opentelemetry::layer()
        .with_tracer(telemetry.spans.tracer(service))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_filter(filter_fn(belongs_into_a_trace));
    let record_layer = OpenTelemetryTracingBridge::new(&telemetry.logs).with_filter(exported(settings, told)?);
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(RedactedStderr { redactor: redactor.clone() });
    let lines = match settings.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter(settings)?))
        .with(span_layer)
        .with(record_layer)
        .try_init()
        .map_err(|_| InitError::Twice)?;
    Ok(telemetry)
}

impl Telemetry {
    /// Hands over what is left, for at most three seconds each.
    pub async fn shutdown(self) {
        let ended = tokio::task::spawn_blocking(move || {
            let Self { spans, logs, metrics } = self;
            // The log records last: the others may have something to say.
            let (metrics, spans) =
                (metrics.shutdown_with_timeout(SHUTDOWN_LIMIT), spans.shutdown_with_timeout(SHUTDOWN_LIMIT));
            [metrics, spans, logs.shutdown_with_timeout(SHUTDOWN_LIMIT)]
        });
        for error in ended.await.into_iter().flatten().filter_map(Result::err) {
            tracing::debug!(%error, "the last telemetry was not handed over");
        }
    }
}

/// Spans down to the level of debugging, and attempts.
fn belongs_into_a_trace(metadata: &Metadata<'_>) -> bool {
    if metadata.is_event() {
        return metadata.target() == ATTEMPT;
    }
    *metadata.level() <= Level::DEBUG && !NOT_TRACED.iter().any(|name| is_of(metadata.target(), name))
}

fn is_of(target: &str, library: &str) -> bool {
    target.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn filter(settings: &Settings) -> Result<EnvFilter, InitError> {
    let text = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let text = text.or_else(|| settings.log_filter.clone()).unwrap_or_else(|| "info".to_owned());
    EnvFilter::try_new(&text).map_err(|_| InitError::Filter(text))
}

/// Attempts are in the spans, and the libraries below the exporter are never told on.
fn exported(settings: &Settings, told: bool) -> Result<EnvFilter, InitError> {
    if !told {
        return Ok(EnvFilter::new("off"));
    }
    let quiet: String = NOT_TRACED.iter().map(|name| format!(",{name}=off")).collect();
    let text = format!("{}{quiet},{ATTEMPT}=off", settings.export_filter);
    EnvFilter::try_new(&text).map_err(|_| InitError::Filter(settings.export_filter.clone()))
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
