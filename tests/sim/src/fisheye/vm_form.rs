//! The forms of VM creation and network change, validated as the cluster would (`fisheye.md` 7.2 and 7.7).

use std::net::IpAddr;

use axum::response::Response;
use serde_json::Value;

use super::envelope;
use crate::core::Core;
use crate::modes::Nics;
use crate::world::{Disk, Nic, Phase, Power, Vm, World, new_mac};

/// A valid creation form.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) start: bool,
    description: String,
    vcpu: u32,
    sockets: u32,
    cores: u32,
    memory: u64,
    ha: bool,
    node_ip: Option<IpAddr>,
    nics: Vec<Nic>,
    disks: Vec<WantedDisk>,
}

enum WantedDisk {
    Disk { bus: String, name: String, size: u64, policy: String },
    Cdrom { bus: String, image: String },
}

/// Checks a creation form.
pub(super) fn parse(core: &Core, world: &World, form: &Value) -> Result<Wanted, Response> {
    let wrong = |field: &str, msg: &str| envelope::form_error(core, field, msg);
    let name = text(form, "vm_name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong("vm_name", "this field is required"))?;
    let count = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let vcpu = count(form.get("vcpu")).filter(|n| *n > 0).ok_or_else(|| wrong("vcpu", "must be above 0"))?;
    let sockets = count(form.pointer("/cpu/topology/sockets"));
    let cores = count(form.pointer("/cpu/topology/cores"));
    let (Some(sockets), Some(cores)) = (sockets, cores) else {
        return Err(wrong("cpu", "topology is required"));
    };
    if sockets.checked_mul(cores) != Some(vcpu) {
        return Err(wrong("cpu", "sockets times cores must be vcpu"));
    }
    let memory = form.get("memory").and_then(Value::as_u64).filter(|bytes| *bytes > 0);
    let memory = memory.ok_or_else(|| wrong("memory", "must be above 0"))?;
    let list = |field: &str| form.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let nics = list("nics").iter().map(|entry| nic(core, world, entry, None)).collect::<Result<Vec<_>, _>>()?;
    let disks = list("disks").iter().map(|entry| disk(core, world, entry)).collect::<Result<Vec<_>, _>>()?;
    let node_ip = match text(form, "node_ip") {
        None => None,
        Some(text) => {
            let node = text.parse().ok().filter(|ip| world.nodes.iter().any(|node| node.storage == *ip));
            Some(node.ok_or_else(|| wrong("node_ip", "is not the storage address of a node"))?)
        }
    };
    Ok(Wanted {
        name: name.to_owned(),
        start: text(form, "status") == Some("running"),
        description: text(form, "description").unwrap_or("").to_owned(),
        vcpu,
        sockets,
        cores,
        memory,
        ha: form.get("ha").and_then(Value::as_bool).unwrap_or(false),
        node_ip,
        nics,
        disks,
    })
}

/// Makes the VM with its volumes; it is not yet in the world. No node is chosen when none has enough memory.
pub(super) fn build(core: &Core, world: &mut World, wanted: Wanted) -> Vm {
    let uuid = core.chance.uuid("vm");
    let disks = wanted.disks.into_iter().map(|disk| match disk {
        WantedDisk::Disk { bus, name, size, policy } => {
            let volume = world.make_volume(core, &uuid, &name, size, &policy);
            Disk {
                kind: "disk".into(),
                bus,
                name,
                size,
                path: volume.path,
                volume_uuid: Some(volume.uuid),
                policy_uuid: Some(policy),
                image_uuid: None,
            }
        }
        WantedDisk::Cdrom { bus, image } => Disk {
            kind: "cdrom".into(),
            bus,
            name: String::new(),
            size: 0,
            path: world.clone_lun(),
            volume_uuid: None,
            policy_uuid: None,
            image_uuid: Some(image),
        },
    });
    let disks = disks.collect();
    let modes = core.modes();
    Vm {
        name: wanted.name,
        description: wanted.description,
        vcpu: wanted.vcpu,
        sockets: wanted.sockets,
        cores: wanted.cores,
        memory: wanted.memory,
        ha: wanted.ha,
        power: Power::Stopped,
        node_ip: wanted.node_ip.or_else(|| world.roomiest_node(wanted.memory)),
        disks,
        nics: if modes.nics == Nics::None { Vec::new() } else { wanted.nics },
        create_time: core.clock.now().as_second(),
        last_start_time: None,
        last_shutdown_time: None,
        phase: Phase::Off,
        boot: 0,
        installed: false,
        tools: false,
        agent_seen: None,
        expired: false,
        guest_ip: None,
        shows_ip: false,
        visible: false,
        foreign: false,
        power_losses: modes.power_off_during_install,
        uuid,
    }
}

/// Checks one NIC. Without a MAC it is a new card; with one it keeps the old card's interface id.
pub(super) fn nic(core: &Core, world: &World, form: &Value, vm: Option<&Vm>) -> Result<Nic, Response> {
    let wrong = |field: &str, msg: &str| envelope::form_error(core, field, msg);
    let vlan_uuid = text(form, "vlan_uuid").unwrap_or("");
    let switch = world.vds.iter().find(|vds| vds.vlans.iter().any(|vlan| vlan.uuid == vlan_uuid));
    let switch = switch.ok_or_else(|| wrong("vlan_uuid", "is not a known network"))?;
    let ovs = text(form, "ovs").unwrap_or("");
    if ovs != switch.bridge {
        return Err(wrong("ovs", "is not the bridge of the network's switch"));
    }
    let mac = text(form, "mac_address").filter(|mac| !mac.is_empty());
    let old = vm.and_then(|vm| vm.nics.iter().find(|nic| mac.is_some_and(|mac| nic.mac.eq_ignore_ascii_case(mac))));
    let ip = match text(form, "ip_address").filter(|ip| !ip.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| wrong("ip_address", "is not an address"))?),
    };
    Ok(Nic {
        interface_id: old.map_or_else(|| core.chance.uuid("nic"), |nic| nic.interface_id.clone()),
        mac: mac.map_or_else(|| new_mac(core), str::to_ascii_lowercase),
        vlan_uuid: vlan_uuid.into(),
        ovs: ovs.into(),
        model: text(form, "model").unwrap_or("virtio").into(),
        link: text(form, "link").unwrap_or("up").into(),
        mirror: form.get("mirror").and_then(Value::as_bool).unwrap_or(false),
        ip,
        subnet_mask: text(form, "subnet_mask").map(str::to_owned),
        gateway: text(form, "gateway").map(str::to_owned),
    })
}

fn disk(core: &Core, world: &World, form: &Value) -> Result<WantedDisk, Response> {
    let wrong = |field: &str, msg: &str| envelope::form_error(core, field, msg);
    let bus = text(form, "bus").unwrap_or("virtio").to_owned();
    match text(form, "type") {
        Some("disk") => {
            let size = form.get("size_in_byte").and_then(Value::as_u64).filter(|bytes| *bytes > 0);
            let policy = text(form, "storage_policy_uuid").unwrap_or("");
            if !world.policies.iter().any(|known| known.uuid == policy) {
                return Err(wrong("storage_policy_uuid", "is not a known policy"));
            }
            Ok(WantedDisk::Disk {
                bus,
                name: text(form, "name").unwrap_or("disk").to_owned(),
                size: size.ok_or_else(|| wrong("size_in_byte", "must be above 0"))?,
                policy: policy.to_owned(),
            })
        }
        Some("cdrom") => {
            let path = text(form, "path").filter(|path| !path.is_empty());
            let image = path.and_then(|path| world.images.values().find(|image| image.path == path));
            let image = image.ok_or_else(|| wrong("path", "is not a known image"))?;
            Ok(WantedDisk::Cdrom { bus, image: image.uuid.clone() })
        }
        _ => Err(wrong("type", "must be disk or cdrom")),
    }
}

fn text<'a>(form: &'a Value, field: &str) -> Option<&'a str> {
    form.get(field).and_then(Value::as_str)
}
