//! Looks before it makes: which VM of our name is there, and whose it is (`fisheye.md` 7.3, 7.4).

use gantry_proto::Level;
use serde_json::json;

use super::{
    super::story::{fields, read},
    payload::mark_of,
    remove,
};
use crate::{
    facts::{Facts, VmFact},
    fisheye::{Job, Vm},
    step::{StepCx, StepError},
};

/// Type of a VM among a job's resources.
const KVM_VM: &str = "KVM_VM";
/// Looks at the list for a VM that may still appear, one poll interval apart.
const LOOKS: u32 = 3;

/// What the list says about our name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Look {
    /// There is no VM of this name.
    Nothing,
    /// With our mark; a running one first.
    Ours(Vec<Vm>),
    /// Of this name, without our mark.
    Foreign(Box<Vm>),
}

/// Looks once.
pub(super) async fn now(cx: &StepCx) -> Result<Look, StepError> {
    let vms = read(cx, "listing the VMs", cx.outside.fisheye.vms()).await?;
    Ok(look_at(vms, &cx.plan.cloudtower.vm_name, &mark_of(cx)))
}

/// Looks; where an earlier creation may still have its effect, nothing counts only when it was seen several times.
pub(super) async fn settle(cx: &StepCx, facts: &Facts, may_appear: bool) -> Result<Look, StepError> {
    let looks = if may_appear && facts.vm.is_some() { LOOKS } else { 1 };
    for _ in 1..looks {
        let look = now(cx).await?;
        if look != Look::Nothing {
            return Ok(look);
        }
        cx.sleep(cx.settings.timing.scaled(cx.settings.timing.job_poll_s)).await?;
    }
    now(cx).await
}

/// Sorts the VMs of our name. Pure.
pub(in super::super) fn look_at(vms: Vec<Vm>, name: &str, mark: &str) -> Look {
    let (mut ours, foreign): (Vec<Vm>, Vec<Vm>) =
        vms.into_iter().filter(|vm| vm.name == name).partition(|vm| is_ours(vm, name, mark));
    ours.sort_by_key(|vm| !vm.is_running());
    match foreign.into_iter().next() {
        _ if !ours.is_empty() => Look::Ours(ours),
        Some(vm) => Look::Foreign(Box::new(vm)),
        None => Look::Nothing,
    }
}

/// Whether it has our name and bears our mark.
pub(super) fn is_ours(vm: &Vm, name: &str, mark: &str) -> bool {
    vm.name == name && !mark.is_empty() && vm.description.contains(mark)
}

/// Which of a job's resources may be the VM, the likeliest first (C46).
pub(super) fn candidates(job: &Job, name: &str) -> Vec<String> {
    let rank = |kind: &str, named: &str| match (kind == KVM_VM, named == name) {
        (true, true) => Some(0),
        (true, false) => Some(1),
        (false, true) => Some(2),
        (false, false) => None,
    };
    let mut ranked: Vec<(u8, &String)> =
        job.resources.iter().filter_map(|(kind, uuid, named)| Some((rank(kind, named)?, uuid))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, uuid)| uuid.clone()).collect()
}

/// Takes the VM over as ours. There is one; if a lost answer made more of them, the others go.
pub(super) async fn adopt(cx: &StepCx, facts: &mut Facts, vms: Vec<Vm>) -> Result<(), StepError> {
    let mut vms = vms.into_iter();
    let Some(vm) = vms.next() else { return Ok(()) };
    let job_id = facts.vm.as_ref().and_then(|fact| fact.job_id.clone());
    facts.vm = Some(VmFact { job_id, ..VmFact::of(vm.clone(), mark_of(cx)) });
    cx.save(facts).await?;
    let message = format!("the VM {} is {}", vm.name, vm.uuid);
    cx.note(Level::Info, "vm_found", message, fields(json!({"vm_uuid": vm.uuid, "state": vm.status}))).await?;
    for surplus in vms {
        let message = format!("a second VM of this job, {}, is removed", surplus.uuid);
        cx.note(Level::Warning, "surplus_vm", message, fields(json!({"vm_uuid": surplus.uuid}))).await?;
        if let Err(reason) = remove::vm(cx, facts, &surplus.uuid).await? {
            let message = format!("the second VM {} could not be removed: {reason}", surplus.uuid);
            cx.note(Level::Warning, "surplus_vm", message, fields(json!({"vm_uuid": surplus.uuid}))).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(uuid: &str, name: &str, description: &str, status: &str) -> Vm {
        let [uuid, name, description, status] = [uuid, name, description, status].map(str::to_owned);
        Vm { uuid, name, description, status, ..Vm::default() }
    }

    #[test]
    fn only_name_and_mark_together_make_it_ours() {
        let (name, mark) = ("cloudtower", "deployment=1");
        let foreign = vm("f", name, "deployment=2", "running");
        assert_eq!(look_at(vec![vm("x", "other", mark, "running")], name, mark), Look::Nothing);
        assert_eq!(look_at(vec![foreign.clone()], name, mark), Look::Foreign(Box::new(foreign.clone())));
        let stopped = vm("s", name, "text; deployment=1", "stopped");
        let running = vm("r", name, "text; deployment=1", "running");
        assert_eq!(
            look_at(vec![stopped.clone(), foreign, running.clone()], name, mark),
            Look::Ours(vec![running, stopped])
        );
        assert!(!is_ours(&vm("e", name, "anything", "running"), name, ""));
    }

    #[test]
    fn the_vm_is_found_among_a_jobs_resources() {
        let resource = |kind: &str, uuid: &str, name: &str| (kind.to_owned(), uuid.to_owned(), name.to_owned());
        let job = Job {
            resources: vec![
                resource("KVM_VOL", "v", "cloudtower-os"),
                resource("KVM_VM", "other", "x"),
                resource("KVM_VM", "ours", "cloudtower"),
                resource("", "maybe", "cloudtower"),
            ],
            ..Job::default()
        };
        assert_eq!(candidates(&job, "cloudtower"), ["ours", "other", "maybe"]);
    }
}
