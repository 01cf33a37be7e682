//! The GraphQL calls (`cloudtower.md` 4). Operation names are CloudTower's own: a server may have a list of them.

use gantry_proto::{Secret, result::NamedId};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Call, Client, Error, ErrorKind, SetupState,
    client::{Auth, GRAPHQL},
    rest::shape,
    split_servers,
    types::{first, named_id},
};

const CHECK: &str = "query checkTowerIsSetup { organizations(first: 10) { id name } userCreated { created } }";
const CREATE_ROOT: &str = "mutation createRootUser($root_password: String!, $now: DateTime!) { createUser(data: \
    { name: \"root\", username: \"root\", display_username: \"root\", role: ROOT, source: LOCAL, \
    password: $root_password, password_updated_at: $now, password_recover_qa: { enabled: false, items: [] } }, \
    effect: { encoded: ENCODED }) { id } }";
const CREATE_ORGANIZATION: &str = "mutation createOrganization($data: OrganizationCreateInput!) \
    { createOrganization(data: $data) { id } }";
const SET_NTP: &str = "mutation updateCloudTowerNtpUrl($data: NtpCommonUpdateInput!) \
    { updateCloudTowerNtpUrl(data: $data) { ntp_service_url } }";
const LICENSE: &str = "query deployedLicense { deploys(first: 1) { id license { id license_serial type \
    software_edition vendor sign_date expire_date maintenance_start_date maintenance_end_date \
    max_chunk_num max_cluster_num max_vm_num used_vm_num } } }";

impl Client {
    /// Whether and how CloudTower has been set up.
    pub async fn setup_state(&self) -> Result<SetupState, Error> {
        let call = operation("checkTowerIsSetup");
        let data = self.graphql(call, CHECK, json!({}), Auth::Anonymous).await?;
        SetupState::read(&data).ok_or_else(|| shape(call, "organizations and userCreated are missing"))
    }

    /// Creates the root user with a plain password (P2).
    pub async fn create_root_user_plain(&self, password: &Secret) -> Result<(), Error> {
        self.create_root_user(password, "false").await
    }

    /// Creates the root user with the password in the product's own encoded form (P3).
    pub async fn create_root_user_encoded(&self, encoded: &Secret) -> Result<(), Error> {
        self.create_root_user(encoded, "true").await
    }

    async fn create_root_user(&self, password: &Secret, encoded: &str) -> Result<(), Error> {
        let call = operation("createRootUser");
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let variables = json!({ "root_password": password.expose(), "now": now });
        let data = self.graphql(call, &CREATE_ROOT.replace("ENCODED", encoded), variables, Auth::Anonymous).await?;
        let id = first(data.get("createUser").unwrap_or(&Value::Null)).get("id").and_then(Value::as_str);
        id.map(drop).ok_or_else(|| shape(call, "the user's id is missing"))
    }

    /// Creates the organisation. Not idempotent: look first, and after a lost answer.
    pub async fn create_organization(&self, name: &str) -> Result<NamedId, Error> {
        let call = operation("createOrganization");
        let variables = json!({ "data": { "name": name } });
        let data = match self.graphql(call, CREATE_ORGANIZATION, variables.clone(), Auth::Anonymous).await {
            // Once there is a root user it may be theirs alone to create; what was refused for that has made nothing.
            Err(error) if error.is_auth() => self.graphql(call, CREATE_ORGANIZATION, variables, Auth::Token).await?,
            outcome => outcome?,
        };
        let made = first(data.get("createOrganization").unwrap_or(&Value::Null));
        let id =
            made.get("id").and_then(Value::as_str).ok_or_else(|| shape(call, "the organisation's id is missing"))?;
        named_id(&json!({ "id": id, "name": name })).ok_or_else(|| shape(call, "the organisation's id is missing"))
    }

    /// Sets the NTP servers; gives them as CloudTower repeats them.
    pub async fn set_ntp(&self, servers: &[String]) -> Result<Vec<String>, Error> {
        let call = operation("updateCloudTowerNtpUrl");
        let variables = json!({ "data": { "ntp_service_url": servers.join(",") } });
        let data = self.graphql(call, SET_NTP, variables, Auth::Token).await?;
        let set = first(data.get("updateCloudTowerNtpUrl").unwrap_or(&Value::Null));
        let list = set.get("ntp_service_url").and_then(Value::as_str);
        list.map(split_servers).ok_or_else(|| shape(call, "ntp_service_url is missing"))
    }

    /// The licence of the deployment as CloudTower tells it; `None` when there is none (yet).
    pub async fn license(&self) -> Result<Option<Value>, Error> {
        let data = self.graphql(operation("deployedLicense"), LICENSE, json!({}), Auth::Token).await?;
        let license = first(data.get("deploys").unwrap_or(&Value::Null)).get("license");
        Ok(license.filter(|license| license.is_object()).cloned())
    }

    /// Sends an operation and gives its `data`. Errors come with status 200, and `data: null` is none.
    pub(super) async fn graphql(&self, call: Call, query: &str, variables: Value, auth: Auth) -> Result<Value, Error> {
        let body = json!({ "operationName": call.name, "variables": variables, "query": query });
        let answer = match auth {
            Auth::Anonymous => self.post(call, &body, auth).await?,
            Auth::Token => self.graphql_authorized(call, &body).await?,
        };
        self.data(call, answer)
    }

    /// A token that has expired may be told inside an answer with status 200.
    async fn graphql_authorized(&self, call: Call, body: &Value) -> Result<Value, Error> {
        let answer = self.post_authorized(call, body).await?;
        match self.data(call, answer.clone()) {
            Err(error) if error.is_auth() => {
                self.login().await?;
                self.post(call, body, Auth::Token).await
            }
            _ => Ok(answer),
        }
    }

    fn data(&self, call: Call, mut answer: Value) -> Result<Value, Error> {
        if answer.get("errors").and_then(Value::as_array).is_some_and(|errors| !errors.is_empty()) {
            let kind = self.refused(StatusCode::OK, &answer);
            return Err(Error { call, kind: kind.unwrap_or_else(|| ErrorKind::Shape("errors without a word".into())) });
        }
        match answer.get_mut("data").map(Value::take) {
            Some(data) if data.is_object() => Ok(data),
            _ => Err(shape(call, "data is missing")),
        }
    }
}

pub(super) fn operation(name: &'static str) -> Call {
    Call { base: GRAPHQL, name, reads: false }
}
