//! `AccessService`: what admins do. Each change is an act in the audit log, asked for before and settled after.

use std::{sync::Arc, time::Duration};

use gantry_proto::{
    AgentId, Code, JoinToken, Secret,
    id::check_name,
    token::{SECRET_BYTES, sha256_hex},
    v1::{self, Role},
};
use jiff::Timestamp;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Access, agent_id, later, request};
use crate::{
    audit::{Act, act},
    authority::KeyRequest,
    peer::{OperatorName, Peer},
    refusal::Refusal,
    store::{IdentityChange, IdentityChanged, OperatorRow, SiteRow, TokenRow},
};

/// Sites to which one operator may be limited.
const SITES_MAX: usize = 200;

/// The admins' service.
#[derive(Clone)]
pub struct AccessApi {
    /// Who may come in.
    pub access: Arc<Access>,
}

#[tonic::async_trait]
impl v1::access_service_server::AccessService for AccessApi {
    async fn add_site(&self, request: Request<v1::AddSiteRequest>) -> Result<Response<v1::AddSiteResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::SITE_ADD)?;
        let answer = self.access.add_site(&mut act, wish).await;
        act.end(answer).await
    }

    async fn list_sites(
        &self,
        _request: Request<v1::ListSitesRequest>,
    ) -> Result<Response<v1::ListSitesResponse>, Status> {
        Ok(Response::new(self.access.list_sites().await?))
    }

    async fn add_operator(
        &self,
        request: Request<v1::AddOperatorRequest>,
    ) -> Result<Response<v1::AddOperatorResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::OPERATOR_ADD)?;
        let answer = self.access.add_operator(&mut act, wish).await;
        act.end(answer).await
    }

    async fn set_operator(
        &self,
        request: Request<v1::SetOperatorRequest>,
    ) -> Result<Response<v1::SetOperatorResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::OPERATOR_SET)?;
        let answer = self.access.set_operator(&mut act, wish).await;
        act.end(answer).await
    }

    async fn list_operators(
        &self,
        _request: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        let rows = self.access.store.operators().await.map_err(Refusal::from)?;
        Ok(Response::new(v1::ListOperatorsResponse { operators: rows.into_iter().map(Into::into).collect() }))
    }

    async fn revoke_operator(
        &self,
        request: Request<v1::RevokeOperatorRequest>,
    ) -> Result<Response<v1::RevokeOperatorResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::OPERATOR_REVOKE)?;
        let answer = self.access.revoke_operator(&mut act, wish).await;
        act.end(answer).await
    }

    async fn make_token(
        &self,
        request: Request<v1::MakeTokenRequest>,
    ) -> Result<Response<v1::MakeTokenResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::AGENT_TOKEN)?;
        let answer = self.access.make_token(&mut act, wish).await;
        act.end(answer).await
    }

    async fn approve_agent(
        &self,
        request: Request<v1::ApproveAgentRequest>,
    ) -> Result<Response<v1::ApproveAgentResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::AGENT_APPROVE)?;
        let answer = self.access.approve_agent(&mut act, wish).await;
        act.end(answer).await
    }

    async fn revoke_agent(
        &self,
        request: Request<v1::RevokeAgentRequest>,
    ) -> Result<Response<v1::RevokeAgentResponse>, Status> {
        let (mut act, wish) = self.access.audit.act(request, act::AGENT_REVOKE)?;
        let answer = self.access.revoke_agent(&mut act, wish).await;
        act.end(answer).await
    }
}

impl Access {
    async fn add_site(&self, act: &mut Act, wish: v1::AddSiteRequest) -> Result<v1::AddSiteResponse, Status> {
        act.about().site.clone_from(&wish.site);
        check_name(&wish.site).map_err(|error| bad(error.to_string()))?;
        let added_by = act.asked().await?;
        let site = SiteRow { name: wish.site, added: Timestamp::now(), added_by };
        let changed = self.change(IdentityChange::AddSite(site)).await?;
        Ok(v1::AddSiteResponse { already_known: changed == IdentityChanged::Already })
    }

    async fn list_sites(&self) -> Result<v1::ListSitesResponse, Refusal> {
        let agents = self.store.enrollments().await?;
        let sites = self.store.sites().await?.into_iter().map(|site| {
            let agents = agents.iter().filter(|agent| agent.site == site.name && !agent.revoked).count();
            v1::Site {
                site: site.name,
                added_micros: site.added.as_microsecond(),
                added_by: site.added_by,
                agents: u32::try_from(agents).unwrap_or(u32::MAX),
            }
        });
        Ok(v1::ListSitesResponse { sites: sites.collect() })
    }

    async fn add_operator(
        &self,
        act: &mut Act,
        wish: v1::AddOperatorRequest,
    ) -> Result<v1::AddOperatorResponse, Status> {
        let role = wish.role();
        let v1::AddOperatorRequest { operator: name, sites, request_der, .. } = wish;
        about_operator(act, &name, Some(role), Some(&sites));
        check_name(&name).map_err(|error| bad(error.to_string()))?;
        if role == Role::Unspecified {
            return Err(bad("an operator needs a role: viewer, operator or admin").into());
        }
        few(&sites)?;
        let request = request(&request_der)?;
        let key = request.key_sha256();
        act.about().detail = format!("{}; key sha256 {key}", act.about().detail);
        let added_by = act.asked().await?;
        let now = Timestamp::now();
        let row = OperatorRow {
            name: name.clone(),
            role,
            sites,
            revoked: false,
            valid_from: now,
            expires: later(now, u64::from(self.lives.operator_days) * 24 * 3600),
            added: now,
            added_by,
        };
        let row = self.change_operator(IdentityChange::AddOperator(row)).await?;
        let cert_pem = self.operator_certificate(name, request)?;
        let (controller, server_name) = self.address.clone();
        let ca_pem = self.authority.pem().to_owned();
        Ok(v1::AddOperatorResponse { cert_pem, ca_pem, controller, server_name, operator: Some(row.into()) })
    }

    fn operator_certificate(&self, name: String, request: KeyRequest) -> Result<String, Refusal> {
        let life = Duration::from_secs(u64::from(self.lives.operator_days) * 24 * 3600);
        let signed = self.authority.sign(&Peer::Operator(OperatorName(name)), request, life);
        let signed = signed.map_err(|error| {
            tracing::error!(%error, "a certificate could not be signed");
            Refusal::new(Code::Internal, "the certificate could not be signed: look at the controller's log")
        })?;
        Ok(signed.cert_pem)
    }

    async fn set_operator(
        &self,
        act: &mut Act,
        wish: v1::SetOperatorRequest,
    ) -> Result<v1::SetOperatorResponse, Status> {
        let role = Some(wish.role()).filter(|role| *role != Role::Unspecified);
        let v1::SetOperatorRequest { operator: name, sites, change_sites, .. } = wish;
        let sites = change_sites.then_some(sites);
        about_operator(act, &name, role, sites.as_deref());
        if role.is_none() && sites.is_none() {
            return Err(bad("nothing is to be changed: give a role or sites").into());
        }
        few(sites.as_deref().unwrap_or_default())?;
        act.asked().await?;
        let row = self.change_operator(IdentityChange::SetOperator { name: name.clone(), role, sites }).await?;
        self.end_leases(&name);
        Ok(v1::SetOperatorResponse { operator: Some(row.into()) })
    }

    async fn revoke_operator(
        &self,
        act: &mut Act,
        wish: v1::RevokeOperatorRequest,
    ) -> Result<v1::RevokeOperatorResponse, Status> {
        about_operator(act, &wish.operator, None, None);
        check_name(&wish.operator).map_err(|error| bad(error.to_string()))?;
        act.asked().await?;
        let row = self.change_operator(IdentityChange::RevokeOperator(wish.operator.clone())).await?;
        self.end_leases(&wish.operator);
        Ok(v1::RevokeOperatorResponse { operator: Some(row.into()) })
    }

    async fn make_token(&self, act: &mut Act, wish: v1::MakeTokenRequest) -> Result<v1::MakeTokenResponse, Status> {
        let v1::MakeTokenRequest { site, agent_id: agent, life_s } = wish;
        let about = act.about();
        about.site.clone_from(&site);
        about.agent.clone_from(&agent);
        check_name(&site).map_err(|error| bad(error.to_string()))?;
        let agent: Option<AgentId> = if agent.is_empty() { None } else { Some(agent_id(&agent)?) };
        let (life_s, longest) = (u64::from(life_s), self.settings.token_life_max_s);
        let life_s = if life_s == 0 { self.settings.token_life_s } else { life_s };
        if life_s > longest {
            return Err(bad(format!("a token lives {longest} s at most (`enrollment.token_life_max_s`)")).into());
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let filled = rustls::crypto::ring::default_provider().secure_random.fill(&mut *secret);
        filled.map_err(|_| Refusal::new(Code::Internal, "the system gives no random numbers"))?;
        let now = Timestamp::now();
        let (hash, expires) = (sha256_hex(&*secret), later(now, life_s));
        act.about().detail = format!("for {life_s} s; token sha256 {hash}");
        let made_by = act.asked().await?;
        let token = TokenRow { hash, site, agent, expires, made_by };
        let changed = self.change(IdentityChange::AddToken { token, now }).await?;
        let (controller, server_name) = self.address.clone();
        let token = JoinToken { controller, server_name, ca_sha256: self.authority.sha256(), secret };
        Ok(v1::MakeTokenResponse {
            // The one place where a token leaves the controller, to the admin who asked for it.
            token: Secret::expose(&token.to_text()).to_owned(),
            expires_micros: expires.as_microsecond(),
            replaces: changed == IdentityChanged::Token(true),
        })
    }

    async fn approve_agent(
        &self,
        act: &mut Act,
        wish: v1::ApproveAgentRequest,
    ) -> Result<v1::ApproveAgentResponse, Status> {
        let v1::ApproveAgentRequest { agent_id: agent, key_sha256 } = wish;
        act.about().agent.clone_from(&agent);
        let agent = agent_id(&agent)?;
        let known = self.store.enrolled(&agent).await.map_err(Refusal::from)?;
        if let Some(known) = known {
            act.about().site.clone_from(&known.site);
            act.about().subject = format!("key sha256 {}", known.returning);
        }
        act.asked().await?;
        let until = later(Timestamp::now(), self.settings.approval_life_s);
        let key = key_sha256.to_ascii_lowercase();
        let row = self.change_agent(IdentityChange::ApproveReturn { agent, key, until }).await?;
        let key_sha256 = row.map(|row| row.approved).unwrap_or_default();
        act.about().subject = format!("key sha256 {key_sha256}");
        Ok(v1::ApproveAgentResponse { until_micros: until.as_microsecond(), key_sha256 })
    }

    async fn revoke_agent(
        &self,
        act: &mut Act,
        wish: v1::RevokeAgentRequest,
    ) -> Result<v1::RevokeAgentResponse, Status> {
        act.about().agent.clone_from(&wish.agent_id);
        let agent = agent_id(&wish.agent_id)?;
        act.asked().await?;
        let now = Timestamp::now();
        let row = self.change_agent(IdentityChange::RevokeAgent { agent: agent.clone(), now }).await?;
        if let Some(row) = row {
            act.about().site = row.site;
        }
        self.agents.shut_out(&agent);
        let agents = self.store.agents().await.map_err(Refusal::from)?;
        let active_jobs = agents.into_iter().find(|(row, _)| row.id == agent).map_or(0, |(_, jobs)| jobs);
        Ok(v1::RevokeAgentResponse { active_jobs })
    }

    async fn change_operator(&self, change: IdentityChange) -> Result<OperatorRow, Refusal> {
        match self.change(change).await? {
            IdentityChanged::Operator(row) => Ok(row),
            _ => Err(Refusal::new(Code::Internal, "the store gave an answer that makes no sense here")),
        }
    }
}

impl From<OperatorRow> for v1::Operator {
    fn from(row: OperatorRow) -> Self {
        Self {
            operator: row.name,
            role: row.role.into(),
            sites: row.sites,
            revoked: row.revoked,
            added_micros: row.added.as_microsecond(),
            added_by: row.added_by,
            expires_micros: row.expires.as_microsecond(),
        }
    }
}

fn about_operator(act: &mut Act, name: &str, role: Option<Role>, sites: Option<&[String]>) {
    let mut told = Vec::new();
    if let Some(role) = role {
        told.push(format!("role {}", role.word()));
    }
    match sites {
        Some([]) => told.push("all sites".to_owned()),
        Some(sites) => told.push(format!("sites {}", sites.join(", "))),
        None => {}
    }
    act.about().subject = format!("operator {name}");
    act.about().detail = told.join("; ");
}

fn few(sites: &[String]) -> Result<(), Refusal> {
    if sites.len() > SITES_MAX {
        return Err(bad(format!("an operator may be limited to {SITES_MAX} sites at most")));
    }
    sites.iter().try_for_each(|site| check_name(site).map_err(|error| bad(error.to_string())))
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}
