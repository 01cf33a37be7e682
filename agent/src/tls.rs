//! Certificates of servers that sign their own: which one is taken, which one was seen (C14). Shared by the clients of
//! Fisheye and CloudTower; knows neither.
//!
//! Host names and dates are not looked at, the fingerprint alone counts; the handshake's signature always does.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::CertificatePolicy;

/// Addresses whose certificate is remembered, at most: a cluster has 16 hosts and a VIP.
const MOST_ADDRESSES: usize = 64;

/// The certificates of one server, or of the hosts of one cluster, by address. Fingerprints are the SHA-256 of the
/// certificate, 64 lower-case hexadecimal digits.
#[derive(Debug)]
pub struct Pins {
    policy: CertificatePolicy,
    /// The settings' fingerprints, for [`CertificatePolicy::Pinned`].
    given: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: BTreeMap<String, String>,
    refused: Option<Refused>,
}

/// A certificate that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} shows the certificate {offered}, expected is {expected}")]
pub struct Refused {
    /// Who showed it.
    pub address: String,
    /// What it showed.
    pub offered: String,
    /// What would have been taken.
    pub expected: String,
}

/// A TLS handshake that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum SightError {
    /// No connection.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// Connected, but no handshake.
    #[error("no TLS handshake")]
    Handshake(#[source] std::io::Error),
    /// The certificate is not the one expected.
    #[error("another certificate than expected")]
    Refused(#[source] Refused),
    /// Nothing happened in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The address is no host name.
    #[error("not a valid address")]
    Address,
}

impl Pins {
    /// `given`: the settings' fingerprint for [`CertificatePolicy::Pinned`], with or without colons; several are
    /// separated by commas or blanks (the hosts of a cluster may each have a certificate of their own).
    pub fn new(policy: CertificatePolicy, given: Option<&str>) -> Arc<Self> {
        let given = given.unwrap_or_default().split([',', ' ']).map(plain).filter(|f| !f.is_empty()).collect();
        Arc::new(Self { policy, given, state: Mutex::default() })
    }

    /// What is being enforced.
    pub fn policy(&self) -> CertificatePolicy {
        self.policy
    }

    /// Takes over what the job has recorded before: from now on `address` must show this certificate.
    pub fn trust(&self, address: &str, fingerprint: &str) {
        let mut state = self.lock();
        if state.seen.len() < MOST_ADDRESSES {
            state.seen.insert(address.to_owned(), plain(fingerprint));
        }
    }

    /// Forgets the certificate of `address`, so that the next one counts as first seen (W3, before the root user).
    pub fn forget(&self, address: &str) {
        self.lock().seen.remove(address);
    }

    /// The certificate that `address` showed first.
    pub fn fingerprint(&self, address: &str) -> Option<String> {
        self.lock().seen.get(address).cloned()
    }

    /// Every certificate seen first, by address, to be recorded in the job.
    pub fn seen(&self) -> BTreeMap<String, String> {
        self.lock().seen.clone()
    }

    /// The certificate that was refused last; asked once after a connection failed. reqwest buries the reason.
    pub fn take_refusal(&self) -> Option<Refused> {
        self.lock().refused.take()
    }

    /// Whether `address` may show the certificate; records it at first sight. Under first sight an address may also
    /// show the certificate of another address that is pinned already: a VIP moves between the hosts of its cluster.
    fn judge(&self, address: &str, offered: String) -> bool {
        let mut state = self.lock();
        let expected = match self.policy {
            CertificatePolicy::AcceptAny => return true,
            CertificatePolicy::Pinned if self.given.contains(&offered) => return true,
            CertificatePolicy::Pinned => self.given.join(" or "),
            CertificatePolicy::FirstSight => match state.seen.get(address).cloned() {
                Some(pinned) if pinned == offered || state.seen.values().any(|other| *other == offered) => return true,
                Some(pinned) => pinned,
                None if state.seen.len() < MOST_ADDRESSES => {
                    state.seen.insert(address.to_owned(), offered);
                    return true;
                }
                None => "none (too many addresses)".to_owned(),
            },
        };
        state.refused = Some(Refused { address: address.to_owned(), offered, expected });
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client configuration that asks `pins` about each certificate. Without session resumption, so that it is asked at
/// every connection; without ALPN, so HTTP/1.1.
pub fn client_config(pins: &Arc<Pins>) -> ClientConfig {
    config(pins, ring::default_provider())
}

/// The same for many bytes: the suites with AES-128 are offered first.
pub fn bulk_config(pins: &Arc<Pins>) -> ClientConfig {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    config(pins, provider)
}

fn config(pins: &Arc<Pins>, provider: CryptoProvider) -> ClientConfig {
    let provider = Arc::new(provider);
    let verifier = Arc::new(Verifier { pins: pins.clone(), provider: provider.clone() });
    #[expect(clippy::expect_used, reason = "ring's own suites cover the default versions; a test builds it")]
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// Connects, shakes hands and hangs up: a look at the certificate, without a request.
pub async fn sight(pins: &Arc<Pins>, address: &str, port: u16, within: Duration) -> Result<(), SightError> {
    let name = ServerName::try_from(address.to_owned()).map_err(|_| SightError::Address)?;
    let look = async {
        let tcp = TcpStream::connect((address, port)).await.map_err(SightError::Connect)?;
        let shaken = TlsConnector::from(Arc::new(client_config(pins))).connect(name, tcp).await;
        shaken.map(drop).map_err(|error| match pins.take_refusal() {
            Some(refused) => SightError::Refused(refused),
            None => SightError::Handshake(error),
        })
    };
    tokio::time::timeout(within, look).await.unwrap_or(Err(SightError::TimedOut(within)))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A fingerprint in our own notation, whichever it came in.
fn plain(fingerprint: &str) -> String {
    fingerprint.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase()
}

#[derive(Debug)]
struct Verifier {
    pins: Arc<Pins>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.judge(&name.to_str(), hex(&Sha256::digest(leaf.as_ref()))) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_certificate_is_recorded_and_another_one_refused() {
        let pins = Pins::new(CertificatePolicy::FirstSight, None);
        assert!(pins.judge("192.0.2.10", "aa".into()));
        assert!(pins.judge("192.0.2.10", "aa".into()));
        assert!(!pins.judge("192.0.2.10", "bb".into()));
        let refused = pins.take_refusal().unwrap();
        assert_eq!((refused.offered.as_str(), refused.expected.as_str()), ("bb", "aa"));
        assert_eq!(pins.take_refusal(), None);
        assert_eq!(pins.fingerprint("192.0.2.10").as_deref(), Some("aa"));
    }

    #[test]
    fn a_recorded_certificate_is_enforced_after_a_restart() {
        let pins = Pins::new(CertificatePolicy::FirstSight, None);
        pins.trust("192.0.2.10", "AA:BB");
        assert!(!pins.judge("192.0.2.10", "cc".into()));
        assert!(pins.judge("192.0.2.10", "aabb".into()));
        pins.forget("192.0.2.10");
        assert!(pins.judge("192.0.2.10", "cc".into()));
    }

    #[test]
    fn a_vip_may_move_to_a_host_that_is_known() {
        let pins = Pins::new(CertificatePolicy::FirstSight, None);
        for (address, fingerprint) in [("vip", "aa"), ("node1", "aa"), ("node2", "bb")] {
            assert!(pins.judge(address, fingerprint.into()));
        }
        assert!(pins.judge("vip", "bb".into()));
        assert!(!pins.judge("vip", "cc".into()));
        assert_eq!(pins.fingerprint("vip").as_deref(), Some("aa"));
    }

    #[test]
    fn pinned_takes_the_given_ones_only_and_accept_any_takes_all() {
        let pins = Pins::new(CertificatePolicy::Pinned, Some("AA:01, bb02"));
        assert!(pins.judge("x", "aa01".into()) && pins.judge("x", "bb02".into()));
        assert!(!pins.judge("x", "cc".into()));
        assert!(!Pins::new(CertificatePolicy::Pinned, None).judge("x", "aa".into()));
        assert!(Pins::new(CertificatePolicy::AcceptAny, None).judge("x", "aa".into()));
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded() {
        let pins = Pins::new(CertificatePolicy::FirstSight, None);
        for n in 0..MOST_ADDRESSES {
            assert!(pins.judge(&n.to_string(), n.to_string()));
        }
        assert!(!pins.judge("one more", "new".into()));
    }

    #[test]
    fn the_cheaper_cipher_is_offered_first_for_many_bytes_and_none_is_left_out() {
        let pins = Pins::new(CertificatePolicy::FirstSight, None);
        let suites = |config: &ClientConfig| -> Vec<_> {
            config.crypto_provider().cipher_suites.iter().map(|suite| suite.suite()).collect()
        };
        let (bulk, usual) = (suites(&bulk_config(&pins)), suites(&client_config(&pins)));
        assert_eq!(bulk[0], rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert!(bulk.len() == usual.len() && usual.iter().all(|suite| bulk.contains(suite)));
    }

    #[test]
    fn the_configuration_can_be_built() {
        assert!(client_config(&Pins::new(CertificatePolicy::FirstSight, None)).alpn_protocols.is_empty());
    }
}
