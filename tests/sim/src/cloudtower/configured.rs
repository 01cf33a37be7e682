//! What is configured for a connected cluster (`cloudtower.md` 6): default storage policy, alert rules, dashboards.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    clusters,
    query::Operation,
    rest::{Refusal, refusal},
    service::Service,
    state::cuid,
};

/// The rule whose thresholds a deployment sets.
const CAPACITY_RULE: &str = "zbs_cluster_data_space_use_rate";
/// As many rules as in the sample; the one of interest is not on the first page.
const RULES: usize = 94;
const CAPACITY_RULE_AT: usize = 71;
/// The largest page of rules.
const PAGE_MAX: usize = 50;
/// Views and graphs that a CloudTower takes.
const MOST: usize = 1_000;

/// How the configuration of a cluster goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Configure {
    /// Everything works.
    #[default]
    Works,
    /// `get-cluster-settings` does not exist.
    SettingsUnreadable,
    /// The storage policy is refused.
    PolicyRefused,
    /// The storage policy is accepted, and stays as it was.
    PolicyIgnored,
    /// There is no rule about the use of space.
    RuleMissing,
    /// Changes of a rule are refused.
    RuleRefused,
    /// The interface of dashboards does not exist.
    DashboardsMissing,
    /// Graphs are refused.
    GraphsRefused,
}

/// The settings of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// Name of the default storage policy.
    pub policy: String,
    /// Copies; none with erasure coding.
    pub replicas: Option<u64>,
    /// Data and parity blocks of erasure coding.
    pub ec: (Option<u64>, Option<u64>),
    /// Thin provisioning.
    pub thin: bool,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { policy: "REPLICA_2_THICK_PROVISION".to_owned(), replicas: Some(2), ec: (None, None), thin: false }
    }
}

/// One alert rule of one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterAlert {
    /// Whether it differs from the rule of all clusters.
    pub customized: bool,
    /// Whether it is off.
    pub disabled: bool,
    /// Its thresholds, as they were given.
    pub thresholds: Value,
}

/// A dashboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Identity.
    pub id: String,
    /// Its cluster.
    pub cluster_id: String,
    /// Name.
    pub name: String,
    /// Length of the time axis.
    pub time_span: u64,
}

/// A graph on a dashboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Graph {
    /// Identity.
    pub id: String,
    /// Its dashboard.
    pub view_id: String,
    /// What it shows.
    pub metric_name: String,
    /// As it was given.
    pub given: Value,
}

/// What is configured in a CloudTower.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Configured {
    /// By the id of the settings.
    pub settings: BTreeMap<String, ClusterSettings>,
    /// The capacity rule's, by the id of the cluster.
    pub alerts: BTreeMap<String, ClusterAlert>,
    /// Dashboards.
    pub views: Vec<View>,
    /// Graphs on them.
    pub graphs: Vec<Graph>,
}

impl Configured {
    /// Views and graphs that are there more than once, in words.
    pub fn doubled(&self) -> Vec<String> {
        let views = self.views.iter().map(|view| format!("the view {} of {}", view.name, view.cluster_id));
        let graphs = self.graphs.iter().map(|graph| format!("the graph {} of {}", graph.metric_name, graph.view_id));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        views.chain(graphs).for_each(|one| *seen.entry(one).or_default() += 1);
        seen.into_iter().filter(|(_, count)| *count > 1).map(|(one, count)| format!("{one} {count} times")).collect()
    }
}

fn mode(service: &Service) -> Configure {
    service.core.modes().tower.configure
}

/// Settings exist as soon as their cluster shows them.
fn settings_there(service: &Service, id: &str) -> bool {
    clusters::clusters(service)
        .iter()
        .any(|cluster| cluster.pointer("/settings/id").and_then(Value::as_str) == Some(id))
}

fn shown_settings(id: &str, settings: &ClusterSettings) -> Value {
    json!({
        "id": id, "default_storage_policy": settings.policy, "default_storage_policy_replica_num": settings.replicas,
        "default_storage_policy_ec_k": settings.ec.0, "default_storage_policy_ec_m": settings.ec.1,
        "default_storage_policy_thin_provision": settings.thin, "default_ha": true, "default_ha_priority": 0,
        "enabled_iscsi": false, "default_storage_encryption": "DISABLED",
    })
}

/// `get-cluster-settings`; `None`: there is no such call.
pub(super) fn settings(service: &Service) -> Option<Vec<Value>> {
    if mode(service) == Configure::SettingsUnreadable {
        return None;
    }
    let all = clusters::clusters(service);
    let ids = all.iter().filter_map(|cluster| cluster.pointer("/settings/id").and_then(Value::as_str));
    Some(ids.map(|id| service.with(|tower| shown_settings(id, &of(&tower.configured, id)))).collect())
}

fn of(configured: &Configured, id: &str) -> ClusterSettings {
    configured.settings.get(id).cloned().unwrap_or_default()
}

/// `updateClusterSettings` (K1).
pub(super) fn update_settings(service: &Service, operation: &Operation) -> Result<Value, String> {
    let wanted = |pointer: &str| operation.variables.pointer(pointer).cloned().unwrap_or(Value::Null);
    let id = wanted("/where/id").as_str().unwrap_or_default().to_owned();
    if !settings_there(service, &id) {
        return Err("ClusterSettingsNotFound: there are no such settings".to_owned());
    }
    let data = |key: &str| wanted(&format!("/data/default_storage_policy{key}"));
    let policy = data("").as_str().unwrap_or_default().to_owned();
    let known = ["REPLICA_2_", "REPLICA_3_", "EC_4_2_", "EC_6_2_"].iter().any(|known| policy.starts_with(known));
    if !known || !policy.ends_with("_PROVISION") || mode(service) == Configure::PolicyRefused {
        return Err(format!("storage policy {policy} is not allowed for this cluster"));
    }
    let (replicas, thin) = (data("_replica_num").as_u64(), data("_thin_provision").as_bool().unwrap_or(false));
    let ec = (data("_ec_k").as_u64(), data("_ec_m").as_u64());
    if policy.starts_with("EC") != ec.0.is_some() || policy.starts_with("REPLICA") != replicas.is_some() {
        return Err("the numbers do not belong to the policy".to_owned());
    }
    Ok(service.with(|tower| {
        if mode(service) != Configure::PolicyIgnored {
            tower.configured.settings.insert(id.clone(), ClusterSettings { policy, replicas, ec, thin });
        }
        shown_settings(&id, &of(&tower.configured, &id))
    }))
}

fn usual_thresholds() -> Value {
    json!([{"severity": "CRITICAL", "value": 95, "quantile": 0}, {"severity": "NOTICE", "value": 80, "quantile": 0}])
}

/// Every rule, sorted by id, as the filter of `cloudtower.md` leaves them.
fn rules(service: &Service) -> Vec<Value> {
    let clusters = clusters::clusters(service);
    let alert = |rule: &str, cluster: &Value| {
        let id = cluster["id"].as_str().unwrap_or_default();
        let own = service.with(|tower| tower.configured.alerts.get(id).cloned()).filter(|_| rule == CAPACITY_RULE);
        let (customized, disabled, thresholds) = match own {
            Some(own) => (own.customized, own.disabled, own.thresholds),
            None => (false, false, usual_thresholds()),
        };
        json!({
            "id": format!("{rule}-{id}"), "customized": customized, "disabled": disabled, "thresholds": thresholds,
            "cluster": {"id": id, "name": cluster["name"]},
        })
    };
    let name = |n: usize| match n {
        CAPACITY_RULE_AT => CAPACITY_RULE.to_owned(),
        n => format!("host_rule_{n}"),
    };
    let kept = (0..RULES).filter(|n| *n != CAPACITY_RULE_AT || mode(service) != Configure::RuleMissing);
    let rule = |n: usize| {
        let name = name(n);
        let alerts: Vec<Value> = clusters.iter().map(|cluster| alert(&name, cluster)).collect();
        json!({
            "id": format!("rule{n:03}"), "name": name, "message": "a message", "object": "CLUSTER", "disabled": false,
            "thresholds": usual_thresholds(), "alert_rules": alerts,
        })
    };
    kept.map(rule).collect()
}

/// `globalAlertRules` (K2).
pub(super) fn alert_rules(service: &Service, operation: &Operation) -> Value {
    let number = |key: &str| operation.argument(key).and_then(|value| value.as_u64()).map_or(0, |n| n as usize);
    let first = match number("first") {
        0 => PAGE_MAX,
        first => first.min(PAGE_MAX),
    };
    Value::Array(rules(service).into_iter().skip(number("skip")).take(first).collect())
}

/// `globalAlertRulesConnection` (K2).
pub(super) fn alert_rules_count(service: &Service) -> Value {
    json!({ "aggregate": { "count": rules(service).len() } })
}

/// `updateGlobalAlertRule` (K3).
pub(super) fn update_alert_rule(service: &Service, operation: &Operation) -> Result<Value, String> {
    if mode(service) == Configure::RuleRefused {
        return Err("the rule cannot be changed".to_owned());
    }
    let id = operation.variables.pointer("/where/id").and_then(Value::as_str).unwrap_or_default();
    let Some(rule) = rules(service).into_iter().find(|rule| rule["id"] == id) else {
        return Err("there is no such rule".to_owned());
    };
    let updates = operation.variables.pointer("/data/alert_rules/update").and_then(Value::as_array);
    for update in updates.into_iter().flatten() {
        let alerts = rule["alert_rules"].as_array().into_iter().flatten();
        let Some(alert) = alerts.clone().find(|alert| alert["id"] == update["where"]["id"]) else {
            return Err("there is no such rule of a cluster".to_owned());
        };
        let values = |severity: &str| {
            let list = update.pointer("/data/thresholds").and_then(Value::as_array).into_iter().flatten();
            list.filter(|one| one["severity"] == severity).find_map(|one| one["value"].as_f64())
        };
        let (Some(notice), Some(critical)) = (values("NOTICE"), values("CRITICAL")) else {
            return Err("a threshold of NOTICE and one of CRITICAL are needed".to_owned());
        };
        if notice >= critical {
            return Err("NOTICE must be below CRITICAL".to_owned());
        }
        let flag = |key: &str| update.pointer(&format!("/data/{key}")).and_then(Value::as_bool).unwrap_or(false);
        let (customized, disabled) = (flag("customized"), flag("disabled"));
        let own = ClusterAlert { customized, disabled, thresholds: update["data"]["thresholds"].clone() };
        let cluster = alert["cluster"]["id"].as_str().unwrap_or_default().to_owned();
        service.with(|tower| tower.configured.alerts.insert(cluster, own));
    }
    Ok(rules(service).into_iter().find(|rule| rule["id"] == id).unwrap_or(Value::Null))
}

/// The reads of dashboards and hosts; `None`: there is no such call.
pub(super) fn read(service: &Service, name: &str) -> Option<Vec<Value>> {
    if name != "get-hosts" && mode(service) == Configure::DashboardsMissing {
        return None;
    }
    match name {
        "get-hosts" => Some(hosts(service)),
        "get-views" => Some(service.with(|tower| tower.configured.views.iter().map(shown_view).collect())),
        "get-graphs" => Some(service.with(|tower| tower.configured.graphs.iter().map(shown_graph).collect())),
        _ => None,
    }
}

fn hosts(service: &Service) -> Vec<Value> {
    let mut all = Vec::new();
    for cluster in clusters::clusters(service) {
        for host in cluster["hosts"].as_array().into_iter().flatten() {
            let mut host = host.clone();
            host["cluster"] = json!({ "id": cluster["id"] });
            all.push(host);
        }
    }
    all
}

fn shown_view(view: &View) -> Value {
    json!({
        "id": view.id, "name": view.name, "local_id": view.id, "time_unit": "HOUR", "time_span": view.time_span,
        "cluster": {"id": view.cluster_id}, "graphs": [],
    })
}

fn shown_graph(graph: &Graph) -> Value {
    json!({
        "id": graph.id, "metric_name": graph.metric_name, "title": graph.given["title"], "type": graph.given["type"],
        "resource_type": graph.given["resource_type"], "view": {"id": graph.view_id},
    })
}

fn there(service: &Service) -> Result<(), Refusal> {
    match mode(service) {
        Configure::DashboardsMissing => Err(refusal(StatusCode::NOT_FOUND, "NotFound", "cannot find this path")),
        _ => Ok(()),
    }
}

fn bad(message: &str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "BadRequest", message)
}

/// `create-view`: a second one of the same name is no problem for it.
pub(super) fn create_view(service: &Service, item: &Value) -> Result<Value, Refusal> {
    there(service)?;
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (cluster_id, name) = (text("cluster_id"), text("name"));
    let time_span = item.get("time_span").and_then(Value::as_u64);
    let (Some(time_span), "HOUR") = (time_span, text("time_unit").as_str()) else {
        return Err(bad("time_unit and time_span are required"));
    };
    if name.is_empty() || !clusters::clusters(service).iter().any(|cluster| cluster["id"] == cluster_id) {
        return Err(bad("name and cluster_id are required"));
    }
    let chance = service.core.chance.clone();
    service.with(|tower| {
        if tower.configured.views.len() >= MOST {
            return Err(bad("there are too many views"));
        }
        let view = View { id: cuid(&chance), cluster_id, name, time_span };
        tower.configured.views.push(view.clone());
        Ok(shown_view(&view))
    })
}

/// `create-graph`: not idempotent.
pub(super) fn create_graph(service: &Service, item: &Value) -> Result<Value, Refusal> {
    there(service)?;
    if mode(service) == Configure::GraphsRefused {
        return Err(bad("metric_name is not known"));
    }
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (view_id, metric_name) = (text("view_id"), text("metric_name"));
    let required =
        ["type", "resource_type", "title", "cluster_id", "metric_name"].iter().all(|key| !text(key).is_empty());
    let counted = item.get("metric_count").is_none_or(Value::is_u64);
    if !required || !counted || !item.get("connect_id").is_some_and(Value::is_array) {
        return Err(bad("a field is missing or has a wrong type"));
    }
    let chance = service.core.chance.clone();
    service.with(|tower| {
        if !tower.configured.views.iter().any(|view| view.id == view_id) || tower.configured.graphs.len() >= MOST {
            return Err(bad("there is no such view"));
        }
        let graph = Graph { id: cuid(&chance), view_id, metric_name, given: item.clone() };
        tower.configured.graphs.push(graph.clone());
        Ok(shown_graph(&graph))
    })
}

/// `delete-view`: with its graphs.
pub(super) fn delete_view(service: &Service, item: &Value) -> Result<Value, Refusal> {
    there(service)?;
    let id = item.pointer("/where/id").and_then(Value::as_str).unwrap_or_default();
    service.with(|tower| {
        let before = tower.configured.views.len();
        tower.configured.views.retain(|view| view.id != id);
        tower.configured.graphs.retain(|graph| graph.view_id != id);
        match tower.configured.views.len() < before {
            true => Ok(json!({ "id": id })),
            false => Err(refusal(StatusCode::NOT_FOUND, "ViewNotFound", "there is no such view")),
        }
    })
}

/// `delete-graph`.
pub(super) fn delete_graph(service: &Service, item: &Value) -> Result<Value, Refusal> {
    there(service)?;
    let id = item.pointer("/where/id").and_then(Value::as_str).unwrap_or_default();
    service.with(|tower| {
        let before = tower.configured.graphs.len();
        tower.configured.graphs.retain(|graph| graph.id != id);
        match tower.configured.graphs.len() < before {
            true => Ok(json!({ "id": id })),
            false => Err(refusal(StatusCode::NOT_FOUND, "GraphNotFound", "there is no such graph")),
        }
    })
}
