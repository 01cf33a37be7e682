//! The queues between those who tell and the thread that exports: bounded, and whoever finds one full is counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, InstrumentationScope,
    logs::{AnyValue, LogRecord as _, Severity},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{self, BatchLogProcessor, LogProcessor, SdkLogRecord},
    trace::{self, BatchSpanProcessor, Span, SpanData, SpanProcessor},
};

use crate::{
    export::Export,
    scope::Scopes,
    signal::{Intake, Signal},
};

/// Spans, and as many log records, that wait to be written.
const QUEUE: usize = 4096;
/// Spans or log records of one batch.
pub(crate) const BATCH: usize = 128;
/// How long they wait for company.
const DELAY: Duration = Duration::from_secs(1);

/// How many wait, or are being written.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

impl Waiting {
    /// Takes a place, if there is one.
    fn enter(&self) -> bool {
        let entered = |waiting| (waiting < QUEUE).then_some(waiting + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, entered).is_ok()
    }

    /// Gives places back.
    pub(crate) fn left(&self, places: usize) {
        self.0.fetch_sub(places, Ordering::Relaxed);
    }
}

/// The way of the spans.
#[derive(Debug)]
pub(crate) struct Spans {
    inner: BatchSpanProcessor,
    waiting: Arc<Waiting>,
    scopes: Arc<Scopes>,
    intake: Arc<dyn Intake>,
}

impl Spans {
    pub(crate) fn new(export: Export, scopes: Arc<Scopes>, intake: Arc<dyn Intake>) -> Self {
        let waiting = export.waiting().clone();
        // Its own queue never gets full: places are given here.
        let config = trace::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE + BATCH)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        Self { inner: BatchSpanProcessor::new(export, config), waiting, scopes, intake }
    }
}

impl SpanProcessor for Spans {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.scopes.began(span, cx);
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        self.scopes.ended(span.span_context.span_id());
        if !span.span_context.is_sampled() {
        } else if self.waiting.enter() {
            self.inner.on_end(span);
        } else {
            self.intake.lost(Signal::Traces, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The way of the log records.
#[derive(Debug)]
pub(crate) struct Logs {
    inner: BatchLogProcessor,
    waiting: Arc<Waiting>,
    scopes: Arc<Scopes>,
    intake: Arc<dyn Intake>,
}

impl Logs {
    pub(crate) fn new(export: Export, scopes: Arc<Scopes>, intake: Arc<dyn Intake>) -> Self {
        let waiting = export.waiting().clone();
        let config = logs::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE + BATCH)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let inner = BatchLogProcessor::builder(export).with_batch_config(config).build();
        Self { inner, waiting, scopes, intake }
    }
}

impl LogProcessor for Logs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        let span = record.trace_context().map(|context| context.span_id);
        for pair in span.and_then(|span| self.scopes.of(span)).iter().flat_map(|pairs| pairs.iter()) {
            record.add_attribute(pair.key.clone(), AnyValue::String(pair.value.to_string().into()));
        }
        if self.waiting.enter() {
            self.inner.emit(record, scope);
        } else {
            self.intake.lost(Signal::Logs, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
