//! `EnrollmentService`: how an agent gets its first certificate, and one after the old one has expired. Nobody has shown
//! a certificate here, so what counts is a secret that is used up, or an old key and an operator's word.

use std::sync::Arc;

use gantry_proto::{
    Code,
    audit::{Entry, Outcome},
    token::{return_text, sha256_hex},
    v1,
};
use jiff::Timestamp;
use rustls_pki_types::alg_id;
use tonic::{Request, Response, Status};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Access, agent_id, request};
use crate::{
    audit::{Who, act},
    peer::{AgentPeer, Peer, Shown},
    refusal::Refusal,
    store::{IdentityChange, Joining},
};

/// Characters of a version that are kept.
const VERSION_MAX: usize = 40;

/// The service that agents call before they have a certificate.
#[derive(Clone)]
pub struct EnrollmentApi {
    /// Who may come in.
    pub access: Arc<Access>,
}

#[tonic::async_trait]
impl v1::enrollment_service_server::EnrollmentService for EnrollmentApi {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let who = Who { remote: request.remote_addr(), ..Who::default() };
        let answer = self.access.join(&who, request.into_inner()).await;
        self.answer(&who, "/gantry.v1.EnrollmentService/Join", answer).await
    }

    async fn r#return(&self, request: Request<v1::ReturnRequest>) -> Result<Response<v1::ReturnResponse>, Status> {
        let who = Who { remote: request.remote_addr(), ..Who::default() };
        let answer = self.access.come_back(&who, request.into_inner()).await;
        self.answer(&who, "/gantry.v1.EnrollmentService/Return", answer).await
    }
}

impl EnrollmentApi {
    async fn answer<T>(&self, who: &Who, path: &str, answer: Result<T, Refusal>) -> Result<Response<T>, Status> {
        self.access.calm_down();
        match answer {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => {
                tracing::warn!(reason = %refusal, call = %path, remote = who.remote.map(tracing::field::display), "refused a peer");
                self.access.audit.refused(who, path, &refusal).await;
                Err(refusal.into())
            }
        }
    }
}

impl Access {
    /// Uses up a token. What is recorded stands in front of the answer: a certificate that nobody knows of is worse than
    /// one that is asked for again.
    async fn join(&self, who: &Who, wish: v1::JoinRequest) -> Result<v1::JoinResponse, Refusal> {
        let v1::JoinRequest { secret, agent_id: name, request_der, version } = wish;
        let request = request(&request_der)?;
        let wish = if name.is_empty() { None } else { Some(agent_id(&name)?) };
        let (now, key) = (Timestamp::now(), request.key_sha256());
        let joining =
            Joining { hash: sha256_hex(&secret), wish, key: key.clone(), now, expires: self.agent_expires(now) };
        let row = self.change_agent(IdentityChange::Join(joining)).await?.ok_or_else(odd)?;
        let peer = AgentPeer { id: row.agent, site: row.site };
        let signed = self.sign(&peer, request)?;
        let version: String = version.chars().take(VERSION_MAX).collect();
        self.settled(act::AGENT_JOIN, who, &peer, &key, &format!("agent version {version}")).await?;
        // Whoever had the name before has it no more.
        self.agents.shut_out(&peer.id);
        tracing::info!(agent = %peer.id, site = %peer.site, expires = %signed.expires, "an agent has joined");
        Ok(v1::JoinResponse {
            cert_pem: signed.cert_pem,
            ca_pem: self.authority.pem().to_owned(),
            agent_id: peer.id.to_string(),
            site: peer.site,
        })
    }

    /// An agent with an expired certificate of ours asks to come back.
    async fn come_back(&self, who: &Who, wish: v1::ReturnRequest) -> Result<v1::ReturnResponse, Refusal> {
        let v1::ReturnRequest { certificate_der, request_der, signed_micros, signature } = wish;
        let request = request(&request_der)?;
        let key = request.key_sha256();
        let text = return_text(&self.authority.sha256(), &certificate_der, &request_der, signed_micros);
        let Shown { peer, issued } = self.expired(&certificate_der, &text, &signature)?;
        let Peer::Agent(peer) = peer else {
            return Err(refuse("the certificate belongs to an operator, and only agents come back so"));
        };
        let now = Timestamp::now();
        let change = IdentityChange::AskReturn {
            agent: peer.id.clone(),
            issued,
            key: key.clone(),
            now,
            expires: self.agent_expires(now),
        };
        let before = self.store.enrolled(&peer.id).await?;
        let Some(row) = self.change_agent(change).await? else {
            if before.is_none_or(|row| row.returning != key) {
                self.settled(act::AGENT_ASK, who, &peer, &key, "waits for an operator's approval").await?;
                tracing::warn!(agent = %peer.id, key = %key, "an agent with an expired certificate asks to come back: `ctl agent approve` lets it in");
            }
            return Ok(v1::ReturnResponse {
                ca_pem: self.authority.pem().to_owned(),
                ask_again_ms: self.settings.ask_again_ms,
                key_sha256: key,
                ..v1::ReturnResponse::default()
            });
        };
        let peer = AgentPeer { id: row.agent, site: row.site };
        let signed = self.sign(&peer, request)?;
        self.settled(act::AGENT_RETURN, who, &peer, &key, "").await?;
        tracing::info!(agent = %peer.id, expires = %signed.expires, "an agent has come back");
        Ok(v1::ReturnResponse {
            cert_pem: signed.cert_pem,
            ca_pem: self.authority.pem().to_owned(),
            ask_again_ms: 0,
            key_sha256: key,
        })
    }

    /// The identity of a certificate that need not hold any more, if it is of this CA and its key has signed the text.
    fn expired(&self, der: &[u8], text: &[u8], signature: &[u8]) -> Result<Shown, Refusal> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| refuse("the expired certificate cannot be read"))?;
        if !self.authority.has_signed(&certificate) {
            return Err(refuse("the expired certificate was not made by this controller"));
        }
        let shown = Shown::in_certificate(&certificate).map_err(|error| refuse(&error.to_string()))?;
        let key = &certificate.public_key().subject_public_key.data;
        let provider = rustls::crypto::ring::default_provider();
        let proved = provider.signature_verification_algorithms.all.iter().any(|algorithm| {
            algorithm.public_key_alg_id() == alg_id::ECDSA_P256
                && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
                && algorithm.verify_signature(key, text, signature).is_ok()
        });
        if !proved {
            return Err(refuse("the request is not signed by the key of the expired certificate"));
        }
        Ok(shown)
    }

    /// Records what an agent was given.
    pub(super) async fn settled(
        &self,
        word: &str,
        who: &Who,
        peer: &AgentPeer,
        key_sha256: &str,
        detail: &str,
    ) -> Result<(), Refusal> {
        let entry = Entry {
            act: word.to_owned(),
            outcome: Outcome::Done,
            remote: who.remote.map(|remote| remote.to_string()).unwrap_or_default(),
            site: peer.site.clone(),
            agent: peer.id.to_string(),
            subject: format!("key sha256 {key_sha256}"),
            detail: detail.to_owned(),
            ..Entry::default()
        };
        self.audit.record(entry).await.map(drop)
    }
}

fn refuse(message: &str) -> Refusal {
    Refusal::new(Code::NotAllowed, message)
}

/// The store has answered something that does not belong to the question.
fn odd() -> Refusal {
    Refusal::new(Code::Internal, "the store gave an answer that makes no sense here: look at the controller's log")
}
