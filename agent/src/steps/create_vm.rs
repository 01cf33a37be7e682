//! The VM (`flow.md` 3.1 to 3.3): one, ever. Every creation follows a look at what is there, whatever happened to the
//! answer of the one before; what bears our mark is ours.

mod look;
mod payload;
mod remove;

use async_trait::async_trait;
use gantry_proto::{Failure, Level, StepInfo, event::IntentResult};
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster, evidence, job, place,
    story::{fields, permanent, story, undecided, unsure},
};
use crate::{
    diff::{Diff, Part},
    facts::{Facts, VmFact},
    fisheye::{Created, Error, Job, Vm},
    step::{Step, StepCx, StepError},
};
pub(super) use look::{Look, look_at};
pub(super) use payload::mark_of;

/// Makes the VM and waits until it is there.
pub struct CreateVm;

#[async_trait]
impl Step for CreateVm {
    fn info(&self) -> StepInfo {
        StepInfo { id: "create-vm".into(), title: "Create the VM".to_owned(), weight: 30, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        cluster::enter(cx, facts);
        let begin = Instant::now();
        resolve(cx, facts).await?;
        replace_spoilt(cx, facts).await?;
        make(cx, facts).await?;
        let elapsed = cx.settings.timing.told(begin.elapsed());
        *facts.timings.entry("vm_create_s".to_owned()).or_default() += elapsed;
        cluster::remember(cx, facts).await
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        cluster::enter(cx, facts);
        let name = cx.plan.cloudtower.vm_name.as_str();
        if diff.door(Part::Cluster) == Some(false) {
            diff.unknown(CALL, name, "the cluster cannot be looked at, so it is not known whether the name is free");
            return Ok(());
        }
        match place::resolve(cx).await {
            Ok(place) => place.warnings.into_iter().for_each(|warning| diff.notice(name, warning)),
            Err(StepError::Permanent(failure)) => diff.refuse("", &failure),
            Err(error) => return Err(error),
        }
        match look::now(cx).await? {
            Look::Nothing => {
                let vm = &cx.plan.deployment.vm;
                let (vcpu, gib) = (vm.vcpu, vm.memory_bytes >> 30);
                diff.create(CALL, name, format!("the VM is made with {vcpu} vCPUs and {gib} GiB of memory"));
            }
            Look::Ours(_) => diff.keep(name, "the VM of this deployment is there already"),
            Look::Foreign(vm) => diff.refuse(name, &taken(&vm)),
        }
        Ok(())
    }

    async fn undo(&self, cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
        cluster::enter(cx, facts);
        remove::undo(cx, facts).await
    }
}

/// What an intent of ours is called.
const CALL: &str = "create_vm";

/// How one attempt at a VM ended without a VM.
enum Missed {
    /// Another attempt may follow.
    Retry(Failure),
    /// The server would not have it twice: one of this name is there or on its way.
    Duplicate(Failure),
}

/// 3.1, once more: an upload may have taken hours.
async fn resolve(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let place = place::resolve(cx).await?;
    for warning in place.warnings {
        cx.note(Level::Warning, "resolve", warning, fields(json!({"step": "resolve"}))).await?;
    }
    let plan = &cx.plan;
    for (what, name, uuid) in [
        ("storage policy", &plan.deployment.storage_policy, &place.fact.storage_policy_uuid),
        ("virtual switch", &plan.management_network.vds, &place.fact.vds_uuid),
        ("network", &plan.management_network.network, &place.fact.vlan_uuid),
    ] {
        let extra = json!({"step": "resolve", "name": name, "uuid": uuid});
        cx.note(Level::Info, "resolve", format!("the {what} \"{name}\" is {uuid}"), fields(extra)).await?;
    }
    facts.place = Some(place.fact);
    cx.save(facts).await
}

/// A VM in which the installer has failed half-way is not used again (`cloudtower.md` 2.4): a retry makes another one.
async fn replace_spoilt(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let failed = facts.installer.as_ref().is_some_and(|installer| installer.failed);
    let spoilt = facts
        .vm
        .as_ref()
        .and_then(|vm| vm.uuid.clone())
        .filter(|uuid| failed && facts.inside_of.as_ref() == Some(uuid));
    let Some(uuid) = spoilt else { return Ok(()) };
    let message = format!("the installer has failed in the VM {uuid}: it is removed, and another one is made");
    cx.note(Level::Warning, "vm_replaced", message, fields(json!({"vm_uuid": uuid}))).await?;
    evidence::of_installer(cx, facts).await?;
    remove::undo(cx, facts).await?;
    Ok(())
}

/// 3.2 and 3.3: looks, asks, waits, at most so many times.
async fn make(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    // A creation of an earlier run may still have its effect.
    let mut may_appear = facts.vm.is_some();
    let mut last: Option<Failure> = None;
    // A VM that was seen (its uuid is a fact) is beyond its job; a job whose end is not known comes before anything else.
    if let Some(id) = facts.vm.as_ref().filter(|vm| vm.uuid.is_none()).and_then(|vm| vm.job_id.clone()) {
        match follow(cx, facts, &id).await? {
            Ok(()) => return Ok(()),
            Err(Missed::Duplicate(failure)) => last = Some(failure),
            Err(Missed::Retry(failure)) => {
                remove::leftovers_of_a_failed_job(cx, facts).await?;
                last = Some(failure);
            }
        }
    }
    for attempt in 1..=timing.vm_create_retries + 1 {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.vm_create_retry_s)).await?;
        }
        match settle(cx, facts, may_appear).await? {
            Look::Ours(vms) => return look::adopt(cx, facts, vms).await,
            Look::Foreign(vm) => return Err(undecided(stranger(&vm))),
            Look::Nothing => {}
        }
        let missed = match ask(cx, facts, attempt).await? {
            Ok(created) => match follow_created(cx, facts, created).await? {
                Ok(()) => return Ok(()),
                Err(missed) => missed,
            },
            Err(error) if error.mentions("VM_DUPLICATED_NAME") => Missed::Duplicate(error.failure("creating the VM")),
            Err(error) if error.had_no_effect() && !error.kind.is_transient() => {
                return Err(permanent(error.failure("creating the VM")));
            }
            Err(error) => Missed::Retry(error.failure("creating the VM")),
        };
        may_appear = true;
        let failure = match missed {
            Missed::Retry(failure) => {
                remove::leftovers_of_a_failed_job(cx, facts).await?;
                failure
            }
            Missed::Duplicate(failure) => failure,
        };
        let extra = fields(json!({"step": "vm_create", "attempt": attempt, "error": failure.message}));
        cx.note(
            Level::Warning,
            "vm_create_retry",
            format!("attempt {attempt} to create the VM failed: {}", failure.message),
            extra,
        )
        .await?;
        last = Some(failure);
    }
    // The last answer may have been lost, too.
    if let Look::Ours(vms) = settle(cx, facts, true).await? {
        return look::adopt(cx, facts, vms).await;
    }
    let mut failure = last.unwrap_or_default();
    failure.message =
        format!("the VM could not be created in {} attempts: {}", timing.vm_create_retries + 1, failure.message);
    Err(permanent(failure))
}

/// What a creation without an answer may have done.
const MADE: &str = "the cluster has made the VM";

/// Looks; what an earlier creation without an answer has done can only be seen.
async fn settle(cx: &StepCx, facts: &Facts, may_appear: bool) -> Result<Look, StepError> {
    let asked = facts.vm.as_ref().is_some_and(|vm| vm.uuid.is_none());
    unsure(asked, MADE, look::settle(cx, facts, may_appear).await)
}

/// One creation, with everything that undo needs written down before it.
async fn ask(cx: &StepCx, facts: &mut Facts, attempt: u32) -> Result<Result<Created, Error>, StepError> {
    cx.check()?;
    let (name, mark) = (cx.plan.cloudtower.vm_name.clone(), mark_of(cx));
    let payload = payload::creation(cx, facts)?;
    let asked = VmFact { name: name.clone(), mark: mark.clone(), ..VmFact::default() };
    let before = facts.vm.replace(asked);
    cx.save(facts).await?;
    let intent = cx.intend(CALL, fields(json!({"name": name, "mark": mark, "attempt": attempt}))).await;
    if let Err(StepError::Stopping) = &intent {
        facts.vm = before;
        cx.save(facts).await?;
        return Err(StepError::Stopping);
    }
    let intent = intent?;
    match cx.outside.fisheye.create_vm(&payload).await {
        Ok(created) => {
            if let Some(vm) = facts.vm.as_mut() {
                // The answer's uuid is no fact yet: there is a VM when it was seen with our mark.
                vm.job_id.clone_from(&created.job_id);
            }
            cx.save(facts).await?;
            let detail = json!({"job_id": created.job_id, "vm_uuid": created.vm_uuid});
            cx.outcome(intent, IntentResult::Done, fields(detail)).await?;
            let message = format!("the cluster was asked to create the VM {name}");
            let extra = json!({"step": "vm_create", "job_id": created.job_id, "attempt": attempt});
            cx.note(Level::Info, "vm_create", message, fields(extra)).await?;
            Ok(Ok(created))
        }
        Err(error) => {
            let result = if error.had_no_effect() { IntentResult::Failed } else { IntentResult::Unknown };
            cx.outcome(intent, result, fields(json!({"error": error.kind.to_string()}))).await?;
            if result == IntentResult::Failed {
                // This one made nothing; what an earlier one may have made stays known.
                facts.vm = before;
                cx.save(facts).await?;
            }
            Ok(Err(error))
        }
    }
}

async fn follow_created(cx: &StepCx, facts: &mut Facts, created: Created) -> Result<Result<(), Missed>, StepError> {
    match created.job_id {
        Some(id) => follow(cx, facts, &id).await,
        // An answer without a job: the VM itself tells.
        None => judge_by_vm(cx, facts, None).await,
    }
}

/// 3.3: the job, and from it the VM.
async fn follow(cx: &StepCx, facts: &mut Facts, id: &str) -> Result<Result<(), Missed>, StepError> {
    let ended = job::wait(cx, id, "creating the VM").await;
    match unsure(true, MADE, ended)? {
        job::Ended::Done(job) => judge_by_vm(cx, facts, Some(job)).await,
        job::Ended::Unknown => judge_by_vm(cx, facts, None).await,
        job::Ended::Failed(job) => {
            let mut failure = story(
                "vm_create_failed",
                format!("the cluster's job {id} for creating the VM failed: {}", job.failure),
                "read the reason; the job stays in the cluster's task list",
            );
            failure.detail = fields(json!({"job_id": id, "error_code": job.failure.code}));
            if job.failure.mentions("VM_DUPLICATED_NAME") {
                return Ok(Err(Missed::Duplicate(failure)));
            }
            if job.failure.is_permanent() {
                failure.remedy = permanent_remedy(&failure.message).to_owned();
                return Err(permanent(failure));
            }
            Ok(Err(Missed::Retry(failure)))
        }
        job::Ended::Late(word) => Err(permanent(story(
            "vm_create_timeout",
            format!(
                "the cluster's job {id} for creating the VM is still {word} after {:.0} s",
                cx.settings.timing.job_limit_s
            ),
            "look at the cluster's task list, and retry the job when it works again",
        ))),
    }
}

/// The VM is there when it is listed with our name and our mark; the job's own word about its uuid is checked (C46).
async fn judge_by_vm(cx: &StepCx, facts: &mut Facts, job: Option<Job>) -> Result<Result<(), Missed>, StepError> {
    let name = &cx.plan.cloudtower.vm_name;
    for uuid in job.iter().flat_map(|job| look::candidates(job, name)) {
        if let Ok(Some(vm)) = cx.outside.fisheye.vm(&uuid).await
            && look::is_ours(&vm, name, &mark_of(cx))
        {
            look::adopt(cx, facts, vec![vm]).await?;
            return Ok(Ok(()));
        }
    }
    match settle(cx, facts, true).await? {
        Look::Ours(vms) => look::adopt(cx, facts, vms).await.map(Ok),
        Look::Foreign(vm) => Err(undecided(stranger(&vm))),
        Look::Nothing => Ok(Err(Missed::Retry(story(
            "vm_missing",
            format!("the cluster's job ended, but there is no VM {name}"),
            "look at the cluster's task list",
        )))),
    }
}

fn permanent_remedy(message: &str) -> &'static str {
    if message.contains("HostAvailableMemoryFilter") {
        "free memory on a host of the cluster, or plan a smaller VM (deployment.vm.memory_bytes)"
    } else if message.contains("PlacementGroup") {
        "correct the cluster's placement rules, or deployment.target_host"
    } else {
        "correct what the message names; the request itself was refused"
    }
}

/// The name belongs to somebody else, which nobody knew when the job began: an operator has to say how it goes on.
fn stranger(vm: &Vm) -> Failure {
    let mut failure = taken(vm);
    failure.remedy =
        "rename that VM, or remove it if nobody needs it, and choose look-again; or end the job".to_owned();
    failure
}

/// The name belongs to somebody else.
pub(super) fn taken(vm: &Vm) -> Failure {
    let mut failure = story(
        "vm_name_taken",
        format!("a VM \"{}\" ({}) is on the cluster already and is not of this job", vm.name, vm.uuid),
        "plan another name in 集群管理信息!B3, or remove that VM if nobody needs it",
    );
    failure.detail = fields(json!({"vm_uuid": vm.uuid}));
    failure
}
