//! The settings of an attached cluster (K1): reading them and setting the default storage policy.

use gantry_proto::plan::DefaultPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Client, Error,
    client::Auth,
    graphql::operation,
    rest::{list, route, shape},
    types::{first, short},
};

const UPDATE: &str = "mutation updateClusterSettings($where: ClusterSettingsWhereUniqueInput!, \
    $data: ClusterSettingsUpdateInput!) { updateClusterSettings(where: $where, data: $data) { id \
    default_storage_policy default_storage_policy_replica_num default_storage_policy_ec_k \
    default_storage_policy_ec_m default_storage_policy_thin_provision } }";

/// A default storage policy, in CloudTower's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoragePolicy {
    /// Its name.
    pub name: String,
    /// Copies; none with erasure coding.
    pub replicas: Option<u64>,
    /// Data blocks of erasure coding.
    pub ec_k: Option<u64>,
    /// Parity blocks of erasure coding.
    pub ec_m: Option<u64>,
    /// Thin provisioning.
    pub thin: bool,
}

impl From<DefaultPolicy> for StoragePolicy {
    fn from(policy: DefaultPolicy) -> Self {
        let (replicas, ec_k, ec_m) = policy.numbers();
        Self { name: policy.name().to_owned(), replicas, ec_k, ec_m, thin: true }
    }
}

impl StoragePolicy {
    /// `None`: no name is told.
    fn read(value: &Value) -> Option<Self> {
        let of = |key: &str| value.get(format!("default_storage_policy{key}"));
        let number = |key: &str| of(key).and_then(Value::as_u64);
        Some(Self {
            name: short(of("")?.as_str()?),
            replicas: number("_replica_num"),
            ec_k: number("_ec_k"),
            ec_m: number("_ec_m"),
            thin: of("_thin_provision").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    fn written(&self) -> Value {
        json!({
            "default_storage_policy": self.name, "default_storage_policy_replica_num": self.replicas,
            "default_storage_policy_ec_k": self.ec_k, "default_storage_policy_ec_m": self.ec_m,
            "default_storage_policy_thin_provision": self.thin,
        })
    }
}

impl Client {
    /// The default storage policy of a cluster, by the id of its settings. `None`: it is not told.
    pub async fn storage_policy(&self, settings: &str) -> Result<Option<StoragePolicy>, Error> {
        let call = route("get-cluster-settings");
        let answer = self.post_authorized(call, &json!({ "where": { "id": settings } })).await?;
        let found = list(call, &answer)?.iter().find(|found| found.get("id").and_then(Value::as_str) == Some(settings));
        Ok(found.and_then(StoragePolicy::read))
    }

    /// K1: sets it, and gives it as CloudTower repeats it. Twice is the same as once.
    pub async fn set_storage_policy(&self, settings: &str, policy: &StoragePolicy) -> Result<StoragePolicy, Error> {
        let call = operation("updateClusterSettings");
        let variables = json!({ "where": { "id": settings }, "data": policy.written() });
        let data = self.graphql(call, UPDATE, variables, Auth::Token).await?;
        let set = first(data.get("updateClusterSettings").unwrap_or(&Value::Null));
        StoragePolicy::read(set).ok_or_else(|| shape(call, "default_storage_policy is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (policy, _) in DefaultPolicy::ALL {
            let policy = StoragePolicy::from(policy);
            assert_eq!(StoragePolicy::read(&policy.written()), Some(policy));
        }
        assert_eq!(StoragePolicy::read(&json!({"default_storage_policy": null})), None);
        assert_eq!(StoragePolicy::read(&json!(5)), None);
    }
}
