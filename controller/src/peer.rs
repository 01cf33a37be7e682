//! Who is at the other end. The certificate alone decides; nothing that a peer says about itself is believed.

use gantry_proto::{AgentId, id::check_name};
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::authority::issued_at;

/// Every identity is a URI under this one.
const TRUST_DOMAIN: &str = "spiffe://gantry/";

/// The identity in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A person with `ctl`.
    Operator(OperatorName),
    /// An agent at its site.
    Agent(AgentPeer),
}

/// An operator, as the certificate names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorName(pub String);

/// An agent and its site, as the certificate names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPeer {
    /// Its id.
    pub id: AgentId,
    /// Its site.
    pub site: String,
}

/// An agent that was let through. In the extensions of every call of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittedAgent {
    /// Which.
    pub peer: AgentPeer,
    /// When the certificate was issued that it has shown.
    pub issued: Timestamp,
}

/// What a certificate says of who shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who.
    pub peer: Peer,
    /// When the certificate was issued.
    pub issued: Timestamp,
}

/// A certificate that names nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// No identity of ours, or several.
    #[error("the certificate carries no identity of this system")]
    Nobody,
}

impl Peer {
    /// The identity as it stands in a certificate's SAN.
    pub fn uri(&self) -> String {
        match self {
            Self::Operator(OperatorName(name)) => format!("{TRUST_DOMAIN}operator/{name}"),
            Self::Agent(AgentPeer { id, site }) => format!("{TRUST_DOMAIN}site/{site}/agent/{id}"),
        }
    }

    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["operator", name] if check_name(name).is_ok() => Some(Self::Operator(OperatorName(name.to_owned()))),
            ["site", site, "agent", id] if check_name(site).is_ok() => {
                Some(Self::Agent(AgentPeer { id: id.parse().ok()?, site: site.to_owned() }))
            }
            _ => None,
        }
    }
}

impl Shown {
    /// Reads a certificate that the handshake has verified. Two identities are none.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub fn of(der: &[u8]) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Unreadable)?;
        Self::in_certificate(&certificate)
    }

    /// As [`Shown::of`].
    ///
    /// # Errors
    /// See [`PeerError`].
    pub fn in_certificate(certificate: &X509Certificate<'_>) -> Result<Self, PeerError> {
        let issued = issued_at(certificate.raw_serial());
        let names = certificate.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
        let mut ours = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(TRUST_DOMAIN),
            _ => None,
        });
        match (ours.next(), ours.next()) {
            (Some(path), None) => Ok(Self { peer: Peer::parse(path).ok_or(PeerError::Nobody)?, issued }),
            _ => Err(PeerError::Nobody),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_read_back_and_nothing_else_does() {
        let agent = Peer::Agent(AgentPeer { id: "a1".parse().unwrap(), site: "bj-1".into() });
        let operator = Peer::Operator(OperatorName("admin".into()));
        for peer in [agent, operator] {
            assert_eq!(Peer::parse(peer.uri().strip_prefix(TRUST_DOMAIN).unwrap()), Some(peer));
        }
        for bad in
            ["", "operator/", "operator/a/b", "operator/../x", "site/s/agent/", "site//agent/a", "site/s/agent/A"]
        {
            assert_eq!(Peer::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rubbish_is_nobody() {
        assert_eq!(Shown::of(b"no certificate"), Err(PeerError::Unreadable));
    }
}
