//! What a creation needs to know: policies, switches, networks, hosts (`fisheye.md` 8).

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::envelope;
use crate::core::Core;
use crate::modes::{VlanId, VlansShape};
use crate::rng::named_uuid;
use crate::world::{NodeState, Power, VdsState, VlanState, World};

/// `GET /api/v2/storage_policies`.
pub(super) async fn policies(State(core): State<Core>) -> Response {
    let data: Vec<Value> = {
        let world = core.world();
        let whitelist = world.nodes.iter().map(|node| node.storage.to_string()).collect::<Vec<_>>().join(",");
        let entry = |policy: &crate::world::PolicyState| {
            json!({
                "uuid": policy.uuid, "name": policy.name, "description": format!("{} storage policy", policy.name),
                "type": "replica", "replica_num": policy.replica_num, "thin_provision": policy.thin_provision,
                "stripe_num": 4, "stripe_size": 262_144, "storage_pool_id": "system", "read_only": false,
                "resource_state": "in-use", "datastores": [world.datastore_name()], "whitelist": whitelist,
                "created_time": 1_759_223_510, "modified_time": 1_759_243_723,
            })
        };
        world.policies.iter().map(entry).collect()
    };
    answered(&core, data.into()).await
}

/// `GET /api/v2/network/vds`.
pub(super) async fn switches(State(core): State<Core>) -> Response {
    let data: Vec<Value> = core.world().vds.iter().map(vds).collect();
    answered(&core, data.into()).await
}

/// `GET /api/v2/network/vds/{uuid}`.
pub(super) async fn switch(State(core): State<Core>, Path(uuid): Path<String>) -> Response {
    let found = core.world().vds.iter().find(|entry| entry.uuid == uuid).map(vds);
    match found {
        Some(data) => answered(&core, data).await,
        None => envelope::not_found(&core, "VDS"),
    }
}

/// `GET /api/v2/network/vds/{uuid}/vlans`.
pub(super) async fn vlans(State(core): State<Core>, Path(uuid): Path<String>) -> Response {
    let list = {
        let world = core.world();
        world.vds.iter().find(|entry| entry.uuid == uuid).map(|switch| networks(&core, &world, switch))
    };
    match list {
        Some(list) => answered(&core, shaped(&core, list)).await,
        None => envelope::not_found(&core, "VDS"),
    }
}

/// `GET /api/v2/network/vm_vlans/search`: VM networks of all switches.
pub(super) async fn all_vlans(State(core): State<Core>) -> Response {
    let list: Vec<Value> = {
        let world = core.world();
        let all = world.vds.iter().flat_map(|switch| networks(&core, &world, switch));
        all.filter(|vlan| vlan.get("type") == Some(&json!(3))).collect()
    };
    let data = json!({"total_entities": list.len(), "entities": list});
    answered(&core, data).await
}

/// `GET /api/v2/management/hosts`.
pub(super) async fn hosts(State(core): State<Core>) -> Response {
    if core.modes().no_host_list {
        return envelope::not_found(&core, "/api/v2/management/hosts");
    }
    let data: Vec<Value> = {
        let world = core.world();
        world.nodes.iter().map(|node| host(&core, &world, node)).collect()
    };
    answered(&core, data.into()).await
}

async fn answered(core: &Core, data: Value) -> Response {
    core.clock.latency(core.drawn("latency.read", core.options.latencies.read)).await;
    envelope::ok(core, data)
}

fn vds(switch: &VdsState) -> Value {
    let short: String = switch.uuid.chars().take(8).collect();
    json!({
        "uuid": switch.uuid, "name": switch.name, "ovsbr_name": switch.bridge, "bond_mode": "active-backup",
        "bond_name": format!("bond-m-{short}"), "bond_type": "ovs_bond", "type": 1, "work_mode": "single",
        "vlans_count": switch.vlans.len(), "hosts_associated": [], "qos_enable": false, "description": "",
    })
}

fn networks(core: &Core, world: &World, switch: &VdsState) -> Vec<Value> {
    let entry = |vlan: &VlanState| {
        let on_it = |vm: &&crate::world::Vm| vm.nics.iter().any(|nic| nic.vlan_uuid == vlan.uuid);
        let id = match core.modes().vlan_id {
            VlanId::Number => json!(vlan.vlan_id),
            VlanId::String => json!(vlan.vlan_id.to_string()),
        };
        json!({
            "uuid": vlan.uuid, "name": vlan.name, "vds_uuid": switch.uuid, "vlan_id": id, "type": vlan.kind,
            "enable_dhcp": false, "vms_count": world.vms.values().filter(on_it).count(),
        })
    };
    switch.vlans.iter().map(entry).collect()
}

fn shaped(core: &Core, list: Vec<Value>) -> Value {
    match core.modes().vlans_shape {
        VlansShape::Entities => json!({"total_entities": list.len(), "entities": list}),
        VlansShape::Array => list.into(),
    }
}

fn host(core: &Core, world: &World, node: &NodeState) -> Value {
    let mut memory = json!({"total": node.memory});
    if core.modes().host_usage {
        let here = |vm: &&crate::world::Vm| vm.node_ip == Some(node.storage) && vm.power == Power::Running;
        let used: u64 = world.vms.values().filter(here).map(|vm| vm.memory).sum();
        memory["used"] = json!(used);
        memory["available"] = json!(node.memory.saturating_sub(used));
    }
    let serial = named_uuid(&node.uuid).replace('-', "").to_uppercase();
    json!({
        "host_uuid": node.uuid, "name": node.name, "management_ip": node.management, "data_ip": node.storage,
        "rpc_ip": node.storage, "ipmi_ip": null, "model": "Simulated", "sn": serial.get(..10),
        "cpu": {"brand": core.modes().cpu_brand, "num_cores": node.cores, "hz_advertised": "2.4790 GHz"},
        "memory": memory, "nics": [{"name": "eth0", "hwaddr": "52:54:00:00:00:01"}],
    })
}
