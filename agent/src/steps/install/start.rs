//! The start of the installer (4.4): detached, exactly once however often the answer is lost (L12).

use std::time::Duration;

use gantry_proto::{Level, event::IntentResult};
use serde_json::json;
use tokio::time::Instant;

use super::super::{
    shell,
    story::{extra, permanent, story},
};
use crate::{
    facts::Facts,
    guest::{Status, scripts},
    step::{StepCx, StepError},
};

/// What an intent of ours is called.
pub(super) const CALL: &str = "installer deploy";
/// Real time within which a started installer must have left its pid.
const CONFIRM_LIMIT: Duration = Duration::from_secs(20);
/// Real time between two looks.
const CONFIRM_POLL: Duration = Duration::from_millis(200);

/// Starts it. The start has a name of its own in the guest, so that the command may be repeated: a second one with the
/// same name does nothing.
pub(super) async fn start(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let installer = shell::installer(cx, facts).await?;
    if installer.started || installer.starts == 0 {
        installer.starts += 1;
        (installer.started, installer.again, installer.failed, installer.pid) = (false, false, false, None);
    }
    let number = installer.starts;
    cx.save(facts).await?;
    let token = format!("gantry.start.{}.{number}", cx.job);
    let intent = cx.intend(CALL, extra([("start", json!(number)), ("token", json!(token))])).await?;
    let command = scripts::start_installer(&cx.settings.guest, &token);
    let output = shell::run(cx, facts, &command).await?;
    if !output.success() {
        cx.outcome(intent, IntentResult::Failed, extra([("exit", json!(output.exit.to_string()))])).await?;
        return Err(shell::command_failed("installer_not_started", "starting the installer", &command, &output));
    }
    let status = confirmed(cx, facts).await?;
    let result = if status.is_known() { IntentResult::Done } else { IntentResult::Unknown };
    cx.outcome(intent, result, extra([("pid", json!(status.pid)), ("rc", json!(status.rc))])).await?;
    if !status.is_known() {
        let space = free_space(cx, facts).await?;
        let message =
            format!("the installer was started, but left no process number in {}", cx.settings.guest.work_dir);
        let remedy = "check in the VM that the disk is not full and that the directory can be written";
        let mut failure = story("installer_not_started", message, remedy);
        failure.detail = extra([("free_space", json!(space))]);
        return Err(permanent(failure));
    }
    let installer = shell::installer(cx, facts).await?;
    (installer.started, installer.pid) = (true, status.pid);
    cx.save(facts).await?;
    let fields = extra([("step", json!("installer_start")), ("pid", json!(status.pid)), ("start", json!(number))]);
    cx.note(Level::Info, "installer_started", "the installer runs detached in the VM", fields).await
}

async fn confirmed(cx: &StepCx, facts: &mut Facts) -> Result<Status, StepError> {
    let (begun, command) = (Instant::now(), scripts::installer_status(&cx.settings.guest));
    loop {
        let output = shell::run_quietly(cx, facts, &command).await?;
        let status = Status::parse(&output.stdout.bytes());
        if status.is_known() || begun.elapsed() >= CONFIRM_LIMIT {
            return Ok(status);
        }
        cx.sleep(CONFIRM_POLL).await?;
    }
}

/// What `df` says, for the hint of a failure (G22); nothing when it cannot be had.
pub(super) async fn free_space(cx: &StepCx, facts: &mut Facts) -> Result<String, StepError> {
    if !cx.outside.guest.is_connected() {
        return Ok(String::new());
    }
    let output = shell::run_once(cx, facts, &scripts::free_space(&cx.settings.guest)).await?;
    Ok(output.map(|output| output.stdout.text().trim().to_owned()).unwrap_or_default())
}
