//! The table of fields: planner, messages and `ctl plan --fields` all read this. It knows where a value stands and what
//! it is called, not how it is checked.

use crate::read::Position;

/// Sheet with organisation and datacenter.
pub(crate) const DESCRIPTION: &str = "文档描述";
/// Sheet with the virtual networks.
pub(crate) const NETWORKS: &str = "虚拟网络";
/// Sheet with the hosts and the cluster's access.
pub(crate) const HOSTS: &str = "主机规划";
/// Sheet with CloudTower and the other components, NTP and DNS.
pub(crate) const COMPONENTS: &str = "集群管理信息";
/// The sheets that are read, in the template's order.
pub(crate) const SHEETS: [&str; 4] = [DESCRIPTION, NETWORKS, HOSTS, COMPONENTS];

/// One value of a plan: its key, its place in the workbook, and whether `--set` may name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key in the plan and for `--set`, such as `cloudtower.ip`.
    pub key: &'static str,
    /// The sheet; empty when the workbook has no cell for it.
    pub sheet: &'static str,
    /// The cells, such as `E3`; of the fields that stand in row 4 or row 5 the one in row 4. Empty as `sheet`.
    pub cells: &'static [&'static str],
    /// The words a person looks for: column header and row.
    pub label: &'static str,
    /// What a value looks like, in words.
    pub expects: &'static str,
    /// Required, or the default.
    pub need: Need,
    /// May an override name it?
    pub access: Access,
}

/// What a blank cell means (C52).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// An error.
    Required,
    /// This value applies, unless the settings have another one.
    Default(&'static str),
    /// Nothing, or a step that is left out.
    Optional,
}

/// Whether an override may name a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `--set key=value` may.
    Settable,
    /// Only the workbook says it.
    Fixed,
    /// A secret: never on a command line, never shown.
    Secret,
}

impl Field {
    const fn new(
        key: &'static str,
        sheet: &'static str,
        cells: &'static [&'static str],
        label: &'static str,
        expects: &'static str,
        need: Need,
    ) -> Self {
        Self { key, sheet, cells, label, expects, need, access: Access::Settable }
    }

    const fn fixed(mut self) -> Self {
        self.access = Access::Fixed;
        self
    }

    const fn secret(mut self) -> Self {
        self.access = Access::Secret;
        self
    }

    /// The position of the field's cell number `index`.
    pub(crate) fn position(&self, index: usize) -> Option<Position> {
        self.cells.get(index).and_then(|cell| Position::parse(cell))
    }
}

use Need::{Default, Optional, Required};

const ADDRESS: &str = "an IPv4 address";

pub(crate) const ORGANIZATION: Field =
    Field::new("organization", DESCRIPTION, &["C15"], "客户名称", "text, at most 255 characters", Default("SMTX-HCI"));
pub(crate) const DATACENTER: Field = Field::new(
    "datacenter",
    DESCRIPTION,
    &["C17"],
    "数据中心名称",
    "text, at most 255 characters",
    Default("<organization>-DC"),
);

pub(crate) const CLUSTER_NAME: Field = Field::new("cluster.name", NETWORKS, &["B3"], "集群名称", "text", Optional);
pub(crate) const VDS: Field = Field::new(
    "management_network.vds",
    NETWORKS,
    &["C4"],
    "虚拟交换机, SMTX OS系统管理网络",
    "the name of a virtual switch",
    Required,
);
pub(crate) const NETWORK: Field = Field::new(
    "management_network.network",
    NETWORKS,
    &["D4"],
    "虚拟网络, SMTX OS系统管理网络",
    "the name of a VM network",
    Default("default"),
);
pub(crate) const VLAN_ID: Field = Field::new(
    "management_network.vlan_id",
    NETWORKS,
    &["F4"],
    "VLAN ID, SMTX OS系统管理网络",
    "a whole number from 0 (untagged) to 4094",
    Default("0"),
);
pub(crate) const VLAN_TYPE: Field = Field::new(
    "management_network.vlan_type",
    NETWORKS,
    &["G4"],
    "VLAN类型, SMTX OS系统管理网络",
    "Access",
    Default("Access"),
);
pub(crate) const SUBNET: Field = Field::new(
    "management_network.subnet",
    NETWORKS,
    &["H4"],
    "SubNetwork, SMTX OS系统管理网络",
    "an IPv4 network such as 192.0.2.0/24, prefix 8 to 30",
    Required,
);
pub(crate) const GATEWAY: Field =
    Field::new("management_network.gateway", NETWORKS, &["I4"], "Gateway, SMTX OS系统管理网络", ADDRESS, Required);
pub(crate) const STORAGE_SUBNET: Field = Field::new(
    "storage_subnet",
    NETWORKS,
    &["H6"],
    "SubNetwork, SMTX OS内部存储网络",
    "an IPv4 network such as 192.0.2.0/24, prefix 8 to 30",
    Optional,
)
.fixed();

pub(crate) const VIP: Field = Field::new("cluster.vip", HOSTS, &["I19"], "集群VIP", ADDRESS, Optional);
pub(crate) const ADMIN_USER: Field =
    Field::new("cluster.admin_user", HOSTS, &["L19"], "集群管理员", "a user name", Default("root"));
pub(crate) const ADMIN_PASSWORD: Field = Field::new(
    "cluster.admin_password",
    HOSTS,
    &["M19"],
    "密码, 集群管理员",
    "the password of the cluster's administrator",
    Required,
)
.secret();
pub(crate) const SOFTWARE_VERSION: Field =
    Field::new("cluster.software_version_text", HOSTS, &["C19"], "版本", "text", Optional).fixed();
pub(crate) const CLUSTER_SERIAL: Field =
    Field::new("cluster.serial", HOSTS, &["E19"], "Cluster SN", "text", Optional).fixed();
pub(crate) const CLUSTER_FUNCTION: Field =
    Field::new("cluster.function", HOSTS, &["O19"], "集群功能启用", "text", Optional).fixed();
pub(crate) const STORAGE_ARCHITECTURE: Field =
    Field::new("cluster.storage_architecture", HOSTS, &["Q19"], "存储架构", "text", Optional).fixed();
pub(crate) const NETWORK_ARCHITECTURE: Field =
    Field::new("cluster.network_architecture", HOSTS, &["Q20"], "网络架构", "text", Optional).fixed();

pub(crate) const VM_NAME: Field = Field::new(
    "cloudtower.vm_name",
    COMPONENTS,
    &["B3"],
    "SmartX生产平台管理虚拟机名称, CloudTower",
    "1 to 63 letters, digits, '.', '_' or '-', the first one a letter or digit",
    Default("cloudtower"),
);
pub(crate) const TOWER_VERSION: Field =
    Field::new("cloudtower.version", COMPONENTS, &["D3"], "Version, CloudTower", "text", Optional).fixed();
pub(crate) const TOWER_IP: Field =
    Field::new("cloudtower.ip", COMPONENTS, &["E3"], "IP地址, CloudTower", ADDRESS, Required);
pub(crate) const WEB_USER: Field =
    Field::new("cloudtower.web_user", COMPONENTS, &["F3"], "Web管理员, CloudTower", "root", Default("root")).fixed();
pub(crate) const ROOT_PASSWORD: Field = Field::new(
    "cloudtower.root_password",
    COMPONENTS,
    &["G3"],
    "密码, CloudTower",
    "a password that satisfies the policy",
    Required,
)
.secret();
pub(crate) const SSH_USER: Field = Field::new(
    "cloudtower.ssh_user",
    COMPONENTS,
    &["H3"],
    "SSH用户名, CloudTower",
    "a user name",
    Default("cloudtower"),
);
pub(crate) const SSH_PASSWORD: Field = Field::new(
    "cloudtower.ssh_password",
    COMPONENTS,
    &["I3"],
    "SSH密码, CloudTower",
    "a password",
    Default("the published default"),
)
.secret();
pub(crate) const SIZING: Field =
    Field::new("cloudtower.sizing_text", COMPONENTS, &["L3"], "性能配置, CloudTower", "text", Optional).fixed();
pub(crate) const TOWER_SERIAL: Field =
    Field::new("cloudtower.serial", COMPONENTS, &["M3"], "SN, CloudTower", "text", Optional).fixed();
pub(crate) const OBS_IP: Field =
    Field::new("other_components.obs_ip", COMPONENTS, &["E4"], "IP地址, Observability", ADDRESS, Optional).fixed();
pub(crate) const BACKUP_IP: Field =
    Field::new("other_components.backup_ip", COMPONENTS, &["E5"], "IP地址, backup", ADDRESS, Optional).fixed();
/// ER controller and the free rows: looked at for conflicts only.
pub(crate) const FURTHER_IPS: Field = Field::new(
    "other_components",
    COMPONENTS,
    &["E6", "E7", "E8", "E9", "E10", "E11", "E12", "E13", "E14", "E15", "E16", "E17"],
    "IP地址",
    ADDRESS,
    Optional,
)
.fixed();
pub(crate) const TEMPORARY_RANGE: Field = Field::new(
    "temporary_range",
    COMPONENTS,
    &["E18", "E19"],
    "IP地址, 测试用临时IP范围",
    "the first and the last address of a range",
    Optional,
)
.fixed();
pub(crate) const NTP: Field = Field::new(
    "ntp_servers",
    COMPONENTS,
    &["E22", "E23", "E24"],
    "IP地址, NTP Server",
    "IPv4 addresses or host names, separated by commas",
    Optional,
);
pub(crate) const DNS: Field = Field::new(
    "dns_servers",
    COMPONENTS,
    &["E25", "E26"],
    "IP地址, DNS Server",
    "IPv4 addresses, separated by commas",
    Optional,
);

const fn deployment(key: &'static str, expects: &'static str, need: Need) -> Field {
    Field::new(key, "", &[], "", expects, need)
}

pub(crate) const VM_PROFILE: Field =
    deployment("deployment.vm.profile", "high (8 vCPU, 19 GiB, 400 GiB) or low (4, 12, 100)", Default("high"));
pub(crate) const VM_VCPU: Field = deployment("deployment.vm.vcpu", "a whole number from 1 to 128", Default("8"));
pub(crate) const VM_MEMORY: Field =
    deployment("deployment.vm.memory_gib", "a whole number of GiB from 1 to 4096", Default("19"));
pub(crate) const VM_DISK: Field =
    deployment("deployment.vm.disk_gib", "a whole number of GiB from 1 to 65536", Default("400"));
pub(crate) const STORAGE_POLICY: Field =
    deployment("deployment.storage_policy", "the name of a storage policy", Default("default"));
pub(crate) const TARGET_HOST: Field =
    deployment("deployment.target_host", "the storage address of the host that shall run the VM", Optional);
pub(crate) const ISO_FILE: Field =
    deployment("deployment.iso.file_name", "the name of an ISO file in the agent's directory", Optional);
pub(crate) const ISO_SHA256: Field = deployment("deployment.iso.sha256", "64 hexadecimal digits", Optional);
pub(crate) const ISO_MD5: Field = deployment("deployment.iso.md5", "32 hexadecimal digits", Optional);
pub(crate) const UPLOAD_DEVICE: Field = deployment("deployment.upload.device", "text", Default("nfs"));
pub(crate) const UPLOAD_TASK: Field = deployment("deployment.upload.task_id", "text", Default("2"));
pub(crate) const UPLOAD_DESCRIPTION: Field =
    deployment("deployment.upload.description", "text", Default("cloudtower os image"));
pub(crate) const CHUNK_SIZE: Field = deployment(
    "deployment.upload.chunk_size_fallback",
    "a number of bytes from 65536 to 1073741824",
    Default("8388608"),
);
pub(crate) const VM_DESCRIPTION: Field =
    deployment("deployment.vm_description", "text, at most 255 characters", Default("CloudTower"));
pub(crate) const GUEST_TOOLS: Field =
    deployment("deployment.require_guest_tools_in_iso", "true or false", Default("true"));
pub(crate) const NTP_WARNING: Field =
    deployment("deployment.ntp_failure_is_warning", "true or false", Default("false"));
pub(crate) const ROLLBACK: Field = deployment("deployment.rollback_policy", "auto or keep", Default("auto"));
pub(crate) const STAGES: Field = deployment(
    "deployment.stages",
    "stages, separated by commas: prepare, deploy_cloudtower, attach_cluster, cloudtower_config, \
     check_cluster_healthy, cleanup",
    Default("prepare, deploy_cloudtower"),
);
pub(crate) const FURTHER_CLUSTERS: Field = deployment(
    "deployment.further_clusters",
    "VIPs of clusters to attach beside the workbook's, with its user and password, separated by commas",
    Optional,
);

pub(crate) const DEFAULT_POLICY: Field = deployment(
    "deployment.tower_config.storage_policy",
    "the clusters' default storage policy: REPLICA_2_THIN_PROVISION, REPLICA_3_THIN_PROVISION, EC_4_2_THIN_PROVISION or \
     EC_6_2_THIN_PROVISION",
    Default("default"),
);
pub(crate) const CAPACITY_ALERT: Field =
    deployment("deployment.tower_config.capacity_alert", "true or false", Default("false"));
pub(crate) const ALERT_FLOOR: Field = deployment(
    "deployment.tower_config.alert_notice_floor",
    "a whole number of percent below alert_critical",
    Default("60"),
);
pub(crate) const ALERT_CRITICAL: Field =
    deployment("deployment.tower_config.alert_critical", "a whole number of percent from 2 to 100", Default("90"));
pub(crate) const DASHBOARDS: Field = deployment("deployment.tower_config.dashboards", "true or false", Default("true"));

/// Every field, in the order of the help text.
pub const FIELDS: &[Field] = &[
    TOWER_IP,
    VM_NAME,
    ROOT_PASSWORD,
    WEB_USER,
    SSH_USER,
    SSH_PASSWORD,
    TOWER_VERSION,
    SIZING,
    TOWER_SERIAL,
    ORGANIZATION,
    DATACENTER,
    NTP,
    DNS,
    VDS,
    NETWORK,
    VLAN_ID,
    VLAN_TYPE,
    SUBNET,
    GATEWAY,
    STORAGE_SUBNET,
    CLUSTER_NAME,
    VIP,
    ADMIN_USER,
    ADMIN_PASSWORD,
    SOFTWARE_VERSION,
    CLUSTER_SERIAL,
    CLUSTER_FUNCTION,
    STORAGE_ARCHITECTURE,
    NETWORK_ARCHITECTURE,
    OBS_IP,
    BACKUP_IP,
    FURTHER_IPS,
    TEMPORARY_RANGE,
    VM_PROFILE,
    VM_VCPU,
    VM_MEMORY,
    VM_DISK,
    STORAGE_POLICY,
    TARGET_HOST,
    ISO_FILE,
    ISO_SHA256,
    ISO_MD5,
    UPLOAD_DEVICE,
    UPLOAD_TASK,
    UPLOAD_DESCRIPTION,
    CHUNK_SIZE,
    VM_DESCRIPTION,
    GUEST_TOOLS,
    NTP_WARNING,
    ROLLBACK,
    STAGES,
    FURTHER_CLUSTERS,
    DEFAULT_POLICY,
    CAPACITY_ALERT,
    ALERT_FLOOR,
    ALERT_CRITICAL,
    DASHBOARDS,
];

/// One column of the host table (`主机规划`, rows [`HOST_FIRST_ROW`] to [`HOST_LAST_ROW`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostColumn {
    pub(crate) key: &'static str,
    pub(crate) letter: &'static str,
    pub(crate) label: &'static str,
}

pub(crate) const HOST_FIRST_ROW: u32 = 3;
pub(crate) const HOST_LAST_ROW: u32 = 18;

const fn host(key: &'static str, letter: &'static str, label: &'static str) -> HostColumn {
    HostColumn { key, letter, label }
}

pub(crate) const HOST_BMC_IP: HostColumn = host("bmc_ip", "E", "带外地址");
pub(crate) const HOST_BMC_USER: HostColumn = host("bmc_user", "F", "带外账号");
pub(crate) const HOST_BMC_PASSWORD: HostColumn = host("bmc_password", "G", "带外密码");
pub(crate) const HOST_NAME: HostColumn = host("hostname", "H", "主机名");
pub(crate) const HOST_IP: HostColumn = host("mgmt_ip", "I", "管理地址");
pub(crate) const HOST_SSH_USER: HostColumn = host("ssh_user", "J", "SSH用户名");
pub(crate) const HOST_SSH_PASSWORD: HostColumn = host("ssh_password", "K", "密码");
pub(crate) const HOST_STORAGE_IP: HostColumn = host("storage_ip", "N", "存储IP");

/// The labels by which a sheet's layout is known (`workbook.md` 6): sheet, cell, label.
pub(crate) const ANCHORS: &[(&str, &str, &str)] = &[
    (DESCRIPTION, "B15", "客户名称"),
    (DESCRIPTION, "B17", "数据中心名称"),
    (NETWORKS, "B2", "集群名称"),
    (NETWORKS, "C2", "虚拟交换机"),
    (NETWORKS, "D2", "虚拟网络"),
    (NETWORKS, "F2", "VLAN ID"),
    (NETWORKS, "H2", "SubNetwork"),
    (NETWORKS, "I2", "Gateway"),
    (NETWORKS, "E4", "SMTX OS系统管理网络"),
    (HOSTS, "E2", "带外地址"),
    (HOSTS, "H2", "主机名"),
    (HOSTS, "I2", "管理地址"),
    (HOSTS, "N2", "存储IP"),
    (HOSTS, "H19", "集群VIP"),
    (HOSTS, "J19", "集群管理员"),
    (COMPONENTS, "E2", "IP地址"),
    (COMPONENTS, "G2", "密码"),
    (COMPONENTS, "C3", "SMTX 集群统一 Web 管理平台"),
    (COMPONENTS, "E21", "IP地址"),
    (COMPONENTS, "B22", "NTP Server1"),
    (COMPONENTS, "B25", "DNS Server1"),
];

/// Values of the published template that stand for nothing (W26): field and sample.
pub(crate) const SAMPLES: &[(&str, &str)] = &[
    (ORGANIZATION.key, "八九实验室"),
    (DATACENTER.key, "C89-LAB"),
    (TOWER_IP.key, "10.0.20.2"),
    (NTP.key, "ntp.c89.fun"),
    (CLUSTER_NAME.key, "CN-BJ-SMTX-Prod-Cls01"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_cells_are_cells() {
        let keys: BTreeSet<_> = FIELDS.iter().map(|field| field.key).collect();
        assert_eq!(keys.len(), FIELDS.len());
        for field in FIELDS {
            assert_eq!(field.sheet.is_empty(), field.cells.is_empty(), "{}", field.key);
            for (index, cell) in field.cells.iter().enumerate() {
                assert_eq!(field.position(index).expect("a cell").to_string(), *cell);
            }
        }
        for (_, cell, _) in ANCHORS {
            assert!(Position::parse(cell).is_some(), "{cell}");
        }
    }
}
