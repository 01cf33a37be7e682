//! CloudTower answers (`flow.md` 4.6): the port first, then the application (C17).

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use gantry_proto::{Level, StepInfo};
use serde_json::json;
use tokio::{net::TcpStream, time::Instant};

use super::{
    shell,
    story::{extra, permanent},
    tower,
};
use crate::{
    cloudtower::Error,
    config::CertificatePolicy,
    diff::Diff,
    facts::Facts,
    step::{Progress, Step, StepCx, StepError},
};

/// Waits until CloudTower serves.
pub struct VerifyHttps;

#[async_trait]
impl Step for VerifyHttps {
    fn info(&self) -> StepInfo {
        StepInfo {
            id: "verify-https".into(),
            title: "Wait for CloudTower's service".to_owned(),
            weight: 60,
            attempts: 1,
        }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        shell::enter(cx, facts).await?;
        if cx.settings.cloudtower.certificate == CertificatePolicy::AcceptAny {
            let message = "CloudTower's certificate is not checked (cloudtower.certificate = accept-any)";
            cx.note(Level::Warning, "tower_certificate_unchecked", message, extra([])).await?;
        }
        tower::trust(cx, facts);
        wait_for_port(cx).await?;
        wait_for_service(cx, facts).await?;
        tower::remember(cx, facts).await?;
        tower::confirm(cx, facts).await
    }

    /// It changes nothing.
    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}

/// Three tries, ten seconds apart (R53). A port that is still closed then may open within the application's time (W1).
async fn wait_for_port(cx: &StepCx) -> Result<(), StepError> {
    let timing = &cx.settings.timing;
    let address = SocketAddr::new(cx.plan.cloudtower.ip.into(), cx.settings.cloudtower.port);
    let limit = Duration::from_millis(cx.settings.cloudtower.connect_timeout_ms);
    let mut last = String::new();
    for attempt in 1..=timing.https_tries.max(1) {
        let open = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
            open = tokio::time::timeout(limit, TcpStream::connect(address)) => open,
        };
        match open {
            Ok(Ok(_)) => {
                let fields =
                    extra([("attempt", json!(attempt)), ("port", json!(address.port())), ("phase", json!("tcp"))]);
                return cx.note(Level::Info, "tower_port_open", format!("{address} is open"), fields).await;
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        if attempt < timing.https_tries {
            cx.sleep(timing.scaled(timing.https_wait_s)).await?;
        }
    }
    let message = format!(
        "{address} is not open after {} tries ({last}); going on for the {:.0} s that the application has",
        timing.https_tries, timing.ready_limit_s
    );
    cx.note(Level::Warning, "tower_port_late", message, extra([("error", json!(last))])).await
}

async fn wait_for_service(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let (timing, tower) = (&cx.settings.timing, &cx.outside.tower);
    let (begun, limit) = (Instant::now(), timing.scaled(timing.ready_limit_s));
    for attempt in 1u64.. {
        let asked = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
            asked = tower.setup_state() => asked,
        };
        let error = match asked {
            Ok(_) => return ready(cx, attempt, begun).await,
            // One that tells its state only to those who have logged in is ready, too.
            Err(error) if error.is_auth() => return ready(cx, attempt, begun).await,
            Err(error) => error,
        };
        if tower::may_pin_again(cx, facts, &error).await? {
            continue;
        }
        if error.certificate().is_some() {
            return Err(permanent(tower::failed("waiting for CloudTower's service", &error)));
        }
        if begun.elapsed() >= limit {
            return Err(never_ready(cx, &error));
        }
        let text = format!("waiting for CloudTower's service (attempt {attempt}): {}", error.kind);
        cx.progress(Progress { text, ..Progress::default() });
        // What the service showed so far counts: a second replacement is none that happens while it opens.
        tower::remember(cx, facts).await?;
        cx.sleep(timing.scaled(timing.ready_poll_s)).await?;
    }
    Ok(())
}

async fn ready(cx: &StepCx, attempt: u64, begun: Instant) -> Result<(), StepError> {
    let elapsed = cx.settings.timing.told(begun.elapsed());
    let fields = extra([
        ("attempt", json!(attempt)),
        ("port", json!(cx.settings.cloudtower.port)),
        ("phase", json!("application")),
        ("elapsed", json!(elapsed)),
    ]);
    let message = format!("CloudTower serves at {}", cx.outside.tower.base_url());
    cx.note(Level::Info, "tower_ready", message, fields).await
}

fn never_ready(cx: &StepCx, error: &Error) -> StepError {
    let attempted = format!(
        "waiting {:.0} s for CloudTower's service at {}",
        cx.settings.timing.ready_limit_s,
        cx.outside.tower.base_url()
    );
    let mut failure = tower::failed(&attempted, error);
    failure.code = "tower_not_ready".to_owned();
    failure.remedy =
        "look at the installer's log and at the VM's console; raise timing.ready_limit_s if the cluster is \
                      just slow"
            .to_owned();
    permanent(failure)
}
