//! What a failed call means, in plain words: the line, the certificates, or the controller's own word.

use std::{error::Error, io, time::Duration};

use gantry_proto::Code;
use rustls::{AlertDescription as Alert, CertificateError};
use tonic::{Code as Grpc, Status, transport};

use crate::exit::{Exit, Failure};

/// Whether the answer is lost, so that it is unknown whether the call had its effect.
pub(crate) fn is_lost(status: &Status) -> bool {
    if tls_refusal(status).is_some() {
        return false;
    }
    match Code::of(status) {
        Some(code) => code == Code::Busy,
        // A status with a source was made on this side of the line, not by the controller.
        None => status.source().is_some() || matches!(status.code(), Grpc::Unavailable | Grpc::DeadlineExceeded),
    }
}

/// No connection.
pub(crate) fn no_connection(url: &str, error: &transport::Error) -> Failure {
    if let Some(refusal) = tls_refusal(error) {
        return refusal.failure(url);
    }
    because(unreachable(format!("cannot reach the controller at {url}")), error)
}

/// The line broke before an answer came.
pub(crate) fn lost(url: &str, what: &str, status: &Status) -> Failure {
    let failure = unreachable(format!("the line to the controller at {url} broke while {what}"));
    match status.source() {
        Some(source) => because(failure, source),
        None => failure.because(message(status)),
    }
}

/// No answer in time.
pub(crate) fn silent(url: &str, what: &str, waited: Duration) -> Failure {
    unreachable(format!("no answer from the controller at {url} within {} s while {what}", waited.as_secs()))
        .remedy("on a slow line give --timeout a longer time")
}

/// The controller, or TLS, says no.
pub(crate) fn refused(url: &str, what: &str, status: &Status) -> Failure {
    if let Some(refusal) = tls_refusal(status) {
        return refusal.failure(url);
    }
    let Some(code) = Code::of(status) else { return refused_by_status(url, what, status) };
    let failure = Failure::new(exit_of(code), message(status)).explained(code.word());
    // A controller that names a command to run has said what to do.
    if status.message().contains('`') {
        return failure;
    }
    match code {
        Code::JobNotFound => failure.remedy("list the jobs: ctl jobs"),
        Code::JobAmbiguous => failure.remedy("give more of the id, or all of it: ctl jobs -o json"),
        Code::JobConflict => {
            failure.remedy("leave out --job-id to make a new job, or give the workbook of the first time")
        }
        Code::JobNotFinished => failure.remedy("follow it to its end: ctl watch JOB"),
        Code::NoAgent | Code::AgentAmbiguous => {
            failure.remedy("see the agents with `ctl agents`, then choose one with --agent or --site")
        }
        Code::AgentUnknown => failure.remedy("start the agent once, so that the controller learns its key: ctl agents"),
        Code::TargetBusy => failure.remedy("wait for the other job or cancel it: ctl jobs --active"),
        Code::NotAllowed => failure.remedy("use a profile whose certificate has the role that is needed"),
        Code::Incompatible => failure.remedy("compare the versions: ctl version"),
        Code::Busy => failure.remedy("try again later"),
        Code::Internal => failure.remedy("look into the controller's log"),
        Code::Unknown => failure.remedy("see what there is: ctl site list, ctl operator list, ctl agents"),
        Code::NameTaken => failure.remedy("choose another name"),
        Code::TokenRefused => failure.remedy("make a new token: ctl agent token --site SITE"),
        Code::JobFinished | Code::JobState => failure.remedy("see how the job stands: ctl show JOB"),
        Code::AgentState => failure.remedy("see how the agents stand: ctl agents"),
        Code::BadRequest => failure,
    }
}

/// What TLS has against us or against the controller, if that is why it failed.
pub(crate) fn by_tls(url: &str, error: &io::Error) -> Option<Failure> {
    tls_refusal(error).map(|refusal| refusal.failure(url))
}

/// Certificates or key of the profile that TLS cannot use.
pub(crate) fn unusable_identity(error: &transport::Error) -> Failure {
    let failure = Failure::usage("the certificates or the key of the profile cannot be used");
    because(failure, error).remedy("check the three PEM files that the profile names")
}

/// An answer without the part that it must have.
pub(crate) fn incomplete(url: &str, part: &str) -> Failure {
    Failure::new(Exit::Internal, format!("the answer of the controller at {url} has no {part}"))
        .remedy("compare the versions: ctl version")
}

fn unreachable(message: String) -> Failure {
    Failure::new(Exit::Unreachable, message)
        .remedy("check the address (--controller or the profile), that the controller runs, and the way to it")
}

/// The word of a refusal decides the exit code.
fn exit_of(code: Code) -> Exit {
    match code {
        Code::BadRequest
        | Code::JobNotFound
        | Code::JobAmbiguous
        | Code::JobConflict
        | Code::AgentAmbiguous
        | Code::Unknown
        | Code::NameTaken => Exit::Usage,
        Code::JobNotFinished
        | Code::JobFinished
        | Code::JobState
        | Code::AgentState
        | Code::NoAgent
        | Code::AgentUnknown
        | Code::TargetBusy
        | Code::NotAllowed
        | Code::TokenRefused
        | Code::Incompatible
        | Code::Busy => Exit::Refused,
        Code::Internal => Exit::Internal,
    }
}

/// A status without a word of ours: from an older controller, a proxy, or the library.
fn refused_by_status(url: &str, what: &str, status: &Status) -> Failure {
    let story = |exit, text: String| Failure::new(exit, text).because(message(status));
    match status.code() {
        Grpc::Unauthenticated | Grpc::PermissionDenied => {
            story(Exit::Refused, format!("the controller at {url} refuses {what}"))
                .remedy("use a profile that this controller has issued, with the role that is needed")
        }
        Grpc::Unimplemented => story(Exit::Refused, format!("the controller at {url} does not know {what}"))
            .remedy("compare the versions: ctl version"),
        Grpc::InvalidArgument | Grpc::NotFound | Grpc::AlreadyExists | Grpc::OutOfRange => {
            story(Exit::Usage, format!("the controller at {url} does not accept {what}"))
        }
        Grpc::FailedPrecondition | Grpc::ResourceExhausted => {
            story(Exit::Refused, format!("the controller at {url} refuses {what}"))
        }
        _ => story(Exit::Internal, format!("the controller at {url} failed {what}"))
            .remedy("look into the controller's log"),
    }
}

fn message(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_lowercase().trim_end_matches('.').to_owned(),
        text => text.to_owned(),
    }
}

/// Adds the causes that say something; the library's own wrappers do not.
fn because(mut failure: Failure, error: &(dyn Error + 'static)) -> Failure {
    const WRAPPERS: [&str; 4] =
        ["transport error", "client error (Connect)", "tcp connect error", "operation was canceled"];
    let mut told: Vec<String> = Vec::new();
    for error in chain(error) {
        let words = words(error);
        if !WRAPPERS.contains(&words.as_str()) && told.last() != Some(&words) {
            told.push(words);
        }
    }
    for words in told {
        failure = failure.because(words);
    }
    failure
}

/// One link of the chain in plain words.
fn words(error: &(dyn Error + 'static)) -> String {
    let Some(error) = error.downcast_ref::<io::Error>() else {
        return match error.to_string() {
            text if text.starts_with("dns error") => "the name of the host cannot be resolved".to_owned(),
            text if text.contains("close_notify") => "the other side closed the connection".to_owned(),
            text => text,
        };
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no way to the host".to_owned(),
        io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// What TLS has against us or against the controller.
struct TlsRefusal<'a>(&'a rustls::Error);

/// Finds the TLS refusal in a chain: tonic shows it as an unknown transport error (with TLS 1.3 at the first call only).
fn tls_refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<TlsRefusal<'a>> {
    chain(error)
        .filter_map(|error| error.downcast_ref::<rustls::Error>())
        .find(|error| {
            matches!(
                error,
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(
                        Alert::BadCertificate
                            | Alert::UnsupportedCertificate
                            | Alert::CertificateRevoked
                            | Alert::CertificateExpired
                            | Alert::CertificateUnknown
                            | Alert::CertificateRequired
                            | Alert::UnknownCA
                            | Alert::AccessDenied
                            | Alert::DecryptError
                    )
            )
        })
        .map(TlsRefusal)
}

impl TlsRefusal<'_> {
    fn failure(&self, url: &str) -> Failure {
        match self.0 {
            rustls::Error::InvalidCertificate(why) => {
                let why = match why {
                    CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                        "it is not issued by the CA of the profile".to_owned()
                    }
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        "it does not bear the server name of the profile".to_owned()
                    }
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        "it is not valid yet: compare the clocks".to_owned()
                    }
                    other => other.to_string(),
                };
                Failure::new(Exit::Refused, format!("the certificate that {url} shows is not accepted"))
                    .because(why)
                    .remedy("make sure that this is the right controller, then get a new profile from it")
            }
            rustls::Error::AlertReceived(alert) => {
                if *alert == Alert::CertificateExpired {
                    return Failure::new(Exit::Refused, format!("the controller at {url} refuses your certificate"))
                        .because("it has expired, or one of the two clocks is wrong")
                        .remedy(
                            "ask an admin for a new profile: ctl operator revoke NAME, then ctl operator add NAME ...",
                        )
                        .remedy("when no admin is left: controller operator-file, on the controller's host");
                }
                let why = match alert {
                    Alert::CertificateRevoked => "it is revoked".to_owned(),
                    Alert::UnknownCA | Alert::DecryptError => "it is not issued by this controller's CA".to_owned(),
                    Alert::CertificateRequired => "it did not arrive".to_owned(),
                    other => format!("the controller says {other:?}"),
                };
                Failure::new(Exit::Refused, format!("the controller at {url} refuses your certificate"))
                    .because(why)
                    .remedy("ask an admin of this controller for a new profile: ctl operator add")
            }
            other => Failure::new(Exit::Refused, format!("no TLS with {url}")).because(other.to_string()),
        }
    }
}

/// An error and its sources. The error inside an `io::Error` is not its source but stands in its place.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(inner(error)), next)
}

fn next<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    (*error).source().map(inner)
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => inner,
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: rustls::Error) -> Status {
        Status::from_error(Box::new(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn a_refused_certificate_is_no_lost_line() {
        let status = wrapped(rustls::Error::AlertReceived(Alert::UnknownCA));
        assert!(!is_lost(&status));
        let failure = refused("https://c:1", "listing", &status);
        assert_eq!(failure.exit(), Exit::Refused);
    }

    #[test]
    fn an_expired_profile_says_who_makes_a_new_one() {
        let status = wrapped(rustls::Error::AlertReceived(Alert::CertificateExpired));
        let Failure::Story(story) = refused("https://c:1", "listing", &status) else { panic!("told already") };
        assert_eq!(story.exit, Exit::Refused);
        assert!(story.remedies[0].contains("ctl operator revoke") && story.remedies[1].contains("operator-file"));
    }

    #[test]
    fn a_wrong_server_is_a_refusal_too() {
        let status = wrapped(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(refused("https://c:1", "listing", &status).exit(), Exit::Refused);
    }

    #[test]
    fn a_broken_line_is_lost_and_a_word_of_the_controller_is_not() {
        assert!(is_lost(&Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)))));
        assert!(is_lost(&Status::unavailable("draining")));
        assert!(is_lost(&Code::Busy.status("queue full")));
        assert!(!is_lost(&Code::TargetBusy.status("busy")));
        assert!(!is_lost(&Status::internal("a defect over there")));
        assert!(!is_lost(&Status::unimplemented("no such call")));
    }

    #[test]
    fn advice_of_the_controller_is_not_doubled() {
        let told = |message: &str| match refused("https://c:1", "x", &Code::NoAgent.status(message)) {
            Failure::Story(story) => story.remedies.len(),
            Failure::Told(_) => 0,
        };
        assert_eq!((told("no agent of site x"), told("no agent yet: run `ctl agent token`")), (1, 0));
    }

    #[test]
    fn every_word_has_its_exit_code() {
        let exit = |code: Code| refused("https://c:1", "x", &code.status("y")).exit();
        assert_eq!(exit(Code::JobNotFound), Exit::Usage);
        assert_eq!(exit(Code::AgentAmbiguous), Exit::Usage);
        assert_eq!(exit(Code::NotAllowed), Exit::Refused);
        assert_eq!(exit(Code::TargetBusy), Exit::Refused);
        assert_eq!(exit(Code::Internal), Exit::Internal);
        assert_eq!(refused("https://c:1", "x", &Status::permission_denied("no")).exit(), Exit::Refused);
        assert_eq!(refused("https://c:1", "x", &Status::unimplemented("no")).exit(), Exit::Refused);
    }
}
