//! The spans of a job, as trees: read from OTLP, put below their parents.

use std::collections::{BTreeMap, HashMap};

use gantry_proto::v1;
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{self as otlp, status::StatusCode},
};
use prost::Message as _;
use serde_json::{Value as Json, json};

/// Spans that are looked at: a job has thousands.
const SPANS_MAX: usize = 200_000;

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty: it has none.
    pub(crate) parent_id: String,
    pub(crate) service: String,
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) events: Vec<Moment>,
}

/// Something that happened within a span: an attempt that failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moment {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// The spans of one trace, by number.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) trace_id: String,
    pub(crate) spans: Vec<Span>,
    /// Those without a parent here, by their start.
    pub(crate) roots: Vec<usize>,
    /// By their start.
    pub(crate) children: Vec<Vec<usize>>,
}

impl Span {
    /// Seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start) as f64 / 1e9
    }

    /// The code of its failure.
    pub(crate) fn code(&self) -> Option<&str> {
        self.attributes.get("error.type").map(String::as_str)
    }

    pub(crate) fn json(&self) -> Json {
        let events: Vec<Json> = self
            .events
            .iter()
            .map(|event| json!({"at_nanos": event.at, "name": event.name, "attributes": event.attributes}))
            .collect();
        json!({
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_id,
            "service": self.service,
            "name": self.name,
            "start_nanos": self.start,
            "end_nanos": self.end,
            "failed": self.failed,
            "attributes": self.attributes,
            "events": events,
        })
    }
}

/// The spans of the parts, each once. What cannot be read is left out.
pub(crate) fn read(parts: &[v1::GetJobTraceResponse]) -> Vec<Span> {
    let mut spans: BTreeMap<(String, String), Span> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.signal() == v1::Signal::Traces) {
        let request = ExportTraceServiceRequest::decode(part.otlp.as_slice()).unwrap_or_default();
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = plain(&attributes).remove("service.name").unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                if spans.len() < SPANS_MAX {
                    let span = self::span(span, &service);
                    spans.insert((span.trace_id.clone(), span.span_id.clone()), span);
                }
            }
        }
    }
    spans.into_values().collect()
}

/// The log records of the parts, by their time, for people and programs.
pub(crate) fn log_records(parts: &[v1::GetJobTraceResponse]) -> Vec<Json> {
    let mut records = Vec::new();
    for part in parts.iter().filter(|part| part.signal() == v1::Signal::Logs) {
        let request = ExportLogsServiceRequest::decode(part.otlp.as_slice()).unwrap_or_default();
        for resource in request.resource_logs {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = plain(&attributes).remove("service.name").unwrap_or_default();
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let at = record.time_unix_nano.max(record.observed_time_unix_nano);
                let time = i128::from(at);
                let message = KeyValue { key: String::new(), value: record.body, ..KeyValue::default() };
                records.push((
                    at,
                    json!({
                        "at": Timestamp::from_nanosecond(time).ok(),
                        "level": record.severity_text,
                        "service": service,
                        "message": plain(&[message]).remove(""),
                        "fields": plain(&record.attributes),
                        "trace_id": hex(&record.trace_id),
                        "span_id": hex(&record.span_id),
                    }),
                ));
            }
        }
    }
    records.sort_by_key(|(at, _)| *at);
    records.into_iter().map(|(_, record)| record).collect()
}

/// The trees, the oldest first.
pub(crate) fn trees(spans: Vec<Span>) -> Vec<Tree> {
    let mut by_trace: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in spans {
        by_trace.entry(span.trace_id.clone()).or_default().push(span);
    }
    let mut trees: Vec<Tree> = by_trace.into_iter().map(|(id, spans)| tree(id, spans)).collect();
    trees.sort_by_key(|tree| tree.spans.first().map_or(0, |span| span.start));
    trees
}

fn tree(trace_id: String, mut spans: Vec<Span>) -> Tree {
    spans.sort_by(|a, b| (a.start, &a.span_id).cmp(&(b.start, &b.span_id)));
    let numbers: HashMap<&str, usize> =
        spans.iter().enumerate().map(|(number, span)| (span.span_id.as_str(), number)).collect();
    let (mut roots, mut children) = (Vec::new(), vec![Vec::new(); spans.len()]);
    for (number, span) in spans.iter().enumerate() {
        match numbers.get(span.parent_id.as_str()) {
            Some(parent) if *parent != number => children[*parent].push(number),
            _ => roots.push(number),
        }
    }
    Tree { trace_id, roots, children, spans }
}

fn span(span: otlp::Span, service: &str) -> Span {
    let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    let moment = |event: otlp::span::Event| Moment {
        at: event.time_unix_nano,
        name: event.name,
        attributes: plain(&event.attributes),
    };
    Span {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        service: service.to_owned(),
        name: span.name,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        failed,
        attributes: plain(&span.attributes),
        events: span.events.into_iter().map(moment).collect(),
    }
}

fn plain(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::BoolValue(yes) => Some(yes.to_string()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        // Nobody of us writes such a one.
        _ => None,
    };
    attributes.iter().filter_map(|pair| Some((pair.key.clone(), text(pair)?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A span of `gantry-agent` in one trace, times in milliseconds.
    pub(crate) fn made(id: &str, parent: &str, name: &str, start: u64, end: u64) -> Span {
        Span {
            trace_id: "0af7".into(),
            span_id: id.into(),
            parent_id: parent.into(),
            service: "gantry-agent".into(),
            name: name.into(),
            start: start * 1_000_000,
            end: end * 1_000_000,
            failed: false,
            attributes: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    #[test]
    fn spans_stand_below_their_parents_in_the_order_of_their_start() {
        let spans =
            vec![made("c", "a", "third", 5, 6), made("b", "a", "second", 2, 3), made("a", "gone", "first", 1, 9)];
        let trees = trees(spans);
        let [tree] = trees.as_slice() else { panic!("{trees:?}") };
        let name = |number: &usize| tree.spans[*number].name.as_str();
        assert_eq!(tree.roots.iter().map(name).collect::<Vec<_>>(), ["first"]);
        assert_eq!(tree.children[tree.roots[0]].iter().map(name).collect::<Vec<_>>(), ["second", "third"]);
    }

    #[test]
    fn a_span_that_is_its_own_parent_is_a_root() {
        let trees = trees(vec![made("a", "a", "odd", 1, 2)]);
        assert_eq!(trees[0].roots, [0]);
    }

    #[test]
    fn a_span_that_comes_twice_is_there_once_and_rubbish_is_not() {
        let span = otlp::Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "x".into(), ..otlp::Span::default() };
        let scope = otlp::ScopeSpans { spans: vec![span], ..otlp::ScopeSpans::default() };
        let resource = otlp::ResourceSpans { scope_spans: vec![scope], ..otlp::ResourceSpans::default() };
        let otlp = ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec();
        let part = |otlp| v1::GetJobTraceResponse { signal: v1::Signal::Traces.into(), otlp };
        let spans = read(&[part(otlp.clone()), part(vec![0xff; 9]), part(otlp)]);
        assert_eq!(spans.len(), 1);
        assert_eq!(
            (spans[0].trace_id.as_str(), spans[0].span_id.as_str()),
            ("01".repeat(16).as_str(), "0202020202020202")
        );
    }
}
