//! What stands still in a cluster: nodes, switches, storage policies.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::options::{self, SimOptions};
use crate::rng::named_uuid;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its uuid.
    pub uuid: String,
    /// Its host name.
    pub name: String,
    /// Management address.
    pub management: IpAddr,
    /// Storage address.
    pub storage: IpAddr,
    /// Bytes of memory.
    pub memory: u64,
    /// Logical CPUs.
    pub cores: u32,
}

/// A virtual switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VdsState {
    /// Its uuid.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// The bridge that a NIC names in `ovs`.
    pub bridge: String,
    /// Its networks.
    pub vlans: Vec<VlanState>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanState {
    /// Its uuid.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// 802.1Q id.
    pub vlan_id: u16,
    /// 3 = VM network.
    pub kind: u8,
}

/// A storage policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// Its uuid.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Copies of every byte.
    pub replica_num: u64,
    /// Space is taken when written.
    pub thin_provision: bool,
}

pub(super) fn nodes(options: &SimOptions) -> Vec<NodeState> {
    let state = |(n, node): (usize, &options::Node)| NodeState {
        uuid: named_uuid(&format!("node {}", node.management)),
        name: node.name.clone().unwrap_or_else(|| format!("node{}", n + 1)),
        management: node.management,
        storage: node.storage,
        memory: node.memory,
        cores: node.cores,
    };
    options.nodes.iter().enumerate().map(state).collect()
}

pub(super) fn switches(options: &SimOptions) -> Vec<VdsState> {
    let network = |n: usize, m: usize, vlan: &options::Vlan| VlanState {
        uuid: named_uuid(&format!("vlan {n} {m} {}", vlan.name)),
        name: vlan.name.clone(),
        vlan_id: vlan.vlan_id,
        kind: vlan.kind,
    };
    let state = |(n, vds): (usize, &options::Vds)| {
        let uuid = named_uuid(&format!("vds {n} {}", vds.name));
        VdsState {
            bridge: format!("ovsbr-{}", uuid.replace('-', "").chars().take(9).collect::<String>()),
            uuid,
            name: vds.name.clone(),
            vlans: vds.vlans.iter().enumerate().map(|(m, vlan)| network(n, m, vlan)).collect(),
        }
    };
    options.vds.iter().enumerate().map(state).collect()
}

pub(super) fn policies(options: &SimOptions) -> Vec<PolicyState> {
    let state = |(n, policy): (usize, &options::Policy)| PolicyState {
        uuid: named_uuid(&format!("policy {n} {}", policy.name)),
        name: policy.name.clone(),
        replica_num: policy.replica_num,
        thin_provision: policy.thin_provision,
    };
    options.policies.iter().enumerate().map(state).collect()
}
