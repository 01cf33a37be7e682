//! Takes secrets out of everything that leaves a process: by key (`password`, `token`, …) and by value, in every form
//! that a value takes on its way (base64, URL-encoded, JSON-escaped) (R71, `flow.md` 9).

use std::{
    borrow::Cow,
    collections::BTreeMap,
    slice,
    sync::{Arc, PoisonError, RwLock, TryLockError},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::{Engine as _, engine::general_purpose as b64};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use zeroize::Zeroize as _;

use crate::{REDACTED, Secret, Secrets};

/// Shorter values are not searched for: they would tear innocent text apart.
const SHORTEST: usize = 4;

/// From so many bytes of all forms on, the search is of a kind that takes memory in proportion: the fastest one, which is
/// taken for a few forms whatever their length, has a table of hundreds of bytes for each byte.
const LARGE: usize = 8 << 10;

/// Keys and header names whose value is always a secret, compared without case, `-` and `_`.
const SECRET_KEYS: &[&str] = &[
    "password",
    "passwd",
    "token",
    "authorization",
    "cookie",
    "setcookie",
    "rootpassword",
    "repeat",
    "secret",
    "xsmartxtoken",
    "grpcmetadatatoken",
    "sshpassword",
    "adminpassword",
    "bmcpassword",
    "privatekey",
];

/// Characters that some encoders leave and others do not.
const LOOSE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'=')
    .add(b'/')
    .add(b'@')
    .add(b':')
    .add(b'!')
    .add(b'$')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b',')
    .add(b';')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'[')
    .add(b']');

/// Knows the secrets of one process and takes them out of text. Clones share what is registered.
#[derive(Clone, Default)]
pub struct Redactor {
    state: Arc<RwLock<State>>,
}

/// Values that are known until this is dropped; see [`Redactor::hold`].
pub struct Held {
    redactor: Redactor,
    secrets: Vec<Secret>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.redactor.forget_many(&self.secrets);
    }
}

#[derive(Default)]
struct State {
    /// How many registrations stand behind each form.
    forms: BTreeMap<String, usize>,
    search: Option<AhoCorasick>,
}

impl State {
    fn replaced<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(search) = &self.search else { return Cow::Borrowed(text) };
        if search.find(text).is_none() {
            return Cow::Borrowed(text);
        }
        let words = vec![REDACTED; self.forms.len()];
        Cow::Owned(search.replace_all(text, &words))
    }
}

impl Redactor {
    /// Knows no value yet; keys are known from the start.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a value in, in all its forms. Values under four characters are only protected by key.
    pub fn register(&self, secret: &Secret) {
        self.register_many(slice::from_ref(secret));
    }

    /// The same for many values: what searches for them is made once, where one by one it would be made for each.
    pub fn register_many(&self, secrets: &[Secret]) {
        self.change(secrets, |forms, form| *forms.entry(form).or_insert(0) += 1);
    }

    /// Takes back one [`register`](Self::register): where a process has no further use for a value it should not keep
    /// it. A value that was registered more than once stays known.
    pub fn forget(&self, secret: &Secret) {
        self.forget_many(slice::from_ref(secret));
    }

    fn forget_many(&self, secrets: &[Secret]) {
        self.change(secrets, |forms, mut form| {
            match forms.get_mut(&form) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => {
                    if let Some((mut gone, _)) = forms.remove_entry(&form) {
                        gone.zeroize();
                    }
                }
                None => {}
            }
            form.zeroize();
        });
    }

    /// Registers values for as long as the guard lives: for a process that only passes them on.
    #[must_use = "the values are forgotten when this is dropped"]
    pub fn hold(&self, secrets: Vec<Secret>) -> Held {
        self.register_many(&secrets);
        Held { redactor: self.clone(), secrets }
    }

    /// Changes what is known of each form of each secret, all in the same direction.
    fn change(&self, secrets: &[Secret], mut change: impl FnMut(&mut BTreeMap<String, usize>, String)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.forms.len();
        for secret in secrets.iter().filter(|secret| secret.expose().chars().count() >= SHORTEST) {
            // A form that two encodings share counts once.
            let mut all = forms(secret.expose());
            all.retain(|form| form.len() >= SHORTEST);
            all.sort();
            all.dedup();
            all.into_iter().for_each(|form| change(&mut state.forms, form));
        }
        if state.forms.len() != before {
            let bytes: usize = state.forms.keys().map(String::len).sum();
            let kind = (bytes > LARGE).then_some(AhoCorasickKind::ContiguousNFA);
            let search =
                AhoCorasick::builder().kind(kind).match_kind(MatchKind::LeftmostLongest).build(state.forms.keys());
            state.search = search.ok();
        }
    }

    /// Takes all secrets of a job in.
    pub fn register_all(&self, secrets: &Secrets) {
        for secret in [&secrets.root_password, &secrets.fisheye_password, &secrets.ssh_password] {
            self.register(secret);
        }
        if let Some(secret) = &secrets.root_password_encoded {
            self.register(secret);
        }
    }

    /// The text with every known value replaced.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).replaced(text)
    }

    /// The same without ever waiting: for a thread that may hold the redactor itself. `None`: another one is changing it.
    pub fn try_text(&self, text: &str) -> Option<String> {
        let state = match self.state.try_read() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(state.replaced(text).into_owned())
    }

    /// Bytes that should be text; what is not UTF-8 is replaced by the usual mark first.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        self.text(&String::from_utf8_lossy(bytes)).into_owned()
    }

    /// Replaces in a JSON value, at any depth: whole values under a secret key, known values anywhere, keys included.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(clean) = self.text(text) {
                    *text = clean;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    if is_secret_key(key) && !item.is_null() {
                        *item = Value::String(REDACTED.to_owned());
                    } else {
                        self.json(item);
                    }
                }
                if map.keys().any(|key| matches!(self.text(key), Cow::Owned(_))) {
                    let old = std::mem::take(map);
                    map.extend(old.into_iter().map(|(key, item)| (self.text(&key).into_owned(), item)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whether the value under this key or header name is always a secret.
pub fn is_secret_key(key: &str) -> bool {
    let folded: String = key.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect();
    SECRET_KEYS.contains(&folded.as_str())
}

/// Every form in which a value may be met.
fn forms(value: &str) -> Vec<String> {
    let json = Value::String(value.to_owned()).to_string();
    let escaped = json[1..json.len() - 1].to_owned();
    let ascii: String = escaped
        .chars()
        .flat_map(|c| {
            let mut units = [0; 2];
            let text = if c.is_ascii() {
                c.to_string()
            } else {
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            text.chars().collect::<Vec<_>>()
        })
        .collect();
    let strict = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
    let loose = utf8_percent_encode(value, LOOSE).to_string();
    let form = loose.replace("%20", "+");
    let debug = format!("{value:?}");
    let debug = debug[1..debug.len() - 1].to_owned();
    let mut all =
        vec![value.to_owned(), ascii, debug, form, strict.to_lowercase(), loose.to_lowercase(), strict, loose];
    all.push(escaped.replace('/', "\\/"));
    all.push(escaped);
    all.extend(base64_forms(value.as_bytes()));
    all
}

/// Base64 of the value, alone and inside a longer text: the three alignments give three different cores.
fn base64_forms(value: &[u8]) -> Vec<String> {
    let mut all = vec![
        b64::STANDARD.encode(value),
        b64::STANDARD_NO_PAD.encode(value),
        b64::URL_SAFE.encode(value),
        b64::URL_SAFE_NO_PAD.encode(value),
    ];
    for shift in 0..3usize {
        let padded: Vec<u8> = std::iter::repeat_n(0, shift).chain(value.iter().copied()).collect();
        for text in [b64::STANDARD_NO_PAD.encode(&padded), b64::URL_SAFE_NO_PAD.encode(&padded)] {
            // The first characters depend on what stands before, the last one on what comes after.
            let from = [0, 2, 3][shift];
            let to = padded.len() * 8 / 6;
            if to > from + 7 {
                all.push(text[from..to].to_owned());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn knowing(values: &[&str]) -> Redactor {
        let redactor = Redactor::new();
        values.iter().for_each(|value| redactor.register(&Secret::new(*value)));
        redactor
    }

    #[test]
    fn finds_a_value_in_every_form() {
        let secret = "pä\"s/s w%o+rd!\\1";
        let redactor = knowing(&[secret]);
        let json = serde_json::to_string(secret).unwrap();
        for text in [
            secret.to_owned(),
            json.clone(),
            b64::STANDARD.encode(secret),
            b64::URL_SAFE_NO_PAD.encode(secret),
            b64::STANDARD.encode(format!("user:{secret}@x")),
            b64::STANDARD.encode(format!("us:{secret}")),
            b64::STANDARD.encode(format!("u:{secret}:more")),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            format!("{secret:?}"),
            "p\\u00e4\\\"s/s w%o+rd!\\\\1".to_owned(),
        ] {
            let clean = redactor.text(&text);
            assert!(clean.contains(REDACTED), "{text}");
            assert!(!clean.contains(secret));
        }
    }

    #[test]
    fn a_long_value_costs_memory_in_proportion() {
        let long: String = (0..4_000).map(|n| char::from_u32(0x4e00 + n).unwrap()).collect();
        let redactor = knowing(&[&long]);
        let state = redactor.state.read().unwrap();
        let (bytes, search) = (state.forms.keys().map(String::len).sum::<usize>(), state.search.as_ref().unwrap());
        assert!(search.memory_usage() < 60 * bytes, "{} bytes for {bytes}", search.memory_usage());
    }

    #[test]
    fn many_at_once_are_the_same_as_one_by_one() {
        let secrets = ["s3cr3t-one", "s3cr3t-two", "abc"].map(Secret::new).to_vec();
        let redactor = knowing(&["s3cr3t-two"]);
        let held = redactor.hold(secrets);
        assert_eq!(redactor.text("s3cr3t-one s3cr3t-two abc"), format!("{REDACTED} {REDACTED} abc"));
        drop(held);
        assert_eq!(redactor.text("s3cr3t-one s3cr3t-two abc"), format!("s3cr3t-one {REDACTED} abc"));
    }

    #[test]
    fn replaces_by_key_at_any_depth_and_by_value_anywhere() {
        let redactor = knowing(&["s3cr3t-value"]);
        let mut value = json!({
            "Password": "x", "a": [{"X-SmartX-Token": "abc", "n": 5, "token": null}],
            "note": "is s3cr3t-value here", "s3cr3t-value": 1,
        });
        redactor.json(&mut value);
        assert_eq!(value["Password"], REDACTED);
        assert_eq!(value["a"][0]["X-SmartX-Token"], REDACTED);
        assert_eq!(value["a"][0]["n"], 5);
        assert_eq!(value["a"][0]["token"], Value::Null);
        assert!(!value.to_string().contains("s3cr3t-value"));
    }

    #[test]
    fn a_secret_that_looks_like_a_pattern_is_taken_literally() {
        let redactor = knowing(&[".*[a-z]+", "$(rm -rf)"]);
        assert_eq!(redactor.text("nothing to see"), "nothing to see");
        assert_eq!(redactor.text("x.*[a-z]+y"), format!("x{REDACTED}y"));
        assert_eq!(redactor.text("echo $(rm -rf)"), format!("echo {REDACTED}"));
    }

    #[test]
    fn the_longest_of_overlapping_secrets_goes_whole() {
        let redactor = knowing(&["abcd", "abcdefgh"]);
        assert_eq!(redactor.text("-abcdefgh-"), format!("-{REDACTED}-"));
    }

    #[test]
    fn very_short_values_do_not_tear_text_apart() {
        assert_eq!(knowing(&["a", ""]).text("banana"), "banana");
    }

    #[test]
    fn what_is_forgotten_is_only_what_nobody_else_registered() {
        let redactor = knowing(&["shared-value", "shared-value", "lonely-value"]);
        redactor.forget(&Secret::new("shared-value"));
        redactor.forget(&Secret::new("lonely-value"));
        redactor.forget(&Secret::new("never-known"));
        assert_eq!(redactor.text("shared-value lonely-value"), format!("{REDACTED} lonely-value"));
        redactor.forget(&Secret::new("shared-value"));
        assert_eq!(redactor.text("shared-value"), "shared-value");

        let held = redactor.hold(vec![Secret::new("passed-on")]);
        assert_eq!(redactor.text("passed-on"), REDACTED);
        drop(held);
        assert_eq!(redactor.text("passed-on"), "passed-on");
    }

    #[test]
    fn who_may_hold_it_itself_does_not_wait() {
        let redactor = knowing(&["held-value"]);
        assert_eq!(redactor.try_text("a held-value").as_deref(), Some("a 机密凭据"));
        let changing = redactor.state.write().unwrap();
        assert_eq!(redactor.try_text("a held-value"), None);
        drop(changing);
        assert!(redactor.try_text("nothing").is_some());
    }

    #[test]
    fn clones_share_what_is_registered() {
        let one = Redactor::new();
        let two = one.clone();
        one.register(&Secret::new("later-known"));
        assert_eq!(two.text("later-known"), REDACTED);
    }
}
