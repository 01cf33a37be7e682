//! Links that open the pages, and the sessions that they become. In memory only, as hashes: a restart ends them all, and
//! nothing in here opens anything. What an operator may do is not kept: it is looked up at each call.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gantry_proto::{
    Code,
    token::{SECRET_BYTES, sha256_hex},
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{access::later, config, refusal::Refusal};

/// The longest token or cookie that is looked at, bytes: both are 64 hexadecimal digits.
const TEXT_MAX: usize = 128;
/// Nothing here lives longer than ten years, seconds: a clock has an end.
const FAR_S: u64 = 10 * 365 * 24 * 3600;

/// In whose name something is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The operator.
    pub operator: String,
    /// When the certificate was issued by which they were known: what shuts that out ends this too.
    pub issued: Timestamp,
}

/// One open session.
#[derive(Clone)]
pub(super) struct Session {
    /// Whose.
    pub(super) held: Held,
    /// When it ends by itself.
    pub(super) until: Instant,
    /// Cancelled when it ends before.
    pub(super) ended: CancellationToken,
    begun: Instant,
}

/// All links and sessions.
pub struct Sessions {
    settings: config::Web,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// By the hash of the token.
    links: HashMap<String, (Held, Instant)>,
    /// By the hash of the cookie.
    sessions: HashMap<String, Session>,
}

impl Sessions {
    /// None yet.
    pub fn new(settings: config::Web) -> Self {
        Self { settings, inside: Mutex::default() }
    }

    /// How long a session lives, seconds.
    pub fn life_s(&self) -> u64 {
        self.settings.session_life_s
    }

    /// Keeps a link until it is used, by the hash of its token. It takes the place of an earlier one of the operator.
    ///
    /// # Errors
    /// When there are no pages, or too many links wait.
    pub fn link(&self, hash: String, held: Held) -> Result<Timestamp, Refusal> {
        if !self.settings.enabled {
            return Err(Refusal::new(Code::NotAllowed, "this controller has no web pages (`web.enabled`)"));
        }
        let mut inside = self.inside();
        inside.links.retain(|_, (other, _)| other.operator != held.operator);
        if inside.links.len() >= self.settings.links {
            let message = format!("{} links wait to be used already: try again in a moment", self.settings.links);
            return Err(Refusal::new(Code::Busy, message));
        }
        inside.links.insert(hash, (held, after(self.settings.link_life_s)));
        Ok(later(Timestamp::now(), self.settings.link_life_s))
    }

    /// Uses a link up.
    ///
    /// # Errors
    /// When there is none with this token, or not any more.
    pub(super) fn take(&self, token: &str) -> Result<Held, Refusal> {
        let hash = hash(token);
        let held = hash.and_then(|hash| self.inside().links.remove(&hash)).map(|(held, _)| held);
        held.ok_or_else(|| {
            let message = "the link is not known, was used already or is too old: make a new one with `ctl web`";
            Refusal::new(Code::TokenRefused, message)
        })
    }

    /// Begins a session. The text is for the browser alone.
    ///
    /// # Errors
    /// When there are too many, or no random numbers.
    pub(super) fn begin(&self, held: Held) -> Result<Zeroizing<String>, Refusal> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let filled = rustls::crypto::ring::default_provider().secure_random.fill(&mut *secret);
        filled.map_err(|_| Refusal::new(Code::Internal, "the system gives no random numbers"))?;
        let text = Zeroizing::new(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let mut inside = self.inside();
        let mut own: Vec<_> =
            inside.sessions.iter().filter(|(_, session)| session.held.operator == held.operator).collect();
        own.sort_by_key(|(_, session)| session.begun);
        let keep = self.settings.sessions_per_operator.saturating_sub(1);
        let oldest: Vec<String> =
            own.iter().take(own.len().saturating_sub(keep)).map(|(hash, _)| (*hash).clone()).collect();
        for session in oldest.iter().filter_map(|hash| inside.sessions.remove(hash)) {
            session.ended.cancel();
        }
        if inside.sessions.len() >= self.settings.sessions {
            let message = format!("{} web sessions are open already: try again later", self.settings.sessions);
            return Err(Refusal::new(Code::Busy, message));
        }
        let until = after(self.settings.session_life_s);
        let session = Session { held, until, ended: CancellationToken::new(), begun: Instant::now() };
        inside.sessions.insert(sha256_hex(text.as_bytes()), session);
        Ok(text)
    }

    /// The session of a cookie, while it is open.
    pub(super) fn find(&self, cookie: &str) -> Option<Session> {
        let hash = hash(cookie)?;
        self.inside().sessions.get(&hash).cloned()
    }

    /// Ends a session.
    pub(super) fn end(&self, cookie: &str) {
        let session = hash(cookie).and_then(|hash| self.inside().sessions.remove(&hash));
        if let Some(session) = session {
            session.ended.cancel();
        }
    }

    /// What is open now: what is past its time goes first.
    fn inside(&self) -> MutexGuard<'_, Inside> {
        let now = Instant::now();
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.links.retain(|_, (_, until)| *until > now);
        inside.sessions.retain(|_, session| session.until > now);
        inside
    }
}

fn hash(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= TEXT_MAX).then(|| sha256_hex(text.as_bytes()))
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds.min(FAR_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str) -> Held {
        Held { operator: name.to_owned(), issued: Timestamp::UNIX_EPOCH }
    }

    fn sessions(change: impl FnOnce(&mut config::Web)) -> Sessions {
        let mut settings = config::Web::default();
        change(&mut settings);
        Sessions::new(settings)
    }

    #[test]
    fn a_link_works_once_and_a_newer_one_takes_its_place() {
        let all = sessions(|_| {});
        for token in ["first", "second"] {
            all.link(sha256_hex(token.as_bytes()), held("li")).unwrap();
        }
        assert_eq!(all.take("first").unwrap_err().code, Code::TokenRefused);
        assert_eq!(all.take("second").unwrap(), held("li"));
        assert!(all.take("second").is_err() && all.take("").is_err() && all.take(&"x".repeat(1000)).is_err());
    }

    #[test]
    fn links_and_sessions_are_bounded_and_end() {
        let all = sessions(|web| (web.links, web.sessions, web.sessions_per_operator) = (1, 3, 2));
        all.link("a".into(), held("li")).unwrap();
        assert_eq!(all.link("b".into(), held("wang")).unwrap_err().code, Code::Busy);
        let own: Vec<_> = (0..3).map(|_| all.begin(held("li")).unwrap()).collect();
        assert!(all.find(&own[0]).is_none(), "the oldest has ended");
        let open = all.find(&own[1]).unwrap();
        all.begin(held("wang")).unwrap();
        assert_eq!(all.begin(held("zhao")).unwrap_err().code, Code::Busy);
        all.end(&own[1]);
        assert!(open.ended.is_cancelled() && all.find(&own[1]).is_none() && all.find(&own[2]).is_some());
        let short = sessions(|web| (web.link_life_s, web.session_life_s) = (0, 0));
        short.link(sha256_hex(b"late"), held("li")).unwrap();
        assert!(short.take("late").is_err());
        assert!(short.find(&short.begin(held("li")).unwrap()).is_none());
        assert!(sessions(|web| web.enabled = false).link("a".into(), held("li")).is_err());
        assert!(sessions(|web| web.link_life_s = u64::MAX).link("a".into(), held("li")).is_ok());
    }
}
