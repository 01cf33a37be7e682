//! The keys under which a trace context travels (W3C Trace Context) and the rules of what is let in.

use std::collections::BTreeMap;

/// A trace context as it is journaled and carried in messages: `traceparent`, `tracestate`.
pub type TraceContext = BTreeMap<String, String>;

/// Keeps the two known keys with values of a sane length: the map comes from a peer.
pub fn admit<I: IntoIterator<Item = (String, String)>>(map: I) -> TraceContext {
    let known = |key: &str| matches!(key, "traceparent" | "tracestate");
    map.into_iter().filter(|(key, value)| known(key) && value.len() <= 512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_keys_of_sane_length_get_in() {
        let given = [("traceparent", "00-x".to_owned()), ("tracestate", "y".repeat(513)), ("evil", "z".to_owned())];
        let map = admit(given.map(|(k, v)| (k.to_owned(), v)));
        assert_eq!(map.keys().collect::<Vec<_>>(), ["traceparent"]);
    }
}
