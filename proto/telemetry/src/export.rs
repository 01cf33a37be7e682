//! Makes OTLP messages of what the SDK hands over, cleans them, and gives them to an intake.

use std::{fmt, sync::Arc, time::Duration};

use gantry_proto::Redactor;
use opentelemetry_proto::{
    tonic::{
        collector::{
            logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
            trace::v1::ExportTraceServiceRequest,
        },
        metrics::v1::metric::Data,
    },
    transform::{
        common::tonic::ResourceAttributesWithSchema, logs::tonic::group_logs_by_resource_and_scope,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use prost::Message as _;

use crate::{
    clean,
    queue::Waiting,
    signal::{Intake, Record, Signal},
};

/// The largest message, bytes: it has to pass in one call over the link.
pub(crate) const RECORD_MAX: usize = 1 << 20;

/// An exporter of all three kinds. Each processor has its own.
pub(crate) struct Export {
    intake: Arc<dyn Intake>,
    redactor: Redactor,
    resource: ResourceAttributesWithSchema,
    waiting: Arc<Waiting>,
}

impl Export {
    pub(crate) fn new(intake: Arc<dyn Intake>, redactor: Redactor) -> Self {
        Self { intake, redactor, resource: ResourceAttributesWithSchema::default(), waiting: Arc::default() }
    }

    /// The places of those who wait for this exporter.
    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    fn give(&self, signal: Signal, items: usize, otlp: Vec<u8>) {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        if otlp.len() > RECORD_MAX {
            self.intake.lost(signal, items.into());
        } else if items > 0 {
            self.intake.take(Record { signal, items, otlp });
        }
    }

    /// A batch that is too large for one message goes in halves.
    fn give_spans(&self, batch: &[SpanData]) {
        let mut resource_spans = group_spans_by_resource_and_scope(batch.to_vec(), &self.resource);
        clean::spans(&mut resource_spans, &self.redactor);
        let request = ExportTraceServiceRequest { resource_spans };
        if batch.len() > 1 && request.encoded_len() > RECORD_MAX {
            let (first, second) = batch.split_at(batch.len() / 2);
            self.give_spans(first);
            self.give_spans(second);
        } else {
            self.give(Signal::Traces, batch.len(), request.encode_to_vec());
        }
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

impl SpanExporter for Export {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.give_spans(&batch);
        self.waiting.left(batch.len());
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

impl LogExporter for Export {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        let mut resource_logs = group_logs_by_resource_and_scope(&batch, &self.resource);
        clean::logs(&mut resource_logs, &self.redactor);
        let request = ExportLogsServiceRequest { resource_logs };
        self.give(Signal::Logs, items, request.encode_to_vec());
        self.waiting.left(items);
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

impl PushMetricExporter for Export {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let request = ExportMetricsServiceRequest::from(metrics);
        self.give(Signal::Metrics, points(&request), request.encode_to_vec());
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// The data points of a message.
pub fn points(request: &ExportMetricsServiceRequest) -> usize {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let count = |data: &Data| match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    };
    scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref().map(count)).sum()
}
