//! The certificate that the agent shows, and how it gets the next one: prepare (a key, to disk), then commit (the new
//! identity, to disk, in the place of the old one). A crash at any moment leaves an identity that works.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gantry_proto::{
    JoinFile, Secret,
    token::{return_text, sha256_hex},
    v1,
};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// The key of the certificate that is asked for, in the identity's directory.
pub(crate) const NEXT_KEY: &str = "next.key";
/// The longest certificate with its CA, PEM, bytes: what is written must be read again.
const PEM_MAX: usize = 16 << 10;
/// The largest key file that is read, bytes.
const KEY_MAX: u64 = 16 << 10;

/// The agent's certificate, its key, and what comes after them.
pub struct Credentials {
    file: PathBuf,
    next_key: PathBuf,
    current: RwLock<Arc<JoinFile>>,
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its beginning.
    pub begin: Timestamp,
    /// Its end.
    pub end: Timestamp,
}

/// A key that waits for its certificate.
pub struct Prepared {
    /// PKCS#10, DER.
    pub request_der: Vec<u8>,
    /// SHA-256 of the key (SubjectPublicKeyInfo, DER), hexadecimal.
    pub key_sha256: String,
}

/// Why a certificate is not taken, or a key not made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The disk says no.
    #[error("{what} {path} cannot be used: the agent must be able to write there")]
    Disk {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The library refused.
    #[error("{0}")]
    Library(&'static str, #[source] rcgen::Error),
    /// What came is not what was asked for.
    #[error("the controller's certificate is not taken: {0}")]
    Answer(&'static str),
}

impl Credentials {
    /// The identity in this file; `dir` is where keys wait.
    pub(crate) fn new(file: PathBuf, dir: &Path, join: JoinFile) -> Self {
        Self { file, next_key: dir.join(NEXT_KEY), current: RwLock::new(Arc::new(join)) }
    }

    /// The identity to show now.
    pub fn current(&self) -> Arc<JoinFile> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the current certificate holds; `None` when it cannot be read: then no link is made with it either.
    pub fn life(&self) -> Option<Life> {
        life(&self.current().cert_pem)
    }

    /// The key of the next certificate, on disk before anybody hears of it (blocking).
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn prepare(&self) -> Result<Prepared, CredentialError> {
        // One that has its certificate already is left over from a commit that was cut off at its last moment.
        let spent = |key: &KeyPair| *key.serialize_pem() == *self.current().key_pem.expose();
        let waiting = read_key(&self.next_key)?.filter(|key| !spent(key));
        let key = match waiting {
            Some(key) => key,
            None => new_key(&self.next_key)?,
        };
        prepared(&key)
    }

    /// Puts a certificate for the prepared key in the place of the current one (blocking).
    ///
    /// # Errors
    /// See [`CredentialError`]; the current one stays.
    pub fn commit(&self, cert_pem: &str) -> Result<Life, CredentialError> {
        let key = read_key(&self.next_key)?.ok_or(CredentialError::Answer("no key waits for it"))?;
        let current = self.current();
        check(cert_pem, &key, &current)?;
        let life = life(cert_pem).ok_or(CredentialError::Answer("it cannot be read"))?;
        let next = JoinFile {
            cert_pem: cert_pem.to_owned(),
            key_pem: Secret::new(key.serialize_pem()),
            ..JoinFile::clone(&current)
        };
        write_join(&self.file, &next)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        // Only now, and if it stays, `prepare` knows it for what it is.
        let _ = fs::remove_file(&self.next_key);
        Ok(life)
    }

    /// What the agent says to come back with the prepared key after the current certificate has expired.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn return_request(&self, prepared: &Prepared) -> Result<v1::ReturnRequest, CredentialError> {
        let current = self.current();
        let certificate_der = der(&current.cert_pem).ok_or(CredentialError::Answer("the old one cannot be read"))?;
        let ca = der(&current.ca_pem).ok_or(CredentialError::Answer("the CA's cannot be read"))?;
        let key = KeyPair::from_pem(current.key_pem.expose());
        let key = key.map_err(|error| CredentialError::Library("the old key cannot be read", error))?;
        let signed_micros = Timestamp::now().as_microsecond();
        let text = return_text(&sha256_hex(&ca), &certificate_der, &prepared.request_der, signed_micros);
        let signature = key.sign(&text).map_err(|error| CredentialError::Library("signing failed", error))?;
        Ok(v1::ReturnRequest { certificate_der, request_der: prepared.request_der.clone(), signed_micros, signature })
    }
}

impl Life {
    /// When the next certificate is asked for: after two thirds.
    pub fn renewal(&self) -> Timestamp {
        let whole = self.end.duration_since(self.begin);
        self.begin + whole * 2 / 3
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.end <= now
    }

    /// From its beginning to its end.
    pub fn length(&self) -> Duration {
        self.end.duration_since(self.begin).try_into().unwrap_or(Duration::ZERO)
    }
}

/// A key of this file, or a new one that is put there: one that the identity in `join` has already is not kept (blocking).
pub(crate) fn kept_key(path: &Path, join: &Path) -> Result<KeyPair, CredentialError> {
    let current = fs::read(join).map(Zeroizing::new).ok();
    let current = current.and_then(|text| serde_json::from_slice::<JoinFile>(&text).ok());
    let spent = |key: &KeyPair| current.as_ref().is_some_and(|join| *key.serialize_pem() == *join.key_pem.expose());
    match read_key(path)?.filter(|key| !spent(key)) {
        Some(key) => Ok(key),
        None => new_key(path),
    }
}

/// The request that goes with a key.
pub(crate) fn prepared(key: &KeyPair) -> Result<Prepared, CredentialError> {
    let request = CertificateParams::default().serialize_request(key);
    let request = request.map_err(|error| CredentialError::Library("a certificate request cannot be made", error))?;
    Ok(Prepared { request_der: request.der().to_vec(), key_sha256: sha256_hex(&key.subject_public_key_info()) })
}

/// Whether a certificate is for this key, of this identity, and signed by its CA.
pub(crate) fn check(cert_pem: &str, key: &KeyPair, join: &JoinFile) -> Result<(), CredentialError> {
    let wrong = CredentialError::Answer;
    if cert_pem.len() + join.ca_pem.len() > PEM_MAX {
        return Err(wrong("it is far too long"));
    }
    let (leaf, ca) = (der(cert_pem).ok_or(wrong("it cannot be read"))?, der(&join.ca_pem));
    let ca = ca.ok_or(wrong("the CA's cannot be read"))?;
    let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|_| wrong("it cannot be read"))?;
    let (_, ca) = X509Certificate::from_der(&ca).map_err(|_| wrong("the CA's cannot be read"))?;
    if leaf.public_key().raw != key.subject_public_key_info() {
        return Err(wrong("it is for another key"));
    }
    if leaf.verify_signature(Some(ca.public_key())).is_err() {
        return Err(wrong("another CA has signed it"));
    }
    let ours = format!("spiffe://gantry/site/{}/agent/{}", join.site, join.agent);
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
    if names != [GeneralName::URI(&ours)] {
        return Err(wrong("it bears another name"));
    }
    Ok(())
}

/// Writes an identity whole or not at all, also after a power cut (blocking).
pub(crate) fn write_join(path: &Path, join: &JoinFile) -> Result<(), CredentialError> {
    let failed = |source| disk("the join file", path, source);
    let text = serde_json::to_vec_pretty(join).map(Zeroizing::new).map_err(|error| failed(io::Error::other(error)))?;
    store(path, &text).map_err(failed)
}

/// All or nothing, for this user only, also after a power cut.
pub(crate) fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut next = path.as_os_str().to_os_string();
    next.push(".next");
    let next = PathBuf::from(next);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
    // What an earlier life has left keeps its own mode.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(dir)?.sync_all()
}

/// The one certificate of a PEM text.
pub(crate) fn der(pem: &str) -> Option<Vec<u8>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}

fn life(cert_pem: &str) -> Option<Life> {
    let der = der(cert_pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    let validity = certificate.validity();
    Some(Life { begin: at(validity.not_before)?, end: at(validity.not_after)? })
}

fn new_key(path: &Path) -> Result<KeyPair, CredentialError> {
    let key = KeyPair::generate().map_err(|error| CredentialError::Library("a key cannot be made", error))?;
    let text = Zeroizing::new(key.serialize_pem());
    store(path, text.as_bytes()).map_err(|source| disk("the key file", path, source))?;
    Ok(key)
}

/// `None`: there is none, or a damaged one, for which no certificate can have been made.
fn read_key(path: &Path) -> Result<Option<KeyPair>, CredentialError> {
    let failed = |source| disk("the key file", path, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may have read this key: it is not used, and a new one is made");
        return Ok(None);
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(KEY_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(std::str::from_utf8(&text).ok().and_then(|text| KeyPair::from_pem(text).ok()))
}

fn disk(what: &'static str, path: &Path, source: io::Error) -> CredentialError {
    CredentialError::Disk { what, path: path.display().to_string(), source }
}
