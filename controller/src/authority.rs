//! The controller's own CA: makes itself, and signs for server, operators and agents. ECDSA P-256, with an end.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gantry_proto::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::{
    files::{self, FileError},
    peer::Peer,
};

/// Clocks differ in the field: certificates hold from a little before now.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 3600);

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
        Ok((Self { issuer, pem }, made))
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
        let uri = peer.uri();
        let name = uri.rsplit('/').next().unwrap_or_default().to_owned();
        let wrong = failed("making a certificate");
        let uri = uri.try_into().map_err(wrong)?;
        self.issue(&name, vec![SanType::URI(uri)], ExtendedKeyUsagePurpose::ClientAuth, days)
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
        self.issue(first, sans, ExtendedKeyUsagePurpose::ServerAuth, days)
    }

    fn issue(
        &self,
        name: &str,
        sans: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        days: u32,
    ) -> Result<Issued, AuthorityError> {
        let wrong = || failed("making a certificate");
        let key = KeyPair::generate().map_err(wrong())?;
        let mut params = params(name, days).map_err(wrong())?;
        params.subject_alt_names = sans;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(wrong())?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: Secret::new(key.serialize_pem()) })
    }
}

/// Makes key and certificate in a neighbouring directory and renames it: a crash leaves all or nothing.
fn make(dir: &Path, days: u32) -> Result<(), AuthorityError> {
    let wrong = || failed("making the CA");
    let key = KeyPair::generate().map_err(wrong())?;
    let mut params = params("Gantry CA", days).map_err(wrong())?;
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

fn params(name: &str, days: u32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::OrganizationName, "Gantry");
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

fn failed(what: impl Into<String>) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    let what = what.into();
    move |source| AuthorityError::Certificate { what, source }
}
