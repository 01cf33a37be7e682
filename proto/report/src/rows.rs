//! Documents as rows of names and values.

use std::collections::BTreeMap;

use gantry_proto::{Leftover, plan::Source};
use serde_json::Value;

/// A value with its key, and where it comes from; a list may come from several places.
pub struct Row {
    pub key: String,
    pub value: String,
    pub from: Vec<Source>,
}

/// Every value of a plan.
pub fn rows(document: &Value, sources: &BTreeMap<String, Source>) -> Vec<Row> {
    let row = |(key, value): (String, String)| Row { from: from(&key, sources), key, value };
    flat("", document).into_iter().map(row).collect()
}

/// Every plain value of a document with its dotted key, which begins with `key`.
pub fn flat(key: &str, document: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    flatten(key, document, &mut all);
    all
}

/// A JSON value as people write it.
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// `vm cloudtower (8d5b0f9e-…)`.
pub fn leftover(left: &Leftover) -> String {
    if left.id.is_empty() {
        return format!("{} {}", left.kind, left.name);
    }
    format!("{} {} ({})", left.kind, left.name, left.id)
}

/// Objects become dotted keys, lists of objects numbered ones; a list of plain values stays one value.
fn flatten(key: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let under = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(map) if key != "sources" => {
            map.iter().for_each(|(name, value)| flatten(&under(name), value, out))
        }
        Value::Object(_) => {}
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(&format!("{key}[{index}]"), item, out));
        }
        Value::Array(items) => out.push((key.to_owned(), items.iter().map(shown).collect::<Vec<_>>().join(", "))),
        other => out.push((key.to_owned(), shown(other))),
    }
}

fn shown(value: &Value) -> String {
    plain(value).unwrap_or_else(|| "-".to_owned())
}

fn from(key: &str, sources: &BTreeMap<String, Source>) -> Vec<Source> {
    let mut items: Vec<Source> = (0..).map_while(|index| sources.get(&format!("{key}[{index}]"))).cloned().collect();
    items.dedup();
    if items.is_empty() { source(key, sources).cloned().into_iter().collect() } else { items }
}

/// The source of a key, or of the nearest key above it.
pub fn source<'a>(key: &str, sources: &'a BTreeMap<String, Source>) -> Option<&'a Source> {
    sources.get(key).or_else(|| source(key.rsplit_once(['.', '['])?.0, sources))
}
