//! The session with Fisheye: one token for all calls, one login at a time, and never a second try with credentials that
//! were refused (`fisheye.md` 3). The token lives here and nowhere else.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use gantry_proto::{Redactor, Secret, redact::Held};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    error::{ErrorKind, Refusal},
    types::whole_text,
};
use crate::http::TOKEN_MAX;

/// User, password and the token in use.
pub(super) struct Session {
    user: String,
    password: Secret,
    redactor: Redactor,
    state: Mutex<State>,
    rejected: StdMutex<Option<Option<Refusal>>>,
}

/// Whoever holds it may log in; the others wait for the new token.
#[derive(Default)]
pub(super) struct State {
    token: Option<Token>,
    logins: u64,
}

/// A token, and which login gave it.
#[derive(Clone)]
pub(super) struct Token {
    pub text: Secret,
    number: u64,
    /// The redactor knows it as long as any call still carries it.
    _held: Arc<Held>,
}

impl Session {
    pub(super) fn new(user: &str, password: Secret, redactor: Redactor) -> Self {
        let (state, rejected) = (Mutex::default(), StdMutex::default());
        Self { user: user.to_owned(), password, redactor, state, rejected }
    }

    /// Waits for a login that is under way.
    pub(super) async fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// The body of the login call. The only place where the password is used.
    pub(super) fn login_body(&self) -> Value {
        json!({"username": self.user, "password": self.password.expose(), "encrypted": false})
    }

    /// Keeps the token of a login's answer: at the top level or in `data` (3.1).
    pub(super) fn take(&self, state: &mut State, answer: &Value) -> Result<Token, ErrorKind> {
        let inner = answer.get("data").unwrap_or(&Value::Null);
        let text = whole_text(answer, "token").or_else(|| whole_text(inner, "token"));
        let text = text.ok_or_else(|| ErrorKind::Shape("the login's answer holds no token".to_owned()))?;
        if text.len() > TOKEN_MAX {
            return Err(ErrorKind::Shape(format!("the login's token is longer than {TOKEN_MAX} bytes")));
        }
        let text = Secret::new(text);
        let held = Arc::new(self.redactor.hold(vec![text.clone()]));
        state.logins += 1;
        let token = Token { text, number: state.logins, _held: held };
        state.token = Some(token.clone());
        Ok(token)
    }

    /// Remembers that the credentials do not work; `refusal` when the account is locked instead.
    pub(super) fn reject(&self, refusal: Option<Refusal>) -> ErrorKind {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
        refusal.map_or(ErrorKind::Credentials, ErrorKind::LockedOut)
    }

    /// The earlier rejection: there is no second login after it.
    pub(super) fn rejection(&self) -> Option<ErrorKind> {
        let rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rejected.map(|refusal| refusal.map_or(ErrorKind::Credentials, ErrorKind::LockedOut))
    }
}

impl State {
    /// The token, unless it is the stale one that was just refused.
    pub(super) fn fresher_than(&self, stale: Option<&Token>) -> Option<Token> {
        let token = self.token.as_ref()?;
        stale.is_none_or(|stale| stale.number < token.number).then(|| token.clone())
    }

    /// Forgets the token, for the logout.
    pub(super) fn clear(&mut self) -> Option<Token> {
        self.token.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_token_is_not_given_out_again() {
        let session = Session::new("root", Secret::new("pass-word"), Redactor::new());
        let mut state = session.lock().await;
        assert!(state.fresher_than(None).is_none());
        let first = session.take(&mut state, &json!({"token": "aaaa1111"})).unwrap();
        assert_eq!(state.fresher_than(None).unwrap().text.expose(), "aaaa1111");
        assert!(state.fresher_than(Some(&first)).is_none());
        session.take(&mut state, &json!({"data": {"token": "bbbb2222"}})).unwrap();
        assert_eq!(state.fresher_than(Some(&first)).unwrap().text.expose(), "bbbb2222");
        assert_eq!(session.redactor.text("x aaaa1111 y bbbb2222"), "x 机密凭据 y 机密凭据");
        drop(first);
        assert_eq!(session.redactor.text("x aaaa1111 y bbbb2222"), "x aaaa1111 y 机密凭据");
        drop(state);
        let redactor = session.redactor.clone();
        drop(session);
        assert_eq!(redactor.text("bbbb2222"), "bbbb2222");
    }

    #[tokio::test]
    async fn a_token_that_is_too_long_is_refused_whole() {
        let session = Session::new("root", Secret::new("pass-word"), Redactor::new());
        let long = json!({"token": "t".repeat(TOKEN_MAX + 1)});
        assert!(matches!(session.take(&mut *session.lock().await, &long), Err(ErrorKind::Shape(_))));
    }

    #[tokio::test]
    async fn an_answer_without_token_is_no_login() {
        let session = Session::new("root", Secret::new("pass-word"), Redactor::new());
        let mut state = session.lock().await;
        for answer in [json!({}), json!({"token": ""}), json!({"data": {"token": 5}}), json!(null)] {
            assert!(matches!(session.take(&mut state, &answer), Err(ErrorKind::Shape(_))), "{answer}");
        }
    }

    #[test]
    fn a_rejection_is_remembered() {
        let session = Session::new("root", Secret::new("pass-word"), Redactor::new());
        assert!(session.rejection().is_none());
        session.reject(None);
        assert!(matches!(session.rejection(), Some(ErrorKind::Credentials)));
    }
}
