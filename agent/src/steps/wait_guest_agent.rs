//! Waits until the guest agent runs and the first NIC has a MAC (`flow.md` 3.4 and 3.5). Readiness is judged by
//! `ga_state` alone (R46, C15), seen twice in a row: an agent that just came may go again (V12).

use async_trait::async_trait;
use gantry_proto::{Failure, Level, StepInfo, event::IntentResult};
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster,
    story::{fields, permanent, story},
};
use crate::{
    diff::Diff,
    facts::{Facts, VmFact},
    fisheye::Vm,
    step::{Progress, Step, StepCx, StepError},
};

/// Usual seconds from power-on to the agent (`fisheye.md` 10).
const USUAL_S: u32 = 870;
/// Looks in a row that must agree: the agent runs, or the VM is off, or gone.
const AGREE: u32 = 2;
const OFF: u32 = 3;
/// Times that the cluster is asked to start a VM, where its answer is lost or it says no.
const ASKED: u32 = 3;
/// Looks for the MAC, five seconds apart (3.5).
const MAC_LOOKS: u32 = 4;
const MAC_WAIT_S: f64 = 5.0;

/// Waits for the operating system and its guest agent.
pub struct WaitGuestAgent;

#[async_trait]
impl Step for WaitGuestAgent {
    fn info(&self) -> StepInfo {
        let title = "Wait for the installation of the guest and its agent".to_owned();
        StepInfo { id: "wait-guest-agent".into(), title, weight: USUAL_S, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        cluster::enter(cx, facts);
        let fact = known_vm(facts)?;
        let begin = Instant::now();
        let vm = wait_for_agent(cx, &fact).await?;
        let elapsed = cx.settings.timing.told(begin.elapsed());
        *facts.timings.entry("guest_agent_s".to_owned()).or_default() += elapsed;
        let mac = wait_for_mac(cx, vm.clone()).await?;
        if let Some(fact) = facts.vm.as_mut() {
            fact.os_version = vm.os_version;
            fact.guest_agent_state = vm.ga_state;
            fact.mac = Some(mac);
            if !vm.volumes.is_empty() {
                fact.volumes = vm.volumes;
            }
        }
        cluster::remember(cx, facts).await
    }

    /// It changes nothing.
    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}

/// The VM of the facts.
pub(super) fn known_vm(facts: &Facts) -> Result<VmFact, StepError> {
    let known = facts.vm.clone().filter(|vm| vm.uuid.is_some());
    known.ok_or_else(|| permanent(story("internal", "the VM is not known", "report it with the job's log")))
}

/// What the looks so far have shown.
#[derive(Debug, Default)]
struct Seen {
    running: u32,
    off: u32,
    gone: u32,
    failed: u32,
    /// Times that the cluster was asked to start the VM, and whether that is known to have worked.
    asked: u32,
    started: bool,
    state: Option<String>,
}

async fn wait_for_agent(cx: &StepCx, fact: &VmFact) -> Result<Vm, StepError> {
    let timing = &cx.settings.timing;
    let (begin, limit) = (Instant::now(), timing.scaled(timing.guest_agent_limit_s));
    let mut told = begin;
    let mut seen = Seen::default();
    loop {
        if let Some(vm) = look(cx, fact, &mut seen).await? {
            let state = word(&vm);
            let changed = seen.state.as_ref() != Some(&state);
            if changed || told.elapsed() >= timing.scaled(timing.still_waiting_note_s) {
                told = Instant::now();
                tell(cx, &vm, &state, timing.told(begin.elapsed())).await?;
            }
            seen.state = Some(state);
            if seen.running >= AGREE {
                return Ok(vm);
            }
        }
        let elapsed = timing.told(begin.elapsed());
        progress(cx, &seen, elapsed);
        if begin.elapsed() >= limit {
            return Err(permanent(late(fact, &seen, elapsed)));
        }
        cx.sleep(timing.scaled(timing.guest_agent_poll_s)).await?;
    }
}

/// One look. `None`: nothing was learnt.
async fn look(cx: &StepCx, fact: &VmFact, seen: &mut Seen) -> Result<Option<Vm>, StepError> {
    let uuid = fact.uuid.as_deref().unwrap_or_default();
    let outcome = tokio::select! {
        biased;
        () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
        outcome = cx.outside.fisheye.vm(uuid) => outcome,
    };
    let vm = match outcome {
        Ok(Some(vm)) => vm,
        Ok(None) => {
            seen.gone += 1;
            return if seen.gone >= AGREE { Err(permanent(gone(fact))) } else { Ok(None) };
        }
        Err(error) if error.is_transient() && seen.failed < cx.settings.timing.poll_failures => {
            seen.failed += 1;
            return Ok(None);
        }
        Err(error) => return Err(permanent(error.failure("looking at the VM"))),
    };
    (seen.gone, seen.failed) = (0, 0);
    seen.running = if vm.agent_runs() { seen.running + 1 } else { 0 };
    seen.off = if vm.status == "stopped" { seen.off + 1 } else { 0 };
    seen.started |= seen.asked > 0 && seen.off == 0;
    if seen.off >= OFF {
        power_on(cx, fact, &vm, seen).await?;
    }
    Ok(Some(vm))
}

/// A VM that lost its power is started once (V15). Where the cluster's answer was lost, the looks that follow tell: what
/// is off then is asked for again.
async fn power_on(cx: &StepCx, fact: &VmFact, vm: &Vm, seen: &mut Seen) -> Result<(), StepError> {
    if seen.started || seen.asked >= ASKED {
        let what = if seen.started { "powered off again after it had been started" } else { "could not be started" };
        return Err(permanent(story(
            "vm_powered_off",
            format!("the VM {} {what}", fact.name),
            "look at its console and at the cluster's task list: the installation in the guest does not go through",
        )));
    }
    (seen.asked, seen.off) = (seen.asked + 1, 0);
    let message = format!("the VM {} is off; it is started", fact.name);
    let extra = fields(json!({"vm_uuid": vm.uuid, "attempt": seen.asked}));
    cx.note(Level::Warning, "vm_started_again", message, extra).await?;
    let intent = cx.intend("start_vm", fields(json!({"vm_uuid": vm.uuid}))).await?;
    let (result, detail) = match cx.outside.fisheye.start_vm(&vm.uuid).await {
        Ok(created) => (IntentResult::Done, json!({"job_id": created.job_id})),
        Err(error) if error.had_no_effect() => (IntentResult::Failed, json!({"error": error.kind.to_string()})),
        Err(error) => (IntentResult::Unknown, json!({"error": error.kind.to_string()})),
    };
    seen.started = result == IntentResult::Done;
    cx.outcome(intent, result, fields(detail)).await
}

async fn wait_for_mac(cx: &StepCx, mut vm: Vm) -> Result<String, StepError> {
    for look in 1..=MAC_LOOKS {
        if let Some(mac) = vm.nics.first().and_then(|nic| nic.mac.clone()) {
            return Ok(mac);
        }
        if look < MAC_LOOKS {
            cx.sleep(cx.settings.timing.scaled(MAC_WAIT_S)).await?;
            if let Ok(Some(newer)) = cx.outside.fisheye.vm(&vm.uuid).await {
                vm = newer;
            }
        }
    }
    Err(permanent(story(
        "nic_missing",
        format!("the VM {} shows no network card with a MAC address", vm.name),
        "look at the VM's network card in the cluster's web page",
    )))
}

fn word(vm: &Vm) -> String {
    match (&vm.ga_state, vm.guest_expired) {
        (Some(state), true) => format!("{state} (stale)"),
        (Some(state), false) => state.clone(),
        (None, _) => "not there yet".to_owned(),
    }
}

async fn tell(cx: &StepCx, vm: &Vm, state: &str, elapsed: f64) -> Result<(), StepError> {
    let message = format!("the guest agent is {state} after {elapsed:.0} s, the VM is {}", vm.status);
    let extra = json!({
        "vm_uuid": vm.uuid, "ga_state": vm.ga_state, "ga_version": vm.ga_version, "os_version": vm.os_version,
        "state": vm.status, "elapsed": elapsed,
    });
    cx.note(Level::Info, "guest_agent", message, fields(extra)).await
}

fn progress(cx: &StepCx, seen: &Seen, elapsed: f64) {
    let (done, total) = (elapsed.min(f64::from(USUAL_S)) as u64, u64::from(USUAL_S));
    let state = seen.state.as_deref().unwrap_or("unknown");
    let text = format!("guest agent: {state}");
    cx.progress(Progress {
        done,
        total,
        unit: "seconds",
        per_second: 0.0,
        text,
        extra: fields(json!({"elapsed": elapsed})),
    });
}

fn gone(fact: &VmFact) -> Failure {
    story(
        "vm_gone",
        format!(
            "the VM {} ({}) is no longer on the cluster: somebody has deleted it",
            fact.name,
            fact.uuid.as_deref().unwrap_or_default()
        ),
        "find out who removed it, then start the job again",
    )
}

/// The likely causes stand in the message: this is where a wrong ISO shows, half an hour late (C33).
fn late(fact: &VmFact, seen: &Seen, elapsed: f64) -> Failure {
    let state = seen.state.as_deref().unwrap_or("unknown");
    story(
        "guest_agent_timeout",
        format!(
            "the guest agent of {} did not run within {elapsed:.0} s (last state: {state}); likely causes: the ISO is without guest tools, the VM did not boot from the CD, or the installation waits for input",
            fact.name
        ),
        "look at the VM's console; use an ISO with SMTX_VM_TOOLS_INSTALL.sh in its root directory",
    )
}
