//! The way to the controller, layer by layer. What is asked of it is `/healthz` and nothing else, so that no session of
//! this agent is disturbed.

use std::{error::Error, net::SocketAddr, time::Duration};

use gantry_proto::{JoinFile, error::causes};
use http::{Request, StatusCode, header::DATE};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use rustls::{AlertDescription, CertificateError as C, Error as E};
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tower::{Service as _, ServiceExt as _};

use super::{Finding, Looked, chain, local::new_identity};
use crate::{
    config::Settings,
    dialer::{DialError, Dialer, certificate_refused},
    way::Stream,
};

/// Addresses of a name that are shown and tried, at most.
const ADDRESSES: usize = 8;
/// A clock that is told in whole seconds cannot be wrong by less.
const DATE_STEP_S: i64 = 1;

/// A dialer, with what the messages need besides.
pub(super) struct Line {
    dialer: Dialer,
    name: ServerName<'static>,
    server_name: String,
    site: String,
}

/// What the controller has answered.
pub(super) struct Heard {
    /// Its clock.
    date: Option<Timestamp>,
    /// Ours at the same time.
    at: Timestamp,
}

/// A handshake that has ended, or one that ended for want of a common protocol.
pub(super) enum Shaken {
    Stream(Box<TlsStream<Stream>>),
    NoProtocol,
}

/// Whether join file and proxy settings lead anywhere, and which way that is.
pub(super) fn dialer(join: &JoinFile, settings: &Settings) -> Looked<Line> {
    let dialer = match Dialer::new(join, &settings.link) {
        Ok(dialer) => dialer,
        Err(DialError::Way(error)) => return (Finding::fail(causes(&error).join(": "), error.remedy()), None),
        Err(error) => return (Finding::fail(causes(&error).join(": "), new_identity(Some(&join.site))), None),
    };
    let Ok(name) = ServerName::try_from(join.server_name.clone()) else {
        let seen = "the controller's name in the join file is none";
        return (Finding::fail(seen, new_identity(Some(&join.site))), None);
    };
    let seen = match dialer.proxy() {
        Some(proxy) => {
            let user = proxy.user().map_or_else(String::new, |user| format!(" as {user}"));
            format!("{proxy}{user} (from {})", proxy.source())
        }
        None => match dialer.unused_proxy() {
            Some(proxy) => format!("none: {} is exempt from {proxy} (from {})", dialer.address(), proxy.source()),
            None => "none: neither settings nor environment name one".to_owned(),
        },
    };
    let line = Line { dialer, name, server_name: join.server_name.clone(), site: join.site.clone() };
    (Finding::ok(seen), Some(line))
}

impl Line {
    /// To whom this machine itself connects: the proxy, or the controller.
    fn hop(&self) -> (&str, u16, &'static str) {
        match self.dialer.proxy() {
            Some(proxy) => {
                let (host, port) = proxy.host_port();
                (host, port, "the proxy")
            }
            None => {
                let (host, port) = self.dialer.host_port();
                (host, port, "the controller")
            }
        }
    }
}

/// The addresses of the one that this machine connects to.
pub(super) async fn name(line: &Line) -> Looked<Vec<SocketAddr>> {
    let (host, port, whose) = line.hop();
    let remedy = format!("see why this machine's DNS does not know {whose}'s name (/etc/resolv.conf, /etc/hosts)");
    let addresses: Vec<_> = match lookup_host((host, port)).await {
        Ok(found) => found.take(ADDRESSES).collect(),
        Err(error) => return (Finding::fail(format!("{host}, {whose}, cannot be resolved: {error}"), remedy), None),
    };
    if addresses.is_empty() {
        return (Finding::fail(format!("{host}, {whose}, has no address"), remedy), None);
    }
    let seen = if host.parse::<std::net::IpAddr>().is_ok() {
        format!("{host}, {whose}, is an address")
    } else {
        let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        format!("{host}, {whose}, is {}", shown.join(", "))
    };
    (Finding::ok(seen), Some(addresses))
}

/// TCP to each of the addresses; one that answers is enough.
pub(super) async fn route(line: &Line, addresses: &[SocketAddr]) -> Looked<()> {
    let (_, port, whose) = line.hop();
    route_to(whose, port, addresses).await
}

async fn route_to(whose: &str, port: u16, addresses: &[SocketAddr]) -> Looked<()> {
    let mut refused = Vec::new();
    for address in addresses {
        let began = Instant::now();
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                let from = tcp.local_addr().map_or_else(|_| "?".to_owned(), |from| from.ip().to_string());
                let seen = format!("{whose} answers at {address}, from {from}, in {} ms", began.elapsed().as_millis());
                if refused.is_empty() {
                    return (Finding::ok(seen), Some(()));
                }
                let seen = format!("{seen}; not at {}", refused.join(", "));
                return (Finding::warn(seen, "see why the name has addresses that do not answer"), Some(()));
            }
            Err(error) => refused.push(format!("{address} ({error})")),
        }
    }
    let remedy = format!(
        "see that {whose} runs, that port {port} is its port, and that routes and firewalls let this machine reach it"
    );
    (Finding::fail(format!("no connection to {whose}: {}", refused.join(", ")), remedy), None)
}

/// The connection to the controller's port: CONNECT where there is a proxy.
pub(super) async fn tunnel(line: &Line) -> Looked<Stream> {
    let began = Instant::now();
    match line.dialer.connect(line.dialer.deadline()).await {
        Ok(stream) => {
            let seen = match line.dialer.proxy() {
                Some(proxy) => {
                    let took = began.elapsed().as_millis();
                    format!("{proxy} has connected to {} in {took} ms", line.dialer.address())
                }
                None => "none is needed".to_owned(),
            };
            (Finding::ok(seen), Some(stream))
        }
        Err(DialError::Way(error)) => (Finding::fail(causes(&error).join(": "), error.remedy()), None),
        Err(error) => {
            let remedy = "it answered a moment ago: look again, and see whether the controller is being restarted";
            (Finding::fail(causes(&error).join(": "), remedy), None)
        }
    }
}

/// The handshake: who is there, and whether it is our controller.
pub(super) async fn tls(line: &Line, stream: Stream) -> Looked<Shaken> {
    let began = Instant::now();
    let error = match line.dialer.shake(stream, line.dialer.deadline()).await {
        Ok(stream) => {
            let session = stream.get_ref().1;
            let version = session.protocol_version().map_or_else(|| "?".to_owned(), |version| format!("{version:?}"));
            let chain = chain::describe(session.peer_certificates().unwrap_or_default());
            let seen = format!("{version} in {} ms: {chain}", began.elapsed().as_millis());
            return (Finding::ok(seen), Some(Shaken::Stream(Box::new(stream))));
        }
        Err(error) => error,
    };
    let fault = rustls_error(&error);
    if let Some(E::AlertReceived(AlertDescription::NoApplicationProtocol)) = fault {
        return (Finding::ok("there is TLS, up to the choice of a protocol"), Some(Shaken::NoProtocol));
    }
    // Who is there is worth a second connection: it is shown nothing of ours.
    let deadline = line.dialer.deadline();
    let again = async {
        let stream = line.dialer.connect(deadline).await.ok()?;
        chain::whose(stream, line.name.clone()).await
    };
    let chain = timeout_at(deadline, again).await.ok().flatten();
    let whose = chain.as_deref().map_or_else(|| "no certificate came".to_owned(), chain::describe);
    let dates = chain.as_deref().and_then(|chain| chain.first()).and_then(chain::validity);
    let new = new_identity(Some(&line.site));
    let (what, remedy) = match fault {
        Some(E::InvalidCertificate(C::UnknownIssuer | C::BadSignature)) => (
            "another CA than ours signed the certificate".to_owned(),
            format!(
                "when the signer is a firewall or proxy that opens TLS, ask for an exception for {}; when it is another \
                 controller, correct the address; when the controller's CA is new, {new}",
                line.dialer.address()
            ),
        ),
        Some(E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => (
            format!("the certificate does not bear the name {}", line.server_name),
            format!("add the name to the controller's settings (names) and restart it, or {new}"),
        ),
        Some(E::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        )) => {
            let format = "%Y-%m-%d %H:%M UTC";
            let valid = dates.map_or_else(String::new, |dates| {
                format!(" (it holds from {} to {})", dates.from.strftime(format), dates.to.strftime(format))
            });
            (
                format!(
                    "the certificate is not valid by this machine's clock, {}{valid}",
                    Timestamp::now().strftime(format)
                ),
                "compare the clocks of both machines and set the wrong one; when both are right, restart the controller: it \
                 makes itself a new certificate"
                    .to_owned(),
            )
        }
        Some(E::AlertReceived(alert)) => (
            format!("the peer ends the handshake ({alert:?})"),
            format!("see the controller's log; when it does not take this agent, {new}"),
        ),
        _ => (
            causes(&error).join(": "),
            format!(
                "see that {} is the controller's port and that nothing in between takes TLS apart or cuts it",
                line.dialer.address()
            ),
        ),
    };
    (Finding::fail(format!("{what}; there is {whose}"), remedy), None)
}

/// Whether HTTP/2 was agreed upon.
pub(super) fn alpn(shaken: Shaken) -> Looked<Box<TlsStream<Stream>>> {
    let remedy =
        "the link needs HTTP/2: see that it is the controller's port, and that no proxy in between takes TLS apart";
    match shaken {
        Shaken::NoProtocol => (Finding::fail("the peer does not offer h2", remedy), None),
        Shaken::Stream(stream) => match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => (Finding::ok("h2"), Some(stream)),
            _ => (Finding::fail("the peer has chosen no protocol", remedy), None),
        },
    }
}

/// Whether the controller takes our certificate, which in TLS 1.3 is told with the first answer only; and how long an
/// answer takes.
pub(super) async fn welcome(line: &Line, stream: Box<TlsStream<Stream>>, settings: &Settings) -> Looked<Heard> {
    let asked = async {
        let mut channel = line.dialer.channel(*stream).await.map_err(|error| Box::new(error) as Box<dyn Error>)?;
        let (mut trips, mut last) = (Vec::new(), None);
        for _ in 0..settings.doctor.round_trips {
            let request = Request::get("/healthz").body(Body::empty())?;
            let began = Instant::now();
            let response = channel.ready().await?.call(request).await?;
            trips.push(began.elapsed());
            last = Some((response.status(), response.headers().get(DATE).cloned(), Timestamp::now()));
        }
        trips.sort();
        Ok::<_, Box<dyn Error>>((trips, last))
    };
    let (trips, last) = match asked.await {
        Ok(heard) => heard,
        Err(error) if certificate_refused(error.as_ref()) => {
            let seen =
                format!("the controller refuses this agent's certificate: {}", causes(error.as_ref()).join(": "));
            return (Finding::fail(seen, new_identity(Some(&line.site))), None);
        }
        Err(error) => {
            let seen = format!("no answer over HTTP/2: {}", causes(error.as_ref()).join(": "));
            let remedy = format!(
                "see the controller's log for this machine's address; when it does not take the agent's certificate, {}",
                new_identity(Some(&line.site))
            );
            return (Finding::fail(seen, remedy), None);
        }
    };
    let (Some((status, date, at)), Some(median), Some(worst)) = (last, trips.get(trips.len() / 2), trips.last()) else {
        return (Finding::fail("nothing was asked", "set doctor.round_trips to at least 1"), None);
    };
    let date = date.as_ref().and_then(|date| date.to_str().ok()).and_then(|date| rfc2822::parse(date).ok());
    let heard = Heard { date: date.map(|date| date.timestamp()), at };
    let seen = format!(
        "the certificate is taken; {} answers take {:.1} ms in the median, {:.1} ms at most",
        trips.len(),
        median.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3
    );
    let finding = match status {
        StatusCode::OK if *median > Duration::from_millis(settings.doctor.slow_round_trip_ms) => {
            let remedy =
                "jobs are told late over such a line: see whether it is overloaded, or raise doctor.slow_round_trip_ms";
            Finding::warn(seen, remedy)
        }
        StatusCode::OK => Finding::ok(seen),
        StatusCode::SERVICE_UNAVAILABLE => {
            Finding::warn(format!("{seen}; but its store is failing"), "see the controller's log and its disk")
        }
        status => Finding::warn(
            format!("{seen}; but /healthz is answered with {status}"),
            "see that it is a Gantry controller's port, and that no proxy in between answers for it",
        ),
    };
    (finding, Some(heard))
}

/// Our clock against the controller's, which its answers tell in whole seconds.
pub(super) fn clock(heard: &Heard, settings: &Settings) -> Finding {
    let ntp = "set the clock of the machine that is wrong, by NTP where there is one";
    let Some(date) = heard.date else {
        return Finding::warn("the controller does not tell its time", "compare both machines' clocks by hand");
    };
    let off = heard.at.duration_since(date).as_secs();
    let seen = match off {
        _ if off.abs() <= DATE_STEP_S => "this machine and the controller agree to a second".to_owned(),
        _ if off > 0 => format!("this machine is {} ahead of the controller", told(off)),
        _ => format!("this machine is {} behind the controller", told(-off)),
    };
    let most = i64::try_from(settings.precheck.clock_skew_s).unwrap_or(i64::MAX);
    if off.abs() > most { Finding::warn(seen, ntp) } else { Finding::ok(seen) }
}

fn told(seconds: i64) -> String {
    format!("{:#}", SignedDuration::from_secs(seconds))
}

fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(fault) = error.downcast_ref().or_else(|| inner?.downcast_ref()) {
            return Some(fault);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::doctor::Verdict;

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_told_beside_one_that_does() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shut = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (finding, value) = route_to("the proxy", 1, &[shut, open.local_addr().unwrap()]).await;
        assert_eq!((finding.verdict, value), (Verdict::Warn, Some(())), "{finding:?}");
        assert!(finding.seen.contains(&format!("not at {shut}")) && finding.remedy.is_some(), "{finding:?}");
    }
}
