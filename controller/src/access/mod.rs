//! Who may come in: the [gate](gate) in front of every call, the operators' service that lets others in and shuts them
//! out, and the service with which agents join and come back. The store holds who is in; certificates are signed here.

mod enrollment;
mod gate;
mod operators;
mod rights;

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gantry_proto::{AgentId, Code, v1};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

pub use enrollment::EnrollmentApi;
pub use gate::ANYBODY_BODY;
pub use gate::Issued;
pub(crate) use gate::{Admitted, Connected, Shows, gate};
pub use operators::AccessApi;
pub use rights::{Caller, METRICS, RIGHTS, Right};

use crate::{
    agents::Agents,
    audit::{Audit, Who, act},
    authority::{Authority, KeyRequest, Signed},
    config::{Certificates, Config, Enrollment},
    peer::{AgentPeer, Peer},
    refusal::Refusal,
    store::{EnrolledRow, IdentityChange, IdentityChanged, IdentityRefused, Store},
};

/// Nothing ends later than in a thousand years, seconds: the end of time itself cannot be stored in microseconds.
const FAR_S: i64 = 1_000 * 365 * 24 * 3600;
/// Addresses after which the ones that have been calm are forgotten.
const CALM_KEPT: usize = 4096;

/// Who may come in.
pub struct Access {
    store: Arc<dyn Store>,
    authority: Authority,
    agents: Arc<Agents>,
    audit: Arc<Audit>,
    settings: Enrollment,
    lives: Certificates,
    /// Where agents and operators dial, and the name that the server's certificate bears.
    address: (String, String),
    /// Calls without a certificate, by address.
    calm: DefaultKeyedRateLimiter<IpAddr>,
    /// What ends the open streams of an operator. One entry for each that has called: the store bounds them.
    leases: Mutex<HashMap<String, CancellationToken>>,
}

impl Access {
    /// Access to a controller with this CA that listens on this port.
    pub fn new(
        config: &Config,
        port: u16,
        authority: Authority,
        store: Arc<dyn Store>,
        agents: Arc<Agents>,
        audit: Arc<Audit>,
    ) -> Self {
        let settings = config.enrollment.clone();
        let calls = NonZeroU32::new(settings.calls_per_minute).unwrap_or(NonZeroU32::MIN);
        Self {
            store,
            authority,
            agents,
            audit,
            settings,
            lives: config.certificates.clone(),
            address: config.address_at(port),
            calm: RateLimiter::keyed(Quota::per_minute(calls)),
            leases: Mutex::default(),
        }
    }

    /// Renews the certificate of an agent that is in contact.
    ///
    /// # Errors
    /// When the request cannot be taken, or the agent was shut out meanwhile.
    pub async fn renew(&self, peer: &AgentPeer, request_der: &[u8]) -> Result<v1::RenewResponse, Refusal> {
        let request = request(request_der)?;
        let key_sha256 = request.key_sha256();
        let signed = self.sign(peer, request)?;
        let change = IdentityChange::Renewed { agent: peer.id.clone(), expires: signed.expires };
        self.change(change).await?;
        self.settled(act::AGENT_RENEW, &Who::default(), peer, &key_sha256, "").await?;
        tracing::info!(agent = %peer.id, expires = %signed.expires, "a certificate was renewed");
        Ok(v1::RenewResponse { cert_pem: signed.cert_pem, key_sha256, message: String::new() })
    }

    /// Whether a certificate of this agent, issued then, still counts.
    ///
    /// # Errors
    /// [`Code::NotAllowed`], with what to do.
    pub async fn still_counts(&self, peer: &AgentPeer, issued: Timestamp) -> Result<(), Refusal> {
        let id = &peer.id;
        let refuse = |why: String| Err(Refusal::new(Code::NotAllowed, why));
        let Some(row) = self.store.enrolled(id).await? else {
            return refuse(format!(
                "agent \"{id}\" is not known to this controller: make a token with `ctl agent token --site {} --agent \
                 {id}` and run `agent join TOKEN --again` on its host",
                peer.site
            ));
        };
        if row.site != peer.site {
            return refuse(format!("agent \"{id}\" is at site \"{}\", not at \"{}\"", row.site, peer.site));
        }
        if row.revoked {
            return refuse(format!(
                "agent \"{id}\" was shut out with `ctl agent revoke`: to let it in again, make a token with `ctl agent \
                 token --site {} --agent {id}` and run `agent join TOKEN --again` on its host",
                row.site
            ));
        }
        if issued < row.valid_from {
            return refuse(format!(
                "another agent has joined as \"{id}\" since this certificate was made, so it counts no more"
            ));
        }
        Ok(())
    }

    fn sign(&self, peer: &AgentPeer, request: KeyRequest) -> Result<Signed, Refusal> {
        let life = Duration::from_secs(self.lives.agent_life_s);
        let signed = self.authority.sign(&Peer::Agent(peer.clone()), request, life);
        signed.map_err(|error| {
            tracing::error!(%error, agent = %peer.id, "a certificate could not be signed");
            Refusal::new(Code::Internal, "the certificate could not be signed: look at the controller's log")
        })
    }

    /// The end of a certificate that an agent gets now, as near as it can be told before it is signed.
    fn agent_expires(&self, now: Timestamp) -> Timestamp {
        later(now, self.lives.agent_life_s)
    }

    /// Carries out a change, with its refusal in words.
    async fn change(&self, change: IdentityChange) -> Result<IdentityChanged, Refusal> {
        match self.store.change_identity(change).await? {
            IdentityChanged::Refused(why) => Err(refusal(why)),
            changed => Ok(changed),
        }
    }

    /// As [`Access::change`], of an agent.
    async fn change_agent(&self, change: IdentityChange) -> Result<Option<EnrolledRow>, Refusal> {
        Ok(match self.change(change).await? {
            IdentityChanged::Agent(row) => Some(row),
            _ => None,
        })
    }

    /// Held by every open call of an operator: cancelled when what they may do changes.
    fn lease(&self, operator: &str) -> CancellationToken {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.entry(operator.to_owned()).or_default().clone()
    }

    /// Ends the open calls of an operator.
    fn end_leases(&self, operator: &str) {
        let lease = self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(operator);
        if let Some(lease) = lease {
            lease.cancel();
        }
    }

    /// Forgets addresses that have been calm.
    fn calm_down(&self) {
        if self.calm.len() > CALM_KEPT {
            self.calm.retain_recent();
        }
    }
}

fn request(der: &[u8]) -> Result<KeyRequest, Refusal> {
    KeyRequest::read(der).map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))
}

fn agent_id(text: &str) -> Result<AgentId, Refusal> {
    text.parse().map_err(|error| Refusal::new(Code::BadRequest, format!("{error}")))
}

/// So many seconds later.
pub(crate) fn later(now: Timestamp, seconds: u64) -> Timestamp {
    let life = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX).min(FAR_S));
    now.saturating_add(life).unwrap_or(now)
}

/// Why a change was refused, and what to do.
fn refusal(why: IdentityRefused) -> Refusal {
    use IdentityRefused as Why;
    let token = |what: &str| {
        (Code::TokenRefused, format!("the join token {what}: make a new one with `ctl agent token --site SITE`"))
    };
    let (code, message) = match why {
        Why::UnknownSite(site) => (
            Code::Unknown,
            format!("there is no site \"{site}\": `ctl site list` names them, `ctl site add {site}` adds it"),
        ),
        Why::UnknownOperator => {
            (Code::Unknown, "there is no such operator, or they were revoked: see `ctl operator list`".to_owned())
        }
        Why::UnknownAgent => (Code::Unknown, "no such agent has ever joined: see `ctl agents`".to_owned()),
        Why::NameTaken(name) => (
            Code::NameTaken,
            format!(
                "the name \"{name}\" is taken. For an agent: choose another one with --name, or have the one that is \
                 there replaced, with a token of `ctl agent token --site SITE --agent NAME`. For an operator: revoke the \
                 one that is there first"
            ),
        ),
        Why::LastAdmin => (
            Code::NotAllowed,
            "this is the last admin, and nobody else could let anybody in: make another one first with `ctl operator add NAME \
             --role admin`"
                .to_owned(),
        ),
        Why::AdminOfSites => (
            Code::BadRequest,
            "an admin has all sites: leave --site out, or choose the role operator or viewer".to_owned(),
        ),
        Why::TokenUnknown => token("is not known to this controller"),
        Why::TokenUsed => token("has been used already"),
        Why::TokenExpired => token("has expired"),
        Why::NoName => (
            Code::BadRequest,
            "the token is for an agent with a new name, and none was given: use `agent join --name NAME`".to_owned(),
        ),
        Why::Revoked => (
            Code::NotAllowed,
            "this agent was shut out: make a token with `ctl agent token --site SITE --agent NAME` and run `agent join \
             TOKEN --again` on its host"
                .to_owned(),
        ),
        Why::Replaced => (
            Code::NotAllowed,
            "another agent has joined under this name since this certificate was made, so it counts no more".to_owned(),
        ),
        Why::NotAsked(key) if key.is_empty() => (
            Code::AgentState,
            "this agent does not ask to come back: it asks by itself once its certificate has expired and it reaches \
             this controller"
                .to_owned(),
        ),
        Why::NotAsked(key) => (
            Code::AgentState,
            format!("this agent asks with another key, of sha256 {key}: compare it with the agent's log on its host"),
        ),
    };
    Refusal::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_life_ends_where_it_cannot_be_stored() {
        let now = Timestamp::now();
        assert_eq!(later(now, 60), now + SignedDuration::from_secs(60));
        let end = later(now, u64::MAX);
        assert!(end > now && Timestamp::from_microsecond(end.as_microsecond()).is_ok());
    }
}
