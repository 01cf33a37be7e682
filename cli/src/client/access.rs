//! The calls about who may come in.

use gantry_proto::v1;

use super::{ATTEMPTS, Client, Lost};
use crate::{exit::Failure, refusal};

impl Client {
    /// Adds a site; twice is the same as once.
    pub(crate) async fn add_site(&self, site: &str) -> Result<v1::AddSiteResponse, Failure> {
        let answer = self.call(said!("adding the site", "添加站点"), ATTEMPTS, || {
            let (mut access, request) = (self.access.clone(), v1::AddSiteRequest { site: site.to_owned() });
            async move { access.add_site(request).await }
        });
        Ok(answer.await?)
    }

    /// The sites.
    pub(crate) async fn sites(&self) -> Result<Vec<v1::Site>, Failure> {
        let answer = self.call(said!("listing the sites", "查询站点列表"), ATTEMPTS, || {
            let mut access = self.access.clone();
            async move { access.list_sites(v1::ListSitesRequest {}).await }
        });
        Ok(answer.await?.sites)
    }

    /// Lets an operator in. Asked once: a second time the name would be taken by the first.
    pub(crate) async fn add_operator(&self, request: v1::AddOperatorRequest) -> Result<v1::AddOperatorResponse, Lost> {
        self.call(said!("letting the operator in", "添加操作员"), 1, || {
            let (mut access, request) = (self.access.clone(), request.clone());
            async move { access.add_operator(request).await }
        })
        .await
    }

    /// Changes what an operator may do.
    pub(crate) async fn set_operator(&self, request: v1::SetOperatorRequest) -> Result<v1::Operator, Failure> {
        let answer = self.call(said!("changing the operator", "修改操作员"), ATTEMPTS, || {
            let (mut access, request) = (self.access.clone(), request.clone());
            async move { access.set_operator(request).await }
        });
        answer.await?.operator.ok_or_else(|| refusal::incomplete(&self.url, "operator"))
    }

    /// The operators.
    pub(crate) async fn operators(&self) -> Result<Vec<v1::Operator>, Failure> {
        let answer = self.call(said!("listing the operators", "查询操作员列表"), ATTEMPTS, || {
            let mut access = self.access.clone();
            async move { access.list_operators(v1::ListOperatorsRequest {}).await }
        });
        Ok(answer.await?.operators)
    }

    /// Shuts an operator out.
    pub(crate) async fn revoke_operator(&self, name: &str) -> Result<v1::Operator, Failure> {
        let answer = self.call(said!("revoking the operator", "吊销操作员"), ATTEMPTS, || {
            let (mut access, request) = (self.access.clone(), v1::RevokeOperatorRequest { operator: name.to_owned() });
            async move { access.revoke_operator(request).await }
        });
        answer.await?.operator.ok_or_else(|| refusal::incomplete(&self.url, "operator"))
    }

    /// Makes a join token. A lost one is never used, so it may be asked for again.
    pub(crate) async fn make_token(&self, request: v1::MakeTokenRequest) -> Result<v1::MakeTokenResponse, Failure> {
        let answer = self.call(said!("making a join token", "签发加入令牌"), ATTEMPTS, || {
            let (mut access, request) = (self.access.clone(), request.clone());
            async move { access.make_token(request).await }
        });
        Ok(answer.await?)
    }

    /// Lets an agent come back.
    pub(crate) async fn approve_agent(
        &self,
        request: v1::ApproveAgentRequest,
    ) -> Result<v1::ApproveAgentResponse, Failure> {
        let answer = self.call(said!("approving the agent's return", "批准代理恢复"), ATTEMPTS, || {
            let (mut access, request) = (self.access.clone(), request.clone());
            async move { access.approve_agent(request).await }
        });
        Ok(answer.await?)
    }

    /// Shuts an agent out.
    pub(crate) async fn revoke_agent(
        &self,
        request: v1::RevokeAgentRequest,
    ) -> Result<v1::RevokeAgentResponse, Failure> {
        let answer = self.call(said!("revoking the agent", "吊销代理"), ATTEMPTS, || {
            let (mut access, request) = (self.access.clone(), request.clone());
            async move { access.revoke_agent(request).await }
        });
        Ok(answer.await?)
    }
}
