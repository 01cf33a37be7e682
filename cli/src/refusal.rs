//! What a failed call means, in plain words: the line, the certificates, or the controller's own word.

use std::{error::Error, io, time::Duration};

use gantry_proto::Code;
use rustls::{AlertDescription as Alert, CertificateError};
use tonic::{Code as Grpc, Status, transport};

use crate::{
    args::Lang,
    exit::{Exit, Failure},
    language::Said,
    render::reason,
};

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
    because(unreachable(said!("cannot reach the controller at {url}", "无法连接控制器 {url}")), error)
}

/// The line broke before an answer came.
pub(crate) fn lost(url: &str, what: &Said, status: &Status) -> Failure {
    let failure = unreachable(said!(
        "the line to the controller at {url} broke while {what}",
        "{what}时，与控制器 {url} 的连接中断"
    ));
    match status.source() {
        Some(source) => because(failure, source),
        None => failure.because(message(status)),
    }
}

/// No answer in time.
pub(crate) fn silent(url: &str, what: &Said, waited: Duration) -> Failure {
    unreachable(said!(
        "no answer from the controller at {url} within {s} s while {what}",
        "{what}时，控制器 {url} 在 {s} 秒内没有答复"; s = waited.as_secs()
    ))
    .remedy(said!("on a slow line give --timeout a longer time", "线路较慢时请加大 --timeout"))
}

/// The controller, or TLS, says no.
pub(crate) fn refused(url: &str, what: &Said, status: &Status) -> Failure {
    if let Some(refusal) = tls_refusal(status) {
        return refusal.failure(url);
    }
    let Some(code) = Code::of(status) else { return refused_by_status(url, what, status) };
    let failure = told(exit_of(code), code.word(), &message(status)).explained(code.word());
    // A controller that names a command to run has said what to do, in English: the code's page says it in Chinese.
    let as_paged = |failure: Failure| {
        reason::steps(code.word()).iter().fold(failure, |failure, step| failure.remedy(Said::both("", *step)))
    };
    if status.message().contains('`') {
        return as_paged(failure);
    }
    match code {
        Code::JobNotFound => failure.remedy(said!("list the jobs: ctl jobs", "列出作业：ctl jobs")),
        Code::JobAmbiguous => failure.remedy(said!(
            "give more of the id, or all of it: ctl jobs -o json",
            "请给出更长或完整的作业标识：ctl jobs -o json"
        )),
        Code::JobConflict => failure.remedy(said!(
            "leave out --job-id to make a new job, or give the workbook of the first time",
            "去掉 --job-id 以创建新作业，或使用首次提交的规划表"
        )),
        Code::JobNotFinished => {
            failure.remedy(said!("follow it to its end: ctl watch JOB", "跟踪作业至结束：ctl watch JOB"))
        }
        Code::NoAgent | Code::AgentAmbiguous => failure.remedy(said!(
            "see the agents with `ctl agents`, then choose one with --agent or --site",
            "用 `ctl agents` 查看代理，再以 --agent 或 --site 指定"
        )),
        Code::AgentUnknown => failure.remedy(said!(
            "start the agent once, so that the controller learns its key: ctl agents",
            "请先启动一次该代理，使控制器获知其密钥：ctl agents"
        )),
        Code::TargetBusy => failure.remedy(said!(
            "wait for the other job or cancel it: ctl jobs --active",
            "等待另一作业结束或将其取消：ctl jobs --active"
        )),
        Code::NotAllowed => failure.remedy(said!(
            "use a profile whose certificate has the role that is needed",
            "请使用具有所需角色的配置文件"
        )),
        Code::Incompatible => failure.remedy(said!("compare the versions: ctl version", "请核对版本：ctl version")),
        Code::Busy => failure.remedy(said!("try again later", "请稍后再试")),
        Code::Internal => failure.remedy(said!("look into the controller's log", "请查看控制器日志")),
        Code::Unknown => failure.remedy(said!(
            "see what there is: ctl site list, ctl operator list, ctl agents",
            "查看现有对象：ctl site list、ctl operator list、ctl agents"
        )),
        Code::NameTaken => failure.remedy(said!("choose another name", "请换一个名称")),
        Code::TokenRefused => failure.remedy(said!(
            "make a new token: ctl agent token --site SITE",
            "重新生成令牌：ctl agent token --site SITE"
        )),
        Code::JobFinished | Code::JobState => {
            failure.remedy(said!("see how the job stands: ctl show JOB", "查看作业状态：ctl show JOB"))
        }
        Code::AgentState => failure.remedy(said!("see how the agents stand: ctl agents", "查看代理状态：ctl agents")),
        Code::BadRequest => as_paged(failure),
    }
}

/// What TLS has against us or against the controller, if that is why it failed.
pub(crate) fn by_tls(url: &str, error: &io::Error) -> Option<Failure> {
    tls_refusal(error).map(|refusal| refusal.failure(url))
}

/// Certificates or key of the profile that TLS cannot use.
pub(crate) fn unusable_identity(error: &transport::Error) -> Failure {
    let failure = Failure::usage(said!(
        "the certificates or the key of the profile cannot be used",
        "配置文件中的证书或密钥无法使用"
    ));
    because(failure, error)
        .remedy(said!("check the three PEM files that the profile names", "请检查配置文件所指的三个 PEM 文件"))
}

/// An answer without the part that it must have.
pub(crate) fn incomplete(url: &str, part: &str) -> Failure {
    Failure::new(
        Exit::Internal,
        said!("the answer of the controller at {url} has no {part}", "控制器 {url} 的答复缺少 {part}"),
    )
    .remedy(said!("compare the versions: ctl version", "请核对版本：ctl version"))
}

fn unreachable(message: Said) -> Failure {
    Failure::new(Exit::Unreachable, message).remedy(said!(
        "check the address (--controller or the profile), that the controller runs, and the way to it",
        "请检查地址（--controller 或配置文件）、控制器是否运行，以及网络是否可达"
    ))
}

/// What somebody says in English under a code: the code's page has it in Chinese, and what was said is the detail.
fn told(exit: Exit, code: &str, message: &str) -> Failure {
    let Some(page) = reason::of(code, Lang::Zh) else { return Failure::new(exit, message) };
    Failure::new(exit, Said::both(message, page.title))
        .because(Said::both("", page.cause))
        .because(Said::both("", format!("原文：{message}")))
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
fn refused_by_status(url: &str, what: &Said, status: &Status) -> Failure {
    let story = |exit, text: Said| Failure::new(exit, text).because(message(status));
    let refuses = || said!("the controller at {url} refuses {what}", "控制器 {url} 拒绝了请求：{what}");
    match status.code() {
        Grpc::Unauthenticated | Grpc::PermissionDenied => story(Exit::Refused, refuses()).remedy(said!(
            "use a profile that this controller has issued, with the role that is needed",
            "请使用该控制器签发且具有所需角色的配置文件"
        )),
        Grpc::Unimplemented => story(
            Exit::Refused,
            said!("the controller at {url} does not know {what}", "控制器 {url} 不支持该请求：{what}"),
        )
        .remedy(said!("compare the versions: ctl version", "请核对版本：ctl version")),
        Grpc::InvalidArgument | Grpc::NotFound | Grpc::AlreadyExists | Grpc::OutOfRange => story(
            Exit::Usage,
            said!("the controller at {url} does not accept {what}", "控制器 {url} 不接受该请求：{what}"),
        ),
        Grpc::FailedPrecondition | Grpc::ResourceExhausted => story(Exit::Refused, refuses()),
        _ => story(Exit::Internal, said!("the controller at {url} failed {what}", "控制器 {url} 处理请求失败：{what}"))
            .remedy(said!("look into the controller's log", "请查看控制器日志")),
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
    let mut told: Vec<Said> = Vec::new();
    for error in chain(error) {
        let words = words(error);
        if !WRAPPERS.contains(&words.english()) && told.last() != Some(&words) {
            told.push(words);
        }
    }
    for words in told {
        failure = failure.because(words);
    }
    failure
}

/// One link of the chain in plain words.
fn words(error: &(dyn Error + 'static)) -> Said {
    let Some(error) = error.downcast_ref::<io::Error>() else {
        return match error.to_string() {
            text if text.starts_with("dns error") => {
                said!("the name of the host cannot be resolved", "无法解析主机名")
            }
            text if text.contains("close_notify") => said!("the other side closed the connection", "对端关闭了连接"),
            text => text.into(),
        };
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            said!("connection refused: nothing listens there", "连接被拒绝：该地址没有服务在监听")
        }
        io::ErrorKind::ConnectionReset => said!("the connection was reset", "连接被重置"),
        io::ErrorKind::TimedOut => said!("no answer in time", "没有及时答复"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            said!("there is no way to the host", "没有到该主机的路由")
        }
        io::ErrorKind::UnexpectedEof => said!("the other side closed the connection", "对端关闭了连接"),
        _ => error.to_string().into(),
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
                        said!("it is not issued by the CA of the profile", "它不是由配置文件中的 CA 签发")
                    }
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        said!("it does not bear the server name of the profile", "它不含配置文件中的服务器名称")
                    }
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        said!("it has expired", "它已过期")
                    }
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        said!("it is not valid yet: compare the clocks", "它尚未生效：请核对时钟")
                    }
                    other => other.to_string().into(),
                };
                Failure::new(
                    Exit::Refused,
                    said!("the certificate that {url} shows is not accepted", "不接受 {url} 出示的证书"),
                )
                .because(why)
                .remedy(said!(
                    "make sure that this is the right controller, then get a new profile from it",
                    "请确认控制器无误，再向其获取新的配置文件"
                ))
            }
            rustls::Error::AlertReceived(alert) => {
                let refuses = || said!("the controller at {url} refuses your certificate", "控制器 {url} 拒绝您的证书");
                if *alert == Alert::CertificateExpired {
                    return Failure::new(Exit::Refused, refuses())
                        .because(said!(
                            "it has expired, or one of the two clocks is wrong",
                            "证书已过期，或双方之一的时钟有误"
                        ))
                        .remedy(said!(
                            "ask an admin for a new profile: ctl operator revoke NAME, then ctl operator add NAME ...",
                            "请管理员签发新的配置文件：ctl operator revoke NAME，再 ctl operator add NAME ..."
                        ))
                        .remedy(said!(
                            "when no admin is left: controller operator-file, on the controller's host",
                            "没有管理员可用时：在控制器主机上执行 controller operator-file"
                        ));
                }
                let why = match alert {
                    Alert::CertificateRevoked => said!("it is revoked", "证书已吊销"),
                    Alert::UnknownCA | Alert::DecryptError => {
                        said!("it is not issued by this controller's CA", "证书不是由该控制器的 CA 签发")
                    }
                    Alert::CertificateRequired => said!("it did not arrive", "证书未送达"),
                    other => said!("the controller says {other:?}", "控制器回应 {other:?}"),
                };
                Failure::new(Exit::Refused, refuses()).because(why).remedy(said!(
                    "ask an admin of this controller for a new profile: ctl operator add",
                    "请该控制器的管理员签发新的配置文件：ctl operator add"
                ))
            }
            other => Failure::new(Exit::Refused, said!("no TLS with {url}", "无法与 {url} 建立 TLS 连接"))
                .because(other.to_string()),
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
    use crate::{language::within, render::paint::Paint};

    fn wrapped(error: rustls::Error) -> Status {
        Status::from_error(Box::new(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn a_refused_certificate_is_no_lost_line() {
        let status = wrapped(rustls::Error::AlertReceived(Alert::UnknownCA));
        assert!(!is_lost(&status));
        let failure = refused("https://c:1", &"listing".into(), &status);
        assert_eq!(failure.exit(), Exit::Refused);
    }

    #[test]
    fn an_expired_profile_says_who_makes_a_new_one() {
        let status = wrapped(rustls::Error::AlertReceived(Alert::CertificateExpired));
        let Failure::Story(story) = refused("https://c:1", &"listing".into(), &status) else { panic!("told already") };
        assert_eq!(story.exit, Exit::Refused);
        assert!(
            story.remedies[0].english().contains("ctl operator revoke")
                && story.remedies[1].english().contains("operator-file")
        );
    }

    #[test]
    fn a_wrong_server_is_a_refusal_too() {
        let status = wrapped(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(refused("https://c:1", &"listing".into(), &status).exit(), Exit::Refused);
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
        let told = |message: &str| match refused("https://c:1", &"x".into(), &Code::NoAgent.status(message)) {
            Failure::Story(story) => story.remedies.iter().filter(|told| !told.english().is_empty()).count(),
            Failure::Told(_) => 0,
        };
        assert_eq!((told("no agent of site x"), told("no agent yet: run `ctl agent token`")), (1, 0));
    }

    #[test]
    fn in_chinese_the_page_of_the_code_stands_in_front() {
        let told = |message: &str| {
            let failure = refused("https://c:1", &"x".into(), &Code::NoAgent.status(message));
            within(Lang::Zh, || failure.text(Paint::PLAIN))
        };
        let Some(page) = reason::of("no_agent", Lang::Zh) else { panic!("no page") };
        for (message, remedy) in [("no agent of site x", "用 `ctl agents` 查看代理"), ("none: run `x`", page.remedy[0])]
        {
            let text = told(message);
            assert!(text.starts_with(&format!("错误：{}\n  起因：   {}\n", page.title, page.cause)), "{text}");
            assert!(text.contains(&format!("原文：{message}\n")) && text.contains(remedy), "{text}");
        }
        let english = refused("https://c:1", &"x".into(), &Code::NoAgent.status("none: run `x`"));
        assert_eq!(english.text(Paint::PLAIN), "error: none: run `x`\n  more:    ctl explain no_agent\n");
    }

    #[test]
    fn every_word_has_its_exit_code() {
        let exit = |code: Code| refused("https://c:1", &"x".into(), &code.status("y")).exit();
        assert_eq!(exit(Code::JobNotFound), Exit::Usage);
        assert_eq!(exit(Code::AgentAmbiguous), Exit::Usage);
        assert_eq!(exit(Code::NotAllowed), Exit::Refused);
        assert_eq!(exit(Code::TargetBusy), Exit::Refused);
        assert_eq!(exit(Code::Internal), Exit::Internal);
        assert_eq!(refused("https://c:1", &"x".into(), &Status::permission_denied("no")).exit(), Exit::Refused);
        assert_eq!(refused("https://c:1", &"x".into(), &Status::unimplemented("no")).exit(), Exit::Refused);
    }
}
