//! The link through a proxy: a real squid, and proxies made up to behave badly.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use gantry_agent::{
    config::{self, Settings},
    dialer::{DialError, Dialer},
    identity::Identity,
    way::{Way, WayError},
};
use gantry_proto::{error::causes, v1::open_request::Item as In};
use gantry_sim::squid::{Squid, SquidOptions};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use crate::{
    bench::Table,
    controller::{Agent, Ca, Controller, join, joined},
};

const LIMIT: Duration = Duration::from_secs(30);
const PASSWORD: &str = "canary:proxy password";

async fn squid(options: SquidOptions) -> Squid {
    spawn_blocking(move || Squid::start(&options)).await.unwrap().unwrap()
}

fn through(url: String) -> config::Proxy {
    config::Proxy { url: Some(url), from_environment: false, ..config::Proxy::default() }
}

/// A dialer for this address. Everything that it says is looked through for the password.
struct Dial {
    dialer: Dialer,
}

impl Dial {
    fn new(dir: &Path, controller: &Controller, proxy: config::Proxy) -> Self {
        Self::to(dir, controller, controller.relay.address, proxy)
    }

    fn to(dir: &Path, controller: &Controller, address: SocketAddr, proxy: config::Proxy) -> Self {
        let mut settings = crate::bench::settings(dir);
        (settings.link.connect_timeout_ms, settings.link.proxy) = (5_000, proxy);
        join(&settings, &controller.ca, &controller.ca, address);
        let identity = Identity::load(&settings).unwrap();
        Self { dialer: Dialer::new(&identity.credentials.current(), &settings.link).unwrap() }
    }

    async fn works(&self) {
        let dialled = self.dialer.dial().await;
        dialled.unwrap_or_else(|error| panic!("{}", causes(&error).join(": ")));
    }

    /// Why there is no way.
    async fn fails(&self) -> WayError {
        let error = self.dialer.dial().await.unwrap_err();
        let text = format!("{} {error:?}", causes(&error).join(": "));
        assert!(!text.contains("canary") && !text.contains("Basic "), "{text}");
        let DialError::Way(error) = error else { panic!("{text}") };
        assert!(!error.remedy().is_empty());
        error
    }
}

fn password_file(dir: &Path, password: &str) -> std::path::PathBuf {
    let file = dir.join("proxy.password");
    fs::write(&file, format!("{password}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

#[tokio::test]
async fn the_link_goes_through_squid() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let squid = squid(SquidOptions::default()).await;
    let mut settings = joined(dir.path(), &controller);
    settings.link.proxy = through(format!("http://{}", squid.address()));
    let agent = Agent::start(&settings, table.pipeline).await;
    drop(controller.welcomed(0).await);
    assert!(agent.stop().await);
    let line = format!("CONNECT {}", controller.relay.address);
    let logged = async {
        while !squid.access_log().lines().any(|logged| logged.contains("/200 ") && logged.contains(&line)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, logged).await.expect("squid has not carried the link");
}

#[tokio::test]
async fn squid_asks_for_user_and_password() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let user = Some(("agent".to_owned(), PASSWORD.to_owned()));
    let squid = squid(SquidOptions { user, ..SquidOptions::default() }).await;
    let (nobody, known) = (format!("http://{}", squid.address()), format!("http://agent@{}", squid.address()));
    let missing = Dial::new(&dir.path().join("1"), &controller, through(nobody)).fails().await;
    assert!(matches!(missing, WayError::Credentials { given: false, .. }), "{missing}");
    assert!(missing.remedy().contains("link.proxy.password_file"));

    let file = password_file(dir.path(), "canary wrong");
    let proxy = config::Proxy { password_file: Some(file.clone()), ..through(known) };
    let dial = Dial::new(&dir.path().join("2"), &controller, proxy);
    let wrong = dial.fails().await;
    assert!(matches!(wrong, WayError::Credentials { given: true, .. }), "{wrong}");
    // Corrected, it is taken at the next dial.
    password_file(dir.path(), PASSWORD);
    dial.works().await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(dial.fails().await, WayError::Open { mode: 0o644, .. }));
    fs::remove_file(&file).unwrap();
    assert!(matches!(dial.fails().await, WayError::File { .. }));
}

#[tokio::test]
async fn squid_is_spoken_to_in_tls() {
    let (dir, controller, ca) = (tempfile::tempdir().unwrap(), Controller::start().await, Ca::new());
    let tls = Some(ca.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth));
    let squid = squid(SquidOptions { tls, ..SquidOptions::default() }).await;
    let url = format!("https://localhost:{}", squid.tls_port());
    let trusting = |name: &str, ca: Option<&Ca>, url: &str| {
        let file = ca.map(|ca| {
            let file = dir.path().join(format!("{name}.pem"));
            fs::write(&file, &ca.pem).unwrap();
            file
        });
        let proxy = config::Proxy { ca_file: file, ..through(url.to_owned()) };
        Dial::new(&dir.path().join(name), &controller, proxy)
    };
    trusting("right", Some(&ca), &url).works().await;
    let wrong = trusting("wrong", Some(&Ca::new()), &url).fails().await;
    assert!(matches!(wrong, WayError::Tls { .. }) && wrong.remedy().contains("link.proxy.ca_file"), "{wrong}");
    let system = trusting("system", None, &url).fails().await;
    assert!(matches!(system, WayError::Tls { .. } | WayError::File { .. }), "{system}");
    let name = trusting("name", Some(&ca), &url.replace("localhost", "127.0.0.1")).fails().await;
    assert!(matches!(name, WayError::Tls { .. }) && name.remedy().contains("another name"), "{name}");
    // The two kinds mixed up.
    let plain = trusting("plain", Some(&ca), &format!("https://localhost:{}", squid.address().port())).fails().await;
    assert!(matches!(plain, WayError::Tls { .. }) && plain.remedy().contains("http://"), "{}", plain.remedy());
    let tls = trusting("tls", None, &url.replace("https", "http")).fails().await;
    assert!(matches!(tls, WayError::NotAProxy { .. } | WayError::Closed { .. }), "{tls}");
    assert!(tls.remedy().contains("https://"), "{}", tls.remedy());
}

#[tokio::test]
async fn squid_says_no() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let only = squid(SquidOptions { only_ports: Some(vec![443]), ..SquidOptions::default() }).await;
    let forbidden =
        Dial::new(&dir.path().join("1"), &controller, through(format!("http://{}", only.address()))).fails().await;
    assert!(
        matches!(&forbidden, WayError::Forbidden { told, .. } if told.contains("ERR_ACCESS_DENIED")),
        "{forbidden}"
    );
    assert!(forbidden.to_string().contains(&controller.relay.address.to_string()), "{forbidden}");

    let open = squid(SquidOptions::default()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = through(format!("http://{}", open.address()));
    let unreachable = Dial::to(&dir.path().join("2"), &controller, nobody, proxy).fails().await;
    assert!(matches!(&unreachable, WayError::Unreachable { told, .. } if told.contains("503")), "{unreachable}");
}

#[tokio::test]
async fn who_is_exempt_is_dialled_directly() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let nowhere = || through("http://127.0.0.1:1".to_owned());
    let refused = Dial::new(&dir.path().join("1"), &controller, nowhere()).fails().await;
    assert!(matches!(refused, WayError::Connect { is_proxy: true, .. }), "{refused}");
    let exempt = config::Proxy { no_proxy: vec!["127.0.0.0/8".to_owned()], ..nowhere() };
    Dial::new(&dir.path().join("2"), &controller, exempt).works().await;
}

#[tokio::test]
async fn heartbeats_keep_a_link_that_squid_cuts_when_idle() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let squid = squid(SquidOptions { idle: Some(Duration::from_secs(2)), ..SquidOptions::default() }).await;
    let mut settings: Settings = joined(dir.path(), &controller);
    settings.link.proxy = through(format!("http://{}", squid.address()));
    let agent = Agent::start(&settings, table.pipeline).await;
    let mut session = controller.session().await;
    session.welcome(0, 200, 60_000).await;

    // Beside it a tunnel on which nothing is said: squid ends it.
    let quiet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = Way::new(&settings.link.proxy).unwrap();
    let port = quiet.local_addr().unwrap().port();
    let mut idle = way.connect("127.0.0.1", port, Instant::now() + LIMIT).await.unwrap();
    let held = quiet.accept().await.unwrap();
    let mut byte = [0];
    // An end or a reset: either way it is cut.
    let read = timeout(LIMIT, idle.read(&mut byte)).await.expect("squid cuts no idle tunnel");
    assert!(!matches!(read, Ok(1..)));
    drop(held);

    // The link is older than that tunnel, and lives; what was said before is read away first.
    let cut = Instant::now();
    loop {
        let heard = session.hear().await.expect("the link was cut");
        if matches!(heard, In::Heartbeat(_)) && cut.elapsed() > Duration::from_millis(500) {
            break;
        }
    }
    assert!(!controller.is_dialled(), "the agent had to come back");
    assert!(agent.stop().await);
}

/// What a made-up proxy does once it has been asked.
#[derive(Clone, Copy)]
enum Does {
    Say(&'static str),
    /// The first, then the second without end.
    Flood(&'static str, &'static str),
    Close,
}

/// A proxy that does this to everybody. Whatever it says, it then keeps the connection.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn says(answer: &'static str) -> Self {
        Self::start(Does::Say(answer)).await
    }

    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                lines.spawn(async move {
                    let mut asked = Vec::new();
                    while !asked.ends_with(b"\r\n\r\n") && tcp.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
                    match does {
                        Does::Close => return,
                        Does::Say(text) => drop(tcp.write_all(text.as_bytes()).await),
                        Does::Flood(first, then) => {
                            let _ = tcp.write_all(first.as_bytes()).await;
                            while tcp.write_all(then.as_bytes()).await.is_ok() {}
                        }
                    }
                    while tcp.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {
                        asked.clear();
                    }
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

/// What a made-up proxy makes of a dial, within `limit` milliseconds.
async fn made_of(does: Does, limit: u64) -> WayError {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let fake = Fake::start(does).await;
    let mut settings = crate::bench::settings(dir.path());
    settings.link.connect_timeout_ms = limit;
    settings.link.proxy = through(format!("http://agent@{}", fake.address));
    settings.link.proxy.password_file = Some(password_file(dir.path(), PASSWORD));
    join(&settings, &ca, &ca, "192.0.2.1:7443".parse().unwrap());
    let dialer = Dialer::new(&Identity::load(&settings).unwrap().credentials.current(), &settings.link).unwrap();
    Dial { dialer }.fails().await
}

#[tokio::test]
async fn a_proxy_that_answers_badly_is_found_out() {
    use WayError as E;
    type Is = fn(&WayError) -> bool;
    let rows: [(Does, Is); 13] = [
        (Does::Close, |e| matches!(e, E::Closed { .. })),
        (Does::Say("SSH-2.0-OpenSSH_9.2\r\n"), |e| matches!(e, E::NotAProxy { .. })),
        (Does::Say("\x15\x03\x01\x00\x02\x02\x46"), |e| matches!(e, E::NotAProxy { .. })),
        (Does::Say("HTTP/1.1 200 OK\r\n\r\nnot asked for"), |e| matches!(e, E::NotAProxy { .. })),
        (Does::Flood("HTTP/1.1 200 OK\r\nx: ", "y"), |e| matches!(e, E::TooLong { .. })),
        (Does::Flood("HTTP/1.1 200 OK\r\n", "x: y\r\n"), |e| matches!(e, E::TooLong { .. })),
        (Does::Say("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n"), |e| {
            matches!(e, E::Scheme { .. }) && e.remedy().contains("cntlm")
        }),
        (Does::Say("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 9\r\n\r\n"), |e| {
            matches!(e, E::Credentials { given: true, .. })
        }),
        (Does::Say("HTTP/1.1 403 Forbidden\r\n\r\n"), |e| matches!(e, E::Forbidden { .. })),
        (Does::Say("HTTP/1.1 502 Bad Gateway\r\n\r\n"), |e| matches!(e, E::Unreachable { .. })),
        (Does::Say("HTTP/1.0 504 Gateway Timeout\r\n\r\n"), |e| matches!(e, E::Unreachable { .. })),
        (Does::Say("HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n"), |e| matches!(e, E::Status { .. })),
        (Does::Say("HTTP/1.1 200 OK\r\nX-Squid-Error"), |e| matches!(e, E::Late { .. })),
    ];
    for (row, (does, is)) in rows.into_iter().enumerate() {
        // Only the last one is waited for to its limit.
        let error = made_of(does, if row == 12 { 500 } else { 20_000 }).await;
        assert!(is(&error), "row {row}: {error:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_stalls_is_left() {
    let mute = made_of(Does::Say(""), 400).await;
    assert!(matches!(mute, WayError::Late { stage: "CONNECT", is_proxy: true, .. }), "{mute}");
    // Interim answers are no answer, however many come.
    let busy = made_of(Does::Flood("", "HTTP/1.1 100 Continue\r\n\r\n"), 400).await;
    assert!(matches!(busy, WayError::Late { .. } | WayError::TooLong { .. }), "{busy:?}");
}

#[tokio::test]
async fn a_proxy_that_has_no_address_is_named() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let proxy = through("http://no-such-proxy.invalid:3128".to_owned());
    let unknown = Dial::new(dir.path(), &controller, proxy).fails().await;
    assert!(unknown.to_string().contains("no-such-proxy.invalid"), "{unknown}");
    assert!(matches!(unknown, WayError::Name { is_proxy: true, .. } | WayError::Late { is_proxy: true, .. }));
}
