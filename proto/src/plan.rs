//! The plan: parsed, valid, complete and storable, and the secrets that it must not hold.
//!
//! The JSON form uses the workbook's own words (`cloudtower`, `management_network`, `cluster`, `hosts`, …), so that
//! `ctl plan check`, the store and the agent all speak of the same keys.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Secret, v1};

/// Form of the JSON in a [`v1::PlanDocument`].
pub const PLAN_SCHEMA: &str = "gantry.plan/1";
/// The largest plan that is accepted from the wire, bytes.
pub const PLAN_MAX_BYTES: usize = 256 << 10;

/// Everything that a deployment needs, every value resolved. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The VM and what runs in it.
    pub cloudtower: CloudTower,
    /// The organisation inside CloudTower (`文档描述!C15`).
    pub organization: String,
    /// The datacenter inside CloudTower (`文档描述!C17`).
    pub datacenter: String,
    /// In order, without duplicates: addresses or host names. Empty: the step is skipped.
    pub ntp_servers: Vec<String>,
    /// In order, without duplicates. Empty: the step is skipped.
    pub dns_servers: Vec<Ipv4Addr>,
    /// The network on which CloudTower goes (row 4, or row 5 when it is in use).
    pub management_network: Network,
    /// Row 4, the hosts' own management network; the same as `management_network` unless row 5 is in use.
    pub default_management_network: DefaultNetwork,
    /// Row 6, when it is filled.
    pub storage_subnet: Option<String>,
    /// The cluster that carries the VM.
    pub cluster: Cluster,
    /// The cluster's hosts.
    pub hosts: Vec<Host>,
    /// Components that are not deployed here.
    pub other_components: OtherComponents,
    /// First and last address of the temporary test range, when given.
    pub temporary_range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// How the VM is made and what happens on failure.
    pub deployment: Deployment,
    /// Which source won for each value, by key such as `cloudtower.ip`, `hosts[0].mgmt_ip` or `ntp_servers[2]` (R54).
    pub sources: BTreeMap<String, Source>,
}

/// The VM and what runs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudTower {
    /// Address that the VM gets.
    pub ip: Ipv4Addr,
    /// Name on the platform, lower case (R8). The guest's own host name is not touched.
    pub vm_name: String,
    /// Version the workbook speaks of; compared with the ISO's name.
    pub version: Option<String>,
    /// Web user; only `root` can be created.
    pub web_user: String,
    /// Account for SSH.
    pub ssh_user: String,
    /// Serial in the workbook before the deployment: no sign that CloudTower exists (W27).
    pub serial: Option<String>,
    /// Sizing as the workbook words it.
    pub sizing_text: Option<String>,
}

/// One row of the sheet `虚拟网络`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 4 or 5.
    pub row: u32,
    /// Name of the virtual switch.
    pub vds: String,
    /// Name of the VM network.
    pub network: String,
    /// 0 means untagged.
    pub vlan_id: u16,
    /// `Access` in every known workbook.
    pub vlan_type: String,
    /// CIDR with host bits cleared, such as `192.0.2.0/24`.
    pub subnet: String,
    /// From the prefix length; no cell holds it.
    pub netmask: Ipv4Addr,
    /// Default gateway.
    pub gateway: Ipv4Addr,
}

/// Row 4 of the sheet `虚拟网络`, for people: nothing is deployed from it when row 5 is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultNetwork {
    /// 4.
    pub row: u32,
    /// Name of the VM network.
    pub network: String,
    /// 0 means untagged.
    pub vlan_id: u16,
    /// CIDR with host bits cleared.
    pub subnet: String,
    /// Default gateway; may be blank when row 5 is in use (W6).
    pub gateway: Option<Ipv4Addr>,
}

/// The cluster that carries the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Name, for people.
    pub name: Option<String>,
    /// Management VIP; when missing, the hosts' addresses serve as endpoint.
    pub vip: Option<Ipv4Addr>,
    /// Fisheye user.
    pub admin_user: String,
    /// Serial in `主机规划!E19`.
    pub serial: Option<String>,
    /// Cluster functions (O19).
    pub function: Option<String>,
    /// Storage architecture (Q19).
    pub storage_architecture: Option<String>,
    /// Network architecture (Q20).
    pub network_architecture: Option<String>,
    /// Software version as worded in C19.
    pub software_version_text: Option<String>,
}

/// One host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Row in `主机规划`, 3 to 18.
    pub row: u32,
    /// Host name, for people.
    pub hostname: Option<String>,
    /// Management address: a Fisheye endpoint when the VIP does not answer.
    pub mgmt_ip: Ipv4Addr,
    /// Storage address.
    pub storage_ip: Option<Ipv4Addr>,
    /// BMC address.
    pub bmc_ip: Option<Ipv4Addr>,
    /// BMC user.
    pub bmc_user: Option<String>,
    /// SSH user of the host; not used by this flow.
    pub ssh_user: Option<String>,
}

/// Components that are not deployed here, known for conflict checks only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherComponents {
    /// Observability.
    pub obs_ip: Option<Ipv4Addr>,
    /// Backup.
    pub backup_ip: Option<Ipv4Addr>,
}

/// How the VM is made and what happens on failure. Defaults: `flow.md` 2.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Shape of the VM (R24).
    pub vm: VmShape,
    /// Storage policy's name, compared without case.
    pub storage_policy: String,
    /// Storage address of the host that shall run the VM; `None` leaves it to the scheduler.
    pub target_host: Option<Ipv4Addr>,
    /// Which ISO; with nothing set the newest that matches the pattern.
    pub iso: IsoChoice,
    /// How the upload volume is asked for.
    pub upload: UploadParams,
    /// Free text in front of our mark in the VM's description.
    pub vm_description: String,
    /// Refuse an ISO without guest tools (C33).
    pub require_guest_tools_in_iso: bool,
    /// Make a failing NTP update a warning instead of a failure (`flow.md` 5.4).
    pub ntp_failure_is_warning: bool,
    /// What happens to what a failed job has made (C6).
    pub rollback_policy: RollbackPolicy,
    /// What of the journey is made, in its order; never empty.
    #[serde(default = "Stage::usual", skip_serializing_if = "Stage::are_usual")]
    pub stages: Vec<Stage>,
    /// VIPs of clusters that are attached beside the one that carries the VM, with its user and password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_clusters: Vec<Ipv4Addr>,
    /// What is configured in CloudTower for the clusters.
    #[serde(default, skip_serializing_if = "TowerConfig::is_usual")]
    pub tower_config: TowerConfig,
}

/// What the stage `cloudtower_config` does (`cloudtower.md` 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TowerConfig {
    /// The clusters' default storage policy (K1).
    pub storage_policy: DefaultPolicy,
    /// Set the thresholds of the alert about the use of space (K2, K3).
    pub capacity_alert: bool,
    /// `NOTICE` is never below it, percent.
    pub alert_notice_floor: u32,
    /// `CRITICAL`, percent.
    pub alert_critical: u32,
    /// Make the dashboards (K4).
    pub dashboards: bool,
}

impl Default for TowerConfig {
    fn default() -> Self {
        let storage_policy = DefaultPolicy::default();
        Self { storage_policy, capacity_alert: false, alert_notice_floor: 60, alert_critical: 90, dashboards: true }
    }
}

impl TowerConfig {
    /// Left out of a plan's document: it is the same as before there was a choice.
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// A default storage policy that is known (`cloudtower.md` 6). All are thin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DefaultPolicy {
    #[default]
    #[serde(rename = "REPLICA_2_THIN_PROVISION")]
    Replica2,
    #[serde(rename = "REPLICA_3_THIN_PROVISION")]
    Replica3,
    #[serde(rename = "EC_4_2_THIN_PROVISION")]
    Ec4And2,
    #[serde(rename = "EC_6_2_THIN_PROVISION")]
    Ec6And2,
}

impl DefaultPolicy {
    /// Every policy with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Replica2, "REPLICA_2_THIN_PROVISION"),
        (Self::Replica3, "REPLICA_3_THIN_PROVISION"),
        (Self::Ec4And2, "EC_4_2_THIN_PROVISION"),
        (Self::Ec6And2, "EC_6_2_THIN_PROVISION"),
    ];

    /// CloudTower's name of it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }

    /// Copies, data blocks, parity blocks.
    pub fn numbers(self) -> (Option<u64>, Option<u64>, Option<u64>) {
        match self {
            Self::Replica2 => (Some(2), None, None),
            Self::Replica3 => (Some(3), None, None),
            Self::Ec4And2 => (None, Some(4), Some(2)),
            Self::Ec6And2 => (None, Some(6), Some(2)),
        }
    }
}

/// A stage of the journey (`flow.md` 1), in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Pre-checks.
    Prepare,
    /// ISO, VM, network, installer, first set-up.
    DeployCloudtower,
    /// Datacenter and clusters inside CloudTower.
    AttachCluster,
    /// Storage policy, alert and dashboards of the clusters.
    CloudtowerConfig,
    /// An inspection of the clusters by CloudTower, and its report.
    CheckClusterHealthy,
    /// The ISO image is removed from the cluster (R74).
    Cleanup,
}

impl Stage {
    /// Every stage, in its order, with the word for it.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Prepare, "prepare"),
        (Self::DeployCloudtower, "deploy_cloudtower"),
        (Self::AttachCluster, "attach_cluster"),
        (Self::CloudtowerConfig, "cloudtower_config"),
        (Self::CheckClusterHealthy, "check_cluster_healthy"),
        (Self::Cleanup, "cleanup"),
    ];

    /// A CloudTower, and nothing in it.
    pub fn usual() -> Vec<Self> {
        vec![Self::Prepare, Self::DeployCloudtower]
    }

    /// Those are left out of a plan's document: it is the same as before there was a choice.
    fn are_usual(stages: &[Self]) -> bool {
        stages == Self::usual()
    }

    /// As plans and `--stages` call it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(stage, _)| *stage == self).map_or("", |(_, word)| word)
    }
}

/// Shape of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmShape {
    /// Virtual CPUs: as many sockets of one core.
    pub vcpu: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// System disk, bytes.
    pub disk_bytes: u64,
}

/// Which ISO of the agent's directory to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsoChoice {
    /// Exact file name.
    pub file_name: Option<String>,
    /// Expected SHA-256 of the file, hexadecimal (R72).
    pub sha256: Option<String>,
    /// Expected MD5 of the file, hexadecimal.
    pub md5: Option<String>,
}

/// Query parameters of the image calls (`fisheye.md` 4.1, 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadParams {
    /// `nfs` (C1).
    pub device: String,
    /// `2` (C2).
    pub task_id: String,
    /// Free text.
    pub description: String,
    /// Used only when the server sends no chunk size, bytes (C23).
    pub chunk_size_fallback: u64,
    /// Merged into the volume call (R33).
    pub extra_volume_params: BTreeMap<String, String>,
    /// Merged into the image list (R32).
    pub extra_image_query_params: BTreeMap<String, String>,
}

impl Default for UploadParams {
    /// `flow.md` 2.2.
    fn default() -> Self {
        Self {
            device: "nfs".to_owned(),
            task_id: "2".to_owned(),
            description: "cloudtower os image".to_owned(),
            chunk_size_fallback: 8 << 20,
            extra_volume_params: BTreeMap::new(),
            extra_image_query_params: BTreeMap::new(),
        }
    }
}

/// What happens to what a failed job has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackPolicy {
    /// Remove it.
    #[default]
    Auto,
    /// Keep it, for a look.
    Keep,
}

/// Which source won for a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Source {
    /// `ctl deploy --set`.
    Override,
    /// A cell, as `sheet!cell`.
    Workbook {
        /// The cell.
        cell: String,
    },
    /// Computed from other values.
    Derived {
        /// The key it was computed from.
        of: String,
    },
    /// The settings file.
    Configuration,
    /// The built-in default.
    Default,
}

/// The secrets of a plan. In memory only as long as the process needs them.
#[derive(Clone)]
pub struct Secrets {
    /// CloudTower's root password (`集群管理信息!G3`).
    pub root_password: Secret,
    /// Fisheye's password (`主机规划!M19`, C12).
    pub fisheye_password: Secret,
    /// Password of the SSH account (`集群管理信息!I3`).
    pub ssh_password: Secret,
    /// The captured encoded form for method P3 (`cloudtower.md` 4.1), when configured.
    pub root_password_encoded: Option<Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::REDACTED)
    }
}

/// A [`v1::PlanDocument`] that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanDocumentError {
    /// From a newer peer.
    #[error("the plan has form \"{0}\", this version reads \"{PLAN_SCHEMA}\"")]
    Schema(String),
    /// Larger than [`PLAN_MAX_BYTES`].
    #[error("the plan has {0} bytes, the limit is {PLAN_MAX_BYTES}")]
    TooLarge(usize),
    /// The hash does not belong to the bytes.
    #[error("the plan's hash does not match its content")]
    Hash,
    /// Not the JSON that the form demands.
    #[error("the plan is not valid JSON of its form")]
    Json(#[from] serde_json::Error),
}

impl Plan {
    /// The plan as it travels: its JSON bytes and their hash. Keys come in the order of the structs, so equal plans
    /// give equal bytes.
    pub fn to_document(&self) -> Result<v1::PlanDocument, PlanDocumentError> {
        let json = serde_json::to_vec(self)?;
        let sha256 = Sha256::digest(&json).to_vec();
        Ok(v1::PlanDocument { schema: PLAN_SCHEMA.to_owned(), json, sha256 })
    }

    /// Checks form, size and hash, then reads the plan.
    pub fn from_document(document: &v1::PlanDocument) -> Result<Self, PlanDocumentError> {
        if document.schema != PLAN_SCHEMA {
            return Err(PlanDocumentError::Schema(document.schema.chars().take(80).collect()));
        }
        if document.json.len() > PLAN_MAX_BYTES {
            return Err(PlanDocumentError::TooLarge(document.json.len()));
        }
        if Sha256::digest(&document.json)[..] != document.sha256[..] {
            return Err(PlanDocumentError::Hash);
        }
        Ok(serde_json::from_slice(&document.json)?)
    }
}
