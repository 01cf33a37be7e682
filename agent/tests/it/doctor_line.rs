//! The way to the controller as `agent doctor` sees it: a server that is wrong in one thing at a time.

use std::{convert::Infallible, fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use gantry_agent::{
    config::Settings,
    doctor::{Finding, Report, Verdict, examine},
};
use http::{Response, header::DATE};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{Timestamp, ToSpan as _, fmt::rfc2822};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{
    ALL_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion, server::WebPkiClientVerifier, version::TLS12,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{
    controller::{Ca, join},
    proxy::Fake,
};

/// How the controller is wrong. The default is right.
struct Wrong {
    name: &'static str,
    alpn: &'static [&'static [u8]],
    change: fn(&mut CertificateParams),
    /// Who signs its certificate, when not the CA.
    signer: Option<Ca>,
    versions: &'static [&'static SupportedProtocolVersion],
    ahead_s: i64,
    status: u16,
}

impl Default for Wrong {
    fn default() -> Self {
        let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
        Self {
            name: "controller.test",
            alpn,
            change: |_| {},
            signer: None,
            versions: ALL_VERSIONS,
            ahead_s: 0,
            status: 200,
        }
    }
}

/// A controller of which only `/healthz` is there.
pub(crate) struct Server {
    pub(crate) ca: Ca,
    pub(crate) address: std::net::SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(wrong: Wrong) -> Self {
        let ca = Ca::new();
        let signer = wrong.signer.as_ref().unwrap_or(&ca);
        let (cert, key) = signer.issue_with(wrong.name, ExtendedKeyUsagePurpose::ServerAuth, wrong.change);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(wrong.versions)
            .unwrap()
            .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = wrong.alpn.iter().map(|name| name.to_vec()).collect();
        let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let (status, ahead_s) = (wrong.status, wrong.ahead_s);
        let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.uri().path(), "/healthz", "nothing else is asked");
            let date = (Timestamp::now() + ahead_s.seconds()).to_zoned(jiff::tz::TimeZone::UTC);
            let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date.timestamp()).unwrap();
            Ok::<_, Infallible>(Response::builder().status(status).header(DATE, date).body(String::new()).unwrap())
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                lines.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let server = http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(tls), answer).await;
                });
            }
        });
        Self { ca, address, _tasks: tasks }
    }

    pub(crate) async fn right() -> Self {
        Self::start(Wrong::default()).await
    }
}

/// An agent's directory that is as it should be, but for the ISO.
pub(crate) fn settings(dir: &Path) -> Settings {
    let mut settings = crate::bench::settings(dir);
    fs::create_dir_all(&settings.iso_dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    settings.link.proxy.from_environment = false;
    settings.doctor.check_timeout_ms = 20_000;
    settings
}

/// The finding of one check, looked at again: what is wrong has a remedy, what is right has none.
pub(crate) fn finding<'a>(report: &'a Report, name: &str) -> &'a Finding {
    let check = report.checks.iter().find(|check| check.name == name).unwrap();
    let wrong = matches!(check.finding.verdict, Verdict::Warn | Verdict::Fail);
    assert_eq!(wrong, check.finding.remedy.is_some(), "{check}");
    &check.finding
}

/// What stands in the finding of one check and its remedy.
#[track_caller]
pub(crate) fn holds(report: &Report, name: &str, verdict: Verdict, seen: &str, remedy: &str) {
    let finding = finding(report, name);
    let has = finding.remedy.as_deref().unwrap_or_default();
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.seen.contains(seen) && has.contains(remedy), "{finding:?}");
}

/// Everything before `name` is good, and everything on the line after it is skipped.
#[track_caller]
fn fails_at(report: &Report, name: &str, seen: &str, remedy: &str) {
    const LINE: [&str; 8] = ["proxy", "name", "route", "tunnel", "tls", "alpn", "welcome", "clock"];
    holds(report, name, Verdict::Fail, seen, remedy);
    assert!(!report.is_good());
    let at = LINE.iter().position(|line| *line == name).unwrap();
    for (row, line) in LINE.iter().enumerate().filter(|(row, _)| *row != at) {
        let wanted = if row < at { Verdict::Ok } else { Verdict::Skip };
        assert_eq!(finding(report, line).verdict, wanted, "{line}: {:?}", finding(report, line));
    }
}

async fn report_of(wrong: Wrong) -> Report {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(wrong).await);
    let settings = settings(dir.path());
    join(&settings, &server.ca, &server.ca, server.address);
    examine(settings, Vec::new(), |_| {}).await
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_shown_with_its_signer() {
    let report = report_of(Wrong { signer: Some(Ca::new()), ..Wrong::default() }).await;
    fails_at(&report, "tls", "another CA", "ask for an exception");
    let seen = &finding(&report, "tls").seen;
    assert!(seen.contains("controller.test (signed by ") && seen.contains("rcgen"), "{seen}");
    assert!(finding(&report, "tls").remedy.as_ref().unwrap().contains("`ctl agent token --site s1`"));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_shown() {
    let report = report_of(Wrong { name: "other.test", ..Wrong::default() }).await;
    fails_at(&report, "tls", "there is other.test (", "add the name");
}

#[tokio::test]
async fn a_certificate_that_is_over_or_not_yet_valid_is_told_with_both_clocks() {
    let over = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 2, 3);
    fails_at(
        &report_of(Wrong { change: over, ..Wrong::default() }).await,
        "tls",
        "to 2001-02-03",
        "compare the clocks",
    );
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 5, 6);
    fails_at(
        &report_of(Wrong { change: early, ..Wrong::default() }).await,
        "tls",
        "from 4000-05-06",
        "compare the clocks",
    );
}

#[tokio::test]
async fn without_http_2_there_is_no_link() {
    let none = report_of(Wrong { alpn: &[], ..Wrong::default() }).await;
    fails_at(&none, "alpn", "no protocol", "HTTP/2");
    let other = report_of(Wrong { alpn: &[b"http/1.1"], ..Wrong::default() }).await;
    fails_at(&other, "alpn", "does not offer h2", "HTTP/2");
}

#[tokio::test]
async fn who_ends_the_handshake_is_told() {
    const OLD: &[&SupportedProtocolVersion] = &[&TLS12];
    let report = report_of(Wrong { versions: OLD, ..Wrong::default() }).await;
    fails_at(&report, "tls", "ends the handshake (ProtocolVersion)", "the controller's log");
}

#[tokio::test]
async fn what_speaks_no_tls_is_not_the_controller() {
    let (dir, ca, listener) =
        (tempfile::tempdir().unwrap(), Ca::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let settings = settings(dir.path());
    join(&settings, &ca, &ca, listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let report = examine(settings, Vec::new(), |_| {}).await;
    fails_at(&report, "tls", "no certificate came", "the controller's port");
}

#[tokio::test]
async fn what_says_nothing_is_given_up() {
    let (dir, ca, listener) =
        (tempfile::tempdir().unwrap(), Ca::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut settings = settings(dir.path());
    join(&settings, &ca, &ca, listener.local_addr().unwrap());
    // Given up as the link itself would, or when the check's own time is over.
    settings.link.connect_timeout_ms = 500;
    fails_at(
        &examine(settings.clone(), Vec::new(), |_| {}).await,
        "tls",
        "did not answer within 500ms",
        "the controller's port",
    );
    (settings.link.connect_timeout_ms, settings.doctor.check_timeout_ms) = (20_000, 1_500);
    fails_at(&examine(settings, Vec::new(), |_| {}).await, "tls", "nothing within 1500 ms", "firewall");
}

#[tokio::test]
async fn the_refusal_of_our_own_certificate_is_told() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::right().await);
    let settings = settings(dir.path());
    join(&settings, &server.ca, &Ca::new(), server.address);
    let report = examine(settings, Vec::new(), |_| {}).await;
    // With TLS 1.3 the handshake ends well on our side, and the refusal comes after it.
    fails_at(&report, "welcome", "", "run `agent join TOKEN`");
}

#[tokio::test]
async fn clocks_that_differ_are_told() {
    let ahead = report_of(Wrong { ahead_s: 4_000, ..Wrong::default() }).await;
    holds(&ahead, "clock", Verdict::Warn, "behind the controller", "NTP");
    assert!(finding(&ahead, "clock").seen.contains("1h 6m"), "{:?}", finding(&ahead, "clock"));
    let behind = report_of(Wrong { ahead_s: -4_000, ..Wrong::default() }).await;
    holds(&behind, "clock", Verdict::Warn, "ahead of the controller", "NTP");
    let little = report_of(Wrong { ahead_s: 30, ..Wrong::default() }).await;
    holds(&little, "clock", Verdict::Ok, "behind the controller", "");
}

#[tokio::test]
async fn a_controller_that_is_not_well_is_told() {
    let failing = report_of(Wrong { status: 503, ..Wrong::default() }).await;
    holds(&failing, "welcome", Verdict::Warn, "store is failing", "the controller's log");
    let other = report_of(Wrong { status: 404, ..Wrong::default() }).await;
    holds(&other, "welcome", Verdict::Warn, "404", "Gantry controller's port");
}

#[tokio::test]
async fn a_slow_line_is_told() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::right().await);
    let mut settings = settings(dir.path());
    settings.doctor.slow_round_trip_ms = 0;
    join(&settings, &server.ca, &server.ca, server.address);
    let report = examine(settings, Vec::new(), |_| {}).await;
    holds(&report, "welcome", Verdict::Warn, "5 answers take", "doctor.slow_round_trip_ms");
    assert_eq!(finding(&report, "clock").verdict, Verdict::Ok);
}

#[tokio::test]
async fn a_port_that_nobody_listens_at_is_told() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let settings = settings(dir.path());
    join(&settings, &ca, &ca, TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap());
    let report = examine(settings, Vec::new(), |_| {}).await;
    fails_at(&report, "route", "refused", "see that the controller runs");
}

/// Settings whose controller has this URL.
fn joined_to(dir: &Path, url: &str) -> Settings {
    let (settings, ca) = (settings(dir), Ca::new());
    join(&settings, &ca, &ca, "127.0.0.1:1".parse().unwrap());
    let file = settings.data_dir.join("join.json");
    let text = fs::read_to_string(&file).unwrap().replace("https://127.0.0.1:1", url);
    fs::write(&file, text).unwrap();
    settings
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let settings = joined_to(dir.path(), "https://no-such-controller.invalid:7443");
    let report = examine(settings, Vec::new(), |_| {}).await;
    fails_at(&report, "name", "", "/etc/resolv.conf");
}

#[tokio::test]
async fn a_join_file_that_leads_nowhere_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let report = examine(joined_to(dir.path(), "http://x"), Vec::new(), |_| {}).await;
    fails_at(&report, "proxy", "join file's controller", "`ctl agent token --site s1`");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told() {
    for (answer, seen, remedy) in [
        ("HTTP/1.1 403 No\r\n\r\n", "forbids controller.invalid:7443", "allow CONNECT"),
        ("HTTP/1.1 407 No\r\n\r\n", "wants user and password", "link.proxy.password_file"),
        ("HTTP/1.1 503 No\r\n\r\n", "cannot reach controller.invalid:7443", "the proxy's host may reach"),
        ("220 mail.example ESMTP\r\n", "not a proxy's answer", "names a proxy's host and port"),
    ] {
        let (dir, proxy) = (tempfile::tempdir().unwrap(), Fake::says(answer).await);
        // The proxy resolves the controller's name, not this machine.
        let mut settings = joined_to(dir.path(), "https://controller.invalid:7443");
        settings.link.proxy.url = Some(format!("http://{}", proxy.address));
        let report = examine(settings, Vec::new(), |_| {}).await;
        fails_at(&report, "tunnel", seen, remedy);
        holds(&report, "proxy", Verdict::Ok, "(from link.proxy.url)", "");
        holds(&report, "route", Verdict::Ok, "the proxy answers", "");
    }
}

#[tokio::test]
async fn a_proxy_that_is_none_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = joined_to(dir.path(), "https://controller.invalid:7443");
    settings.link.proxy.url = Some("socks5://127.0.0.1:1080".to_owned());
    let report = examine(settings, Vec::new(), |_| {}).await;
    fails_at(&report, "proxy", "only http:// and https://", "correct link.proxy.url");
}
