//! What was said: every request and SSH command with its outcome, bounded, without secrets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fault::Face;
use crate::rng::hex;

/// What stands where a secret stood.
pub const REDACTED: &str = "机密凭据";

/// JSON bodies up to this size are kept (redacted); of larger ones only the digest.
pub const MAX_KEPT_BODY: usize = 16 << 10;

/// One request, SSH command or note.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// Virtual time of arrival.
    pub at: Timestamp,
    /// Wall time of arrival.
    pub wall: Timestamp,
    /// The face.
    pub face: Face,
    /// The address connected to, with port.
    pub address: String,
    /// Where the call came from.
    pub peer: String,
    /// HTTP method; `SSH` for SSH, `NOTE` for notes.
    pub method: String,
    /// URL path; the command line of SSH.
    pub path: String,
    /// Query parameters.
    pub query: BTreeMap<String, String>,
    /// Header names in lower case, repeated when sent twice.
    pub headers: Vec<String>,
    /// The `Host` header.
    pub host: Option<String>,
    /// A digest of the token used, so that sessions can be told apart.
    pub token: Option<String>,
    /// GraphQL operation.
    pub operation: Option<String>,
    /// Chunk index.
    pub chunk: Option<u64>,
    /// JSON body, redacted.
    pub body: Option<Value>,
    /// SHA-256 of the body (of the part's content for chunks).
    pub body_sha256: Option<String>,
    /// Bytes of the body that arrived.
    pub body_bytes: u64,
    /// HTTP status or SSH exit status; absent when there was no answer.
    pub status: Option<u32>,
    /// Virtual milliseconds to the answer.
    pub latency_ms: u64,
    /// Faults that fired.
    pub faults: Vec<String>,
    /// Anything worth knowing, such as an ignored query parameter or `client gone`.
    pub notes: Vec<String>,
}

/// The calls so far.
#[derive(Debug)]
pub struct Transcript {
    limit: usize,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Entry>,
    next: u64,
    dropped: u64,
}

impl Transcript {
    /// Keeps the newest `limit` entries.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), log: Mutex::default() }
    }

    /// Adds an entry; its `seq` is set here. Returns that.
    pub fn record(&self, mut entry: Entry) -> u64 {
        let mut log = self.lock();
        log.next += 1;
        entry.seq = log.next;
        if log.entries.len() >= self.limit {
            log.entries.pop_front();
            log.dropped += 1;
        }
        log.entries.push_back(entry);
        log.next
    }

    /// Replaces the entry of the same `seq`, if it is still kept.
    pub fn update(&self, entry: &Entry) {
        let mut log = self.lock();
        let first = log.entries.front().map_or(0, |first| first.seq);
        let place = entry.seq.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| log.entries.get_mut(place)) {
            slot.clone_from(entry);
        }
    }

    /// All kept entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.iter().cloned().collect()
    }

    /// Kept entries with a sequence number above `seq`, at most `limit` of them.
    #[must_use]
    pub fn after(&self, seq: u64, limit: usize) -> Vec<Entry> {
        self.lock().entries.iter().filter(|entry| entry.seq > seq).take(limit).cloned().collect()
    }

    /// Entries that satisfy a condition, oldest first.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.lock().entries.iter().filter(|entry| keep(entry)).cloned().collect()
    }

    /// Calls of a method on exactly this path, oldest first.
    #[must_use]
    pub fn calls(&self, method: &str, path: &str) -> Vec<Entry> {
        self.filter(|entry| entry.method == method && entry.path == path)
    }

    /// Calls of a GraphQL operation.
    #[must_use]
    pub fn operations(&self, name: &str) -> Vec<Entry> {
        self.filter(|entry| entry.operation.as_deref() == Some(name))
    }

    /// SSH commands that contain a text.
    #[must_use]
    pub fn commands(&self, text: &str) -> Vec<Entry> {
        self.filter(|entry| entry.face == Face::Ssh && entry.path.contains(text))
    }

    /// Entries a fault fired on.
    #[must_use]
    pub fn struck_by(&self, fault: &str) -> Vec<Entry> {
        self.filter(|entry| entry.faults.iter().any(|id| id == fault))
    }

    /// Entries that were pushed out by newer ones.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Forgets everything; sequence numbers go on.
    pub fn clear(&self) {
        let mut log = self.lock();
        log.entries.clear();
        log.dropped = 0;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// An entry about which nothing else is known yet.
    #[must_use]
    pub fn new(face: Face, at: Timestamp, method: &str, path: &str) -> Self {
        Self {
            seq: 0,
            at,
            wall: Timestamp::now(),
            face,
            address: String::new(),
            peer: String::new(),
            method: method.into(),
            path: path.into(),
            query: BTreeMap::new(),
            headers: Vec::new(),
            host: None,
            token: None,
            operation: None,
            chunk: None,
            body: None,
            body_sha256: None,
            body_bytes: 0,
            status: None,
            latency_ms: 0,
            faults: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The short digest by which a token is shown.
#[must_use]
pub fn token_digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes())[..6])
}

/// Replaces the values of secret-looking keys, at any depth.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if secret_key(key) && !value.is_boolean() && !value.is_null() {
                    *value = Value::String(REDACTED.into());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

fn secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "repeat", "token", "secret", "authorization"].iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_replaced_at_any_depth() {
        let mut body = json!({"data": [{"password": "p", "encrypted": false, "name": "n"}], "rootPassword": {"a": 1}});
        redact(&mut body);
        let want = json!({"data": [{"password": REDACTED, "encrypted": false, "name": "n"}], "rootPassword": REDACTED});
        assert_eq!(body, want);
    }

    #[test]
    fn old_entries_make_room() {
        let transcript = Transcript::new(2);
        for path in ["/a", "/b", "/c"] {
            transcript.record(Entry::new(Face::Fisheye, Timestamp::UNIX_EPOCH, "GET", path));
        }
        let paths: Vec<_> = transcript.entries().into_iter().map(|entry| (entry.seq, entry.path)).collect();
        assert_eq!(paths, [(2, "/b".to_owned()), (3, "/c".to_owned())]);
        assert_eq!(transcript.dropped(), 1);
    }
}
