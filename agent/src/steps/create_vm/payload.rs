//! What is asked of the cluster for the VM (`fisheye.md` 7.2, R24, R44), and our mark in it (7.4).

use serde_json::{Value, json};

use super::super::story::{permanent, story};
use crate::{
    facts::{Facts, VmFact},
    step::{StepCx, StepError},
};

/// What the description of every VM of this job contains, and no other one's.
pub(in super::super) fn mark_of(cx: &StepCx) -> String {
    VmFact::mark_of(cx.job)
}

/// The body of the creation call. The disk comes before the CD-ROM: the empty disk falls through to the CD at first
/// boot, and the installed one wins afterwards.
pub(super) fn creation(cx: &StepCx, facts: &Facts) -> Result<Value, StepError> {
    let missing = |what: &str| {
        permanent(story("internal", format!("there is no {what} for the VM"), "report it with the job's log"))
    };
    let image = facts.image.as_ref().filter(|image| !image.image_path.is_empty()).ok_or_else(|| missing("image"))?;
    let place = facts.place.as_ref().ok_or_else(|| missing("place"))?;
    let (plan, name) = (&cx.plan.deployment, &cx.plan.cloudtower.vm_name);
    let node_ip = plan.target_host.map(|host| host.to_string());
    Ok(json!({
        "vm_name": name,
        "description": format!("{}; {}", plan.vm_description, mark_of(cx)),
        "vcpu": plan.vm.vcpu,
        "memory": plan.vm.memory_bytes,
        "cpu": { "topology": { "sockets": plan.vm.vcpu, "cores": 1 } },
        "nics": [{
            "ovs": place.ovs, "model": "virtio", "mirror": false, "vlan_uuid": place.vlan_uuid, "link": "up",
        }],
        "disks": [
            {
                "type": "disk", "bus": "virtio", "name": format!("{name}-os"),
                "storage_policy_uuid": place.storage_policy_uuid, "quota_policy": null,
                "size_in_byte": plan.vm.disk_bytes,
            },
            { "type": "cdrom", "bus": "ide", "disabled": false, "path": image.image_path },
        ],
        "ha": true,
        "nested_virtualization": false,
        "hasNormalVol": false,
        "hasSharedVol": false,
        "hasVolume": false,
        "cpu_model": "cluster_default",
        "firmware": "BIOS",
        "diskNamePrefix": name,
        "folder_uuid": null,
        "node_ip": node_ip,
        "auto_schedule": node_ip.is_none(),
        "existDisks": [],
        "quota_policy": null,
        "status": "running",
    }))
}
