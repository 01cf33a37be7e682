//! What every step that speaks with Fisheye does first and last: enforce the certificates that the job has recorded,
//! and record what is new. Knows no step.

use std::collections::BTreeSet;

use gantry_proto::Level;
use serde_json::json;

use super::story::fields;
use crate::{
    config::CertificatePolicy,
    facts::Facts,
    step::{StepCx, StepError},
};

/// Certificates that the job has recorded are enforced from now on, also after a restart.
pub(super) fn enter(cx: &StepCx, facts: &Facts) {
    cx.outside.fisheye.trust(&facts.fisheye_pins);
}

/// Records certificates seen first, and the endpoint that answered last.
pub(super) async fn remember(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let known: BTreeSet<String> = facts.fisheye_pins.keys().cloned().collect();
    facts.fisheye_pins = cx.outside.fisheye.pins();
    facts.fisheye_url = Some(cx.outside.fisheye.base_url());
    for (address, fingerprint) in facts.fisheye_pins.iter().filter(|(address, _)| !known.contains(*address)) {
        let message = format!("{address} shows the certificate {fingerprint}; from now on it must be this one");
        let extra = fields(json!({"address": address, "fingerprint": fingerprint}));
        cx.note(Level::Info, "fisheye_certificate", message, extra).await?;
    }
    cx.save(facts).await
}

/// Warns of settings that give security away.
pub(super) async fn warn_of_settings(cx: &StepCx) -> Result<(), StepError> {
    let settings = &cx.settings.fisheye;
    if settings.scheme != "https" {
        let message = "the Fisheye password travels in clear (fisheye.scheme is not https)";
        cx.note(Level::Warning, "fisheye_in_clear", message, fields(json!({}))).await?;
    } else if settings.certificate == CertificatePolicy::AcceptAny {
        let message = "Fisheye's certificate is not checked (fisheye.certificate = accept-any)";
        cx.note(Level::Warning, "fisheye_certificate_unchecked", message, fields(json!({}))).await?;
    }
    Ok(())
}
