//! The way to the controller: a TCP connection, direct or through an HTTP proxy's CONNECT. Knows no controller, no
//! certificate of ours and no message.
//!
//! The proxy sees a host name and a port, then only TLS. Which proxy it is the settings say, or, without any there, the
//! environment: `HTTPS_PROXY` or `ALL_PROXY`, but for what `NO_PROXY` names; lower case wins. What only the environment
//! says does not concern loopback addresses, as people are used to.

mod error;
mod proxy;
mod tunnel;

use std::{net::IpAddr, sync::Arc};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

pub use error::WayError;
pub use proxy::{Address, Proxy, Source};

use crate::config;

/// A connection to the controller's port. TLS to a proxy, not to the controller, may already be around it.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The environment's names for a proxy, in the order in which they count.
const PROXY_NAMES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY_NAMES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// How a controller is reached. Holds no connection.
#[derive(Clone, Debug)]
pub struct Way {
    proxy: Option<Proxy>,
    /// Says which hosts are dialled directly all the same.
    exempt: Arc<Matcher>,
}

impl Way {
    /// The way that settings and environment describe. Reads no file and opens no connection.
    pub fn new(settings: &config::Proxy) -> Result<Self, WayError> {
        Self::from(settings, |name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// No proxy, whatever the environment says.
    pub fn direct() -> Self {
        Self { proxy: None, exempt: Arc::new(matcher("*")) }
    }

    fn from(settings: &config::Proxy, environment: impl Fn(&str) -> Option<String>) -> Result<Self, WayError> {
        let first = |names: &[&'static str]| {
            let mut set = names.iter().filter_map(|name| Some((*name, environment(name)?)));
            set.find(|(_, value)| !value.trim().is_empty())
        };
        let mut exempt = settings.no_proxy.join(",");
        let proxy = if let Some(url) = &settings.url {
            let address = Address::parse(url).map_err(|why| WayError::Url { named_by: Source::Settings, why })?;
            Some(Proxy::new(address, Source::Settings, settings))
        } else if let Some((name, value)) = first(&PROXY_NAMES).filter(|_| settings.from_environment) {
            let source = Source::Environment(name);
            let address = Address::parse(value.trim()).map_err(|why| WayError::Url { named_by: source, why })?;
            if let Some((_, more)) = first(&NO_PROXY_NAMES) {
                exempt = format!("{exempt},{more}");
            }
            Some(Proxy::new(address, source, settings))
        } else {
            None
        };
        Ok(Self { proxy, exempt: Arc::new(matcher(&exempt)) })
    }

    /// The proxy through which this host is reached; `None` when it is dialled directly.
    pub fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        let from_environment = matches!(proxy.source(), Source::Environment(_));
        let exempt = (from_environment && is_loopback(host)) || !self.is_intercepted(host);
        (!exempt).then_some(proxy)
    }

    /// The proxy that there is, whoever is exempt from it.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// A connection to `port` of `host`, which must stand by the deadline. `host` has no brackets.
    pub async fn connect(&self, host: &str, port: u16, deadline: Instant) -> Result<Stream, WayError> {
        match self.proxy_for(host) {
            None => {
                let to = authority(host, port);
                Ok(Either::Left(tcp(host, port, &Hop { to, is_proxy: false }, deadline).await?))
            }
            // Boxed: whoever waits for it would else carry two handshakes and a CONNECT around.
            Some(proxy) => Box::pin(proxy.connect(&authority(host, port), deadline)).await,
        }
    }

    fn is_intercepted(&self, host: &str) -> bool {
        let uri = Uri::builder().scheme("https").authority(authority(host, 443)).path_and_query("/").build();
        // What makes no URI is no name that could be exempt.
        uri.map_or(true, |uri| self.exempt.intercept(&uri).is_some())
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Only asked whether a host is exempt: where the proxy is does not matter here.
fn matcher(exempt: &str) -> Matcher {
    Matcher::builder().https("http://proxy.invalid").no(exempt).build()
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Who is connected to, for messages.
struct Hop {
    to: String,
    is_proxy: bool,
}

/// Name and TCP, to the controller or to the proxy.
async fn tcp(host: &str, port: u16, hop: &Hop, deadline: Instant) -> Result<TcpStream, WayError> {
    let late = |stage| WayError::Late { stage, to: hop.to.clone(), is_proxy: hop.is_proxy };
    let unknown = |source| WayError::Name { host: host.to_owned(), is_proxy: hop.is_proxy, source };
    let addresses = timeout_at(deadline, lookup_host((host, port))).await.map_err(|_| late("the name's resolution"))?;
    let mut failed = None;
    for address in addresses.map_err(unknown)? {
        let connected = timeout_at(deadline, TcpStream::connect(address)).await.map_err(|_| late("the connection"))?;
        match connected.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failed = Some(error),
        }
    }
    let (to, is_proxy) = (hop.to.clone(), hop.is_proxy);
    Err(match failed {
        Some(source) => WayError::Connect { to, is_proxy, source },
        None => unknown(std::io::Error::other("the name has no address")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(settings: &config::Proxy, environment: &[(&str, &str)]) -> Result<Way, WayError> {
        Way::from(settings, |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy_for(way: &Way, host: &str) -> Option<String> {
        way.proxy_for(host).map(ToString::to_string)
    }

    #[test]
    fn the_settings_win_over_the_environment() {
        let environment = [("HTTPS_PROXY", "http://e:1"), ("NO_PROXY", "c.test")];
        let settings = config::Proxy { url: Some("http://s:2".into()), ..Default::default() };
        let both = way(&settings, &environment).unwrap();
        assert_eq!(
            proxy_for(&both, "c.test").as_deref(),
            Some("http://s:2"),
            "NO_PROXY is not for the settings' proxy"
        );
        assert_eq!(proxy_for(&both, "127.0.0.1").as_deref(), Some("http://s:2"), "what is set explicitly is done");
        let off = config::Proxy { from_environment: false, ..Default::default() };
        assert_eq!(proxy_for(&way(&off, &environment).unwrap(), "d.test"), None);
    }

    #[test]
    fn the_environment_is_read_as_people_expect() {
        let settings = config::Proxy::default();
        let at = |environment: &[(&str, &str)], host: &str| proxy_for(&way(&settings, environment).unwrap(), host);
        assert_eq!(at(&[], "c.test"), None);
        assert_eq!(at(&[("HTTPS_PROXY", "p:3128")], "c.test").as_deref(), Some("http://p:3128"), "no scheme is http");
        assert_eq!(
            at(&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://q:2")], "c.test").unwrap(),
            "http://q:2"
        );
        assert_eq!(at(&[("HTTPS_PROXY", " "), ("ALL_PROXY", "https://a:9")], "c.test").unwrap(), "https://a:9");
        assert_eq!(at(&[("HTTP_PROXY", "http://p:1")], "c.test"), None, "the link is not plain HTTP");
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(at(&[("HTTPS_PROXY", "http://p:1")], host), None, "{host}");
        }
        let exempt = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "10.0.0.0/8, .corp.test,example.net")];
        for host in ["10.1.2.3", "a.corp.test", "example.net", "x.example.net"] {
            assert_eq!(at(&exempt, host), None, "{host}");
        }
        for host in ["11.0.0.1", "corp.test.org", "notexample.net"] {
            assert!(at(&exempt, host).is_some(), "{host}");
        }
        let broken = way(&settings, &[("HTTPS_PROXY", "socks5://u:canary@h:1")]).unwrap_err();
        assert!(broken.to_string().contains("HTTPS_PROXY") && !broken.to_string().contains("canary"), "{broken}");
        assert!(broken.remedy().contains("http://"), "{}", broken.remedy());
    }

    #[test]
    fn networks_and_names_are_exempt() {
        let exempt = ["fd00::/8", "192.0.2.0/24", "c.test"].map(str::to_owned).to_vec();
        let settings = config::Proxy { url: Some("http://p:1".into()), no_proxy: exempt, ..Default::default() };
        let way = way(&settings, &[]).unwrap();
        for host in ["fd00::1", "192.0.2.9", "c.test", "C.TEST"] {
            assert_eq!(proxy_for(&way, host), None, "{host}");
        }
        for host in ["fe80::1", "192.0.3.9", "d.test"] {
            assert!(proxy_for(&way, host).is_some(), "{host}");
        }
        let all = config::Proxy { no_proxy: vec!["*".into()], ..settings };
        assert_eq!(proxy_for(&Way::from(&all, |_| None).unwrap(), "d.test"), None);
        assert_eq!(proxy_for(&Way::direct(), "d.test"), None);
    }
}
