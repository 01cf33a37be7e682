//! Dials the controller: a [`Way`] to its port, then TLS 1.3 with the agent's certificate against the controller's own CA and no other.
//! Knows no message of the link.

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gantry_proto::{JoinFile, JoinToken, token::sha256_hex};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme, WantsVerifier,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
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
    #[error(
        "the join file's {0} cannot be used: make a token with `ctl agent token`, then run `agent join TOKEN --again`"
    )]
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
    /// The controller of an identity, to which its certificate is shown. Reads address, names and keys; opens no
    /// connection.
    ///
    /// # Errors
    /// [`DialError::Join`].
    pub fn new(join: &JoinFile, settings: &Link) -> Result<Self, DialError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(join.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("cert_pem", error))?;
        // The error of a key says nothing of the key, and is left out all the same.
        let key = PrivateKeyDer::from_pem_slice(join.key_pem.expose().as_bytes());
        let key = key.map_err(|_| DialError::Join("key_pem", None))?;
        let config = tls13()?.with_root_certificates(roots(&join.ca_pem)?).with_client_auth_cert(chain, key);
        let config = config.map_err(|error| wrong("cert_pem", error))?;
        Self::with(&join.controller, &join.server_name, config, settings)
    }

    /// The same controller, to which no certificate is shown.
    ///
    /// # Errors
    /// [`DialError::Join`].
    pub fn nameless(join: &JoinFile, settings: &Link) -> Result<Self, DialError> {
        let config = tls13()?.with_root_certificates(roots(&join.ca_pem)?).with_no_client_auth();
        Self::with(&join.controller, &join.server_name, config, settings)
    }

    /// The controller of a token, which is known by the fingerprint of its CA.
    ///
    /// # Errors
    /// [`DialError::Join`].
    pub fn by_fingerprint(token: &JoinToken, settings: &Link) -> Result<Self, DialError> {
        let verifier = ByFingerprint { ca_sha256: token.ca_sha256.clone(), provider: provider() };
        let config = tls13()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        Self::with(&token.controller, &token.server_name, config, settings)
    }

    fn with(controller: &str, server_name: &str, mut tls: ClientConfig, settings: &Link) -> Result<Self, DialError> {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let origin: Uri = controller.parse().map_err(|error| wrong("controller", error))?;
        let https = origin.scheme_str() == Some("https");
        let host = origin.host().filter(|_| https).ok_or(DialError::Join("controller", None))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(server_name.to_owned()).map_err(|error| wrong("server_name", error))?;
        Ok(Self {
            host,
            port: origin.port_u16().unwrap_or(443),
            way: Way::new(&settings.proxy).map_err(DialError::Way)?,
            origin: origin.clone(),
            name,
            tls: TlsConnector::from(Arc::new(tls)),
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls13() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, DialError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    builder.map_err(|error| wrong("ca_pem", error))
}

fn roots(ca_pem: &str) -> Result<RootCertStore, DialError> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(ca.map_err(|error| wrong("ca_pem", error))?).map_err(|error| wrong("ca_pem", error))?;
    }
    if roots.is_empty() { Err(DialError::Join("ca_pem", None)) } else { Ok(roots) }
}

/// Takes the CA that the server sends along for the only root, if it has the fingerprint, and then looks at the server as
/// everybody else does.
#[derive(Debug)]
struct ByFingerprint {
    ca_sha256: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|ca| sha256_hex(ca) == self.ca_sha256);
        let ca = ca.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a person does about a failed handshake.
fn tls_remedy(error: &io::Error) -> &'static str {
    use rustls::{CertificateError as C, Error as E};
    match error.get_ref().and_then(|error| error.downcast_ref::<E>()) {
        Some(E::InvalidCertificate(C::UnknownIssuer | C::BadSignature)) => {
            "another CA signed its certificate: somebody else answers there, or the controller was made anew; make a token at \
             the controller that is meant, then run `agent join TOKEN --again`"
        }
        Some(E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => {
            "its certificate bears another name; add the name to the controller's settings"
        }
        Some(E::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        )) => "its certificate is not valid today; compare the clocks of both machines, then restart the controller",
        Some(E::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "it does not offer HTTP/2; is it the controller's port, and is nothing in between that takes TLS apart?"
        }
        Some(E::AlertReceived(_)) => {
            "it refuses this agent's certificate; make a token, then run `agent join TOKEN --again`"
        }
        _ => "the handshake failed; is it the controller's port, and is nothing in between that takes TLS apart?",
    }
}

/// Whether the peer takes our certificate for expired.
pub(crate) fn certificate_expired(error: &(dyn Error + 'static)) -> bool {
    alert(error) == Some(AlertDescription::CertificateExpired)
}

/// Whether the peer has refused our certificate: with TLS 1.3 that is told only after the handshake.
pub(crate) fn certificate_refused(error: &(dyn Error + 'static)) -> bool {
    alert(error).is_some_and(|alert| ALERTS.contains(&alert))
}

/// The alert that the peer has sent. HTTP/2 keeps only the text of what broke its connection, so that is looked at too.
fn alert(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    let mut next = Some(error);
    while let Some(error) = next {
        let tls = error.downcast_ref::<rustls::Error>();
        let tls = tls.or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Some(*alert);
        }
        let text = error.to_string();
        let told = ALERTS.iter().find(|alert| text.ends_with(&rustls::Error::AlertReceived(**alert).to_string()));
        if let Some(alert) = told {
            return Some(*alert);
        }
        next = error.source();
    }
    None
}

/// What a peer may have against a certificate.
const ALERTS: [AlertDescription; 9] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
    AlertDescription::CertificateRequired,
];

fn wrong(what: &'static str, error: impl Error + Send + Sync + 'static) -> DialError {
    DialError::Join(what, Some(Box::new(error)))
}
