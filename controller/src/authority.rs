//! The controller's own CA: makes itself, and signs for server, operators and agents. ECDSA P-256, with an end.
//!
//! A certificate says in its serial number when it was issued, to the microsecond: so one moment that is stored tells
//! which certificates of a name still count, and no list of them is needed.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gantry_proto::{Secret, token::sha256_hex};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    files::{self, FileError},
    peer::Peer,
};

/// Clocks differ in the field: certificates hold from a little before now.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest certificate request that is read, bytes.
pub const REQUEST_MAX: usize = 16 << 10;

/// A certificate or a key that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The library refused.
    #[error("{what}")]
    Certificate {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: rcgen::Error,
    },
}

/// The CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

/// A certificate request of somebody else: only its key is taken, and that its sender has the private one is proved.
pub struct KeyRequest(CertificateSigningRequestParams);

/// A certificate for a key that is somewhere else.
pub struct Signed {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why a certificate request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too long.
    #[error("the certificate request is longer than {REQUEST_MAX} bytes")]
    Long,
    /// Not one, or its signature is wrong.
    #[error("the certificate request cannot be read, or is not signed by its own key")]
    Unreadable,
    /// Another kind of key.
    #[error("the certificate request has a key of another kind than ECDSA P-256")]
    Kind,
}

impl KeyRequest {
    /// Reads PKCS#10, DER.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > REQUEST_MAX {
            return Err(RequestError::Long);
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        let request = request.map_err(|_| RequestError::Unreadable)?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::Kind);
        }
        Ok(Self(request))
    }

    /// SHA-256 of the key (SubjectPublicKeyInfo, DER), hexadecimal.
    pub fn key_sha256(&self) -> String {
        sha256_hex(&self.0.public_key.subject_public_key_info())
    }
}

/// A certificate with its private key.
pub struct Issued {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// Its key, PKCS#8 PEM.
    pub key_pem: Secret,
}

impl Authority {
    /// Takes up the CA in `dir`, or makes it there. Says whether it was made.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is no key or certificate.
    pub fn open(dir: &Path, days: u32) -> Result<(Self, bool), AuthorityError> {
        let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let made = !dir.exists();
        if made {
            make(dir, days)?;
        }
        let pem = files::read(&cert)?;
        let key_pem = Secret::new(files::read(&key)?);
        let pair = KeyPair::from_pem(key_pem.expose()).map_err(failed("reading the CA's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(failed("reading the CA's certificate"))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map(|der| der.to_vec());
        let der = der.map_err(|_| failed("reading the CA's certificate")(rcgen::Error::CouldNotParseCertificate))?;
        Ok((Self { issuer, pem, der }, made))
    }

    /// SHA-256 of the CA's certificate, hexadecimal: what a join token carries.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.der)
    }

    /// Whether this CA has signed the certificate, whenever that ends.
    pub fn has_signed(&self, certificate: &X509Certificate<'_>) -> bool {
        let Ok((_, ca)) = X509Certificate::from_der(&self.der) else { return false };
        certificate.issuer().as_raw() == ca.subject().as_raw()
            && certificate.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// A certificate for an operator or an agent, for a key that is not here.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn sign(&self, peer: &Peer, request: KeyRequest, life: Duration) -> Result<Signed, AuthorityError> {
        let wrong = || failed("signing a certificate");
        let KeyRequest(mut request) = request;
        request.params = peer_params(peer, life).map_err(wrong())?;
        let expires = Timestamp::try_from(SystemTime::from(request.params.not_after));
        let expires = expires.map_err(|_| wrong()(rcgen::Error::Time))?;
        let certificate = request.signed_by(&self.issuer).map_err(wrong())?;
        Ok(Signed { cert_pem: certificate.pem(), expires })
    }

    /// The CA's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for an operator or an agent.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn issue_peer(&self, peer: &Peer, days: u32) -> Result<Issued, AuthorityError> {
        let wrong = failed("making a certificate");
        self.issue(peer_params(peer, DAY * days).map_err(wrong)?)
    }

    /// The server's certificate for these host names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue_server(&self, names: &[String], days: u32) -> Result<Issued, AuthorityError> {
        let mut sans = Vec::new();
        for name in names {
            sans.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    let wrong = failed(format!("\"{name}\" cannot be a host name in a certificate"));
                    SanType::DnsName(name.as_str().try_into().map_err(wrong)?)
                }
            });
        }
        let first = names.first().map_or("controller", String::as_str);
        let params = leaf_params(first, sans, ExtendedKeyUsagePurpose::ServerAuth, DAY * days);
        self.issue(params.map_err(failed("making a certificate"))?)
    }

    fn issue(&self, params: CertificateParams) -> Result<Issued, AuthorityError> {
        let wrong = || failed("making a certificate");
        let key = KeyPair::generate().map_err(wrong())?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(wrong())?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: Secret::new(key.serialize_pem()) })
    }
}

/// Makes key and certificate in a neighbouring directory and renames it: a crash leaves all or nothing.
fn make(dir: &Path, days: u32) -> Result<(), AuthorityError> {
    let wrong = || failed("making the CA");
    let key = KeyPair::generate().map_err(wrong())?;
    let mut params = params("Gantry CA", DAY * days).map_err(wrong())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(wrong())?;

    let mut part = dir.as_os_str().to_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    if part.exists() {
        let gone = fs::remove_dir_all(&part);
        gone.map_err(|source| FileError { what: "removing", path: part.clone(), source })?;
    }
    files::private_dir(&part)?;
    files::write_new(&part.join("ca.key"), Secret::new(key.serialize_pem()).expose().as_bytes(), files::PRIVATE)?;
    files::write_new(&part.join("ca.pem"), certificate.pem().as_bytes(), files::PUBLIC)?;
    fs::rename(&part, dir).map_err(|source| FileError { what: "making", path: dir.to_owned(), source })?;
    Ok(())
}

fn peer_params(peer: &Peer, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let uri = peer.uri();
    let name = uri.rsplit('/').next().unwrap_or_default().to_owned();
    leaf_params(&name, vec![SanType::URI(uri.try_into()?)], ExtendedKeyUsagePurpose::ClientAuth, life)
}

fn leaf_params(
    name: &str,
    sans: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, life)?;
    params.subject_alt_names = sans;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(serial(Timestamp::now())));
    Ok(params)
}

/// A serial number: the moment in microseconds since 1970 and 62 random bits, 16 bytes.
fn serial(at: Timestamp) -> Vec<u8> {
    let micros = u64::try_from(at.as_microsecond()).unwrap_or(0);
    let random = Uuid::now_v7().as_u64_pair().1;
    [micros.to_be_bytes(), random.to_be_bytes()].concat()
}

/// When a certificate with this serial number was issued; the beginning of time for one that does not say so.
pub fn issued_at(serial: &[u8]) -> Timestamp {
    let serial = &serial[serial.iter().take_while(|byte| **byte == 0).count()..];
    if serial.len() > 16 {
        return Timestamp::UNIX_EPOCH;
    }
    let number = serial.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let micros = i64::try_from(number >> 64).unwrap_or(0);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn params(name: &str, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::OrganizationName, "Gantry");
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
    Ok(params)
}

fn failed(what: impl Into<String>) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    let what = what.into();
    move |source| AuthorityError::Certificate { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_tells_when() {
        let now = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
        assert_eq!(issued_at(&serial(now)), now);
        let read = serial(now);
        assert_eq!(issued_at(&read[1..]), now, "DER leaves leading zeros out");
        for other in [&[0xff; 20][..], &[], &[1]] {
            assert_eq!(issued_at(other), Timestamp::UNIX_EPOCH);
        }
    }

    #[test]
    fn a_request_must_prove_a_key_of_the_right_kind() {
        let request = |key: &KeyPair| CertificateParams::default().serialize_request(key).unwrap().der().to_vec();
        let good = request(&KeyPair::generate().unwrap());
        assert_eq!(KeyRequest::read(&good).unwrap().key_sha256().len(), 64);
        let mut spoilt = good.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        assert_eq!(KeyRequest::read(&spoilt).err(), Some(RequestError::Unreadable));
        assert_eq!(KeyRequest::read(b"nothing").err(), Some(RequestError::Unreadable));
        assert_eq!(KeyRequest::read(&vec![0; REQUEST_MAX + 1]).err(), Some(RequestError::Long));
        let other = request(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
        assert_eq!(KeyRequest::read(&other).err(), Some(RequestError::Kind));
    }
}
