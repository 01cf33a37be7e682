//! The trace context on its way: in gRPC metadata, in HTTP headers, inside messages and in the journal.

use gantry_proto::trace::{TraceContext, admit};
use opentelemetry::{Context, global, propagation::Injector};
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The context of the current span, for a message or the journal. Empty outside of any trace.
pub fn inject() -> TraceContext {
    let mut map = std::collections::HashMap::new();
    let context = tracing::Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut map));
    admit(map)
}

/// Puts the context of the current span into gRPC metadata.
pub fn inject_metadata(metadata: &mut MetadataMap) {
    let context = tracing::Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut Metadata(metadata)));
}

/// The context that a request brought in its headers.
pub fn extract(headers: &http::HeaderMap) -> TraceContext {
    let text = |key: &str| Some((key.to_owned(), headers.get(key)?.to_str().ok()?.to_owned()));
    admit(["traceparent", "tracestate"].into_iter().filter_map(text))
}

/// The context that a message or the journal holds.
pub fn context_of(trace: &TraceContext) -> Context {
    let map: std::collections::HashMap<_, _> = trace.clone().into_iter().collect();
    global::get_text_map_propagator(|propagator| propagator.extract(&map))
}

/// Makes `span` a child of the given context. To be called before the span is entered.
pub fn set_parent(span: &tracing::Span, trace: &TraceContext) {
    if trace.is_empty() {
        return;
    }
    if let Err(error) = span.set_parent(context_of(trace)) {
        tracing::trace!(%error, "the span stays without its parent");
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_in_by_headers_and_goes_on_by_map() {
        let mut headers = http::HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", parent.parse().unwrap());
        headers.insert("cookie", "no".parse().unwrap());
        let trace = extract(&headers);
        assert_eq!(trace.len(), 1);
        assert_eq!(trace["traceparent"], parent);
    }
}
