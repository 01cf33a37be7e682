//! SSH as the steps use it: reach the VM, run commands through lost connections, write everything into the installer's
//! log (R69). Knows no step by name.

use std::{path::PathBuf, time::Duration};

use gantry_proto::Level;
use serde_json::json;
use tokio::time::Instant;

use super::story::{blocking, extra, permanent, story, story_of};
use crate::{
    facts::{Facts, InstallerFact},
    guest::{Command, Error, Output},
    joblog::dir_of,
    step::{Progress, StepCx, StepError},
};

/// How the VM was found to be unreachable.
const UNREACHABLE: &str = "guest_unreachable";

/// Drops what is known of the inside of another VM than the one there is now.
pub(super) async fn enter(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let vm = facts.vm.as_ref().and_then(|vm| vm.uuid.clone());
    if facts.inside_of != vm {
        (facts.host_key, facts.ssh_user, facts.dns, facts.installer) = (None, None, None, None);
        (facts.tower_pin, facts.tower_confirmed, facts.tower_repinned) = (None, None, false);
        (facts.setup, facts.root_user) = (None, None);
        (facts.organization, facts.ntp, facts.license) = (None, None, None);
        cx.outside.guest.close().await;
        // Whose they are comes last: what is known of another VM must not outlive a crash under the new one's name.
        cx.save(facts).await?;
        facts.inside_of = vm;
        cx.save(facts).await?;
    }
    Ok(())
}

/// The installer's facts; names the local log at first use.
pub(super) async fn installer<'a>(cx: &StepCx, facts: &'a mut Facts) -> Result<&'a mut InstallerFact, StepError> {
    if facts.installer.as_ref().is_none_or(|installer| installer.local_log.is_none()) {
        facts.installer.get_or_insert_default().local_log = Some(cx.log.install_log_name());
        cx.save(facts).await?;
    }
    Ok(facts.installer.get_or_insert_default())
}

/// Makes sure that somebody is logged in (S0, S1): tries every five seconds for `seconds`. Each account is offered the
/// password once (C32); the host key is written down before anything is sent (C37).
pub(super) async fn reach(cx: &StepCx, facts: &mut Facts, seconds: f64) -> Result<(), StepError> {
    let (guest, timing) = (&cx.outside.guest, &cx.settings.timing);
    if guest.is_connected() {
        return Ok(());
    }
    guest.close().await;
    let (started, limit) = (Instant::now(), timing.scaled(seconds));
    let mut users = facts.ssh_user.clone().map_or_else(|| guest.accounts().to_vec(), |user| vec![user]).into_iter();
    let mut user = users.next().unwrap_or_default();
    for attempt in 1u64.. {
        cx.check()?;
        let begun = Instant::now();
        let left = limit.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        let error = match attempt_login(cx, facts, &user, left).await? {
            Ok(()) => return reached(cx, facts, user, attempt, started).await,
            Err(error) => error,
        };
        match &error {
            Error::AuthRefused { .. } => match users.next() {
                Some(next) => {
                    let message = format!("{error}; trying \"{next}\" with the same password");
                    cx.note(Level::Warning, "ssh_account_refused", message, extra([("next", json!(next))])).await?;
                    user = next;
                    continue;
                }
                None => return Err(permanent(refused(&error))),
            },
            _ if !error.is_lost() => return Err(permanent(refused(&error))),
            _ => {}
        }
        if started.elapsed() >= limit {
            return Err(permanent(unreachable(cx, &error, seconds)));
        }
        cx.progress(Progress {
            text: format!("waiting for SSH at {} (attempt {attempt}): {error}", guest.address()),
            ..Progress::default()
        });
        cx.sleep(timing.scaled(timing.ssh_poll_s).saturating_sub(begun.elapsed())).await?;
    }
    Ok(())
}

/// Runs a command that may be repeated; goes on through lost connections.
pub(super) async fn run(cx: &StepCx, facts: &mut Facts, command: &Command) -> Result<Output, StepError> {
    let output = run_quietly(cx, facts, command).await?;
    record(cx, facts, command, &Ok(&output)).await?;
    Ok(output)
}

/// The same without an entry in the installer's log: for the polls, whose output is that log.
pub(super) async fn run_quietly(cx: &StepCx, facts: &mut Facts, command: &Command) -> Result<Output, StepError> {
    let mut lost = 0;
    loop {
        reach(cx, facts, cx.settings.timing.ssh_reconnect_limit_s).await?;
        let result = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
            result = cx.outside.guest.run(command) => result,
        };
        match result {
            Ok(output) => return Ok(output),
            Err(error) if error.is_lost() && lost < cx.settings.timing.poll_failures => {
                lost += 1;
                tell_lost(cx, command, &error).await?;
            }
            Err(error) => return Err(permanent(refused(&error))),
        }
    }
}

/// Runs a command that must not simply be repeated, once: the caller looks what became of it when it is lost. Cancel
/// ends the wait, not the command.
pub(super) async fn run_once(
    cx: &StepCx,
    facts: &mut Facts,
    command: &Command,
) -> Result<Result<Output, Error>, StepError> {
    let result = tokio::select! {
        biased;
        () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
        result = cx.outside.guest.run(command) => result,
    };
    record(cx, facts, command, &result.as_ref()).await?;
    match result {
        Err(error) if error.is_lost() => {
            tell_lost(cx, command, &error).await?;
            Ok(Err(error))
        }
        Err(error) => Err(permanent(refused(&error))),
        Ok(output) => Ok(Ok(output)),
    }
}

/// Writes a command and what it said into the installer's log.
async fn record(
    cx: &StepCx,
    facts: &mut Facts,
    command: &Command,
    result: &Result<&Output, &Error>,
) -> Result<(), StepError> {
    let mut text = format!("$ {}\n", command.told()).into_bytes();
    match result {
        Ok(output) => {
            for part in [output.stdout.bytes().as_slice(), output.stderr.as_bytes()] {
                text.extend_from_slice(part);
                if text.last() != Some(&b'\n') {
                    text.push(b'\n');
                }
            }
            text.extend_from_slice(format!("[exit {}]\n", output.exit).as_bytes());
        }
        Err(error) => text.extend_from_slice(format!("[{error}]\n").as_bytes()),
    }
    append(cx, facts, &text).await
}

/// Appends to the installer's log, and notes in the facts how long it is; the caller saves them when it must.
pub(super) async fn append(cx: &StepCx, facts: &mut Facts, text: &[u8]) -> Result<(), StepError> {
    let name = installer(cx, facts).await?.local_log.clone().unwrap_or_default();
    cx.log.install_log(&name, text).await.map_err(StepError::Journal)?;
    let path = local_log(cx, facts);
    let len = blocking(move || std::fs::metadata(path).map(|file| file.len())).await.and_then(|len| len);
    installer(cx, facts).await?.local_bytes = len.unwrap_or_default();
    Ok(())
}

/// Cuts off what the log has beyond the facts: a crash came between the two, and what is missing is read again.
pub(super) async fn cut_log(cx: &StepCx, facts: &Facts) {
    let Some(bytes) = facts.installer.as_ref().map(|installer| installer.local_bytes).filter(|bytes| *bytes > 0) else {
        return;
    };
    let path = local_log(cx, facts);
    let cut = move || {
        let file = std::fs::OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() > bytes { file.set_len(bytes) } else { Ok(()) }
    };
    if let Err(error) = blocking(cut).await.and_then(|cut| cut) {
        tracing::warn!(job = %cx.job, %error, "the installer's log cannot be cut: it may have some lines twice");
    }
}

fn local_log(cx: &StepCx, facts: &Facts) -> PathBuf {
    dir_of(&cx.settings, cx.job).join(cx.log.log_files(facts).install.unwrap_or_default())
}

async fn attempt_login(
    cx: &StepCx,
    facts: &mut Facts,
    user: &str,
    left: Duration,
) -> Result<Result<(), Error>, StepError> {
    let guest = &cx.outside.guest;
    let greeting = tokio::select! {
        biased;
        () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
        greeting = guest.greet(facts.host_key.as_deref(), left) => greeting,
    };
    let greeting = match greeting {
        Ok(greeting) => greeting,
        Err(error) => return Ok(Err(error)),
    };
    if facts.host_key.is_none() {
        facts.host_key = Some(greeting.host_key().to_owned());
        cx.save(facts).await?;
    }
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(cx.log.why_stopped()),
        result = guest.login(greeting, user) => Ok(result),
    }
}

async fn reached(
    cx: &StepCx,
    facts: &mut Facts,
    user: String,
    attempt: u64,
    started: Instant,
) -> Result<(), StepError> {
    let fields = extra([
        ("step", json!("ssh")),
        ("attempt", json!(attempt)),
        ("elapsed", json!(cx.settings.timing.told(started.elapsed()))),
        ("user", json!(user)),
        ("host_key", json!(facts.host_key)),
    ]);
    let message = format!("SSH answers at {}, logged in as \"{user}\"", cx.outside.guest.address());
    if facts.ssh_user.as_ref() != Some(&user) {
        facts.ssh_user = Some(user);
        cx.save(facts).await?;
    }
    cx.note(Level::Info, "ssh_connected", message, fields).await
}

async fn tell_lost(cx: &StepCx, command: &Command, error: &Error) -> Result<(), StepError> {
    let fields = extra([("command", json!(command.name())), ("error", json!(error.to_string()))]);
    cx.note(Level::Warning, "ssh_connection_lost", format!("{error}; connecting again"), fields).await
}

fn unreachable(cx: &StepCx, error: &Error, seconds: f64) -> gantry_proto::Failure {
    let address = cx.outside.guest.address();
    let attempted = format!("reaching the VM at {address} over SSH for {seconds:.0} s");
    let remedy = "look at the VM's console: has the system booted, has it the planned address, does sshd run? Check that \
                  the bastion reaches the address on the SSH port, then retry the job";
    story_of(UNREACHABLE, &attempted, error, remedy)
}

/// Errors of the guest that no new connection helps against.
fn refused(error: &Error) -> gantry_proto::Failure {
    match error {
        Error::HostKeyChanged { .. } => story_of(
            "guest_host_key_changed",
            "connecting to the VM over SSH",
            error,
            "nothing was sent to it. Find out which machine answers at the CloudTower address: another host may have \
             taken it, or somebody stands between; then start a new job",
        ),
        Error::AuthRefused { .. } => story_of(
            "guest_login_refused",
            "logging in to the VM over SSH",
            error,
            "check SSH user and password in 集群管理信息!H3 and I3: they belong to the ISO; then start a new job",
        ),
        Error::SudoRefused { .. } => story_of(
            "guest_sudo_refused",
            "becoming root in the VM",
            error,
            "the account must be allowed to use sudo; check that the ISO is a CloudTower ISO and that 集群管理信息!H3 \
             names its account",
        ),
        _ => {
            let remedy = "look at the VM's console and at the installer's log, then retry the job";
            story_of("guest_command_failed", "running a command in the VM", error, remedy)
        }
    }
}

/// A command that ended badly.
pub(super) fn command_failed(code: &str, attempted: &str, command: &Command, output: &Output) -> StepError {
    let said: Vec<&str> = output.stderr.lines().rev().take(SAID_LINES).collect();
    let said: Vec<&str> = said.into_iter().rev().collect();
    let message = format!("{attempted} failed: {} ended with {}: {}", command.name(), output.exit, said.join("; "));
    let remedy = "look at the installer's log of the job and at the VM's console, then retry the job";
    permanent(story(code, message, remedy))
}

/// Lines of standard error that a message repeats.
const SAID_LINES: usize = 5;
