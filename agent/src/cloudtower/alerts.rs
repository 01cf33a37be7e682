//! The alert rules (K2, K3): a rule for all clusters, with one for each cluster below it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Client, Error,
    client::Auth,
    graphql::operation,
    rest::shape,
    types::{first, short},
};

const LIST: &str = "query globalAlertRules($where: GlobalAlertRuleWhereInput, $skip: Int, $first: Int) \
    { globalAlertRules(where: $where, orderBy: id_ASC, skip: $skip, first: $first) { id name \
    alert_rules { id customized disabled thresholds { severity value } cluster { id } } } \
    globalAlertRulesConnection(where: $where) { aggregate { count } } }";
const UPDATE: &str = "mutation updateGlobalAlertRule($where: GlobalAlertRuleWhereUniqueInput!, \
    $data: GlobalAlertRuleUpdateInput!) { updateGlobalAlertRule(where: $where, data: $data) { id name \
    alert_rules { id customized disabled thresholds { severity value } cluster { id } } } }";

/// Rules on a page.
const PAGE: usize = 50;
/// Pages that are read at most, whatever count is told.
const PAGES_MAX: usize = 40;
/// Kinds of rules that are of no interest, by the beginning of their names.
const NOT_OURS: [&str; 7] = ["elf_", "scvm_", "vsphere_", "witness_", "zone", "metro_", "system."];

/// The rule of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertRule {
    /// The rule of all clusters that it belongs to.
    pub global: String,
    /// Its own identity.
    pub id: String,
    /// Differs from that of all clusters.
    pub customized: bool,
    /// Off.
    pub disabled: bool,
    /// Value of `NOTICE`.
    pub notice: Option<f64>,
    /// Value of `CRITICAL`.
    pub critical: Option<f64>,
}

impl AlertRule {
    /// Reads the rule of a cluster out of the one of all clusters.
    fn read(global: &Value, cluster: &str) -> Option<Self> {
        let rules = global.get("alert_rules").and_then(Value::as_array)?;
        let rule = rules.iter().find(|rule| rule.pointer("/cluster/id").and_then(Value::as_str) == Some(cluster))?;
        let id = |value: &Value| value.get("id").and_then(Value::as_str).map(short);
        let flag = |key: &str| rule.get(key).and_then(Value::as_bool).unwrap_or(false);
        let thresholds = rule.get("thresholds").and_then(Value::as_array);
        let value = |severity: &str| {
            let mut all = thresholds.into_iter().flatten();
            all.find(|one| one.get("severity").and_then(Value::as_str) == Some(severity))?.get("value")?.as_f64()
        };
        Some(Self {
            global: id(global)?,
            id: id(rule)?,
            customized: flag("customized"),
            disabled: flag("disabled"),
            notice: value("NOTICE"),
            critical: value("CRITICAL"),
        })
    }

    /// Whether it warns at these values.
    pub fn warns_at(&self, notice: u32, critical: u32) -> bool {
        let is = |value: Option<f64>, wanted: u32| value.is_some_and(|value| (value - f64::from(wanted)).abs() < 0.001);
        !self.disabled && is(self.notice, notice) && is(self.critical, critical)
    }

    fn written(&self) -> Value {
        let threshold = |severity: &str, value: Option<f64>| {
            value.map(|value| json!({ "severity": severity, "value": value, "quantile": 0 }))
        };
        let thresholds: Vec<Value> =
            threshold("CRITICAL", self.critical).into_iter().chain(threshold("NOTICE", self.notice)).collect();
        let data = json!({ "customized": self.customized, "disabled": self.disabled, "thresholds": thresholds });
        json!({ "alert_rules": { "update": [{ "where": { "id": self.id }, "data": data }] } })
    }
}

impl Client {
    /// K2: the rule of this name for a cluster, searched page by page. `None`: there is none.
    pub async fn alert_rule(&self, name: &str, cluster: &str) -> Result<Option<AlertRule>, Error> {
        let call = operation("globalAlertRules");
        let mut condition = vec![json!({ "alert_rules_some": {} })];
        condition.extend(NOT_OURS.iter().map(|begin| json!({ "name_not_starts_with": begin })));
        for page in 0..PAGES_MAX {
            let skip = page * PAGE;
            let variables = json!({ "where": { "AND": condition }, "skip": skip, "first": PAGE });
            let data = self.graphql(call, LIST, variables, Auth::Token).await?;
            let rules = data.get("globalAlertRules").and_then(Value::as_array);
            let rules = rules.ok_or_else(|| shape(call, "globalAlertRules is missing"))?;
            let named = rules.iter().find(|rule| rule.get("name").and_then(Value::as_str) == Some(name));
            if let Some(rule) = named {
                return Ok(AlertRule::read(rule, cluster));
            }
            let count = data.pointer("/globalAlertRulesConnection/aggregate/count").and_then(Value::as_u64);
            let told = count.and_then(|count| usize::try_from(count).ok());
            // A page may be shorter than what was asked for; without a count only an empty one is the last.
            if rules.is_empty() || told.is_some_and(|told| skip + rules.len() >= told) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// K3: changes the rule of a cluster, and gives it as CloudTower repeats it. Twice is the same as once.
    pub async fn set_alert_rule(&self, rule: &AlertRule, cluster: &str) -> Result<AlertRule, Error> {
        let call = operation("updateGlobalAlertRule");
        let variables = json!({ "where": { "id": rule.global }, "data": rule.written() });
        let data = self.graphql(call, UPDATE, variables, Auth::Token).await?;
        let set = first(data.get("updateGlobalAlertRule").unwrap_or(&Value::Null));
        AlertRule::read(set, cluster).ok_or_else(|| shape(call, "the rule of the cluster is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_the_cluster_is_taken() {
        let thresholds = json!([{"severity": "NOTICE", "value": 61}, {"severity": "CRITICAL", "value": 90.0}]);
        let rule = |id: &str, cluster: &str| json!({"id": id, "customized": true, "disabled": false, "thresholds": thresholds, "cluster": {"id": cluster}});
        let global = json!({"id": "g", "alert_rules": [rule("a", "other"), rule("b", "mine")]});
        let read = AlertRule::read(&global, "mine").unwrap();
        assert_eq!((&*read.global, &*read.id, read.customized), ("g", "b", true));
        assert!(read.warns_at(61, 90) && !read.warns_at(60, 90) && !read.warns_at(61, 95));
        assert!(!AlertRule { disabled: true, ..read.clone() }.warns_at(61, 90));
        let written = read.written();
        assert_eq!(written.pointer("/alert_rules/update/0/where/id"), Some(&json!("b")));
        assert_eq!(written.pointer("/alert_rules/update/0/data/thresholds/1/value"), Some(&json!(61.0)));
        for none in [json!({}), json!(null), json!({"id": "g", "alert_rules": [5]})] {
            assert_eq!(AlertRule::read(&none, "mine"), None);
        }
    }
}
