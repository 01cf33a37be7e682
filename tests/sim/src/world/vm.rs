//! A virtual machine as the cluster knows it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its uuid.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Free text, kept verbatim.
    pub description: String,
    /// CPUs.
    pub vcpu: u32,
    /// Sockets; times `cores` = `vcpu`.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Bytes.
    pub memory: u64,
    /// High availability.
    pub ha: bool,
    /// Power.
    pub power: Power,
    /// Storage address of its node.
    pub node_ip: Option<IpAddr>,
    /// Disks and CD-ROMs in order.
    pub disks: Vec<Disk>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Epoch seconds.
    pub create_time: i64,
    /// Epoch seconds of the last power-on.
    pub last_start_time: Option<i64>,
    /// Epoch seconds of the last power-off.
    pub last_shutdown_time: Option<i64>,
    /// Where its guest is.
    pub phase: Phase,
    /// Counts power-ons and reboots; what was planned for an earlier one does not happen.
    pub boot: u64,
    /// The operating system is on the disk.
    pub installed: bool,
    /// The installed system has the guest agent.
    pub tools: bool,
    /// Epoch seconds of the agent's last report.
    pub agent_seen: Option<i64>,
    /// The cached guest data is stale.
    pub expired: bool,
    /// The address that works inside the guest.
    pub guest_ip: Option<IpAddr>,
    /// The guest shows its address.
    pub shows_ip: bool,
    /// In lists and details.
    pub visible: bool,
    /// It existed before the run.
    pub foreign: bool,
    /// Power losses during installation that are still to come (mode).
    pub power_losses: u32,
}

/// Power of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// On.
    Running,
    /// Off.
    Stopped,
    /// Paused.
    Suspended,
}

/// Where the guest of a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Powered off.
    Off,
    /// BIOS and boot menu.
    Bios,
    /// The installer of the operating system runs.
    InstallingOs,
    /// It boots from its disk.
    FirstBoot,
    /// The guest tools are being installed, or the agent is starting.
    ToolsInstall,
    /// Up, with the agent.
    AgentRunning,
    /// Up, without any agent, for ever.
    NoAgent,
    /// Nothing to boot from.
    NoBoot,
}

/// A disk or CD-ROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `disk` or `cdrom`.
    pub kind: String,
    /// `virtio`, `ide`, ...
    pub bus: String,
    /// Its name.
    pub name: String,
    /// Bytes (0 for CD-ROMs).
    pub size: u64,
    /// iSCSI URL.
    pub path: String,
    /// The volume of a disk.
    pub volume_uuid: Option<String>,
    /// The policy of a disk.
    pub policy_uuid: Option<String>,
    /// The image of a CD-ROM.
    pub image_uuid: Option<String>,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its interface id.
    pub interface_id: String,
    /// `52:54:00:xx:xx:xx`.
    pub mac: String,
    /// The network.
    pub vlan_uuid: String,
    /// The bridge.
    pub ovs: String,
    /// `virtio`, ...
    pub model: String,
    /// `up` or `down`.
    pub link: String,
    /// Mirrored port.
    pub mirror: bool,
    /// The address pushed by the cluster.
    pub ip: Option<IpAddr>,
    /// Its netmask.
    pub subnet_mask: Option<String>,
    /// Its gateway.
    pub gateway: Option<String>,
}

impl Vm {
    /// Bytes of the system disk.
    #[must_use]
    pub fn system_disk(&self) -> u64 {
        self.disks.iter().find(|disk| disk.kind == "disk").map_or(0, |disk| disk.size)
    }
}
