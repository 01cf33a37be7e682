//! The settings a plan falls back on when the workbook is silent (`flow.md` 2.2). The controller's settings file embeds
//! [`Defaults`]; it must not know where that file is.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use gantry_proto::{
    Secret,
    plan::{RollbackPolicy, Stage, TowerConfig, UploadParams},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// The password that every installation is published with. Treated like any other secret.
pub(crate) const PUBLISHED_PASSWORD: &str = "HC!r0cks";

/// What applies when neither an override nor the workbook says something. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Organisation when `文档描述!C15` is blank. `SMTX-HCI`.
    pub organization_name: String,
    /// Datacenter when `文档描述!C17` is blank. None: `<organisation>-DC`.
    pub datacenter_name: Option<String>,
    /// Name of the VM when `集群管理信息!B3` is blank. `cloudtower`.
    pub vm_name: String,
    /// Free text in front of our mark in the VM's description.
    pub vm_description: String,
    /// Shape of the VM.
    pub vm: VmDefaults,
    /// Storage policy, compared without case. `default`.
    pub storage_policy: String,
    /// Storage address of the host that shall run the VM. None leaves it to the scheduler.
    pub target_host: Option<Ipv4Addr>,
    /// Which ISO. Nothing set: the newest that matches the agent's pattern.
    pub iso: IsoDefaults,
    /// Query parameters of the image calls.
    pub upload: UploadDefaults,
    /// VIP when `主机规划!I19` is blank.
    pub cluster_vip: Option<Ipv4Addr>,
    /// Fisheye user when `主机规划!L19` is blank. `root`.
    pub cluster_username: String,
    /// Fisheye password when `主机规划!M19` is blank.
    pub cluster_password: Option<SecretSetting>,
    /// The virtual switch and network when their cells are blank.
    pub network: NetworkDefaults,
    /// The SSH account of the VM when `集群管理信息!H3`, `I3` are blank (C32).
    pub ssh: SshDefaults,
    /// NTP servers when `集群管理信息!E22:E24` are blank. Addresses or host names.
    pub ntp_servers: Vec<String>,
    /// DNS servers when `集群管理信息!E25:E26` are blank.
    pub dns_servers: Vec<Ipv4Addr>,
    /// What happens to what a failed job has made (C6). `auto`.
    pub rollback_policy: RollbackPolicy,
    /// Refuse an ISO without guest tools (C33). `true`.
    pub require_guest_tools_in_iso: bool,
    /// A failing NTP update is a warning instead of a failure. `false`.
    pub ntp_failure_is_warning: bool,
    /// A blank `集群管理信息!G3` means the published default password instead of an error (W13). `false`.
    pub allow_default_root_password: bool,
    /// The captured encoded form of the root password for method P3 (`cloudtower.md` 4.1).
    pub root_password_encoded: Option<SecretSetting>,
    /// What CloudTower's root password must satisfy (W13).
    pub password_policy: PasswordPolicy,
    /// What of the journey is made. `["prepare", "deploy_cloudtower"]`.
    pub stages: Vec<Stage>,
    /// VIPs of clusters to attach beside the workbook's, with its user and password.
    pub further_clusters: Vec<Ipv4Addr>,
    /// What the stage `cloudtower_config` does.
    pub tower_config: TowerConfigDefaults,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            organization_name: "SMTX-HCI".to_owned(),
            datacenter_name: None,
            vm_name: "cloudtower".to_owned(),
            vm_description: "CloudTower".to_owned(),
            vm: VmDefaults::default(),
            storage_policy: "default".to_owned(),
            target_host: None,
            iso: IsoDefaults::default(),
            upload: UploadDefaults::default(),
            cluster_vip: None,
            cluster_username: "root".to_owned(),
            cluster_password: None,
            network: NetworkDefaults::default(),
            ssh: SshDefaults::default(),
            ntp_servers: Vec::new(),
            dns_servers: Vec::new(),
            rollback_policy: RollbackPolicy::Auto,
            require_guest_tools_in_iso: true,
            ntp_failure_is_warning: false,
            allow_default_root_password: false,
            root_password_encoded: None,
            password_policy: PasswordPolicy::default(),
            stages: Stage::usual(),
            further_clusters: Vec::new(),
            tower_config: TowerConfigDefaults::default(),
        }
    }
}

/// What the stage `cloudtower_config` does (`cloudtower.md` 6).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TowerConfigDefaults {
    /// The clusters' default storage policy. `default`: `REPLICA_2_THIN_PROVISION`.
    pub storage_policy: String,
    /// Set the thresholds of the alert about the use of space. `false`.
    pub capacity_alert: bool,
    /// The notice is never below it, percent. 60.
    pub alert_notice_floor: u32,
    /// The critical alert, percent. 90.
    pub alert_critical: u32,
    /// Make the dashboards. `true`.
    pub dashboards: bool,
}

impl Default for TowerConfigDefaults {
    fn default() -> Self {
        let TowerConfig { storage_policy: _, capacity_alert, alert_notice_floor, alert_critical, dashboards } =
            TowerConfig::default();
        let storage_policy = "default".to_owned();
        Self { storage_policy, capacity_alert, alert_notice_floor, alert_critical, dashboards }
    }
}

/// Shape of the VM (R24): a profile, and single values that replace the profile's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VmDefaults {
    /// `high`: 8 vCPU, 19 GiB, 400 GiB. `low`: 4 vCPU, 12 GiB, 100 GiB.
    pub profile: VmProfile,
    /// Virtual CPUs instead of the profile's.
    pub vcpu: Option<u32>,
    /// Memory instead of the profile's, GiB.
    pub memory_gib: Option<u64>,
    /// System disk instead of the profile's, GiB.
    pub disk_gib: Option<u64>,
}

/// The published sizes of a CloudTower VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmProfile {
    /// 8 vCPU, 19 GiB memory, 400 GiB disk.
    #[default]
    High,
    /// 4 vCPU, 12 GiB memory, 100 GiB disk.
    Low,
}

impl VmProfile {
    /// vCPU, memory in GiB, disk in GiB.
    pub(crate) fn shape(self) -> (u32, u64, u64) {
        match self {
            Self::High => (8, 19, 400),
            Self::Low => (4, 12, 100),
        }
    }
}

/// Which ISO of the agent's directory to use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IsoDefaults {
    /// Exact file name.
    pub file_name: Option<String>,
    /// Expected SHA-256, hexadecimal.
    pub sha256: Option<String>,
    /// Expected MD5, hexadecimal.
    pub md5: Option<String>,
}

/// Query parameters of the image calls (`fisheye.md` 4.1, 5).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadDefaults {
    /// `nfs` (C1).
    pub device: String,
    /// `2` (C2).
    pub task_id: String,
    /// `cloudtower os image`.
    pub description: String,
    /// Used only when the server sends no chunk size, bytes (C23). 8 MiB.
    pub chunk_size_fallback: u64,
    /// Merged into the volume call (R33).
    pub extra_volume_params: BTreeMap<String, String>,
    /// Merged into the image list (R32).
    pub extra_image_query_params: BTreeMap<String, String>,
}

impl Default for UploadDefaults {
    fn default() -> Self {
        let UploadParams {
            device,
            task_id,
            description,
            chunk_size_fallback,
            extra_volume_params,
            extra_image_query_params,
        } = UploadParams::default();
        Self { device, task_id, description, chunk_size_fallback, extra_volume_params, extra_image_query_params }
    }
}

/// The virtual switch and network when their cells are blank. There is no default for the VM's own address (W7).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkDefaults {
    /// Virtual switch.
    pub vds_name: Option<String>,
    /// VM network. None: `default`.
    pub network_name: Option<String>,
    /// VLAN. None: 0, untagged.
    pub vlan_id: Option<u16>,
    /// CIDR of row 4.
    pub subnet: Option<String>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
}

/// The SSH account of the VM.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshDefaults {
    /// `cloudtower`.
    pub username: String,
    /// None: the published default.
    pub password: Option<SecretSetting>,
}

impl Default for SshDefaults {
    fn default() -> Self {
        Self { username: "cloudtower".to_owned(), password: None }
    }
}

/// What CloudTower's root password must satisfy (W13).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordPolicy {
    /// Characters. 8.
    pub min_length: usize,
    /// How many of lower case, upper case, digit, other must occur. 3.
    pub min_classes: usize,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self { min_length: 8, min_classes: 3 }
    }
}

/// A secret that comes from a settings file: readable from there, never written anywhere.
#[derive(Clone, Debug)]
pub struct SecretSetting(pub Secret);

impl<'de> Deserialize<'de> for SecretSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Takes text and whole numbers. serde's own message for a wrong type would repeat the value, so each scalar has one
/// that does not.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = SecretSetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret as text in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretSetting, E> {
        Ok(SecretSetting(Secret::new(text)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<SecretSetting, E> {
        Ok(SecretSetting(Secret::new(number.to_string())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SecretSetting, E> {
        Ok(SecretSetting(Secret::new(number.to_string())))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretSetting, E> {
        Err(E::custom("a secret must be text in quotes"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretSetting, E> {
        Err(E::custom("a secret must be text in quotes"))
    }
}
