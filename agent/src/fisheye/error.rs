//! What can go wrong with a Fisheye call, and what it means: transient or not, without effect or unknown
//! (`fisheye.md` 2.2 to 2.5).

use std::{io, time::Duration};

use gantry_proto::{Failure, error::causes, event::Extra};
use serde_json::{Value, json};

use super::call::{Call, Repeat};
use crate::tls;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("fisheye call {call} failed at {endpoint}")]
pub struct Error {
    /// Which call.
    pub call: Call,
    /// The address that was asked last.
    pub endpoint: String,
    /// Why.
    #[source]
    pub kind: ErrorKind,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// Nothing was sent: no endpoint took the connection. One reason for each.
    #[error("no endpoint takes a connection ({})", .0.join("; "))]
    Unreachable(Vec<String>),
    /// Nothing was sent: the server is not the one that was there before.
    #[error("the server's certificate is not the one that is expected")]
    Certificate(#[source] tls::Refused),
    /// No whole answer in time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// A chunk of which no byte was accepted for so long.
    #[error("no byte was accepted for {:.1} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The connection broke after the request, or a part of it, was sent.
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// User or password is wrong, or fresh tokens are refused.
    #[error("credentials rejected")]
    Credentials,
    /// The account is locked or may not log in.
    #[error("the login is refused ({0})")]
    LockedOut(Refusal),
    /// More bytes than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Not what the interface promises.
    #[error("the answer is not understood: {0}")]
    Shape(String),
    /// Nothing was sent: who only looks does not make this call.
    #[error("this call changes something, and a survey only looks")]
    OnlyLooks,
    /// The bytes to be sent cannot be read from the local file.
    #[error("the local file cannot be read")]
    LocalFile(#[source] io::Error),
}

impl ErrorKind {
    /// The word on spans: a short list.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Certificate(_) => "certificate",
            Self::TimedOut(_) => "timed_out",
            Self::Stalled(_) => "stalled",
            Self::Broken(_) => "broken",
            Self::Refused(_) => "refused",
            Self::Credentials => "credentials",
            Self::LockedOut(_) => "locked_out",
            Self::TooLarge(_) => "too_large",
            Self::Shape(_) => "shape",
            Self::OnlyLooks => "only_looks",
            Self::LocalFile(_) => "local_file",
        }
    }
}

/// A refusal in the server's own words, redacted and shortened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `ec` of the envelope, when there was one; empty otherwise.
    pub ec: String,
    /// What the server said.
    pub message: String,
    /// How long to wait before the next try (429).
    pub retry_after: Option<Duration>,
}

/// Longest wait that a server may ask for with `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The unhandled server exception: the only `ec` that says nothing about the effect.
const UNKNOWN_ERROR: &str = "REST_UNKNOWN_ERROR";

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        for part in [&self.ec, &self.message] {
            if !part.is_empty() {
                write!(f, ", {part}")?;
            }
        }
        Ok(())
    }
}

impl Refusal {
    /// Whether the identifier stands anywhere in it (`fisheye.md` 2.4).
    pub fn mentions(&self, identifier: &str) -> bool {
        self.ec.contains(identifier) || self.message.contains(identifier)
    }

    /// How long the server asks to wait before the next try, within bounds.
    pub fn asked_wait(&self) -> Option<Duration> {
        self.retry_after.map(|asked| asked.min(LONGEST_RETRY_AFTER))
    }

    /// Whether the server says that there is no such thing.
    pub fn is_gone(&self) -> bool {
        let ec = self.ec.to_ascii_uppercase();
        self.status == 404 || ["NOT_FOUND", "NOT_EXIST", "NOTFOUND"].iter().any(|word| ec.contains(word))
    }

    fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 502..=504)
            || self.mentions(UNKNOWN_ERROR)
            || (self.status >= 500 && self.ec.is_empty())
    }

    /// Whether it answers the question asked: the server works, and says no.
    pub fn had_an_answer(&self) -> bool {
        !self.is_transient() && self.status != 403
    }

    fn had_no_effect(&self) -> bool {
        match self.status {
            408 | 502..=504 => false,
            _ if self.mentions(UNKNOWN_ERROR) => false,
            400..=499 => true,
            _ => !self.ec.is_empty(),
        }
    }
}

impl ErrorKind {
    /// Whether the same call may succeed later, wherever it may be repeated at all.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Stalled(_) | Self::Broken(_) | Self::Shape(_) => true,
            Self::Refused(refusal) => refusal.is_transient(),
            _ => false,
        }
    }

    /// What the server said, when it said no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::LockedOut(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Error {
    /// Whether the call may simply be sent again: transient, and its row in `fisheye.md` 11 allows a blind retry.
    pub fn is_transient(&self) -> bool {
        self.call.repeat == Repeat::Freely && self.kind.is_transient()
    }

    /// Whether the call certainly changed nothing. Otherwise only a look-up can tell.
    pub fn had_no_effect(&self) -> bool {
        match &self.kind {
            ErrorKind::Unreachable(_)
            | ErrorKind::Certificate(_)
            | ErrorKind::Credentials
            | ErrorKind::LockedOut(_)
            | ErrorKind::OnlyLooks
            | ErrorKind::LocalFile(_) => true,
            ErrorKind::Refused(refusal) => refusal.had_no_effect(),
            _ => false,
        }
    }

    /// Whether the server says that there is no such thing.
    pub fn is_gone(&self) -> bool {
        self.kind.refusal().is_some_and(Refusal::is_gone)
    }

    /// Whether the identifier stands in the refusal (`fisheye.md` 2.4).
    pub fn mentions(&self, identifier: &str) -> bool {
        self.kind.refusal().is_some_and(|refusal| refusal.mentions(identifier))
    }

    /// The failure to tell: `attempted` says what the call was for, such as `listing the images`.
    pub fn failure(&self, attempted: &str) -> Failure {
        let (code, remedy) = self.kind.story();
        let mut detail = Extra::new();
        detail.insert("call".into(), self.call.to_string().into());
        detail.insert("endpoint".into(), self.endpoint.clone().into());
        if let Some(refusal) = self.kind.refusal() {
            detail.insert("status".into(), refusal.status.into());
            detail.insert("ec".into(), if refusal.ec.is_empty() { Value::Null } else { json!(refusal.ec) });
        }
        let message = format!("{attempted} failed at Fisheye {}: {}", self.endpoint, self.kind);
        Failure { code: code.to_owned(), message, causes: causes(self), remedy: remedy.to_owned(), detail }
    }
}

impl ErrorKind {
    /// Stable word and remedy.
    fn story(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unreachable(_) => (
                "fisheye_unreachable",
                "check that the bastion reaches the cluster VIP (主机规划!I19) or a host's management address on the Fisheye port",
            ),
            Self::Certificate(_) => (
                "fisheye_certificate_changed",
                "find out why the certificate differs; if it was replaced on purpose, start a new job or correct fisheye.fingerprint",
            ),
            Self::TimedOut(_) | Self::Stalled(_) | Self::Broken(_) => {
                ("fisheye_unreliable", "check network and load of the cluster, then retry the job")
            }
            Self::Credentials => (
                "fisheye_credentials_rejected",
                "correct the Fisheye user and password in 主机规划!L19 and 主机规划!M19; nothing was tried again, so as not to lock the account",
            ),
            Self::LockedOut(_) => (
                "fisheye_login_locked",
                "wait until the account of 主机规划!L19 is unlocked, or unlock it, then retry the job",
            ),
            Self::Refused(refusal) if refusal.is_transient() => {
                ("fisheye_unavailable", "look at the state of the cluster's services, then retry the job")
            }
            Self::Refused(_) => {
                ("fisheye_refused", "read the server's message; the agent's debug log has the whole call")
            }
            Self::OnlyLooks => ("internal", "report it: a survey must not get so far"),
            Self::TooLarge(_) | Self::Shape(_) => (
                "fisheye_answer_not_understood",
                "check that the address is a Fisheye of a supported version; the agent's debug log has the answer",
            ),
            Self::LocalFile(_) => ("iso_unreadable", "check the ISO file and the disk of the bastion"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(call: Call, status: u16, ec: &str) -> Error {
        let refusal = Refusal { status, ec: ec.into(), ..Refusal::default() };
        Error { call, endpoint: "192.0.2.10".into(), kind: ErrorKind::Refused(refusal) }
    }

    #[test]
    fn only_calls_that_may_be_repeated_blindly_are_transient() {
        for status in [429, 500, 502, 503, 504] {
            assert!(refused(Call::LIST_VMS, status, "").is_transient(), "{status}");
            assert!(!refused(Call::CREATE_VM, status, "").is_transient(), "{status}");
        }
        assert!(refused(Call::LIST_VMS, 200, "REST_UNKNOWN_ERROR").is_transient());
        for (status, ec) in [(400, ""), (403, ""), (404, ""), (200, "REST_FORM_ERROR"), (500, "REST_FORM_ERROR")] {
            assert!(!refused(Call::LIST_VMS, status, ec).is_transient(), "{status} {ec}");
        }
    }

    #[test]
    fn a_definite_refusal_had_no_effect_and_everything_else_is_unknown() {
        for (status, ec) in [(400, ""), (429, ""), (200, "VM_DUPLICATED_NAME"), (500, "VM_DUPLICATED_NAME")] {
            assert!(refused(Call::CREATE_VM, status, ec).had_no_effect(), "{status} {ec}");
        }
        for (status, ec) in [(500, ""), (502, ""), (504, "X"), (200, "REST_UNKNOWN_ERROR"), (408, "")] {
            assert!(!refused(Call::CREATE_VM, status, ec).had_no_effect(), "{status} {ec}");
        }
        let timed_out = ErrorKind::TimedOut(Duration::from_secs(10));
        assert!(!Error { call: Call::CREATE_VM, endpoint: String::new(), kind: timed_out }.had_no_effect());
    }

    #[test]
    fn the_failure_names_the_cells_of_the_credentials() {
        let error = Error { call: Call::LOGIN, endpoint: "192.0.2.10".into(), kind: ErrorKind::Credentials };
        let failure = error.failure("logging in");
        assert_eq!(failure.code, "fisheye_credentials_rejected");
        assert_eq!(failure.message, "logging in failed at Fisheye 192.0.2.10: credentials rejected");
        assert!(failure.remedy.contains("主机规划!L19") && failure.remedy.contains("主机规划!M19"));
    }
}
