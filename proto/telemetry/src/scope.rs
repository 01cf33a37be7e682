//! Job and step of each live span, so that every span and every log record below them carries both.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::{
    KeyValue, SpanId,
    trace::{Span as _, TraceContextExt as _},
};
use opentelemetry_sdk::trace::Span;

/// The attributes that go down the tree.
const INHERITED: [&str; 2] = ["job.id", "step.id"];
/// Spans that are live at once; beyond that, new ones do not inherit.
const LIVE_MAX: usize = 10_000;

/// The live spans that have something to hand down.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    live: Mutex<HashMap<SpanId, Arc<Vec<KeyValue>>>>,
}

impl Scopes {
    /// Gives a span what its parent has, unless it has its own.
    pub(crate) fn began(&self, span: &mut Span, parent: &opentelemetry::Context) {
        let id = span.span_context().span_id();
        let own = span.exported_data().map(|data| data.attributes).unwrap_or_default();
        let mut handed: Vec<KeyValue> = own.into_iter().filter(|pair| INHERITED.contains(&pair.key.as_str())).collect();
        let inherited = self.of(parent.span().span_context().span_id());
        for pair in inherited.iter().flat_map(|pairs| pairs.iter()) {
            if !handed.iter().any(|own| own.key == pair.key) {
                span.set_attribute(pair.clone());
                handed.push(pair.clone());
            }
        }
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if !handed.is_empty() && live.len() < LIVE_MAX {
            live.insert(id, Arc::new(handed));
        }
    }

    /// A span has ended.
    pub(crate) fn ended(&self, span: SpanId) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&span);
    }

    /// What a live span hands down.
    pub(crate) fn of(&self, span: SpanId) -> Option<Arc<Vec<KeyValue>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&span).cloned()
    }
}
