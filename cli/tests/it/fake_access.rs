//! The part of the fake controller that lets others in.

use std::sync::{Arc, Mutex};

use gantry_proto::{
    Code, JoinToken,
    v1::{self, access_service_server::AccessService},
};
use tonic::{Request, Response, Status};

use crate::line::Line;

/// When what is made here began and ends.
const MICROS: i64 = 1_900_000_000_000_000;

/// What was asked, and what is answered.
#[derive(Default)]
pub(crate) struct Desk {
    /// Every request, in words.
    pub(crate) asked: Vec<String>,
    /// What the next call is refused with.
    pub(crate) refuse: Option<Status>,
    /// The line breaks before the answer leaves.
    pub(crate) lose_answers: u32,
    /// Unfinished jobs of a revoked agent.
    pub(crate) active_jobs: u32,
}

#[derive(Clone)]
pub(crate) struct FakeAccess {
    pub(crate) desk: Arc<Mutex<Desk>>,
    pub(crate) line: Arc<Line>,
}

impl FakeAccess {
    async fn asked(&self, words: String) -> Result<(), Status> {
        let lose = {
            let mut desk = self.desk.lock().unwrap();
            desk.asked.push(words);
            if let Some(refused) = desk.refuse.take() {
                return Err(refused);
            }
            desk.lose_answers > 0 && {
                desk.lose_answers -= 1;
                true
            }
        };
        if lose {
            self.line.cut();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// The token that is always made.
pub(crate) fn token() -> JoinToken {
    JoinToken {
        controller: "https://controller.test:7443".into(),
        server_name: "controller.test".into(),
        ca_sha256: "cd".repeat(32),
        secret: [7; 32].into(),
    }
}

fn operator(name: &str, role: v1::Role, sites: &[String], revoked: bool) -> v1::Operator {
    v1::Operator {
        operator: name.into(),
        role: role.into(),
        sites: sites.to_vec(),
        revoked,
        added_micros: MICROS,
        added_by: "admin".into(),
        expires_micros: MICROS + 1,
    }
}

#[tonic::async_trait]
impl AccessService for FakeAccess {
    async fn add_site(&self, request: Request<v1::AddSiteRequest>) -> Result<Response<v1::AddSiteResponse>, Status> {
        let v1::AddSiteRequest { site } = request.into_inner();
        self.asked(format!("add site {site}")).await?;
        Ok(Response::new(v1::AddSiteResponse { already_known: site == "old" }))
    }

    async fn list_sites(&self, _: Request<v1::ListSitesRequest>) -> Result<Response<v1::ListSitesResponse>, Status> {
        self.asked("list sites".into()).await?;
        let site = v1::Site { site: "beijing".into(), added_micros: MICROS, added_by: "admin".into(), agents: 2 };
        Ok(Response::new(v1::ListSitesResponse { sites: vec![site] }))
    }

    async fn add_operator(
        &self,
        request: Request<v1::AddOperatorRequest>,
    ) -> Result<Response<v1::AddOperatorResponse>, Status> {
        let request = request.into_inner();
        let role = request.role();
        let words = format!("add operator {} {} {:?}", request.operator, role.word(), request.sites);
        self.asked(words).await?;
        rcgen::CertificateSigningRequestParams::from_der(&request.request_der.as_slice().into())
            .map_err(|_| Code::BadRequest.status("no certificate request"))?;
        Ok(Response::new(v1::AddOperatorResponse {
            cert_pem: "THE CERTIFICATE".into(),
            ca_pem: "THE CA".into(),
            controller: "https://controller.test:7443".into(),
            server_name: "controller.test".into(),
            operator: Some(operator(&request.operator, role, &request.sites, false)),
        }))
    }

    async fn set_operator(
        &self,
        request: Request<v1::SetOperatorRequest>,
    ) -> Result<Response<v1::SetOperatorResponse>, Status> {
        let request = request.into_inner();
        let role = request.role();
        let words =
            format!("set operator {} {} {} {:?}", request.operator, role.word(), request.change_sites, request.sites);
        self.asked(words).await?;
        let operator = operator(&request.operator, v1::Role::Viewer, &request.sites, false);
        Ok(Response::new(v1::SetOperatorResponse { operator: Some(operator) }))
    }

    async fn list_operators(
        &self,
        _: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        self.asked("list operators".into()).await?;
        let operators = vec![
            operator("admin", v1::Role::Admin, &[], false),
            operator("li", v1::Role::Operator, &["beijing".into(), "shanghai".into()], false),
            operator("wang", v1::Role::Viewer, &[], true),
        ];
        Ok(Response::new(v1::ListOperatorsResponse { operators }))
    }

    async fn revoke_operator(
        &self,
        request: Request<v1::RevokeOperatorRequest>,
    ) -> Result<Response<v1::RevokeOperatorResponse>, Status> {
        let name = request.into_inner().operator;
        self.asked(format!("revoke operator {name}")).await?;
        let operator = Some(operator(&name, v1::Role::Viewer, &[], true));
        Ok(Response::new(v1::RevokeOperatorResponse { operator }))
    }

    async fn make_token(
        &self,
        request: Request<v1::MakeTokenRequest>,
    ) -> Result<Response<v1::MakeTokenResponse>, Status> {
        let v1::MakeTokenRequest { site, agent_id, life_s } = request.into_inner();
        self.asked(format!("token {site} {agent_id:?} {life_s}")).await?;
        let token = token().to_text().expose().to_owned();
        Ok(Response::new(v1::MakeTokenResponse { token, expires_micros: MICROS, replaces: agent_id == "bj-1" }))
    }

    async fn approve_agent(
        &self,
        request: Request<v1::ApproveAgentRequest>,
    ) -> Result<Response<v1::ApproveAgentResponse>, Status> {
        let v1::ApproveAgentRequest { agent_id, key_sha256 } = request.into_inner();
        self.asked(format!("approve {agent_id} {key_sha256:?}")).await?;
        Ok(Response::new(v1::ApproveAgentResponse { until_micros: MICROS, key_sha256: "ab".repeat(32) }))
    }

    async fn revoke_agent(
        &self,
        request: Request<v1::RevokeAgentRequest>,
    ) -> Result<Response<v1::RevokeAgentResponse>, Status> {
        self.asked(format!("revoke agent {}", request.into_inner().agent_id)).await?;
        let active_jobs = self.desk.lock().unwrap().active_jobs;
        Ok(Response::new(v1::RevokeAgentResponse { active_jobs }))
    }
}
