//! What can go wrong with CloudTower. What the service says is redacted before it gets in here.

use std::fmt;

use http::{Method, StatusCode};

use crate::{http::ReadError, tls};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("CloudTower call {call} failed")]
pub struct Error {
    /// Which one.
    pub call: Call,
    /// Why.
    #[source]
    pub kind: ErrorKind,
}

/// Method, path and operation: safe as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `/api`, `/v2/api` or below it.
    pub base: &'static str,
    /// GraphQL operation or REST call.
    pub name: &'static str,
    /// A `GET`.
    pub reads: bool,
}

impl Call {
    /// Everything is a `POST`, but for reading what the inspection centre has.
    pub fn method(self) -> Method {
        if self.reads { Method::GET } else { Method::POST }
    }

    /// Whether it changes nothing but the caller's own session. Most reads are a `POST`, told apart by their name.
    pub fn only_looks(self) -> bool {
        let asks = ["login", "checkTowerIsSetup", "deployedLicense", "globalAlertRules"];
        self.reads || self.name.starts_with("get-") || asks.contains(&self.name)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method(), self.base, self.name)
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The certificate is not the one this VM had.
    #[error("the certificate is refused")]
    Certificate(#[source] tls::Refused),
    /// The request certainly did not leave.
    #[error("no connection")]
    Unreachable(#[source] reqwest::Error),
    /// No answer in time; the request may have had its effect.
    #[error("no answer in time")]
    TimedOut(#[source] reqwest::Error),
    /// The connection broke; the request may have had its effect.
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
    /// The answer could not be read to its end.
    #[error("the answer cannot be read")]
    Unread(#[source] ReadError),
    /// The service said no.
    #[error("the service refused: {0}")]
    Refused(Refusal),
    /// An answer that is none: another status without an error body.
    #[error("the service answered with status {0}")]
    Status(StatusCode),
    /// Success, but not what was asked for.
    #[error("the answer is not what the call promises: {0}")]
    Shape(String),
    /// Nobody has logged in.
    #[error("nobody is logged in")]
    NotLoggedIn,
    /// Nothing was sent: who only looks does not make this call.
    #[error("this call changes something, and a survey only looks")]
    OnlyLooks,
}

impl ErrorKind {
    /// The word on spans: a short list.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Broken(_) => "broken",
            Self::Unread(_) => "unread",
            Self::Refused(_) => "refused",
            Self::Status(_) => "status",
            Self::Shape(_) => "shape",
            Self::NotLoggedIn => "not_logged_in",
            Self::OnlyLooks => "only_looks",
        }
    }
}

/// A refusal in the service's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status; GraphQL refuses with 200.
    pub status: StatusCode,
    /// Such as `ResourceLocked`; seldom given.
    pub code: Option<String>,
    /// For people; redacted and cut.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {}", self.message, self.status.as_u16())?;
        if let Some(code) = &self.code {
            write!(f, ", {code}")?;
        }
        write!(f, ")")
    }
}

impl Error {
    /// Whether the call certainly changed nothing: it did not leave, or the service said so.
    pub fn had_no_effect(&self) -> bool {
        match &self.kind {
            ErrorKind::Certificate(_) | ErrorKind::Unreachable(_) | ErrorKind::NotLoggedIn | ErrorKind::OnlyLooks => {
                true
            }
            ErrorKind::Refused(refusal) => !refusal.status.is_server_error(),
            ErrorKind::Status(status) => status.is_client_error() || status.is_redirection(),
            ErrorKind::TimedOut(_) | ErrorKind::Broken(_) | ErrorKind::Unread(_) | ErrorKind::Shape(_) => false,
        }
    }

    /// Whether a later try may do, of itself.
    pub fn is_transient(&self) -> bool {
        match &self.kind {
            ErrorKind::Unreachable(_) | ErrorKind::TimedOut(_) | ErrorKind::Broken(_) => true,
            ErrorKind::Unread(reason) => matches!(reason, ReadError::Broken(_)),
            ErrorKind::Refused(refusal) => is_passing(refusal.status) || self.is_locked(),
            ErrorKind::Status(status) => is_passing(*status),
            ErrorKind::Certificate(_) | ErrorKind::Shape(_) | ErrorKind::NotLoggedIn | ErrorKind::OnlyLooks => false,
        }
    }

    /// `ResourceLocked`: somebody else is at it, try again later.
    pub fn is_locked(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code.as_deref() == Some("ResourceLocked"))
    }

    /// Whether the call needs a login, or a new one. The status is not known for certain (`cloudtower.md` 11).
    pub fn is_auth(&self) -> bool {
        match &self.kind {
            ErrorKind::NotLoggedIn => true,
            ErrorKind::Status(status) => is_denial(*status),
            ErrorKind::Refused(refusal) => is_denial(refusal.status) || refusal.speaks_of_login(),
            _ => false,
        }
    }

    /// Whether the service looked at the password of a login and did not take it.
    pub fn rejects_login(&self) -> bool {
        self.call.name == "login" && self.had_no_effect() && !self.is_transient() && self.certificate().is_none()
    }

    /// The certificate that was refused, if that was it.
    pub fn certificate(&self) -> Option<&tls::Refused> {
        match &self.kind {
            ErrorKind::Certificate(refused) => Some(refused),
            _ => None,
        }
    }

    /// What the service said, if it spoke.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.kind {
            ErrorKind::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Refusal {
    /// Whether the password is not good enough for the service (W7).
    pub fn speaks_of_password_policy(&self) -> bool {
        let all = self.words();
        let password = ["password", "密码"].iter().any(|word| all.contains(word));
        let policy = ["weak", "policy", "complex", "at least", "too short", "length", "strength", "character"]
            .iter()
            .chain(&["强度", "复杂", "至少", "长度", "过短", "太短"])
            .any(|word| all.contains(word));
        password && policy
    }

    /// Whether there is one already (W5, W6).
    pub fn speaks_of_existing(&self) -> bool {
        let all = self.words();
        ["already exist", "alreadyexist", "duplicate", "已存在"].iter().any(|word| all.contains(word))
    }

    fn speaks_of_login(&self) -> bool {
        let all = self.words();
        ["unauthorized", "unauthenticated", "authenticat", "not logged in", "token is", "token has", "jwt", "未登录"]
            .iter()
            .any(|word| all.contains(word))
    }

    fn words(&self) -> String {
        format!("{} {}", self.code.as_deref().unwrap_or_default(), self.message).to_lowercase()
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

fn is_denial(status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>, message: &str) -> Error {
        let refusal = Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.map(str::to_owned),
            message: message.to_owned(),
        };
        Error { call: Call { base: "/api", name: "x", reads: false }, kind: ErrorKind::Refused(refusal) }
    }

    #[test]
    fn expiry_is_seen_under_any_status() {
        assert!(refused(401, None, "x").is_auth() && refused(403, None, "x").is_auth());
        assert!(refused(400, Some("AuthenticationFailed"), "token is invalid or expired").is_auth());
        assert!(refused(200, None, "user is not logged in").is_auth());
        assert!(!refused(400, Some("LoginFailed"), "username or password is wrong").is_auth());
    }

    #[test]
    fn a_weak_password_is_told_from_a_missing_field() {
        let policy = |message| refused(400, None, message).refusal().unwrap().speaks_of_password_policy();
        assert!(policy("password is too weak: at least 8 characters of 3 classes are required"));
        assert!(policy("密码强度不足"));
        assert!(!policy("password must be encoded"));
        assert!(!policy("Field \"password\" was not provided"));
    }

    #[test]
    fn what_may_be_tried_again_and_what_may_have_happened() {
        assert!(refused(503, None, "starting").is_transient());
        assert!(!refused(503, None, "starting").had_no_effect());
        assert!(refused(400, Some("ResourceLocked"), "busy").is_transient());
        assert!(refused(200, None, "UserAlreadyExists").had_no_effect());
        assert!(refused(200, None, "UserAlreadyExists").refusal().unwrap().speaks_of_existing());
        assert!(!refused(400, None, "bad").is_transient());
    }
}
