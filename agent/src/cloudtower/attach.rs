//! The calls about datacenters and clusters (`cloudtower.md` 5.4, 5.5). None of those that make something is idempotent.

use gantry_proto::{Secret, result::NamedId};
use serde_json::{Value, json};

use super::{
    Call, Client, Cluster, Error,
    rest::{changed, list, route, shape},
    types::{first, named_id, short},
};

impl Client {
    /// The datacenters of this name in an organisation.
    pub async fn datacenters(&self, organization: &str, name: &str) -> Result<Vec<NamedId>, Error> {
        let call = route("get-datacenters");
        let body = json!({ "where": { "name": name, "organization": { "id": organization } } });
        let answer = self.post_authorized(call, &body).await?;
        // A service that does not know the condition lists more.
        let found = list(call, &answer)?.iter().filter_map(named_id);
        Ok(found.filter(|found| found.name == name).collect())
    }

    /// T9: makes a datacenter. `Some`: a task to wait for.
    pub async fn create_datacenter(&self, organization: &str, name: &str) -> Result<(String, Option<String>), Error> {
        let call = route("create-datacenter");
        let answer = self.post_authorized(call, &json!([{ "organization_id": organization, "name": name }])).await?;
        made(call, &answer)
    }

    /// Removes an empty datacenter.
    pub async fn delete_datacenter(&self, id: &str) -> Result<Option<String>, Error> {
        let call = route("delete-datacenter");
        let answer = self.post_authorized(call, &json!({ "where": { "id": id } })).await?;
        changed(call, &answer)
    }

    /// Every cluster in this CloudTower.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, Error> {
        let call = route("get-clusters");
        let answer = self.post_authorized(call, &json!({})).await?;
        Ok(list(call, &answer)?.iter().filter_map(Cluster::read).collect())
    }

    /// T10: attaches a cluster; its id, and the task that does it.
    pub async fn connect_cluster(
        &self,
        datacenter: &str,
        ip: &str,
        (user, password): (&str, &Secret),
    ) -> Result<(String, Option<String>), Error> {
        let call = route("connect-cluster");
        let body = json!([{ "datacenter_id": datacenter, "ip": ip, "username": user, "password": password.expose() }]);
        let answer = self.post_authorized(call, &body).await?;
        made(call, &answer)
    }

    /// Removes a cluster from this CloudTower; the cluster itself stays as it is.
    pub async fn delete_cluster(&self, id: &str) -> Result<Option<String>, Error> {
        let call = route("delete-cluster");
        let answer = self.post_authorized(call, &json!({ "where": { "id": id }, "force": true })).await?;
        changed(call, &answer)
    }
}

/// The id of what was made, and the task that is not finished yet.
fn made(call: Call, answer: &Value) -> Result<(String, Option<String>), Error> {
    let task = changed(call, answer)?;
    let id = first(answer).pointer("/data/id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| shape(call, "the id is missing"))?;
    Ok((short(id), task))
}
