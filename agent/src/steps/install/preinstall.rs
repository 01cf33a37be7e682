//! preinstall.sh (4.3): once, a second time only after a lost connection of which nothing else tells how it ended.

use gantry_proto::{Level, event::IntentResult};
use serde_json::json;
use tokio::time::Instant;

use super::super::{
    shell,
    story::{extra, permanent, story},
};
use crate::{
    facts::Facts,
    guest::{Captured, Command, Error, Status, installer::TAIL_LINES, scripts},
    step::{StepCx, StepError},
};

/// What an intent of ours is called.
pub(super) const CALL: &str = "preinstall.sh";
/// Runs in all: the second one only after a lost connection (`flow.md` 4.3).
const RUNS: u32 = 2;

pub(super) async fn run(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    if shell::installer(cx, facts).await?.preinstall_done {
        return Ok(());
    }
    let timing = &cx.settings.timing;
    let deadline = Instant::now() + timing.scaled(timing.preinstall_limit_s);
    // One that an earlier run of the job has left.
    if settled(cx, facts, deadline).await?.rc == Some(0) {
        return done(cx, facts).await;
    }
    for attempt in 1..=RUNS {
        cx.check()?;
        let left = deadline.saturating_duration_since(Instant::now());
        let command = scripts::preinstall(&cx.settings.guest, left);
        let intent = cx.intend(CALL, extra([("attempt", json!(attempt))])).await?;
        let result = shell::run_once(cx, facts, &command).await?;
        let (outcome, ended) = match &result {
            Ok(output) => (IntentResult::Done, Some((output.exit.to_string(), output.stdout.clone()))),
            Err(_) => (IntentResult::Unknown, None),
        };
        cx.outcome(intent, outcome, extra([])).await?;
        match (result, ended) {
            (Ok(output), _) if output.success() => return done(cx, facts).await,
            (Ok(_), Some((exit, stdout))) => return Err(failed(&exit, &stdout)),
            (Err(Error::TooSlow { .. }), _) => return Err(too_slow(cx, &command)),
            _ => {}
        }
        shell::reach(cx, facts, timing.ssh_reconnect_limit_s).await?;
        let Some(rc) = settled(cx, facts, deadline).await?.rc else { continue };
        let output = shell::run(cx, facts, &scripts::preinstall_output(&cx.settings.guest)).await?;
        return if rc == 0 { done(cx, facts).await } else { Err(failed(&rc.to_string(), &output.stdout)) };
    }
    let message = format!("preinstall.sh was lost {RUNS} times with the SSH connection");
    let remedy = "find out why the SSH connection breaks, then retry the job";
    Err(permanent(story("preinstall_lost", message, remedy)))
}

/// Waits until no preinstall.sh of ours runs any more.
async fn settled(cx: &StepCx, facts: &mut Facts, deadline: Instant) -> Result<Status, StepError> {
    let (timing, command) = (&cx.settings.timing, scripts::preinstall_status(&cx.settings.guest));
    loop {
        let output = shell::run_quietly(cx, facts, &command).await?;
        let status = Status::parse(&output.stdout.bytes());
        if !status.alive {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(too_slow(cx, &command));
        }
        cx.sleep(timing.scaled(timing.ssh_poll_s)).await?;
    }
}

async fn done(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    shell::installer(cx, facts).await?.preinstall_done = true;
    cx.save(facts).await?;
    cx.note(Level::Info, "preinstall_done", "preinstall.sh has ended well", extra([])).await
}

fn failed(exit: &str, output: &Captured) -> StepError {
    let text = output.text();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let last = tail.last().copied().unwrap_or_default();
    let message = format!("preinstall.sh in the VM ended with {exit}: {last}");
    let remedy = "read the last lines in the failure's detail; check disk space in the VM and that the ISO is complete";
    let mut failure = story("preinstall_failed", message, remedy);
    failure.detail = extra([("exit", json!(exit)), ("last_lines", json!(tail))]);
    permanent(failure)
}

fn too_slow(cx: &StepCx, command: &Command) -> StepError {
    let limit = cx.settings.timing.preinstall_limit_s;
    let message = format!("preinstall.sh did not end within {limit:.0} s ({})", command.name());
    let remedy =
        "look at the VM's console for what it waits for; raise timing.preinstall_limit_s if the VM is just slow";
    permanent(story("preinstall_timeout", message, remedy))
}
