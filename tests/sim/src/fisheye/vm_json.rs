//! The VM object on the wire (`fisheye.md` 7.5).

use serde_json::{Value, json};

use crate::core::Core;
use crate::modes::{GuestInfo, Nics};
use crate::world::{Disk, Nic, Phase, Power, VdsState, Vm, World};

/// Silence of the agent after which its data counts as stale, in seconds.
const STALE_AFTER_S: i64 = 120;

/// The object of a VM at this moment.
pub(super) fn vm(core: &Core, world: &World, vm: &Vm) -> Value {
    let modes = core.modes();
    let now = core.clock.now().as_second();
    let status = match vm.power {
        Power::Running => "running",
        Power::Stopped => "stopped",
        Power::Suspended => "suspended",
    };
    let running_since = vm.last_start_time.filter(|_| vm.power == Power::Running);
    let mut object = json!({
        "uuid": vm.uuid, "vm_name": vm.name, "type": "KVM_VM", "description": vm.description,
        "status": status, "resource_state": "in-use", "internal": false,
        "create_time": vm.create_time, "last_start_time": vm.last_start_time,
        "last_shutdown_time": vm.last_shutdown_time.unwrap_or(vm.create_time),
        "update_time": vm.last_start_time.unwrap_or(vm.create_time),
        "uptime": running_since.map_or(0, |since| (now - since).max(0)),
        "node_ip": vm.node_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        "vcpu": vm.vcpu, "memory": vm.memory, "ha": vm.ha, "ha_priority": 500,
        "cpu": {"topology": {"cores": vm.cores, "sockets": vm.sockets}},
        "cpu_model": "cluster_default", "firmware": "BIOS", "guest_os_type": "unknown", "svt_iso": "",
        "vm_version": "elf-1.2", "cloud_init_supported": false,
        "disks": vm.disks.iter().enumerate().map(|(n, entry)| disk(n, entry)).collect::<Vec<_>>(),
        "nics": vm.nics.iter().map(|entry| nic(core, world, vm, entry)).collect::<Vec<_>>(),
    });
    match modes.guest_info {
        GuestInfo::Missing => {}
        GuestInfo::AlwaysNull => object["guest_info"] = Value::Null,
        GuestInfo::WrongType => object["guest_info"] = json!(["unexpected", 7]),
        GuestInfo::Normal => object["guest_info"] = guest_info(core, vm, now),
    }
    object
}

fn disk(n: usize, disk: &Disk) -> Value {
    if disk.kind == "cdrom" {
        return json!({
            "type": "cdrom", "bus": disk.bus, "boot": n + 1, "key": 100 + n, "disabled": false, "path": disk.path,
        });
    }
    json!({
        "type": disk.kind, "bus": disk.bus, "boot": n + 1, "name": disk.name, "size": disk.size, "path": disk.path,
        "storage_policy_uuid": disk.policy_uuid, "volume_uuid": disk.volume_uuid, "serial": disk.volume_uuid,
    })
}

fn nic(core: &Core, world: &World, vm: &Vm, nic: &Nic) -> Value {
    let on_switch = |vds: &VdsState| vds.vlans.iter().find(|vlan| vlan.uuid == nic.vlan_uuid).cloned();
    let network = world.vds.iter().find_map(|vds| Some((vds, on_switch(vds)?)));
    let vlans = network.map(|(vds, vlan)| {
        json!({
            "uuid": vlan.uuid, "vds_uuid": vds.uuid, "name": vlan.name, "vlan_id": vlan.vlan_id,
            "type": vlan.kind, "mode_type": "vlan_access",
        })
    });
    let mut object = json!({
        "mac_address": nic.mac, "interface_id": nic.interface_id, "link": nic.link, "model": nic.model,
        "mirror": nic.mirror, "ovs": nic.ovs, "ovs_health_status": "healthy", "pci_address": "0000:00:04.0",
        "queues": vm.vcpu, "type": "VLAN", "gateway": nic.gateway.as_deref().unwrap_or(""),
        "vlan_uuid": nic.vlan_uuid,
        "vlans": vlans.into_iter().collect::<Vec<_>>(),
    });
    if let Some(ip) = nic.ip {
        object["ip_address"] = json!(ip.to_string());
        object["subnet_mask"] = json!(nic.subnet_mask);
    }
    if core.modes().nics == Nics::NoMac
        && let Value::Object(map) = &mut object
    {
        map.shift_remove("mac_address");
    }
    object
}

fn guest_info(core: &Core, vm: &Vm, now: i64) -> Value {
    let modes = core.modes();
    let state = match vm.phase {
        Phase::Off if vm.agent_seen.is_some() => "NotRunning",
        Phase::Bios if vm.installed && vm.agent_seen.is_some() => "NotRunning",
        Phase::FirstBoot | Phase::NoAgent if modes.not_installed_word => "NotInstalled",
        Phase::ToolsInstall => "NotRunning",
        Phase::AgentRunning => modes.agent_word.as_str(),
        _ => return Value::Null,
    };
    let Some(seen) = vm.agent_seen else {
        return json!({"ga_state": state, "expired": false, "nics": []});
    };
    let running = vm.agent_runs();
    let reported = if running { now } else { seen };
    json!({
        "ga_state": state, "ga_version": 4_000_000, "mounted": false,
        "expired": vm.expired || now - reported > STALE_AFTER_S,
        "os_version": "openEuler 20.03 (LTS-SP3)", "hostname": "localhost.localdomain",
        "kernel_info": "4.19.90-2307.3.0.oe1.smartx.37.x86_64",
        "dns_servers": [], "gateway_ips": ["::"], "update_time": reported, "vip": null,
        "nics": guest_nics(vm),
        "storage": {"mount_points": [
            {"path": "/", "type": "ext4", "size": 399_619_276_800_u64, "used": 8_683_937_792_u64}
        ]},
    })
}

fn guest_nics(vm: &Vm) -> Value {
    let mut list = vec![json!({
        "name": "lo", "hardware_address": "00:00:00:00:00:00", "ip_addresses": [
            {"ip_address": "127.0.0.1", "ip_address_type": "ipv4", "netmask": "255.0.0.0", "prefix": "8"}],
    })];
    if let Some(nic) = vm.nics.first() {
        let shown = vm.guest_ip.filter(|_| vm.shows_ip).map(|ip| {
            let kind = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
            json!({"ip_address": ip.to_string(), "ip_address_type": kind, "netmask": nic.subnet_mask})
        });
        let ip_type = if shown.is_some() { "static" } else { "dhcp" };
        list.push(json!({
            "name": "ens4", "hardware_address": nic.mac, "ip_type": ip_type,
            "ip_addresses": shown.into_iter().collect::<Vec<_>>(),
        }));
    }
    list.into()
}
