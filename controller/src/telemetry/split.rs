//! Takes a batch apart by the jobs that its spans and log records belong to.

use std::collections::BTreeMap;

use gantry_proto::JobId;
use gantry_telemetry::{Record, Signal};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    logs::v1::{ResourceLogs, ScopeLogs},
    trace::v1::{ResourceSpans, ScopeSpans},
};
use prost::Message as _;

/// The attribute that names the job.
const JOB: &str = "job.id";

/// The parts, each as a batch of its own. Metrics belong to no job; neither does what cannot be read.
pub(super) fn by_job(record: &Record) -> Vec<(JobId, Record)> {
    match record.signal {
        Signal::Traces => ExportTraceServiceRequest::decode(record.otlp.as_slice()).map(spans).unwrap_or_default(),
        Signal::Logs => ExportLogsServiceRequest::decode(record.otlp.as_slice()).map(logs).unwrap_or_default(),
        Signal::Metrics => Vec::new(),
    }
}

/// The job that an attribute names.
fn job(attributes: &[KeyValue]) -> Option<JobId> {
    let value = attributes.iter().find(|pair| pair.key == JOB)?.value.as_ref()?;
    match &value.value {
        Some(Value::StringValue(text)) => text.parse().ok(),
        _ => None,
    }
}

fn spans(request: ExportTraceServiceRequest) -> Vec<(JobId, Record)> {
    let mut parts: BTreeMap<JobId, (u32, Vec<ResourceSpans>)> = BTreeMap::new();
    for ResourceSpans { resource, scope_spans, schema_url } in request.resource_spans {
        for ScopeSpans { scope, spans, schema_url: scope_url } in scope_spans {
            let mut own: BTreeMap<JobId, Vec<_>> = BTreeMap::new();
            for span in spans {
                if let Some(job) = job(&span.attributes) {
                    own.entry(job).or_default().push(span);
                }
            }
            for (job, spans) in own {
                let part = parts.entry(job).or_default();
                part.0 += u32::try_from(spans.len()).unwrap_or(u32::MAX);
                let scope = ScopeSpans { scope: scope.clone(), spans, schema_url: scope_url.clone() };
                let (resource, schema_url) = (resource.clone(), schema_url.clone());
                part.1.push(ResourceSpans { resource, scope_spans: vec![scope], schema_url });
            }
        }
    }
    let part = |(job, (items, resource_spans))| {
        let otlp = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        (job, Record { signal: Signal::Traces, items, otlp })
    };
    parts.into_iter().map(part).collect()
}

fn logs(request: ExportLogsServiceRequest) -> Vec<(JobId, Record)> {
    let mut parts: BTreeMap<JobId, (u32, Vec<ResourceLogs>)> = BTreeMap::new();
    for ResourceLogs { resource, scope_logs, schema_url } in request.resource_logs {
        for ScopeLogs { scope, log_records, schema_url: scope_url } in scope_logs {
            let mut own: BTreeMap<JobId, Vec<_>> = BTreeMap::new();
            for record in log_records {
                if let Some(job) = job(&record.attributes) {
                    own.entry(job).or_default().push(record);
                }
            }
            for (job, log_records) in own {
                let part = parts.entry(job).or_default();
                part.0 += u32::try_from(log_records.len()).unwrap_or(u32::MAX);
                let scope = ScopeLogs { scope: scope.clone(), log_records, schema_url: scope_url.clone() };
                let (resource, schema_url) = (resource.clone(), schema_url.clone());
                part.1.push(ResourceLogs { resource, scope_logs: vec![scope], schema_url });
            }
        }
    }
    let part = |(job, (items, resource_logs))| {
        let otlp = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        (job, Record { signal: Signal::Logs, items, otlp })
    };
    parts.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{common::v1::AnyValue, trace::v1::Span};

    use super::*;

    fn span(name: &str, job: Option<JobId>) -> Span {
        let value = |job: JobId| Some(AnyValue { value: Some(Value::StringValue(job.to_string())) });
        let attributes = job.map(|job| KeyValue { key: JOB.into(), value: value(job), ..KeyValue::default() });
        Span { name: name.into(), attributes: attributes.into_iter().collect(), ..Span::default() }
    }

    #[test]
    fn each_job_gets_its_own_spans_and_the_rest_belongs_to_none() {
        let (one, two) = (JobId::new(), JobId::new());
        let scope = |spans| ScopeSpans { spans, ..ScopeSpans::default() };
        let scopes = vec![
            scope(vec![span("a", Some(one)), span("b", None), span("c", Some(two))]),
            scope(vec![span("d", Some(one))]),
        ];
        let resource = ResourceSpans { scope_spans: scopes, ..ResourceSpans::default() };
        let otlp = ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec();
        let parts = by_job(&Record { signal: Signal::Traces, items: 4, otlp });
        let told: Vec<(JobId, u32, Vec<String>)> = parts
            .into_iter()
            .map(|(job, part)| {
                let request = ExportTraceServiceRequest::decode(part.otlp.as_slice()).unwrap();
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                (job, part.items, scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect())
            })
            .collect();
        assert_eq!(told, [(one, 2, vec!["a".into(), "d".into()]), (two, 1, vec!["c".into()])]);
    }

    #[test]
    fn what_cannot_be_read_belongs_to_no_job() {
        for signal in Signal::ALL {
            assert!(by_job(&Record { signal, items: 1, otlp: vec![0xff; 30] }).is_empty());
        }
    }
}
