//! Volumes of VMs, and the VMs that stand in the cluster from the start.

use serde::{Deserialize, Serialize};

use super::{Disk, Nic, Phase, Power, Vm, World};
use crate::core::Core;
use crate::options::PlantedVm;
use crate::rng::{hex, named_uuid};

/// A volume of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its uuid.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// iSCSI URL.
    pub path: String,
    /// Its policy.
    pub policy_uuid: String,
    /// The VM it belongs to; none = an orphan.
    pub vm_uuid: Option<String>,
    /// Bytes taken from the free space.
    pub reserved: u64,
    /// It existed before the run.
    pub foreign: bool,
}

impl World {
    /// Makes a volume for a disk of a VM; thick ones take their space at once.
    pub fn make_volume(&mut self, core: &Core, vm: &str, name: &str, size: u64, policy_uuid: &str) -> Volume {
        let policy = self.policies.iter().find(|policy| policy.uuid == policy_uuid);
        let thick = policy.is_some_and(|policy| !policy.thin_provision);
        let reserved = if thick { size.saturating_mul(policy.map_or(1, |policy| policy.replica_num)) } else { 0 };
        let reserved = reserved.min(self.free_bytes);
        self.free_bytes -= reserved;
        let volume = Volume {
            uuid: core.chance.uuid("volume"),
            name: name.into(),
            size,
            path: self.next_path(),
            policy_uuid: policy_uuid.into(),
            vm_uuid: Some(vm.into()),
            reserved,
            foreign: false,
        };
        self.volumes.insert(volume.uuid.clone(), volume.clone());
        volume
    }

    /// The path a CD-ROM gets: another LUN than its image's.
    pub fn clone_lun(&mut self) -> String {
        self.next_path()
    }

    /// Adds VMs of somebody else.
    pub(crate) fn plant_vms(&mut self, planted: &PlantedVm, now: i64) {
        for n in 0..planted.count {
            let number = self.vms.len();
            let uuid = named_uuid(&format!("vm {} {number}", planted.name));
            let node = self.nodes.get(number.checked_rem(self.nodes.len()).unwrap_or(0));
            let node_ip = node.map(|node| node.storage);
            let vlan = self.vds.iter().flat_map(|vds| &vds.vlans).find(|vlan| vlan.kind == 3);
            let nic = Nic {
                interface_id: named_uuid(&format!("nic {uuid}")),
                mac: format!("52:54:00:{}", colons(&named_uuid(&uuid))),
                vlan_uuid: vlan.map(|vlan| vlan.uuid.clone()).unwrap_or_default(),
                ovs: self.vds.first().map(|vds| vds.bridge.clone()).unwrap_or_default(),
                model: "virtio".into(),
                link: "up".into(),
                mirror: false,
                ip: None,
                subnet_mask: None,
                gateway: None,
            };
            let volume = Volume {
                uuid: named_uuid(&format!("volume {uuid}")),
                name: format!("{}-disk", planted.name),
                size: 40 << 30,
                path: self.next_path(),
                policy_uuid: self.policies.first().map(|policy| policy.uuid.clone()).unwrap_or_default(),
                vm_uuid: Some(uuid.clone()),
                reserved: 0,
                foreign: true,
            };
            let disk = Disk {
                kind: "disk".into(),
                bus: "virtio".into(),
                name: volume.name.clone(),
                size: volume.size,
                path: volume.path.clone(),
                volume_uuid: Some(volume.uuid.clone()),
                policy_uuid: Some(volume.policy_uuid.clone()),
                image_uuid: None,
            };
            let vm = Vm {
                name: if planted.count > 1 { format!("{}-{n}", planted.name) } else { planted.name.clone() },
                description: planted.description.clone(),
                vcpu: planted.vcpu,
                sockets: planted.vcpu,
                cores: 1,
                memory: planted.memory,
                ha: true,
                power: if planted.running { Power::Running } else { Power::Stopped },
                node_ip,
                disks: vec![disk],
                nics: vec![nic],
                create_time: now - 86_400,
                last_start_time: planted.running.then_some(now - 86_391),
                last_shutdown_time: None,
                phase: if planted.running { Phase::AgentRunning } else { Phase::Off },
                boot: 1,
                installed: true,
                tools: true,
                agent_seen: Some(now - 86_000),
                expired: false,
                guest_ip: None,
                shows_ip: false,
                visible: true,
                foreign: true,
                power_losses: 0,
                uuid: uuid.clone(),
            };
            self.volumes.insert(volume.uuid.clone(), volume);
            self.vms.insert(uuid, vm);
        }
    }
}

/// A seeded MAC, or the scenario's fixed one.
#[must_use]
pub fn new_mac(core: &Core) -> String {
    let seeded = || format!("52:54:00:{}", colons(&hex(&core.chance.bytes::<3>("mac"))));
    core.options.guest_mac.clone().unwrap_or_else(seeded)
}

fn colons(digits: &str) -> String {
    let digits: Vec<char> = digits.chars().filter(char::is_ascii_hexdigit).take(6).collect();
    digits.chunks(2).map(|pair| pair.iter().collect::<String>()).collect::<Vec<_>>().join(":")
}
