//! Takes secrets out of OTLP messages, and cuts what is too long.

use gantry_proto::{REDACTED, Redactor, redact::is_secret_key};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::ResourceLogs,
    trace::v1::ResourceSpans,
};

/// The longest text of one value, bytes: longer ones belong into the job's log files.
const VALUE_MAX: usize = 4 << 10;
/// Lists within lists go no deeper.
const DEPTH: usize = 4;

pub(crate) fn spans(resources: &mut [ResourceSpans], redactor: &Redactor) {
    for span in resources.iter_mut().flat_map(|resource| &mut resource.scope_spans).flat_map(|scope| &mut scope.spans) {
        text(&mut span.name, redactor);
        attributes(&mut span.attributes, redactor);
        for event in &mut span.events {
            text(&mut event.name, redactor);
            attributes(&mut event.attributes, redactor);
        }
        if let Some(status) = &mut span.status {
            text(&mut status.message, redactor);
        }
    }
}

pub(crate) fn logs(resources: &mut [ResourceLogs], redactor: &Redactor) {
    let scopes = resources.iter_mut().flat_map(|resource| &mut resource.scope_logs);
    for record in scopes.flat_map(|scope| &mut scope.log_records) {
        if let Some(body) = &mut record.body {
            value(body, redactor, DEPTH);
        }
        attributes(&mut record.attributes, redactor);
    }
}

fn attributes(attributes: &mut [KeyValue], redactor: &Redactor) {
    attributes_down_to(attributes, redactor, DEPTH);
}

fn attributes_down_to(attributes: &mut [KeyValue], redactor: &Redactor, depth: usize) {
    for attribute in attributes {
        let Some(any) = &mut attribute.value else { continue };
        if is_secret_key(&attribute.key) {
            any.value = Some(Value::StringValue(REDACTED.to_owned()));
        } else {
            value(any, redactor, depth);
        }
    }
}

fn value(any: &mut AnyValue, redactor: &Redactor, depth: usize) {
    match &mut any.value {
        Some(Value::StringValue(words)) => text(words, redactor),
        Some(Value::ArrayValue(list)) if depth > 0 => {
            list.values.iter_mut().for_each(|any| value(any, redactor, depth - 1));
        }
        Some(Value::KvlistValue(list)) if depth > 0 => attributes_down_to(&mut list.values, redactor, depth - 1),
        // Nobody here writes bytes or such depths: what cannot be searched does not leave.
        Some(Value::BytesValue(_) | Value::ArrayValue(_) | Value::KvlistValue(_)) => any.value = None,
        // A password may be a number.
        Some(Value::IntValue(number)) if is_secret(*number, redactor) => {
            any.value = Some(Value::StringValue(REDACTED.to_owned()));
        }
        Some(Value::IntValue(_) | Value::BoolValue(_) | Value::DoubleValue(_) | Value::StringValueStrindex(_))
        | None => {}
    }
}

fn is_secret(number: i64, redactor: &Redactor) -> bool {
    let shown = number.to_string();
    redactor.text(&shown) != shown
}

fn text(words: &mut String, redactor: &Redactor) {
    if let std::borrow::Cow::Owned(clean) = redactor.text(words) {
        *words = clean;
    }
    if words.len() > VALUE_MAX {
        let end = words.floor_char_boundary(VALUE_MAX);
        words.truncate(end);
        words.push('…');
    }
}

#[cfg(test)]
mod tests {
    use gantry_proto::Secret;
    use opentelemetry_proto::tonic::{
        common::v1::{ArrayValue, KeyValueList},
        logs::v1::{LogRecord, ScopeLogs},
        trace::v1::{ScopeSpans, Span, Status, span::Event},
    };

    use super::*;

    fn redactor() -> Redactor {
        let redactor = Redactor::new();
        redactor.register(&Secret::new("s3cr3t-canary"));
        redactor.register(&Secret::new("471147114711"));
        redactor
    }

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
    }

    fn words(text: &str) -> Value {
        Value::StringValue(text.to_owned())
    }

    #[test]
    fn no_secret_leaves_in_a_span() {
        let span = Span {
            name: "call s3cr3t-canary".into(),
            attributes: vec![
                pair("url", words("http://x/?p=s3cr3t-canary")),
                pair("x-smartx-token", words("abc")),
                pair("number", Value::IntValue(471_147_114_711)),
                pair("list", Value::ArrayValue(ArrayValue { values: vec![any(words("s3cr3t-canary"))] })),
                pair("map", Value::KvlistValue(KeyValueList { values: vec![pair("password", words("abc"))] })),
                pair("bytes", Value::BytesValue(b"s3cr3t-canary".to_vec())),
            ],
            events: vec![Event { attributes: vec![pair("body", words("s3cr3t-canary"))], ..Event::default() }],
            status: Some(Status { message: "no: s3cr3t-canary".into(), code: 2 }),
            ..Span::default()
        };
        let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        let mut resources = vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }];
        spans(&mut resources, &redactor());
        let text = format!("{resources:?}");
        for hidden in ["s3cr3t", "\"abc\"", "471147114711", "115, 51, 99"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        assert_eq!(text.matches(REDACTED).count(), 8, "{text}");
    }

    #[test]
    fn no_secret_leaves_in_a_log_record_and_long_ones_are_cut() {
        let record = LogRecord {
            body: Some(any(words("it was s3cr3t-canary"))),
            attributes: vec![pair("why", words("s3cr3t-canary")), pair("long", words(&"长".repeat(4000)))],
            ..LogRecord::default()
        };
        let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
        let mut resources = vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }];
        logs(&mut resources, &redactor());
        let text = format!("{resources:?}");
        assert!(!text.contains("s3cr3t") && text.matches(REDACTED).count() == 2, "{text}");
        let Some(Value::StringValue(cut)) =
            resources[0].scope_logs[0].log_records[0].attributes[1].value.clone().and_then(|any| any.value)
        else {
            panic!("a text");
        };
        assert!(cut.len() <= VALUE_MAX + '…'.len_utf8() && cut.ends_with('…'), "{}", cut.len());
    }
}
