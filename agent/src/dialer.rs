//! Dials the controller: a [`Way`] to its port, then TLS 1.3 with the agent's certificate against the controller's own CA and no other.
//! Knows no message of the link.

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gantry_proto::JoinFile;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::{
    config::Link,
    way::{Proxy, Stream, Way, WayError, authority},
};

/// Flow control of one connection and of one stream, bytes: many small frames must not stall it.
const WINDOW: u32 = 1 << 20;
/// HTTP/2 pings besides our own heartbeats: they find a connection that is frozen below us.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_LIMIT: Duration = Duration::from_secs(5);

/// Knows the way to one controller.
pub struct Dialer {
    host: String,
    port: u16,
    way: Way,
    origin: Uri,
    name: ServerName<'static>,
    tls: TlsConnector,
    limit: Duration,
}

/// Why the controller is not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The join file does not make sense.
    #[error("the join file's {0} cannot be used: make a new one with `controller join-file`")]
    Join(&'static str, #[source] Option<Box<dyn Error + Send + Sync>>),
    /// No TCP connection.
    #[error("no connection to {0}: is the controller running, and may this machine reach that port?")]
    Tcp(String, #[source] io::Error),
    /// No way to the controller's port; what to do about it says [`WayError::remedy`].
    #[error(transparent)]
    Way(WayError),
    /// TLS was not agreed upon.
    #[error("{0} does not prove to be our controller: {1}")]
    Tls(String, &'static str, #[source] io::Error),
    /// Neither yes nor no.
    #[error("{0} did not answer within {1:?}")]
    Late(String, Duration),
    /// HTTP/2 was not agreed upon.
    #[error("{0} does not speak the link's protocol")]
    Http(String, #[source] tonic::transport::Error),
}

impl Dialer {
    /// Reads address, names and keys; opens no connection.
    pub fn new(join: &JoinFile, settings: &Link) -> Result<Self, DialError> {
        let origin: Uri = join.controller.parse().map_err(|error| wrong("controller", error))?;
        let https = origin.scheme_str() == Some("https");
        let host = origin.host().filter(|_| https).ok_or(DialError::Join("controller", None))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(join.server_name.clone()).map_err(|error| wrong("server_name", error))?;
        Ok(Self {
            host,
            port: origin.port_u16().unwrap_or(443),
            way: Way::new(&settings.proxy).map_err(DialError::Way)?,
            origin: origin.clone(),
            name,
            tls: TlsConnector::from(Arc::new(config(join)?)),
            limit: Duration::from_millis(settings.connect_timeout_ms),
        })
    }

    /// One connection. It is not made again behind the caller's back: when it is gone, so is the channel.
    pub async fn dial(&self) -> Result<Channel, DialError> {
        let deadline = self.deadline();
        let stream = self.connect(deadline).await?;
        self.channel(self.shake(stream, deadline).await?).await
    }

    /// HTTP/2 over a connection that has had its handshake.
    pub(crate) async fn channel(&self, stream: TlsStream<Stream>) -> Result<Channel, DialError> {
        let address = self.address();
        let slot = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        // TLS is done already, so the endpoint must not do it again; the origin is what goes into the requests.
        let plain = format!("http://{address}");
        let endpoint = Endpoint::from_shared(plain).map_err(|error| wrong("controller", error))?;
        let endpoint = endpoint
            .origin(self.origin.clone())
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(true);
        let channel = timeout(self.limit, endpoint.connect_with_connector(connector)).await;
        let channel = channel.map_err(|_| DialError::Late(address.clone(), self.limit))?;
        channel.map_err(|error| DialError::Http(address, error))
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The host that is dialled, without brackets, and the port.
    pub(crate) fn host_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The proxy through which it is reached, if any.
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.way.proxy_for(&self.host)
    }

    /// The proxy that there would be, were the controller not exempt from it.
    pub(crate) fn unused_proxy(&self) -> Option<&Proxy> {
        self.way.proxy().filter(|_| self.proxy().is_none())
    }

    /// When a connection that is begun now must stand.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// A connection to the controller's port.
    pub(crate) async fn connect(&self, deadline: Instant) -> Result<Stream, DialError> {
        let way = self.way.connect(&self.host, self.port, deadline).await;
        way.map_err(|error| match error {
            WayError::Connect { is_proxy: false, to, source } => DialError::Tcp(to, source),
            WayError::Late { is_proxy: false, to, .. } => DialError::Late(to, self.limit),
            error => DialError::Way(error),
        })
    }

    /// The handshake with the controller.
    pub(crate) async fn shake(&self, stream: Stream, deadline: Instant) -> Result<TlsStream<Stream>, DialError> {
        let tls = timeout_at(deadline, self.tls.connect(self.name.clone(), stream)).await;
        let tls = tls.map_err(|_| DialError::Late(self.address(), self.limit))?;
        tls.map_err(|error| DialError::Tls(self.address(), tls_remedy(&error), error))
    }
}

fn config(join: &JoinFile) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(join.ca_pem.as_bytes()) {
        roots.add(ca.map_err(|error| wrong("ca_pem", error))?).map_err(|error| wrong("ca_pem", error))?;
    }
    if roots.is_empty() {
        return Err(DialError::Join("ca_pem", None));
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(join.cert_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong("cert_pem", error))?;
    // The error of a key says nothing of the key, and is left out all the same.
    let key = PrivateKeyDer::from_pem_slice(join.key_pem.expose().as_bytes());
    let key = key.map_err(|_| DialError::Join("key_pem", None))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| wrong("cert_pem", error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong("cert_pem", error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What a person does about a failed handshake.
fn tls_remedy(error: &io::Error) -> &'static str {
    use rustls::{CertificateError as C, Error as E};
    match error.get_ref().and_then(|error| error.downcast_ref::<E>()) {
        Some(E::InvalidCertificate(C::UnknownIssuer | C::BadSignature)) => {
            "another CA signed its certificate; make a new join file at the controller that is meant"
        }
        Some(E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => {
            "its certificate bears another name; make a new join file, or add the name to the controller's settings"
        }
        Some(E::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        )) => "its certificate is not valid today; compare the clocks of both machines, then restart the controller",
        Some(E::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "it does not offer HTTP/2; is it the controller's port, and is nothing in between that takes TLS apart?"
        }
        Some(E::AlertReceived(_)) => "it refuses this agent's certificate; make a new join file",
        _ => "the handshake failed; is it the controller's port, and is nothing in between that takes TLS apart?",
    }
}

/// Whether the peer has refused our certificate: with TLS 1.3 that is told only after the handshake.
pub(crate) fn certificate_refused(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let tls = error.downcast_ref::<rustls::Error>();
        let tls = tls.or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return matches!(
                alert,
                AlertDescription::BadCertificate
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::AccessDenied
                    | AlertDescription::DecryptError
                    | AlertDescription::CertificateRequired
            );
        }
        next = error.source();
    }
    false
}

fn wrong(what: &'static str, error: impl Error + Send + Sync + 'static) -> DialError {
    DialError::Join(what, Some(Box::new(error)))
}
