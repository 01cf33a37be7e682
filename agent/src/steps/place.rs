//! Where the VM goes: storage policy, switch and network by name (`fisheye.md` 8.1 to 8.3, `flow.md` 3.1). The choices
//! are pure; [`resolve`] asks.

use gantry_proto::{Failure, plan::Network};

use super::story::{read, story};
use crate::{
    facts::PlaceFact,
    fisheye::{Policy, Vds, Vlan},
    step::{StepCx, StepError},
};

/// `type` of a network for VMs; others belong to the system.
const VM_NETWORK: u64 = 3;
/// Names listed in a message, at most.
const MOST_NAMES: usize = 20;

/// A choice, with what a person should know about it.
#[derive(Debug)]
pub(super) struct Chosen<T> {
    pub what: T,
    pub warning: Option<String>,
}

/// Everything that was resolved.
#[derive(Debug)]
pub(super) struct Place {
    pub fact: PlaceFact,
    pub warnings: Vec<String>,
}

/// Asks the cluster and chooses; the first thing that cannot be resolved is the error.
pub(super) async fn resolve(cx: &StepCx) -> Result<Place, StepError> {
    let (policy, network) = (policy(cx).await?, network(cx).await?);
    let policy = policy.map_err(StepError::Permanent)?;
    let (switch, vlan) = network.map_err(StepError::Permanent)?;
    let warnings = policy.warning.into_iter().chain(vlan.warning).collect();
    let fact = PlaceFact {
        storage_policy_uuid: policy.what.uuid,
        vds_uuid: switch.uuid,
        ovs: switch.ovsbr_name,
        vlan_uuid: vlan.what.uuid,
    };
    Ok(Place { fact, warnings })
}

/// The storage policy; the inner error is one of the plan.
pub(super) async fn policy(cx: &StepCx) -> Result<Result<Chosen<Policy>, Box<Failure>>, StepError> {
    let policies = read(cx, "listing the storage policies", cx.outside.fisheye.policies()).await?;
    Ok(pick_policy(&policies, &cx.plan.deployment.storage_policy))
}

/// The switch and its network; the inner error is one of the plan.
pub(super) async fn network(cx: &StepCx) -> Result<Result<(Vds, Chosen<Vlan>), Box<Failure>>, StepError> {
    let network = &cx.plan.management_network;
    let switches = read(cx, "listing the virtual switches", cx.outside.fisheye.switches()).await?;
    let switch = match pick_switch(&switches, &network.vds) {
        Ok(switch) => switch,
        Err(failure) => return Ok(Err(failure)),
    };
    let attempted = format!("listing the networks of {}", switch.name);
    let vlans = read(cx, &attempted, cx.outside.fisheye.vlans(&switch.uuid)).await?;
    Ok(pick_vlan(&vlans, network).map(|vlan| (switch, vlan)))
}

/// By name without case; the only one there is serves as well, with a warning (8.1).
fn pick_policy(policies: &[Policy], name: &str) -> Result<Chosen<Policy>, Box<Failure>> {
    let usable: Vec<&Policy> = policies.iter().filter(|policy| !policy.uuid.is_empty()).collect();
    if let Some(policy) = usable.iter().find(|policy| same(&policy.name, name)) {
        return Ok(Chosen { what: (*policy).clone(), warning: None });
    }
    match usable.as_slice() {
        [only] => {
            let warning = format!("there is no storage policy \"{name}\"; the only one, \"{}\", is used", only.name);
            Ok(Chosen { what: (*only).clone(), warning: Some(warning) })
        }
        _ => Err(Box::new(story(
            "storage_policy_not_found",
            format!("the cluster has no storage policy \"{name}\"; it has {}", names(usable.iter().map(|p| &p.name))),
            "set deployment.storage_policy to one of them",
        ))),
    }
}

fn pick_switch(switches: &[Vds], name: &str) -> Result<Vds, Box<Failure>> {
    let matching: Vec<&Vds> = switches.iter().filter(|switch| same(&switch.name, name)).collect();
    match matching.as_slice() {
        [switch] if !switch.uuid.is_empty() && !switch.ovsbr_name.is_empty() => Ok((*switch).clone()),
        [_] => Err(Box::new(story(
            "vds_incomplete",
            format!("the cluster tells no uuid or bridge for the virtual switch \"{name}\""),
            "look at the switch in the cluster's web page",
        ))),
        [] => Err(Box::new(story(
            "vds_not_found",
            format!("the cluster has no virtual switch \"{name}\"; it has {}", names(switches.iter().map(|s| &s.name))),
            "correct 虚拟网络!C4, or make the switch",
        ))),
        _ => Err(Box::new(story(
            "vds_ambiguous",
            format!("the cluster has several virtual switches \"{name}\""),
            "give them different names",
        ))),
    }
}

/// By name over the whole list first, then by VLAN id; only networks for VMs, and never a guess (C45).
fn pick_vlan(vlans: &[Vlan], network: &Network) -> Result<Chosen<Vlan>, Box<Failure>> {
    let for_vms = |vlan: &&Vlan| !vlan.uuid.is_empty() && vlan.kind.is_none_or(|kind| kind == VM_NETWORK);
    let usable: Vec<&Vlan> = vlans.iter().filter(for_vms).collect();
    let wanted_id = |vlan: &&&Vlan| vlan.vlan_id == Some(u64::from(network.vlan_id));
    let named: Vec<&Vlan> = usable.iter().copied().filter(|vlan| same(&vlan.name, &network.network)).collect();
    let of_id: Vec<&Vlan> = usable.iter().filter(wanted_id).copied().collect();
    let both: Vec<&Vlan> = named.iter().filter(wanted_id).copied().collect();
    let row = network.row;
    match (named.as_slice(), both.as_slice(), of_id.as_slice()) {
        (_, [vlan], _) => Ok(Chosen { what: (*vlan).clone(), warning: None }),
        ([vlan], [], _) => {
            let id = vlan.vlan_id.map_or("unknown".to_owned(), |id| id.to_string());
            let warning = format!(
                "the network \"{}\" has VLAN {id}, the workbook says {}; the name counts",
                vlan.name, network.vlan_id
            );
            Ok(Chosen { what: (*vlan).clone(), warning: Some(warning) })
        }
        ([], _, [vlan]) => {
            let warning = format!(
                "there is no network \"{}\"; \"{}\" has the same VLAN {} and is used",
                network.network, vlan.name, network.vlan_id
            );
            Ok(Chosen { what: (*vlan).clone(), warning: Some(warning) })
        }
        ([], _, []) => Err(Box::new(story(
            "vlan_not_found",
            format!(
                "the switch \"{}\" has neither a network \"{}\" nor one with VLAN {}; it has {}",
                network.vds,
                network.network,
                network.vlan_id,
                names(usable.iter().map(|vlan| &vlan.name))
            ),
            format!("correct 虚拟网络!D{row} and 虚拟网络!F{row}, or make the network"),
        ))),
        _ => Err(Box::new(story(
            "vlan_ambiguous",
            format!(
                "the switch \"{}\" has several networks that could be \"{}\" with VLAN {}",
                network.vds, network.network, network.vlan_id
            ),
            format!("give 虚拟网络!D{row} the name of exactly one network"),
        ))),
    }
}

fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let list: Vec<String> = names.take(MOST_NAMES).map(|name| format!("\"{name}\"")).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlan(uuid: &str, name: &str, vlan_id: u64, kind: Option<u64>) -> Vlan {
        Vlan { uuid: uuid.into(), name: name.into(), vlan_id: Some(vlan_id), kind }
    }

    fn picked(vlans: &[Vlan], name: &str, vlan_id: u16) -> Result<(String, bool), String> {
        let network = Network {
            row: 5,
            vds: "vds".into(),
            network: name.into(),
            vlan_id,
            vlan_type: "Access".into(),
            subnet: "192.0.2.0/24".into(),
            netmask: [255, 255, 255, 0].into(),
            gateway: [192, 0, 2, 1].into(),
        };
        let chosen = pick_vlan(vlans, &network).map_err(|failure| failure.code)?;
        Ok((chosen.what.uuid, chosen.warning.is_some()))
    }

    #[test]
    fn a_name_later_in_the_list_beats_an_earlier_id() {
        let vlans =
            [vlan("sys", "mgt-network", 0, Some(0)), vlan("a", "other", 5, Some(3)), vlan("b", "Default", 7, Some(3))];
        assert_eq!(picked(&vlans, "default", 5), Ok(("b".into(), true)));
        assert_eq!(picked(&vlans, "default", 7), Ok(("b".into(), false)));
        assert_eq!(picked(&vlans, "unknown", 5), Ok(("a".into(), true)));
    }

    #[test]
    fn the_system_network_of_the_same_id_is_never_chosen() {
        let vlans = [vlan("sys", "mgt-network", 0, Some(0)), vlan("a", "default", 0, Some(3))];
        assert_eq!(picked(&vlans, "x", 0), Ok(("a".into(), true)));
        assert_eq!(picked(&vlans[..1], "mgt-network", 0), Err("vlan_not_found".into()));
    }

    #[test]
    fn ambiguity_is_an_error() {
        let untyped = [vlan("sys", "mgt-network", 0, None), vlan("a", "default", 0, None)];
        assert_eq!(picked(&untyped, "x", 0), Err("vlan_ambiguous".into()));
        assert_eq!(picked(&untyped, "default", 0), Ok(("a".into(), false)));
        let twins = [vlan("a", "default", 0, Some(3)), vlan("b", "default", 9, Some(3))];
        assert_eq!(picked(&twins, "default", 9), Ok(("b".into(), false)));
        assert_eq!(picked(&twins, "default", 4), Err("vlan_ambiguous".into()));
        assert_eq!(picked(&[], "default", 4), Err("vlan_not_found".into()));
    }

    #[test]
    fn a_policy_is_found_without_case_or_is_the_only_one() {
        let policy = |uuid: &str, name: &str| Policy { uuid: uuid.into(), name: name.into(), ..Policy::default() };
        let two = [policy("a", "Default"), policy("b", "gold")];
        assert_eq!(pick_policy(&two, "default").unwrap().what.uuid, "a");
        let failure = pick_policy(&two, "silver").unwrap_err();
        assert!(failure.message.contains("\"Default\", \"gold\""), "{}", failure.message);
        assert!(pick_policy(&two[..1], "silver").unwrap().warning.is_some());
        assert!(pick_policy(&[], "silver").is_err());
    }

    #[test]
    fn a_switch_must_be_there_once_and_whole() {
        let vds = |uuid: &str, ovs: &str| Vds { uuid: uuid.into(), name: "V".into(), ovsbr_name: ovs.into() };
        let code = |all: &[Vds]| pick_switch(all, "v").map(|switch| switch.uuid).map_err(|failure| failure.code);
        assert_eq!(code(&[vds("a", "o")]), Ok("a".into()));
        assert_eq!(code(&[]), Err("vds_not_found".into()));
        assert_eq!(code(&[vds("a", "")]), Err("vds_incomplete".into()));
        assert_eq!(code(&[vds("a", "o"), vds("b", "o")]), Err("vds_ambiguous".into()));
    }
}
