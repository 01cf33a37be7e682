//! Who is logged in, and who is locked out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Failed logins that lock the account.
const LOCK_AFTER: usize = 5;
/// The time in which they count, and the time the lock lasts.
const LOCK_TIME: Duration = Duration::from_secs(300);
/// Tokens that may be valid at once; the oldest go first.
const MAX_TOKENS: usize = 10_000;

/// Valid tokens with the moment they expire.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sessions {
    tokens: BTreeMap<String, Duration>,
    failures: VecDeque<Duration>,
    locked_until: Option<Duration>,
}

impl Sessions {
    /// Adds a token.
    pub fn open(&mut self, token: &str, expires: Duration) {
        self.failures.clear();
        if self.tokens.len() >= MAX_TOKENS
            && let Some(oldest) = self.tokens.iter().min_by_key(|(_, at)| **at).map(|(token, _)| token.clone())
        {
            self.tokens.remove(&oldest);
        }
        self.tokens.insert(token.into(), expires);
    }

    /// Whether a token is valid now; with `renew` it lives on until then.
    pub fn check(&mut self, token: &str, now: Duration, renew: Option<Duration>) -> bool {
        match self.tokens.get_mut(token) {
            Some(expires) if *expires > now => {
                *expires = renew.unwrap_or(*expires);
                true
            }
            _ => false,
        }
    }

    /// Ends a session.
    pub fn close(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// Ends all sessions.
    pub fn close_all(&mut self) {
        self.tokens.clear();
    }

    /// Counts a failed login; too many lock the account.
    pub fn failed(&mut self, now: Duration) {
        self.failures.push_back(now);
        self.failures.retain(|at| *at + LOCK_TIME > now);
        if self.failures.len() >= LOCK_AFTER {
            self.failures.clear();
            self.locked_until = Some(now + LOCK_TIME);
        }
    }

    /// Whether the account is locked now.
    #[must_use]
    pub fn is_locked(&self, now: Duration) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// Number of tokens that were opened and not closed.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_lock_for_five_minutes() {
        let mut sessions = Sessions::default();
        for second in 0..4 {
            sessions.failed(Duration::from_secs(second));
        }
        assert!(!sessions.is_locked(Duration::from_secs(4)));
        sessions.failed(Duration::from_secs(4));
        assert!(sessions.is_locked(Duration::from_secs(303)));
        assert!(!sessions.is_locked(Duration::from_secs(304)));
    }

    #[test]
    fn tokens_expire_and_renew() {
        let mut sessions = Sessions::default();
        sessions.open("t", Duration::from_secs(10));
        assert!(sessions.check("t", Duration::from_secs(9), Some(Duration::from_secs(20))));
        assert!(sessions.check("t", Duration::from_secs(19), None));
        assert!(!sessions.check("t", Duration::from_secs(20), None));
    }
}
