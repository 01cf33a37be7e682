//! CloudTower's calls as the steps make them: its certificate kept in the facts, waits that can be cancelled, failures
//! told. Knows no step by name.

use std::time::Duration;

use gantry_proto::{Failure, Level, error::causes, event::IntentResult, plan::Stage};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    shell,
    story::{extra, permanent, story, story_of},
};
use crate::{
    cloudtower::{Error, ErrorKind, SetupState, TaskState},
    config::CertificatePolicy,
    diff::{Diff, Part},
    facts::Facts,
    guest::scripts,
    step::{StepCx, StepError},
    tls,
};

/// Longest wait for a task of CloudTower, seconds at scale 1 (`cloudtower.md` 5.3).
const TASK_LIMIT_S: f64 = 300.0;
/// Seconds at scale 1 between two looks at a task, and between two tries at what is locked.
const TASK_POLL_S: f64 = 5.0;
/// Before a second login, seconds at scale 1.
const SECOND_LOGIN_S: f64 = 5.0;

/// Takes the recorded certificate over, so that no other is accepted.
pub(super) fn trust(cx: &StepCx, facts: &Facts) {
    if let Some(pin) = &facts.tower_pin {
        let tower = &cx.outside.tower;
        tower.pins().trust(tower.address(), pin);
    }
}

/// Into a CloudTower that serves, logged in.
pub(super) async fn come_in(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    shell::enter(cx, facts).await?;
    trust(cx, facts);
    confirm(cx, facts).await?;
    login(cx).await
}

/// Whether the deployment makes the CloudTower: then what is inside it is known before it is there.
pub(super) fn is_made(cx: &StepCx) -> bool {
    cx.plan.deployment.stages.contains(&Stage::DeployCloudtower)
}

/// Into the CloudTower that is there, to look around. False: it has refused before, and is not asked again.
pub(super) async fn look_in(cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<bool, StepError> {
    if let Some(open) = diff.door(Part::Tower) {
        return Ok(open);
    }
    diff.set_door(Part::Tower, false);
    come_in(cx, facts).await?;
    diff.set_door(Part::Tower, true);
    Ok(true)
}

/// Writes the certificate down at first sight.
pub(super) async fn remember(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let tower = &cx.outside.tower;
    let seen = tower.pins().fingerprint(tower.address());
    if seen.is_some() && facts.tower_pin != seen {
        let fields = extra([("sha256", json!(seen))]);
        facts.tower_pin = seen;
        cx.save(facts).await?;
        cx.note(Level::Info, "tower_certificate", "CloudTower's certificate is recorded", fields).await?;
    }
    Ok(())
}

/// Makes sure that who answers is the VM: the certificate that was seen must be the one that the service shows inside the
/// VM, looked at over SSH. Comes before every first secret; under another policy than first sight, and where it was found
/// before, there is nothing to do.
pub(super) async fn confirm(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let (tower, settings) = (&cx.outside.tower, &cx.settings.cloudtower);
    if !settings.confirm_over_ssh || tower.pins().policy() != CertificatePolicy::FirstSight {
        return Ok(());
    }
    if tower.pins().fingerprint(tower.address()).is_none() {
        see(cx).await?;
    }
    remember(cx, facts).await?;
    let Some(pin) = facts.tower_pin.clone() else { return Err(permanent(unconfirmed("no certificate was seen"))) };
    if facts.tower_confirmed.as_ref() == Some(&pin) {
        return Ok(());
    }
    let inside = look_inside(cx, facts).await?;
    if inside != pin {
        let message = format!(
            "{} shows the certificate {pin}, but the service inside the VM has {inside}: somebody else answers in its \
             place, and no secret was sent there",
            tower.base_url()
        );
        let remedy = "find out which machine answers at the CloudTower address; if the certificate was replaced on purpose, \
                      start a new job";
        return Err(permanent(story("tower_certificate_differs", message, remedy)));
    }
    facts.tower_confirmed = Some(pin.clone());
    cx.save(facts).await?;
    let message = "CloudTower's certificate is the one inside the VM";
    cx.note(Level::Info, "tower_certificate_confirmed", message, extra([("sha256", json!(pin))])).await
}

/// A first sight, without a request.
async fn see(cx: &StepCx) -> Result<(), StepError> {
    let (tower, settings) = (&cx.outside.tower, &cx.settings.cloudtower);
    let limit = Duration::from_millis(settings.connect_timeout_ms);
    let seen = tokio::select! {
        biased;
        () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
        seen = tls::sight(tower.pins(), tower.address(), settings.port, limit) => seen,
    };
    seen.map_err(|error| permanent(unconfirmed(&causes(&error).join(": "))))
}

/// The fingerprint of the certificate that the service shows inside the VM. It may be restarting just now.
async fn look_inside(cx: &StepCx, facts: &mut Facts) -> Result<String, StepError> {
    let timing = &cx.settings.timing;
    let command = scripts::tower_certificate(cx.plan.cloudtower.ip, cx.settings.cloudtower.port);
    let mut said = String::new();
    for attempt in 1..=timing.read_attempts.max(1) {
        if attempt > 1 {
            cx.sleep(backoff(cx, attempt - 2)).await?;
        }
        let output = shell::run(cx, facts, &command).await?;
        match CertificateDer::from_pem_slice(&output.stdout.bytes()) {
            Ok(certificate) => return Ok(tls::hex(&Sha256::digest(&certificate))),
            Err(_) => {
                said = format!("{} in the VM printed no certificate and ended with {}", command.name(), output.exit)
            }
        }
    }
    Err(permanent(unconfirmed(&said)))
}

fn unconfirmed(why: &str) -> Failure {
    let message = format!(
        "CloudTower's certificate cannot be compared with the one inside the VM: {why}; no secret was sent to CloudTower"
    );
    let remedy = "look whether `openssl s_client` works in the VM, then retry the job; or give the certificate in the agent's \
                  settings (cloudtower.certificate = \"pinned\"), or do without (cloudtower.confirm_over_ssh = false)";
    story("tower_certificate_unconfirmed", message, remedy)
}

/// Whether a certificate that was refused may be taken nevertheless: once, while the service is opening, before there is
/// a root user (W3).
pub(super) async fn may_pin_again(cx: &StepCx, facts: &mut Facts, error: &Error) -> Result<bool, StepError> {
    let Some(refused) = error.certificate() else { return Ok(false) };
    let tower = &cx.outside.tower;
    if tower.pins().policy() != CertificatePolicy::FirstSight || facts.tower_repinned || facts.root_user.is_some() {
        return Ok(false);
    }
    facts.tower_repinned = true;
    facts.tower_pin = None;
    cx.save(facts).await?;
    tower.pins().forget(tower.address());
    let fields = extra([("before", json!(refused.expected)), ("now", json!(refused.offered))]);
    let message = "CloudTower's certificate was replaced while the service was opening; taking the new one, once";
    cx.note(Level::Warning, "tower_certificate_replaced", message, fields).await?;
    Ok(true)
}

/// Makes a call that may be repeated: three attempts when it fails in passing, longer while somebody holds a lock.
pub(super) async fn ask<T, F>(cx: &StepCx, attempted: &str, mut call: impl FnMut() -> F) -> Result<T, StepError>
where
    F: Future<Output = Result<T, Error>>,
{
    try_ask(cx, &mut call).await?.map_err(|error| permanent(failed(attempted, &error)))
}

/// Makes a call that must not be repeated, but for a refusal because somebody holds a lock: that had no effect (W16).
pub(super) async fn unlocked<T, F>(cx: &StepCx, mut call: impl FnMut() -> F) -> Result<Result<T, Error>, StepError>
where
    F: Future<Output = Result<T, Error>>,
{
    let timing = &cx.settings.timing;
    for _ in 0..timing.poll_failures {
        match call().await {
            Err(error) if error.is_locked() => cx.sleep(timing.scaled(TASK_POLL_S)).await?,
            ended => return Ok(ended),
        }
    }
    Ok(call().await)
}

/// As [`ask`], with the last error as a value.
pub(super) async fn try_ask<T, F>(cx: &StepCx, mut call: impl FnMut() -> F) -> Result<Result<T, Error>, StepError>
where
    F: Future<Output = Result<T, Error>>,
{
    let timing = &cx.settings.timing;
    let (mut passing, mut locked) = (1, 0);
    loop {
        let result = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
            result = call() => result,
        };
        let wait = match &result {
            Err(error) if error.is_locked() && locked < timing.poll_failures => {
                locked += 1;
                timing.scaled(TASK_POLL_S)
            }
            Err(error) if error.is_transient() && !error.is_locked() && passing < timing.read_attempts => {
                passing += 1;
                backoff(cx, passing - 2)
            }
            _ => return Ok(result),
        };
        cx.sleep(wait).await?;
    }
}

/// The set-up state, also of a CloudTower that tells it only to those who have logged in (`cloudtower.md` 4.3).
pub(super) async fn setup_state(cx: &StepCx, facts: &mut Facts) -> Result<SetupState, StepError> {
    let tower = &cx.outside.tower;
    let mut state = try_ask(cx, || tower.setup_state()).await?;
    if let Err(error) = &state
        && may_pin_again(cx, facts, error).await?
    {
        state = try_ask(cx, || tower.setup_state()).await?;
        remember(cx, facts).await?;
    }
    match state {
        Ok(state) => Ok(state),
        Err(error) if error.is_auth() => {
            // To ask for them is to log in.
            confirm(cx, facts).await?;
            let organizations = try_ask(cx, || tower.organizations()).await?;
            match organizations {
                Ok(organizations) => Ok(SetupState { organizations, root_created: true }),
                // Somebody has set it up, and our password is not theirs: the caller finds that out.
                Err(error) if error.rejects_login() => Ok(SetupState { organizations: Vec::new(), root_created: true }),
                Err(error) => Err(permanent(failed("asking for the set-up state", &error))),
            }
        }
        Err(error) => Err(permanent(failed("asking for the set-up state", &error))),
    }
}

/// Logs in as root with the planned password; once more after a while, for it may have been set just now (`flow.md` 5.3).
pub(super) async fn login(cx: &StepCx) -> Result<(), StepError> {
    let tower = &cx.outside.tower;
    match try_ask(cx, || tower.login()).await? {
        Err(error) if error.rejects_login() => {
            cx.sleep(cx.settings.timing.scaled(SECOND_LOGIN_S)).await?;
            ask(cx, "logging in to CloudTower as root", || tower.login()).await
        }
        Err(error) => Err(permanent(failed("logging in to CloudTower as root", &error))),
        Ok(()) => Ok(()),
    }
}

/// Waits for a task; none is done already.
pub(super) async fn finish_task(cx: &StepCx, attempted: &str, task: Option<&str>) -> Result<(), StepError> {
    let Some(id) = task else { return Ok(()) };
    let timing = &cx.settings.timing;
    let (begun, limit) = (tokio::time::Instant::now(), timing.scaled(TASK_LIMIT_S));
    loop {
        let task = ask(cx, attempted, || cx.outside.tower.task(id)).await?;
        match task.state {
            TaskState::Succeeded => return Ok(()),
            TaskState::Failed => {
                let message = format!("{attempted} failed: CloudTower's task {id} failed: {}", task.error);
                let remedy = "look at the task in CloudTower, remove the cause, then retry the job";
                return Err(permanent(story("tower_task_failed", message, remedy)));
            }
            TaskState::Running if begun.elapsed() >= limit => {
                let message = format!("{attempted} failed: CloudTower's task {id} did not end in {TASK_LIMIT_S:.0} s");
                let remedy = "look at the task in CloudTower, then retry the job";
                return Err(permanent(story("tower_task_timeout", message, remedy)));
            }
            TaskState::Running => cx.sleep(timing.scaled(TASK_POLL_S)).await?,
        }
    }
}

/// What is known of a call that changes something, for the outcome of its intent.
pub(super) fn became<T>(asked: &Result<T, Error>) -> IntentResult {
    match asked {
        Ok(_) => IntentResult::Done,
        Err(error) if error.had_no_effect() => IntentResult::Failed,
        Err(_) => IntentResult::Unknown,
    }
}

/// A doubling wait, number `retry` counted from 0.
pub(super) fn backoff(cx: &StepCx, retry: u32) -> Duration {
    let timing = &cx.settings.timing;
    let seconds = timing.read_retry_first_s * f64::from(1u32 << retry.min(16));
    timing.scaled(seconds.min(timing.read_retry_cap_s))
}

/// The failure to tell.
pub(super) fn failed(attempted: &str, error: &Error) -> Failure {
    let (code, remedy) = match &error.kind {
        ErrorKind::Certificate(_) => (
            "tower_certificate_changed",
            "find out which machine answers at the CloudTower address; if the certificate was replaced on purpose, start \
             a new job",
        ),
        ErrorKind::Unreachable(_) | ErrorKind::TimedOut(_) | ErrorKind::Broken(_) | ErrorKind::Unread(_) => (
            "tower_unreachable",
            "check that the bastion reaches the CloudTower address on the HTTPS port and that the VM runs",
        ),
        _ if error.rejects_login() => (
            "tower_login_refused",
            "check the root password in 集群管理信息!G3; if somebody has changed it in CloudTower, it is not ours any more",
        ),
        ErrorKind::Refused(_) | ErrorKind::Status(_) | ErrorKind::NotLoggedIn => {
            ("tower_refused", "read what CloudTower says, remove the cause, then retry the job")
        }
        ErrorKind::OnlyLooks => ("internal", "report it: a survey must not get so far"),
        ErrorKind::Shape(_) => (
            "tower_answer_unknown",
            "this CloudTower version answers in a form that is not known; report it with its version",
        ),
    };
    let mut failure = story_of(code, attempted, error, remedy);
    failure.detail = extra([("call", json!(error.call.to_string()))]);
    if let Some(refusal) = error.refusal() {
        failure.detail.insert("status".to_owned(), json!(refusal.status.as_u16()));
        failure.detail.insert("service_code".to_owned(), json!(refusal.code));
    }
    failure
}
