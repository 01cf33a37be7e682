//! One proxy: where it is, as whom it is asked, and the connection through it. Never shows a password.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_proto::Secret;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{fs::File, io::AsyncReadExt as _, task::spawn_blocking, time::Instant, time::timeout_at};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use zeroize::Zeroizing;

use super::{Hop, Stream, WayError, authority, tcp, tunnel};
use crate::config;

/// The longest password file that is read, bytes.
const PASSWORD_MAX: u64 = 4 << 10;
/// The largest file of CAs that is read, bytes; a system's own bundle has about 230 KB.
const CA_MAX: u64 = 4 << 20;

/// Who has named the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `link.proxy.url`.
    Settings,
    /// This variable.
    Environment(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "link.proxy.url",
            Self::Environment(name) => name,
        })
    }
}

/// A proxy's URL, taken apart.
#[derive(Clone, Debug)]
pub struct Address {
    /// Whether the proxy itself is spoken to in TLS.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

impl Address {
    /// Takes `[http[s]://][user[:password]@]host[:port]` apart; what is wrong is said without quoting any of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "it must be http://[user@]host:port or https://[user@]host:port";
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = url.parse().map_err(|_| FORM)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("only http:// and https:// proxies are spoken to"),
        };
        let authority = uri.authority().ok_or(FORM)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.host().is_empty() {
            return Err(FORM);
        }
        let whole = authority.as_str();
        let after_host = whole.rsplit_once('@').map_or(whole, |(_, rest)| rest).strip_prefix(authority.host());
        if authority.port_u16().is_none() && after_host != Some("") {
            return Err("its port must be a number up to 65535");
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map_err(|_| "user and password must be UTF-8")?;
            let odd = text.chars().any(char::is_control);
            if odd { Err("user and password must not hold control characters") } else { Ok(text.into_owned()) }
        };
        let (user, password) = match whole.rsplit_once('@').map(|(who, _)| who) {
            None | Some("") => (None, None),
            Some(who) => match who.split_once(':') {
                None => (Some(decoded(who)?), None),
                Some((user, password)) => (Some(decoded(user)?), Some(Secret::new(decoded(password)?))),
            },
        };
        if user.as_ref().is_some_and(|user| user.is_empty() || user.contains(':')) {
            return Err("its user must not be empty and must not hold a colon");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, user, password })
    }
}

/// An HTTP proxy. `Display` shows `http://host:port`.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: Address,
    source: Source,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    answer_bytes: usize,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.address.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", authority(&self.address.host, self.address.port))
    }
}

impl Proxy {
    pub(super) fn new(address: Address, source: Source, settings: &config::Proxy) -> Self {
        Self {
            address,
            source,
            password_file: settings.password_file.clone(),
            ca_file: settings.ca_file.clone(),
            answer_bytes: settings.answer_bytes,
        }
    }

    /// Who has named it.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Its host, without brackets, and its port.
    pub fn host_port(&self) -> (&str, u16) {
        (&self.address.host, self.address.port)
    }

    /// As whom it is asked.
    pub fn user(&self) -> Option<&str> {
        self.address.user.as_deref()
    }

    /// A connection to `target` through it. Files are read anew each time, so that a new password needs no restart.
    pub(super) async fn connect(&self, target: &str, deadline: Instant) -> Result<Stream, WayError> {
        let to = format!("the proxy {self}");
        let (authorization, tls) = (self.authorization().await?, self.tls().await?);
        let tcp = tcp(&self.address.host, self.address.port, &Hop { to, is_proxy: true }, deadline).await?;
        let late = |stage| WayError::Late { stage, to: format!("the proxy {self}"), is_proxy: true };
        let Some(tls) = tls else {
            let asked = tunnel::open(tcp, self, target, authorization, self.answer_bytes);
            return timeout_at(deadline, asked).await.map_err(|_| late("CONNECT"))?.map(Either::Left);
        };
        let name = ServerName::try_from(self.address.host.clone()).map_err(|_| WayError::Url {
            named_by: self.source,
            why: "its host is not a name that a certificate bears",
        })?;
        let shaken = timeout_at(deadline, tls.connect(name, tcp)).await.map_err(|_| late("the TLS handshake"))?;
        let stream: TlsStream<_> = shaken.map_err(|source| WayError::Tls { proxy: self.to_string(), source })?;
        let asked = tunnel::open(stream, self, target, authorization, self.answer_bytes);
        let stream = timeout_at(deadline, asked).await.map_err(|_| late("CONNECT"))??;
        Ok(Either::Right(Box::new(stream)))
    }

    /// The value of `Proxy-Authorization`; none without a user.
    async fn authorization(&self) -> Result<Option<HeaderValue>, WayError> {
        let Some(user) = &self.address.user else { return Ok(None) };
        let mut plain = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX as usize));
        plain.extend_from_slice(user.as_bytes());
        plain.push(b':');
        match (&self.address.password, &self.password_file) {
            (Some(password), _) => plain.extend_from_slice(password.expose().as_bytes()),
            (None, Some(file)) => plain.extend_from_slice(&password(file).await?),
            (None, None) => {}
        }
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&plain)));
        // Base64 is always a header's value; were it not, nothing of it may be in the message.
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| WayError::Url { named_by: self.source, why: "its user cannot be sent" })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// How its certificate is checked; none for a proxy that is spoken to in clear.
    async fn tls(&self) -> Result<Option<TlsConnector>, WayError> {
        if !self.address.tls {
            return Ok(None);
        }
        let roots = match &self.ca_file {
            Some(file) => given_roots(file).await?,
            None => system_roots().await?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| WayError::Tls { proxy: self.to_string(), source: io::Error::other(error) })?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(TlsConnector::from(Arc::new(config))))
    }
}

/// The first line of the file.
async fn password(path: &Path) -> Result<Zeroizing<Vec<u8>>, WayError> {
    let failed = |source| WayError::File { what: "the proxy's password", path: path.display().to_string(), source };
    let file = File::open(path).await.map_err(failed)?;
    let mode = file.metadata().await.map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(WayError::Open { path: path.display().to_string(), mode });
    }
    // As long as it may get, so that no piece of it is left behind where it grew.
    let mut text = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX as usize + 1));
    file.take(PASSWORD_MAX + 1).read_to_end(&mut text).await.map_err(failed)?;
    if text.len() as u64 > PASSWORD_MAX {
        return Err(failed(io::Error::other("it is longer than 4 KiB")));
    }
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
    text.truncate(end);
    if text.is_empty() {
        return Err(failed(io::Error::other("it is empty")));
    }
    Ok(text)
}

async fn given_roots(path: &Path) -> Result<RootCertStore, WayError> {
    let failed = |source| WayError::File { what: "the CA of the proxy", path: path.display().to_string(), source };
    let mut text = Vec::new();
    let file = File::open(path).await.map_err(failed)?;
    file.take(CA_MAX + 1).read_to_end(&mut text).await.map_err(failed)?;
    if text.len() as u64 > CA_MAX {
        return Err(failed(io::Error::other("it is longer than 4 MiB")));
    }
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(&text) {
        let ca = ca.map_err(|error| failed(io::Error::other(error)))?;
        roots.add(ca).map_err(|error| failed(io::Error::other(error)))?;
    }
    if roots.is_empty() {
        return Err(failed(io::Error::other("there is no certificate in it")));
    }
    Ok(roots)
}

async fn system_roots() -> Result<RootCertStore, WayError> {
    let none = |why: String| WayError::File {
        what: "the CAs of the proxy",
        path: "in the system's own store".to_owned(),
        source: io::Error::other(why),
    };
    let found =
        spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(|error| none(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    // Some of a system's CAs are too old for the library; the others serve.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 { Err(none("there is no usable certificate".to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let parsed = |text: &str| {
            let a = Address::parse(text).unwrap();
            (a.tls, a.host, a.port, a.user, a.password.map(|password| password.expose().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parsed("http://p:3128"), (false, "p".into(), 3128, None, None));
        assert_eq!(parsed("https://p/"), (true, "p".into(), 443, None, None));
        assert_eq!(parsed("p"), (false, "p".into(), 80, None, None));
        assert_eq!(parsed("http://[::1]:8080"), (false, "::1".into(), 8080, None, None));
        assert_eq!(parsed("https://u@p:1"), (true, "p".into(), 1, some("u"), None));
        assert_eq!(parsed("http://u%40x:a%3Ab%25@p:1"), (false, "p".into(), 1, some("u@x"), some("a:b%")));
    }

    #[test]
    fn what_is_no_address_is_said_without_quoting_it() {
        for text in [
            "",
            "http://",
            "http://p:1/path",
            "http://p:1?q",
            "socks5://p:1",
            "http://p:99999",
            "http://p:",
            "http://:pw@p:1",
            "http://a%3Ab@p:1",
            "http://a%0A@p:1",
            "http://u:canary canary@p:1",
        ] {
            let why = Address::parse(text).expect_err(text);
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn neither_debug_nor_display_shows_the_password() {
        let address = Address::parse("http://u:canary@p:1").unwrap();
        let proxy = Proxy::new(address, Source::Settings, &config::Proxy::default());
        assert!(!format!("{proxy:?}{proxy}").contains("canary"));
        assert_eq!(proxy.to_string(), "http://p:1");
    }

    #[tokio::test]
    async fn a_password_file_that_cannot_be_used_is_said() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        assert!(matches!(password(&path).await, Err(WayError::File { .. })), "missing");
        let write = |text: &[u8], mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(b"canary", 0o640);
        let open = password(&path).await.unwrap_err();
        assert!(open.remedy().contains("chmod 600") && matches!(open, WayError::Open { mode: 0o640, .. }));
        for text in [&b""[..], b"\n", &[b'x'; 5_000]] {
            write(text, 0o600);
            assert!(matches!(password(&path).await, Err(WayError::File { .. })));
        }
        write(b"s3cret: \xc3\xa4\r\nnot this\n", 0o600);
        assert_eq!(**password(&path).await.unwrap(), b"s3cret: \xc3\xa4"[..]);
    }

    #[tokio::test]
    async fn a_ca_file_that_cannot_be_used_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(matches!(given_roots(&path).await, Err(WayError::File { .. })), "missing");
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(given_roots(&path).await, Err(WayError::File { .. })), "{text}");
        }
    }
}
