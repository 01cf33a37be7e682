//! What the cluster itself says: login, clock, capacity, the VM's name, and where the VM goes (1.7 to 1.11).

use gantry_proto::Failure;

use super::{
    super::{
        create_vm::{Look, look_at, mark_of, taken},
        place,
        story::{permanent, read},
    },
    Outcome, Report,
    capacity::{self, Fit},
    compat,
    iso_file::Usable,
    space,
};
use crate::{
    facts::{Facts, VmFact},
    fisheye::{ErrorKind, HostInfo, Vm},
    step::StepError,
};

/// Logs in and asks. Without a session the other checks are skipped. `iso`: where there is one.
pub(super) async fn check(report: &mut Report<'_>, facts: &mut Facts, iso: Option<&Usable>) -> Result<(), StepError> {
    let arch = iso.map(Usable::arch);
    if !login(report).await? {
        for check in ["clock", "capacity", "cpu", "architecture", "vm_name", "storage_policy", "network"] {
            report.tell(check, "", Outcome::Skipped, format!("{check} was not checked: there is no session")).await?;
        }
        return Ok(());
    }
    clock(report).await?;
    let hosts = hosts(report, facts).await?;
    if let Some(vms) = vms(report).await? {
        vm_name(report, &vms, facts).await?;
        // One of ours that was found just now needs no more room.
        if let Some(hosts) = hosts.filter(|_| !has_vm(facts)) {
            capacity(report, &hosts, &vms).await?;
            compatibility(report, &hosts, arch).await?;
        }
    }
    places(report, iso.map(Usable::size)).await
}

/// 1.7. A refused password ends everything (lock-out risk).
async fn login(report: &mut Report<'_>) -> Result<bool, StepError> {
    let cx = report.cx;
    let target = cx.outside.fisheye.base_url();
    let outcome = tokio::select! {
        biased;
        () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
        outcome = cx.outside.fisheye.login() => outcome,
    };
    let Err(error) = outcome else {
        let target = cx.outside.fisheye.base_url();
        report.logged_in = true;
        report.ok("login", &target, format!("logged in to Fisheye at {target}")).await?;
        return Ok(true);
    };
    let failure = error.failure("logging in");
    let final_word = matches!(error.kind, ErrorKind::Credentials | ErrorKind::LockedOut(_));
    report.fail("login", &target, failure.clone()).await?;
    if final_word { Err(permanent(failure)) } else { Ok(false) }
}

/// 1.11, the other half.
async fn clock(report: &Report<'_>) -> Result<(), StepError> {
    let Some(skew) = report.cx.outside.fisheye.clock_skew() else { return Ok(()) };
    let target = report.cx.outside.fisheye.base_url();
    let (most, by) = (report.cx.settings.precheck.clock_skew_s, skew.unsigned_abs());
    if by > most {
        let message = format!("the clocks of the bastion and of the cluster differ by {by} s");
        return report.warn("clock", &target, message).await;
    }
    report.ok("clock", &target, format!("the clocks differ by {by} s")).await
}

async fn vms(report: &mut Report<'_>) -> Result<Option<Vec<Vm>>, StepError> {
    match read(report.cx, "listing the VMs", report.cx.outside.fisheye.vms()).await {
        Ok(vms) => Ok(Some(vms)),
        Err(error) => keep(report, "vm_name", error).await.map(|()| None),
    }
}

/// 1.9: free, or ours already.
async fn vm_name(report: &mut Report<'_>, vms: &[Vm], facts: &mut Facts) -> Result<(), StepError> {
    let (cx, name) = (report.cx, report.cx.plan.cloudtower.vm_name.clone());
    let mark = facts.vm.as_ref().map_or_else(|| mark_of(cx), |vm| vm.mark.clone());
    match look_at(vms.to_vec(), &name, &mark) {
        Look::Nothing => report.ok("vm_name", &name, format!("the VM name \"{name}\" is free")).await,
        Look::Ours(vms) => {
            if cx.log.may_lack_facts() && !has_vm(facts) {
                facts.vm = vms.into_iter().next().map(|vm| VmFact::of(vm, mark));
                cx.save(facts).await?;
            }
            report.ok("vm_name", &name, format!("the VM \"{name}\" is of this job")).await
        }
        Look::Foreign(vm) => report.fail("vm_name", &name, taken(&vm)).await,
    }
}

/// Whether the VM of this job is known to be there.
fn has_vm(facts: &Facts) -> bool {
    facts.vm.as_ref().is_some_and(|vm| vm.uuid.is_some())
}

/// What 1.8 needs to know. `None`: there is nothing to judge, which is told.
async fn hosts(report: &mut Report<'_>, facts: &Facts) -> Result<Option<Vec<HostInfo>>, StepError> {
    let cx = report.cx;
    if has_vm(facts) {
        return report.ok("capacity", "", "the VM of this job is there already").await.map(|()| None);
    }
    match read(cx, "listing the hosts", cx.outside.fisheye.hosts()).await {
        Ok(hosts) => Ok(Some(hosts)),
        Err(StepError::Permanent(failure)) => {
            let message = format!(
                "the capacity of the hosts is not known ({}); the cluster decides when the VM is made",
                failure.message
            );
            report.warn("capacity", "", message).await.map(|()| None)
        }
        Err(error) => Err(error),
    }
}

/// 1.8: refused only with positive knowledge.
async fn capacity(report: &mut Report<'_>, hosts: &[HostInfo], vms: &[Vm]) -> Result<(), StepError> {
    let cx = report.cx;
    let need = cx.plan.deployment.vm.memory_bytes;
    let pinned = cx.plan.deployment.target_host.map(|host| host.to_string());
    match capacity::fit(hosts, vms, need, pinned.as_deref(), &cx.settings.precheck) {
        Fit::Fits(message) => report.ok("capacity", "", message).await,
        Fit::Doubtful(message) => report.warn("capacity", "", message).await,
        Fit::No(message) => {
            let remedy = "free memory on a host of the cluster, or plan a smaller VM (deployment.vm.memory_bytes)";
            report.fail("capacity", "", super::story("capacity_missing", message, remedy)).await
        }
    }
}

/// Whether a host can run it at all (R25).
async fn compatibility(report: &mut Report<'_>, hosts: &[HostInfo], arch: Option<&str>) -> Result<(), StepError> {
    let deployment = &report.cx.plan.deployment;
    let pinned = deployment.target_host.map(|host| host.to_string());
    let cpus = compat::cpus(hosts, pinned.as_deref(), deployment.vm.vcpu);
    let architecture = arch.map(|arch| compat::architecture(hosts, pinned.as_deref(), arch));
    for (check, fit) in [("cpu", Some(cpus)), ("architecture", architecture)] {
        match fit {
            Some(Fit::Fits(message)) => report.ok(check, "", message).await?,
            Some(Fit::Doubtful(message)) => report.warn(check, "", message).await?,
            Some(Fit::No(message)) => {
                let remedy = "copy the ISO for the hosts' architecture into the ISO directory on the bastion";
                report.fail(check, "", super::story("iso_wrong_architecture", message, remedy)).await?;
            }
            None => {}
        }
    }
    Ok(())
}

/// 1.10.
async fn places(report: &mut Report<'_>, iso: Option<u64>) -> Result<(), StepError> {
    let cx = report.cx;
    let name = cx.plan.deployment.storage_policy.clone();
    match place::policy(cx).await {
        Ok(Ok(policy)) => {
            told(report, "storage_policy", &name, policy.warning, "the storage policy is there").await?;
            let need = space::need(&policy.what, iso, cx.plan.deployment.vm.disk_bytes);
            report.ok("storage_space", &policy.what.name, need).await?;
        }
        Ok(Err(failure)) => report.fail("storage_policy", &name, *failure).await?,
        Err(error) => keep(report, "storage_policy", error).await?,
    }
    let name = format!("{} / {}", cx.plan.management_network.vds, cx.plan.management_network.network);
    match place::network(cx).await {
        Ok(Ok((_, vlan))) => told(report, "network", &name, vlan.warning, "the network is there").await,
        Ok(Err(failure)) => report.fail("network", &name, *failure).await,
        Err(error) => keep(report, "network", error).await,
    }
}

async fn told(
    report: &Report<'_>,
    check: &str,
    target: &str,
    warning: Option<String>,
    fine: &str,
) -> Result<(), StepError> {
    match warning {
        Some(warning) => report.warn(check, target, warning).await,
        None => report.ok(check, target, fine).await,
    }
}

/// A call that failed is a failed check, unless the job has to stop or the credentials are refused.
async fn keep(report: &mut Report<'_>, check: &str, error: StepError) -> Result<(), StepError> {
    match error {
        StepError::Permanent(failure) if !ends_everything(&failure) => report.fail(check, "", *failure).await,
        error => Err(error),
    }
}

fn ends_everything(Failure { code, .. }: &Failure) -> bool {
    matches!(code.as_str(), "fisheye_credentials_rejected" | "fisheye_login_locked")
}
