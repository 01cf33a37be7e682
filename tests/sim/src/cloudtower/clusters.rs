//! Datacenters and connected clusters of one CloudTower (`cloudtower.md` 5.4, 5.5). What a cluster shows follows from how
//! long ago it was connected. No password is kept.

use std::{net::IpAddr, time::Duration};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Organization, Tower,
    rest::{Refusal, refusal},
    service::Service,
    state::cuid,
};
use crate::{
    options::{Node, SimOptions},
    rng::named_uuid,
};

/// Virtual times after the call, as observed: hosts, `CONNECTED`, settings.
const HOSTS: Duration = Duration::from_millis(1_700);
const CONNECTED: Duration = Duration::from_secs(8);
const SETTINGS: Duration = Duration::from_secs(12);
/// Settings that come late (W14).
const SETTINGS_LATE: Duration = Duration::from_secs(40);
/// When a connection that fails does.
const FAILED: Duration = Duration::from_secs(4);
/// A flapping one is disconnected for so long in between (W13).
const FLAPS: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(10);
/// `REMOVING` lasts so long.
const REMOVAL: Duration = Duration::from_secs(5);

/// How a connection goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connect {
    /// By address and credentials alone.
    #[default]
    Normal,
    /// A wrong password is refused at once instead.
    RefusedAtOnce,
    /// `LOAD_CLUSTER_UNHEALTHY`.
    Unhealthy,
    /// `INITIALIZING` for ever.
    Stuck,
    /// The task fails although the cluster is connected.
    TaskFails,
    /// `DISCONNECTED` for a while before it is connected.
    Flaps,
}

/// When the settings of a connected cluster are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settings {
    /// Four seconds after `CONNECTED`.
    #[default]
    Soon,
    /// Half a minute after it.
    Late,
    /// Never.
    Never,
}

/// A second connection of the same cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondCluster {
    /// There are two then.
    #[default]
    Created,
    /// An error.
    Refused,
}

/// A datacenter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datacenter {
    /// Identity.
    pub id: String,
    /// Name.
    pub name: String,
    /// Its organisation.
    pub organization_id: String,
}

/// A cluster that was connected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Identity.
    pub id: String,
    /// Its datacenter.
    pub datacenter_id: String,
    /// The address that was given.
    pub ip: String,
    /// The cluster's own uuid.
    pub local_id: String,
    /// Why it does not come up; `None`: it does.
    pub reason: Option<String>,
    /// When it was connected; virtual time since the start.
    pub connected: Duration,
    /// When its removal was asked for.
    pub removed: Option<Duration>,
}

impl Tower {
    /// The clusters that are there, or are being removed.
    pub fn present(&self, now: Duration) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter().filter(move |cluster| cluster.removed.is_none_or(|at| now < at + REMOVAL))
    }
}

impl Cluster {
    fn state(&self, mode: Connect, now: Duration) -> &'static str {
        let age = now.saturating_sub(self.connected);
        match &self.reason {
            _ if self.removed.is_some() => "REMOVING",
            Some(_) if age >= FAILED => "DISCONNECTED",
            None if mode == Connect::Flaps && FLAPS.contains(&age) => "DISCONNECTED",
            None if mode == Connect::Flaps && age < FLAPS.end => "INITIALIZING",
            None if mode != Connect::Stuck && age >= CONNECTED => "CONNECTED",
            _ => "INITIALIZING",
        }
    }

    fn shown(&self, service: &Service, now: Duration) -> Value {
        let (modes, options) = (service.core.modes(), &service.core.options);
        let age = now.saturating_sub(self.connected);
        let state = self.state(modes.tower.connect, now);
        let settings = match modes.tower.settings {
            Settings::Soon => Some(SETTINGS),
            Settings::Late => Some(SETTINGS_LATE),
            Settings::Never => None,
        };
        let settled = state == "CONNECTED" && settings.is_some_and(|at| age >= at);
        let hosts: Vec<Value> = match self.reason.is_none() && age >= HOSTS {
            true => options.nodes.iter().enumerate().map(|(n, node)| host(&self.id, n, node)).collect(),
            false => Vec::new(),
        };
        let reason = match state {
            "DISCONNECTED" => json!(self.reason.as_deref().unwrap_or("LOAD_CLUSTER_NETWORK_ERROR")),
            _ => Value::Null,
        };
        json!({
            "id": self.id, "local_id": self.local_id, "name": "HCI-CLUSTER-01", "ip": self.ip, "management_vip": self.ip,
            "connect_state": state, "disconnected_reason": reason, "hypervisor": "ELF", "type": "SMTX_OS",
            "architecture": "X86_64", "version": "6.2.0", "host_num": hosts.len(), "hosts": hosts,
            "settings": settled.then(|| json!({"id": format!("{}s", self.id)})), "license_serial": self.local_id,
            "datacenters": [{"id": self.datacenter_id}], "dns": [], "ntp_servers": [], "vdses": [], "vms": [],
            "labels": [],
        })
    }
}

fn host(cluster: &str, number: usize, node: &Node) -> Value {
    let name = node.name.clone().unwrap_or_else(|| format!("node-{}", number + 1));
    json!({"id": format!("{cluster}h{number}"), "name": name, "management_ip": node.management})
}

/// An organisation with its datacenters.
pub(super) fn shown_organization(tower: &Tower, found: &Organization) -> Value {
    let inside = tower.datacenters.iter().filter(|datacenter| datacenter.organization_id == found.id);
    let inside: Vec<Value> = inside.map(|found| json!({"id": found.id, "name": found.name})).collect();
    json!({"id": found.id, "name": found.name, "datacenters": inside})
}

/// `get-datacenters`.
pub(super) fn datacenters(service: &Service) -> Vec<Value> {
    service.with(|tower| tower.datacenters.iter().map(|found| shown_datacenter(tower, found)).collect())
}

/// `get-clusters`.
pub(super) fn clusters(service: &Service) -> Vec<Value> {
    let now = service.core.clock.elapsed();
    let all: Vec<Cluster> = service.with(|tower| tower.present(now).cloned().collect());
    all.iter().map(|cluster| cluster.shown(service, now)).collect()
}

fn shown_datacenter(tower: &Tower, found: &Datacenter) -> Value {
    let organization = tower.organizations.iter().find(|organization| organization.id == found.organization_id);
    let name = organization.map(|organization| organization.name.clone());
    let inside = tower.clusters.iter().filter(|cluster| cluster.datacenter_id == found.id && cluster.removed.is_none());
    let clusters: Vec<Value> = inside.map(|cluster| json!({"id": cluster.id})).collect();
    json!({
        "id": found.id, "name": found.name, "cluster_num": clusters.len(), "host_num": 0, "vm_num": 0,
        "clusters": clusters, "labels": [], "organization": {"id": found.organization_id, "name": name},
        "total_data_capacity": null, "used_data_space": null, "failure_data_space": null,
    })
}

/// `create-datacenter`: a second one of the same name is no problem for it.
pub(super) fn create_datacenter(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (name, organization_id) = (text("name"), text("organization_id"));
    if name.trim().is_empty() {
        return Err(refusal(StatusCode::BAD_REQUEST, "BadRequest", "name is required"));
    }
    let chance = service.core.chance.clone();
    let made = service.with(|tower| {
        if !tower.organizations.iter().any(|organization| organization.id == organization_id) {
            return None;
        }
        let made = Datacenter { id: cuid(&chance), name, organization_id };
        tower.datacenters.push(made.clone());
        Some(shown_datacenter(tower, &made))
    });
    made.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "OrganizationNotFound", "there is no such organization"))
}

/// `delete-datacenter`: an empty one only.
pub(super) fn delete_datacenter(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let id = wanted(item)?;
    let now = service.core.clock.elapsed();
    service.with(|tower| {
        if tower.present(now).any(|cluster| cluster.datacenter_id == id) {
            return Err(refusal(StatusCode::BAD_REQUEST, "DatacenterNotEmpty", "the datacenter has clusters"));
        }
        let before = tower.datacenters.len();
        tower.datacenters.retain(|datacenter| datacenter.id != id);
        match tower.datacenters.len() < before {
            true => Ok(json!({ "id": id })),
            false => Err(refusal(StatusCode::NOT_FOUND, "DatacenterNotFound", "there is no such datacenter")),
        }
    })
}

/// `connect-cluster`: what is wrong with address or credentials shows only later.
pub(super) fn connect(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (datacenter_id, ip) = (text("datacenter_id"), text("ip"));
    let (modes, options) = (service.core.modes(), &service.core.options);
    let right = text("username") == options.fisheye.username && text("password") == options.fisheye.password;
    if !right && modes.tower.connect == Connect::RefusedAtOnce {
        return Err(refusal(StatusCode::BAD_REQUEST, "ClusterConnectFailed", "username or password is wrong"));
    }
    let reason = match known(options, &ip) {
        false => Some("LOAD_CLUSTER_NETWORK_ERROR"),
        true if !right => Some("LOAD_CLUSTER_UNAUTHORIZED"),
        true if modes.tower.connect == Connect::Unhealthy => Some("LOAD_CLUSTER_UNHEALTHY"),
        true => None,
    };
    let (chance, now) = (service.core.chance.clone(), service.core.clock.elapsed());
    let made = service.with(|tower| {
        if !tower.datacenters.iter().any(|datacenter| datacenter.id == datacenter_id) {
            return Err(refusal(StatusCode::NOT_FOUND, "DatacenterNotFound", "there is no such datacenter"));
        }
        let local_id = local_id(options, &ip);
        let second = tower.present(now).any(|cluster| cluster.local_id == local_id);
        if second && modes.tower.second_cluster == SecondCluster::Refused {
            return Err(refusal(StatusCode::BAD_REQUEST, "ClusterAlreadyExists", "the cluster is connected already"));
        }
        let reason = reason.map(str::to_owned);
        let made = Cluster { id: cuid(&chance), datacenter_id, ip, local_id, reason, connected: now, removed: None };
        tower.clusters.push(made.clone());
        Ok(made)
    })?;
    Ok(made.shown(service, now))
}

/// `delete-cluster`.
pub(super) fn delete_cluster(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let (id, now) = (wanted(item)?, service.core.clock.elapsed());
    let found = service.with(|tower| {
        let cluster = tower.clusters.iter_mut().find(|cluster| cluster.id == id && cluster.removed.is_none())?;
        cluster.removed = Some(now);
        Some(())
    });
    found.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "ClusterNotFound", "there is no such cluster"))?;
    Ok(json!({ "id": id }))
}

/// How the task of a connection ends: its words when it fails.
pub(super) fn task_error(service: &Service, cluster: &str) -> Option<(String, String)> {
    let reason = service.with(|tower| tower.clusters.iter().find(|found| found.id == cluster)?.reason.clone());
    let failed = |code: &str| (code.to_owned(), "connecting the cluster failed".to_owned());
    match reason {
        Some(code) => Some(failed(&code)),
        None => (service.core.modes().tower.connect == Connect::TaskFails).then(|| failed("CONNECT_CLUSTER_FAILED")),
    }
}

/// How long the task of a connection is at work.
pub(super) fn task_lasts(service: &Service, cluster: &str) -> Duration {
    let fails = service.with(|tower| tower.clusters.iter().any(|found| found.id == cluster && found.reason.is_some()));
    match (fails, service.core.modes().tower.connect) {
        (true, _) | (false, Connect::TaskFails) => FAILED,
        (false, Connect::Stuck) => Duration::MAX,
        (false, Connect::Flaps) => FLAPS.end,
        (false, _) => CONNECTED,
    }
}

fn wanted(item: &Value) -> Result<String, Refusal> {
    let id = item.pointer("/where/id").and_then(Value::as_str).map(str::to_owned);
    id.ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "BadRequest", "where.id is required"))
}

/// Whether a cluster answers there.
fn known(options: &SimOptions, ip: &str) -> bool {
    ip.parse().is_ok_and(|ip| is_own(options, ip) || options.tower.further_clusters.contains(&ip))
}

/// Whether it is the cluster that is simulated.
fn is_own(options: &SimOptions, ip: IpAddr) -> bool {
    ip == options.vip || options.nodes.iter().any(|node| node.management == ip)
}

/// A cluster's own uuid, whichever of its addresses was given.
fn local_id(options: &SimOptions, ip: &str) -> String {
    let own = ip.parse().is_ok_and(|ip| is_own(options, ip));
    named_uuid(&format!("{} cluster {}", options.seed, if own { "of the simulation" } else { ip }))
}
