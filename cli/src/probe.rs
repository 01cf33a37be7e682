//! Asks TLS itself why a connection dies: a controller that does not accept our certificate says so in an alert, which
//! gets lost on its way through HTTP/2. Sends nothing but the handshake.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::profile::Endpoint;

/// How long it may take in all; without an answer nothing is known.
const LIMIT: Duration = Duration::from_secs(5);

/// A way to ask.
#[derive(Clone)]
pub(crate) struct Probe {
    connector: TlsConnector,
    name: ServerName<'static>,
    address: String,
}

impl Probe {
    /// [`None`] when the endpoint's files or names cannot be used; then the connection itself says so.
    pub(crate) fn new(endpoint: &Endpoint) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(endpoint.ca.as_bytes()) {
            roots.add(cert.ok()?).ok()?;
        }
        let chain = CertificateDer::pem_slice_iter(endpoint.cert.as_bytes()).collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(endpoint.key.expose().as_bytes()).ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        let mut config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).ok()?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Some(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: ServerName::try_from(endpoint.server_name.clone()).ok()?,
            address: endpoint.url.strip_prefix("https://")?.to_owned(),
        })
    }

    /// The error that TLS ends with, if it ends with one.
    pub(crate) async fn error(&self) -> Option<io::Error> {
        timeout(LIMIT, async {
            let tcp = TcpStream::connect(&self.address).await.ok()?;
            let mut tls = match self.connector.connect(self.name.clone(), tcp).await {
                Ok(tls) => tls,
                Err(error) => return Some(error),
            };
            // With TLS 1.3 the handshake is over for us before the controller has looked at our certificate. One that
            // accepts it begins to speak HTTP/2.
            tls.read(&mut [0; 1]).await.err()
        })
        .await
        .ok()?
    }
}
