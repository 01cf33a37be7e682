//! Removes the VM with its volumes (`flow.md` 5): force stop, delete, make sure, look for orphans. Only what is in the
//! facts and bears our mark is touched; what stays is listed.

use std::collections::BTreeSet;

use gantry_proto::{Leftover, event::IntentResult};
use serde_json::json;

use super::{
    super::{
        evidence, job,
        story::{fields, permanent, story},
    },
    look::{self, Look},
    payload::mark_of,
};
use crate::{
    facts::{Facts, VmFact},
    fisheye::{Created, Error, Job, JobState, Vm},
    step::{StepCx, StepError},
};

/// Removes every VM of this job. Says what was removed.
pub(super) async fn undo(cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
    if facts.vm.is_none() && cx.log.may_lack_facts() {
        let (name, mark) = (cx.plan.cloudtower.vm_name.clone(), mark_of(cx));
        facts.vm = Some(VmFact { name, mark, ..VmFact::default() });
    }
    let Some(fact) = facts.vm.clone() else { return Ok(Vec::new()) };
    let mut uuids: BTreeSet<String> = fact.uuid.iter().cloned().collect();
    // Where the creation's end is not known, a VM may still appear.
    let sure = fact.uuid.is_some();
    match look::settle(cx, facts, !sure).await? {
        Look::Ours(vms) => uuids.extend(vms.into_iter().map(|vm| vm.uuid)),
        Look::Foreign(_) | Look::Nothing => {}
    }
    let mut removed = Vec::new();
    let mut failed: Option<(String, String)> = None;
    for uuid in &uuids {
        evidence::of_vm(cx, &fact, uuid).await?;
        match vm(cx, facts, uuid).await? {
            Ok(true) => removed.push(format!("the VM {} ({uuid})", fact.name)),
            Ok(false) => {}
            // The one of the facts, when it is among those that stay.
            Err(_) if failed.as_ref().is_some_and(|(known, _)| fact.uuid.as_ref() == Some(known)) => {}
            Err(reason) => failed = Some((uuid.clone(), reason)),
        }
    }
    if uuids.is_empty() {
        note_pending_job(cx, facts, &fact).await?;
    }
    if let Some((uuid, reason)) = failed {
        if fact.uuid.as_ref() != Some(&uuid) {
            // The facts name what is still there, not what is gone.
            facts.vm = Some(VmFact { uuid: Some(uuid.clone()), volumes: Vec::new(), ..fact.clone() });
        }
        cx.save(facts).await?;
        let message = format!("the VM {} ({uuid}) could not be removed: {reason}", fact.name);
        return Err(permanent(story("vm_not_removed", message, leftover_vm(&fact, &uuid).remedy)));
    }
    facts.vm = None;
    cx.save(facts).await?;
    Ok(removed)
}

/// What a failed creation job has left behind goes before the next try.
pub(super) async fn leftovers_of_a_failed_job(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let known = facts.vm.as_ref().is_some_and(|fact| fact.job_id.is_some());
    if !known {
        // The answer was lost: what appears now is the VM itself, to be adopted.
        return Ok(());
    }
    if let Look::Ours(vms) = look::now(cx).await? {
        for found in vms {
            if let Err(reason) = vm(cx, facts, &found.uuid).await? {
                let message = format!("what a failed job left of the VM {} could not be removed: {reason}", found.uuid);
                return Err(permanent(story("vm_not_removed", message, "delete the VM in the cluster's web page")));
            }
        }
    }
    Ok(())
}

/// Removes one VM. `Ok(false)`: it was gone already. The inner error says why it is still there; then it is listed.
pub(super) async fn vm(cx: &StepCx, facts: &mut Facts, uuid: &str) -> Result<Result<bool, String>, StepError> {
    let timing = &cx.settings.timing;
    let (name, mark) = (cx.plan.cloudtower.vm_name.clone(), mark_of(cx));
    // Those of another VM, such as the one that stays when a second one goes, are not its own.
    let known = facts.vm.iter().filter(|fact| fact.uuid.as_deref() == Some(uuid));
    let mut volumes: BTreeSet<String> = known.flat_map(|fact| fact.volumes.clone()).collect();
    let mut reason = String::new();
    let mut touched = false;
    for attempt in 1..=timing.undo_attempts.max(1) + 1 {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.undo_retry_s)).await?;
        }
        let found = match cx.outside.fisheye.vm(uuid).await {
            Ok(None) => {
                orphans(cx, facts, &volumes).await;
                facts.no_longer_left("vm", uuid);
                return Ok(Ok(touched));
            }
            Ok(Some(vm)) => vm,
            Err(error) => {
                reason = told(&error);
                continue;
            }
        };
        if !look::is_ours(&found, &name, &mark) {
            // Somebody has taken it over: not ours to delete.
            reason = "it does not bear this job's mark any more".to_owned();
            break;
        }
        if attempt > timing.undo_attempts.max(1) {
            // The last look was only to see whether the last attempt has worked.
            break;
        }
        volumes.extend(found.volumes.iter().cloned());
        touched = true;
        match stop_and_delete(cx, &found).await? {
            Ok(()) => reason = "the cluster's job ended, but the VM is still there".to_owned(),
            Err(said) => reason = said,
        }
    }
    let fact = VmFact { name, ..VmFact::default() };
    facts.leave(leftover_vm(&fact, uuid));
    Ok(Err(reason))
}

/// One attempt. What went wrong on the way is told, and the next look decides.
async fn stop_and_delete(cx: &StepCx, vm: &Vm) -> Result<Result<(), String>, StepError> {
    let fisheye = &cx.outside.fisheye;
    if vm.status != "stopped" {
        let stopped = acted(cx, "stop_vm", vm, fisheye.stop_vm(&vm.uuid)).await?;
        if let Err(said) = stopped {
            tracing::debug!(vm = vm.uuid, said, "the VM could not be stopped; it is deleted all the same");
        }
    }
    acted(cx, "delete_vm", vm, fisheye.delete_vm(&vm.uuid)).await
}

/// A call that starts a job, and the job's end.
async fn acted(
    cx: &StepCx,
    call: &str,
    vm: &Vm,
    sent: impl Future<Output = Result<Created, Error>>,
) -> Result<Result<(), String>, StepError> {
    let intent = cx.intend(call, fields(json!({"vm_uuid": vm.uuid, "name": vm.name}))).await?;
    let created = match sent.await {
        Ok(created) => created,
        Err(error) => {
            let result = if error.had_no_effect() { IntentResult::Failed } else { IntentResult::Unknown };
            cx.outcome(intent, result, fields(json!({"error": error.kind.to_string()}))).await?;
            return Ok(if error.is_gone() { Ok(()) } else { Err(told(&error)) });
        }
    };
    cx.outcome(intent, IntentResult::Done, fields(json!({"job_id": created.job_id}))).await?;
    let Some(id) = created.job_id else { return Ok(Ok(())) };
    Ok(match job::wait(cx, &id, &call.replace('_', "-")).await? {
        job::Ended::Done(_) | job::Ended::Unknown => Ok(()),
        job::Ended::Failed(Job { failure, .. }) => Err(format!("the cluster's job {id} failed: {failure}")),
        job::Ended::Late(word) => Err(format!("the cluster's job {id} is still {word}")),
    })
}

/// Volumes of the VM that outlived it are listed; there is no documented way to delete them.
async fn orphans(cx: &StepCx, facts: &mut Facts, volumes: &BTreeSet<String>) {
    if volumes.is_empty() {
        return;
    }
    let left = match cx.outside.fisheye.volumes().await {
        Ok(left) => left,
        Err(error) => {
            tracing::warn!(error = told(&error), "the volumes cannot be listed: not known whether one is left");
            return;
        }
    };
    for volume in left.into_iter().filter(|volume| volume.mounted_by == 0 && volumes.contains(&volume.uuid)) {
        let remedy = format!("delete the volume \"{}\" ({}) in the cluster's web page", volume.name, volume.uuid);
        facts.leave(Leftover { kind: "volume".to_owned(), id: volume.uuid, name: volume.name, remedy });
    }
}

/// A creation that is still queued may make the VM after we are gone: that is listed. Only an end that is known, or a
/// job that is not known any more, is an end.
async fn note_pending_job(cx: &StepCx, facts: &mut Facts, fact: &VmFact) -> Result<(), StepError> {
    let Some(id) = &fact.job_id else { return Ok(()) };
    let timing = &cx.settings.timing;
    for attempt in 1..=timing.undo_attempts.max(1) {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.undo_retry_s)).await?;
        }
        match cx.outside.fisheye.job(id).await {
            Ok(job) if job.state == JobState::Running => break,
            Ok(_) => return Ok(()),
            Err(error) if error.is_gone() => return Ok(()),
            Err(error) => tracing::debug!(job = id, error = told(&error), "the job cannot be looked at"),
        }
    }
    let remedy = format!(
        "the cluster's job {id} is not known to have ended: look whether it makes a VM \"{}\" after all, and delete that",
        fact.name
    );
    facts.leave(Leftover { remedy, ..VmFact { uuid: None, ..fact.clone() }.leftover() });
    Ok(())
}

fn leftover_vm(fact: &VmFact, uuid: &str) -> Leftover {
    let remedy =
        format!("power the VM \"{}\" ({uuid}) off in the cluster's web page and delete it with its volumes", fact.name);
    Leftover { kind: "vm".to_owned(), id: uuid.to_owned(), name: fact.name.clone(), remedy }
}

fn told(error: &Error) -> String {
    gantry_proto::error::causes(error).join(": ")
}
