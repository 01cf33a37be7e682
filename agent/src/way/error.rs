//! Why there is no way, and what a person does about it. No message holds a password.

use std::io;

use super::Source;

/// Why there is no connection. `told` is the proxy's status and, where it has one, its own word for the reason.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The proxy's address is none.
    #[error("the proxy that {named_by} names cannot be used: {why}")]
    Url {
        /// Who has named it.
        named_by: Source,
        /// What it must be.
        why: &'static str,
    },
    /// A file of ours cannot be read.
    #[error("{what} {path} cannot be read")]
    File {
        /// What it holds.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the password.
    #[error("the proxy's password {path} may be read by others (mode {mode:03o})")]
    Open {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The controller's address cannot be asked for.
    #[error("no proxy can be asked for {target}")]
    Target {
        /// `host:port`.
        target: String,
    },
    /// The name has no address.
    #[error("the name {host} cannot be resolved")]
    Name {
        /// The name.
        host: String,
        /// Whether it is the proxy's.
        is_proxy: bool,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No TCP connection.
    #[error("no connection to {to}")]
    Connect {
        /// To whom.
        to: String,
        /// Whether that is the proxy.
        is_proxy: bool,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither yes nor no.
    #[error("{stage} with {to} did not come about in time (link.connect_timeout_ms)")]
    Late {
        /// What was waited for.
        stage: &'static str,
        /// With whom.
        to: String,
        /// Whether that is the proxy.
        is_proxy: bool,
    },
    /// No TLS with an `https://` proxy.
    #[error("no TLS with the proxy {proxy}")]
    Tls {
        /// The proxy.
        proxy: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// 407.
    #[error("the proxy {proxy} {}", if *.given { "refuses user and password (407)" } else { "wants user and password (407)" })]
    Credentials {
        /// The proxy.
        proxy: String,
        /// Whether any were given.
        given: bool,
    },
    /// 407, and Basic is not among what it takes.
    #[error("the proxy {proxy} takes no user and password, only another way to authenticate (407)")]
    Scheme {
        /// The proxy.
        proxy: String,
    },
    /// 403.
    #[error("the proxy {proxy} forbids {target} ({told})")]
    Forbidden {
        /// The proxy.
        proxy: String,
        /// What was asked for.
        target: String,
        /// Its words.
        told: String,
    },
    /// 502, 503, 504.
    #[error("the proxy {proxy} cannot reach {target} ({told})")]
    Unreachable {
        /// The proxy.
        proxy: String,
        /// What was asked for.
        target: String,
        /// Its words.
        told: String,
    },
    /// Any other status.
    #[error("the proxy {proxy} does not connect to {target} ({told})")]
    Status {
        /// The proxy.
        proxy: String,
        /// What was asked for.
        target: String,
        /// Its words.
        told: String,
    },
    /// Its answer is not HTTP, or it spoke before it was asked.
    #[error("{proxy} answers with something that is not a proxy's answer")]
    NotAProxy {
        /// The proxy.
        proxy: String,
        /// Why.
        #[source]
        source: Option<hyper::Error>,
    },
    /// Its answer has no end.
    #[error("the head of the proxy {proxy}'s answer is longer than {limit} bytes (link.proxy.answer_bytes)")]
    TooLong {
        /// The proxy.
        proxy: String,
        /// Bytes.
        limit: usize,
    },
    /// It hung up.
    #[error("the proxy {proxy} closed the connection instead of answering")]
    Closed {
        /// The proxy.
        proxy: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
}

impl WayError {
    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Url { named_by: Source::Settings, .. } => "correct link.proxy.url in the agent's settings",
            Self::Url { .. } => {
                "correct the variable to http://host:port or https://host:port, or set link.proxy.url, or set \
                 link.proxy.from_environment = false"
            }
            Self::File { .. } => {
                "see that the file is there, that the agent's user may read it, and that it holds what it should"
            }
            Self::Open { .. } => "run `chmod 600` on the file",
            Self::Target { .. } => "correct the controller's address: it must be https://host:port",
            Self::Name { is_proxy: true, .. } => {
                "correct the proxy's name in link.proxy.url or the environment, or see why this machine's DNS does not know it"
            }
            Self::Name { .. } => {
                "see why this machine's DNS does not know the controller's name; when only a proxy may reach it, set link.proxy.url"
            }
            Self::Connect { is_proxy: true, .. } => {
                "see that the proxy runs on that port and that the firewall lets this machine reach it"
            }
            Self::Connect { .. } => {
                "see that the controller runs and that the firewall lets this machine reach that port; when only a proxy may, \
                 set link.proxy.url"
            }
            Self::Late { is_proxy: true, .. } => {
                "see that it is the proxy's host and port and that a firewall does not drop the packets; a slow proxy needs a \
                 larger link.connect_timeout_ms"
            }
            Self::Late { .. } => {
                "a firewall may drop the packets: ask for that port, or set link.proxy.url when there is a proxy"
            }
            Self::Tls { source, .. } => tls_remedy(source),
            Self::Credentials { given: true, .. } => {
                "correct the user in link.proxy.url and the password in link.proxy.password_file; no restart is needed for the password"
            }
            Self::Credentials { .. } => {
                "write the user into link.proxy.url (http://user@host:port) and name a file with the password in \
                 link.proxy.password_file"
            }
            Self::Scheme { .. } => {
                "ask for Basic authentication or an exception for the agent's address, or run a local relay (such as cntlm) and \
                 name it in link.proxy.url"
            }
            Self::Forbidden { .. } => {
                "ask the proxy's administrator to allow CONNECT to that host and port (many allow 443 only)"
            }
            Self::Unreachable { .. } => {
                "see that the controller runs and that the proxy's host may reach that port; the proxy, not this machine, \
                 resolves the name"
            }
            Self::Status { .. } => "ask the proxy's administrator whether CONNECT to that host and port is allowed",
            Self::NotAProxy { .. } => {
                "see that link.proxy.url names a proxy's host and port, with https:// when the proxy itself wants TLS"
            }
            Self::TooLong { .. } => {
                "see that it is a proxy; a real one that talks so much needs a larger link.proxy.answer_bytes"
            }
            Self::Closed { .. } => {
                "see that it is a proxy, with https:// when it wants TLS, and that it lets this machine in"
            }
        }
    }
}

/// What a person does about a failed handshake with the proxy.
fn tls_remedy(error: &io::Error) -> &'static str {
    use rustls::{CertificateError as C, Error as E};
    match error.get_ref().and_then(|error| error.downcast_ref::<E>()) {
        Some(E::InvalidCertificate(C::UnknownIssuer | C::BadSignature)) => {
            "another CA signed its certificate: put the proxy's CA into a PEM file and name it in link.proxy.ca_file"
        }
        Some(E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => {
            "its certificate bears another name: write the name that it bears into link.proxy.url"
        }
        Some(E::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        )) => "its certificate is not valid today: compare this machine's clock, then ask for a new certificate",
        Some(E::InvalidMessage(_)) => "it does not speak TLS on that port: write http:// into link.proxy.url",
        _ => "see that the proxy wants TLS on that port; a plain one is written http://",
    }
}
