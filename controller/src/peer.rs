//! Who is at the other end. The certificate alone decides; nothing that a peer says about itself is believed.

use gantry_proto::{AgentId, Code, id::check_name};
use tonic::{Request, Status};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

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

    /// Reads the identity of a certificate that the handshake has verified. Two identities are none.
    pub fn of(der: &[u8]) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
        let mut ours = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(TRUST_DOMAIN),
            _ => None,
        });
        match (ours.next(), ours.next()) {
            (Some(path), None) => Self::parse(path).ok_or(PeerError::Nobody),
            _ => Err(PeerError::Nobody),
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

/// In front of the operators' services: puts an [`OperatorName`] into the request, or refuses.
pub fn require_operator(mut request: Request<()>) -> Result<Request<()>, Status> {
    match peer_of(&request, "an operator's")? {
        Peer::Operator(name) => {
            request.extensions_mut().insert(name);
            Ok(request)
        }
        Peer::Agent(agent) => Err(refuse(format!(
            "this call is for operators; the certificate shown belongs to agent \"{}\": use an operator's profile, \
             made by `controller operator-file`",
            agent.id
        ))),
    }
}

/// In front of the agents' service: puts an [`AgentPeer`] into the request, or refuses.
pub fn require_agent(mut request: Request<()>) -> Result<Request<()>, Status> {
    match peer_of(&request, "an agent's")? {
        Peer::Agent(agent) => {
            request.extensions_mut().insert(agent);
            Ok(request)
        }
        Peer::Operator(OperatorName(name)) => Err(refuse(format!(
            "this call is for agents; the certificate shown belongs to operator \"{name}\": use an agent's join file, \
             made by `controller join-file`"
        ))),
    }
}

fn peer_of(request: &Request<()>, whose: &str) -> Result<Peer, Status> {
    let certificates = request.peer_certs();
    let leaf = certificates.as_ref().and_then(|chain| chain.first());
    let Some(leaf) = leaf else {
        return Err(refuse(format!("this call needs {whose} certificate, and none was shown")));
    };
    Peer::of(leaf).map_err(|error| refuse(format!("this call needs {whose} certificate: {error}")))
}

fn refuse(message: String) -> Status {
    tracing::warn!(reason = %message, "refused a peer");
    Code::NotAllowed.status(message)
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
        assert_eq!(Peer::of(b"no certificate"), Err(PeerError::Unreadable));
    }
}
