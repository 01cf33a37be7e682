//! An exporter that takes secrets out of spans before it hands them on.

use std::{borrow::Cow, fmt, time::Duration};

use gantry_proto::{Redactor, redact::is_secret_key};
use opentelemetry::{KeyValue, StringValue, Value, trace::Status};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// Wraps an exporter.
pub(crate) struct Redacting<E> {
    inner: E,
    redactor: Redactor,
}

impl<E> Redacting<E> {
    pub(crate) fn new(inner: E, redactor: Redactor) -> Self {
        Self { inner, redactor }
    }
}

impl<E: fmt::Debug> fmt::Debug for Redacting<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<E: SpanExporter> SpanExporter for Redacting<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(|span| clean(span, &self.redactor));
        self.inner.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn clean(span: &mut SpanData, redactor: &Redactor) {
    if let Cow::Owned(name) = redactor.text(&span.name) {
        span.name = name.into();
    }
    clean_attributes(&mut span.attributes, redactor);
    for event in &mut span.events.events {
        if let Cow::Owned(name) = redactor.text(&event.name) {
            event.name = name.into();
        }
        clean_attributes(&mut event.attributes, redactor);
    }
    if let Status::Error { description } = &span.status
        && let Cow::Owned(text) = redactor.text(description)
    {
        span.status = Status::error(text);
    }
}

fn clean_attributes(attributes: &mut [KeyValue], redactor: &Redactor) {
    for attribute in attributes {
        if is_secret_key(attribute.key.as_str()) {
            attribute.value = Value::String(StringValue::from(gantry_proto::REDACTED));
        } else if let Cow::Owned(text) = redactor.text(&attribute.value.as_str()) {
            attribute.value = Value::String(text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use gantry_proto::Secret;
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Memory(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Memory {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn no_secret_leaves_in_a_span() {
        let redactor = Redactor::new();
        redactor.register(&Secret::new("s3cr3t-canary"));
        let memory = Memory::default();
        let exporter = Redacting::new(memory.clone(), redactor);
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
        let mut span = provider.tracer("t").start("call s3cr3t-canary");
        span.set_attribute(KeyValue::new("url", "http://x/?p=s3cr3t-canary"));
        span.set_attribute(KeyValue::new("x-smartx-token", "abc"));
        span.add_event("e", vec![KeyValue::new("body", "s3cr3t-canary")]);
        span.set_status(Status::error("no: s3cr3t-canary"));
        span.end();
        let spans = memory.0.lock().unwrap().clone();
        let text = format!("{spans:?}");
        assert!(!text.contains("s3cr3t-canary") && !text.contains("\"abc\""), "{text}");
        assert_eq!(spans.len(), 1);
    }
}
