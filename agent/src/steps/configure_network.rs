//! Gives the guest its address through the guest agent, and waits until it shows (`flow.md` 3.6 and 3.7).

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use gantry_proto::{Failure, Level, StepInfo, event::IntentResult};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};

use super::{
    cluster, job,
    story::{fields, permanent, story},
    wait_guest_agent::known_vm,
};
use crate::{
    diff::Diff,
    facts::{Facts, VmFact},
    fisheye::Vm,
    step::{Step, StepCx, StepError},
};

/// Prefix of the codes of the guest tools: the agent was not ready.
const GUEST_TOOLS: &str = "SVT_";

/// What an intent of ours is called.
const CALL: &str = "update_vm";

/// Pushes the network configuration.
pub struct ConfigureNetwork;

#[async_trait]
impl Step for ConfigureNetwork {
    fn info(&self) -> StepInfo {
        let title = "Give the VM its address".to_owned();
        StepInfo { id: "configure-network".into(), title, weight: 30, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        cluster::enter(cx, facts);
        let fact = known_vm(facts)?;
        let payload = payload(cx, facts, &fact)?;
        push(cx, &fact, &payload).await?;
        verify(cx, &fact).await?;
        if let Some(fact) = facts.vm.as_mut() {
            fact.network_done = true;
        }
        cluster::remember(cx, facts).await
    }

    async fn survey(&self, cx: &StepCx, _facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let (name, ip) = (&cx.plan.cloudtower.vm_name, cx.plan.cloudtower.ip);
        diff.change(CALL, name, format!("the VM is given the address {ip} through its guest agent"));
        Ok(())
    }
}

/// The list replaces the VM's own one: without the MAC the cluster would make a new card (`fisheye.md` 7.7).
fn payload(cx: &StepCx, facts: &Facts, fact: &VmFact) -> Result<Value, StepError> {
    let (Some(place), Some(mac)) = (&facts.place, &fact.mac) else {
        return Err(permanent(story(
            "internal",
            "network or MAC of the VM are not known",
            "report it with the job's log",
        )));
    };
    let network = &cx.plan.management_network;
    Ok(json!({ "nics": [{
        "vlan_uuid": place.vlan_uuid, "ovs": place.ovs, "model": "virtio", "mac_address": mac, "mirror": false,
        "link": "up", "ip_address": cx.plan.cloudtower.ip, "subnet_mask": network.netmask, "gateway": network.gateway,
    }] }))
}

/// Sends it until the cluster has done it. Before each sending the VM is looked at: a lost answer may have worked (L7).
async fn push(cx: &StepCx, fact: &VmFact, payload: &Value) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    let mut last = Failure::default();
    for attempt in 1..=timing.network_retries + 1 {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.network_retry_s)).await?;
        }
        if look(cx, fact).await?.is_some_and(|vm| has_address(&vm, &cx.plan.cloudtower.ip.to_string())) {
            return Ok(());
        }
        last = match push_once(cx, fact, payload, attempt).await? {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let extra = fields(json!({"step": "network", "attempt": attempt, "error": last.message}));
        let message = format!("attempt {attempt} to set the address failed: {}", last.message);
        cx.note(Level::Warning, "network_retry", message, extra).await?;
    }
    last.message = format!("the address could not be set in {} attempts: {}", timing.network_retries + 1, last.message);
    Err(permanent(last))
}

/// One sending and its job. The inner error may be tried again.
async fn push_once(
    cx: &StepCx,
    fact: &VmFact,
    payload: &Value,
    attempt: u32,
) -> Result<Result<(), Failure>, StepError> {
    let uuid = fact.uuid.as_deref().unwrap_or_default();
    let ip = cx.plan.cloudtower.ip.to_string();
    cx.check()?;
    let intent = cx.intend(CALL, fields(json!({"vm_uuid": uuid, "ip": ip, "attempt": attempt}))).await?;
    let created = match cx.outside.fisheye.update_vm(uuid, payload).await {
        Ok(created) => created,
        Err(error) => {
            let result = if error.had_no_effect() { IntentResult::Failed } else { IntentResult::Unknown };
            cx.outcome(intent, result, fields(json!({"error": error.kind.to_string()}))).await?;
            let failure = error.failure("setting the VM's address");
            let hopeless = error.had_no_effect() && !error.kind.is_transient() && !error.mentions(GUEST_TOOLS);
            return if hopeless { Err(permanent(failure)) } else { Ok(Err(failure)) };
        }
    };
    cx.outcome(intent, IntentResult::Done, fields(json!({"job_id": created.job_id}))).await?;
    let message = format!("the cluster was asked to give the VM the address {ip}");
    let extra = json!({"step": "network", "vm_uuid": uuid, "job_id": created.job_id, "ip": ip, "attempt": attempt});
    cx.note(Level::Info, "network", message, fields(extra)).await?;
    let Some(id) = created.job_id else { return Ok(Ok(())) };
    match job::wait(cx, &id, "setting the VM's address").await? {
        job::Ended::Done(_) | job::Ended::Unknown => Ok(Ok(())),
        job::Ended::Failed(job) => {
            let remedy = if job.failure.mentions(GUEST_TOOLS) {
                "look at the guest agent of the VM: it does not take the configuration"
            } else {
                "read the reason; the job stays in the cluster's task list"
            };
            let message = format!("the cluster's job {id} for setting the address failed: {}", job.failure);
            let failure = story("network_failed", message, remedy);
            if job.failure.is_permanent() { Err(permanent(failure)) } else { Ok(Err(failure)) }
        }
        job::Ended::Late(word) => Err(permanent(story(
            "network_timeout",
            format!(
                "the cluster's job {id} for setting the address is still {word} after {:.0} s",
                cx.settings.timing.job_limit_s
            ),
            "look at the cluster's task list, and retry the job when it works again",
        ))),
    }
}

/// 3.7: the guest shows the address, or at least its SSH port answers there.
async fn verify(cx: &StepCx, fact: &VmFact) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    let (begin, limit) = (Instant::now(), timing.scaled(timing.network_seen_limit_s));
    let ip = cx.plan.cloudtower.ip.to_string();
    loop {
        let vm = look(cx, fact).await?;
        if vm.is_some_and(|vm| vm.guest_addresses.contains(&ip)) {
            let extra = json!({"vm_uuid": fact.uuid, "ip": ip, "elapsed": timing.told(begin.elapsed())});
            return cx.note(Level::Info, "network_seen", format!("the guest shows {ip}"), fields(extra)).await;
        }
        if begin.elapsed() >= limit {
            break;
        }
        cx.sleep(timing.scaled(timing.network_seen_poll_s)).await?;
    }
    if ssh_answers(cx).await? {
        let message = format!("the guest never showed {ip}, but its SSH port answers there; going on");
        return cx.note(Level::Warning, "network_not_shown", message, fields(json!({"ip": ip}))).await;
    }
    Err(permanent(story(
        "network_not_seen",
        format!("the guest does not show {ip} after {:.0} s, and nothing answers there", timing.network_seen_limit_s),
        "check the network, VLAN and gateway of 虚拟网络, and look at the VM's console",
    )))
}

/// One look at the VM; several failed looks in a row end the step.
async fn look(cx: &StepCx, fact: &VmFact) -> Result<Option<Vm>, StepError> {
    let uuid = fact.uuid.as_deref().unwrap_or_default();
    let timing = &cx.settings.timing;
    for failed in 0..=timing.poll_failures {
        let outcome = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
            outcome = cx.outside.fisheye.vm(uuid) => outcome,
        };
        match outcome {
            Ok(Some(vm)) => return Ok(Some(vm)),
            Ok(None) => {
                return Err(permanent(story(
                    "vm_gone",
                    format!("the VM {} ({uuid}) is no longer on the cluster: somebody has deleted it", fact.name),
                    "find out who removed it, then start the job again",
                )));
            }
            Err(error) if error.is_transient() && failed < timing.poll_failures => {
                cx.sleep(timing.scaled(timing.job_poll_s)).await?;
            }
            Err(error) => return Err(permanent(error.failure("looking at the VM"))),
        }
    }
    Ok(None)
}

fn has_address(vm: &Vm, ip: &str) -> bool {
    vm.nics.first().is_some_and(|nic| nic.ip.as_deref() == Some(ip))
        || vm.guest_addresses.iter().any(|known| known == ip)
}

async fn ssh_answers(cx: &StepCx) -> Result<bool, StepError> {
    let address = SocketAddr::new(cx.plan.cloudtower.ip.into(), cx.settings.guest.ssh_port);
    let limit = Duration::from_millis(cx.settings.precheck.cloudtower_timeout_ms);
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(cx.log.why_stopped()),
        open = tokio::time::timeout(limit, TcpStream::connect(address)) => Ok(matches!(open, Ok(Ok(_)))),
    }
}
