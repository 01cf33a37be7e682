//! Self-signed server certificates, replaceable while serving.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::ServerConfig;

/// A server's key and self-signed certificate.
#[derive(Debug)]
pub struct Identity {
    common_name: String,
    addresses: Vec<IpAddr>,
    current: RwLock<(Arc<ServerConfig>, Vec<u8>)>,
}

impl Identity {
    /// A new key; the certificate names `common_name` and, as alternative names, `addresses` (none = the hardest on
    /// clients).
    ///
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn self_signed(common_name: &str, addresses: &[IpAddr]) -> anyhow::Result<Self> {
        let current = RwLock::new(make(common_name, addresses)?);
        Ok(Self { common_name: common_name.into(), addresses: addresses.to_vec(), current })
    }

    /// Makes another key and certificate; connections that are open stay as they are.
    ///
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let fresh = make(&self.common_name, &self.addresses)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The configuration for the next handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

fn make(common_name: &str, addresses: &[IpAddr]) -> anyhow::Result<(Arc<ServerConfig>, Vec<u8>)> {
    let key = KeyPair::generate().context("making a key")?;
    let mut params = CertificateParams::new(Vec::new()).context("describing a certificate")?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
    let certificate = params.self_signed(&key).context("signing a certificate")?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .context("using the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), certificate.der().to_vec()))
}
