//! Every mode of the simulator: the whole journey in each value of each, one at a time. Which values there are is asked of
//! the modes themselves, so that a new one cannot be left out.

use std::slice;

use anyhow::{Context as _, bail};
use gantry_sim::modes::Modes;
use serde_json::{Value, json};

use super::{End, PATIENCE, Scenario};

/// What of the journey is made. The image is left: what is promised of it is looked at after a run.
const JOURNEY: &[(&str, &str)] = &[
    ("deployment.stages", "deploy_cloudtower, attach_cluster, cloudtower_config, check_cluster_healthy"),
    ("deployment.tower_config.capacity_alert", "true"),
];

/// Values of modes that are neither switches nor choices.
const VALUES: &[(&str, &str)] = &[
    ("/volume_ttl_s", "3600"),
    ("/job_ttl_s", "600"),
    ("/cpu_brand", "\"Hygon C86 7285 32-core Processor\""),
    ("/agent_word", "\"RUNNING\""),
    ("/power_off_during_install", "1"),
    ("/guest/ssh_refused_s", "60"),
    // At the scale of these runs shorter ones would let no command through.
    ("/guest/drop_every_s", "400"),
    ("/guest/failing_check", "\"checkIOWait\""),
    ("/guest/failing_check_times", "2"),
    ("/guest/exit_after_success", "1"),
    ("/guest/log_missing_s", "60"),
    ("/tower/graphql_error_status", "400"),
    ("/tower/wrong_password_status", "401"),
    ("/tower/expired_token_status", "403"),
];

/// Where the journey cannot succeed: mode, value, how it ends, and the code of the failure.
const ENDS: &[(&str, &str, End, &str)] = &[
    ("/guest_tools", "absent", End::FailedAndUndone, "guest_agent_timeout"),
    ("/guest_info", "always_null", End::FailedAndUndone, "guest_agent_timeout"),
    ("/guest_info", "missing", End::FailedAndUndone, "guest_agent_timeout"),
    ("/guest_info", "wrong_type", End::FailedAndUndone, "guest_agent_timeout"),
    ("/address_conflict", "true", End::FailedAndUndone, "guest_is_another_host"),
    ("/nics", "none", End::FailedAndUndone, "nic_missing"),
    ("/nics", "no_mac", End::FailedAndUndone, "nic_missing"),
    ("/guest/ssh_filtered", "true", End::FailedAndUndone, "guest_unreachable"),
    ("/guest/banner", "none", End::FailedAndUndone, "guest_unreachable"),
    ("/guest/banner", "close_after", End::FailedAndUndone, "guest_unreachable"),
    ("/guest/preinstall", "fails", End::FailedAndUndone, "preinstall_failed"),
    ("/guest/preinstall", "hangs", End::FailedAndUndone, "preinstall_timeout"),
    ("/guest/installer", "fails", End::FailedAndUndone, "installer_failed"),
    ("/guest/installer", "killed", End::FailedAndUndone, "installer_killed"),
    ("/guest/installer", "silent", End::FailedAndUndone, "installer_timeout"),
    ("/guest/tower_certificate", "another", End::FailedAndUndone, "tower_certificate_differs"),
    ("/guest/tower_certificate", "unreadable", End::FailedAndUndone, "tower_certificate_unconfirmed"),
    ("/tower/ntp_unreachable", "true", End::FailedAndUndone, "ntp_not_set"),
    ("/tower/connect", "unhealthy", End::FailedLater, "cluster_disconnected"),
    ("/tower/connect", "stuck", End::FailedLater, "cluster_timeout"),
    ("/tower/settings", "never", End::FailedLater, "cluster_settings_missing"),
    ("/tower/configure", "policy_refused", End::FailedLater, "storage_policy_refused"),
    ("/tower/configure", "policy_ignored", End::FailedLater, "storage_policy_not_set"),
    ("/tower/inspector", "failed", End::FailedLater, "inspection_failed"),
    ("/tower/inspector", "version_refused", End::FailedLater, "tower_refused"),
    ("/tower/inspector", "export_fails", End::FailedLater, "report_export_failed"),
];

/// How much longer than usual deadlines are where one of them has to be met.
const DEADLINES: f64 = 8.0;

/// A mode that is not as usual: JSON pointer and value.
pub type Unusual = (String, Value);

/// Every value of every mode but the usual ones.
///
/// # Errors
/// A mode is neither a switch nor a choice nor in [`VALUES`].
pub fn all() -> anyhow::Result<Vec<Unusual>> {
    let usual = Modes::default();
    let whole = serde_json::to_value(&usual)?;
    let mut found = Vec::new();
    walk(&usual, &whole, "", &mut found)?;
    Ok(found)
}

fn walk(usual: &Modes, value: &Value, at: &str, found: &mut Vec<Unusual>) -> anyhow::Result<()> {
    if let (Value::Object(inner), true) = (value, at.is_empty() || matches!(at, "/guest" | "/tower")) {
        return inner.iter().try_for_each(|(key, value)| walk(usual, value, &format!("{at}/{key}"), found));
    }
    let given = VALUES.iter().filter(|(mode, _)| *mode == at);
    let given = given.map(|(_, text)| serde_json::from_str(text)).collect::<Result<Vec<Value>, _>>()?;
    let values = match value {
        _ if !given.is_empty() => given,
        Value::Bool(on) => vec![json!(!on)],
        _ => choices(usual, at).with_context(|| format!("the mode {at} has no value to be tried"))?,
    };
    // A value that no mode takes would leave everything as usual, and prove nothing.
    values.iter().try_for_each(|value| usual.patched(&patch(at, value.clone())).map(drop))?;
    found.extend(values.into_iter().filter(|other| other != value).map(|other| (at.to_owned(), other)));
    Ok(())
}

/// The values of a choice, from the words of the refusal of one that does not exist.
fn choices(usual: &Modes, at: &str) -> anyhow::Result<Vec<Value>> {
    let Err(refused) = usual.patched(&patch(at, json!("no such value"))) else { bail!("it takes anything") };
    let refused = format!("{refused:#}");
    let (_, expected) = refused.split_once("expected").with_context(|| refused.clone())?;
    let words: Vec<Value> = expected.split('`').skip(1).step_by(2).map(|word| json!(word)).collect();
    if words.is_empty() { bail!("{refused}") } else { Ok(words) }
}

/// A change of one mode.
fn patch(at: &str, value: Value) -> Value {
    at.trim_start_matches('/').rsplit('/').fold(value, |inner, key| json!({ key: inner }))
}

/// The journey in a world with this mode.
pub fn journey((at, value): &Unusual) -> Scenario {
    let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = ENDS.iter().find(|(mode, unusual, ..)| mode == at && *unusual == word);
    let (ends, code): (&[End], _) =
        row.map_or((&[End::Succeeded], None), |(.., end, code)| (slice::from_ref(end), Some(*code)));
    let change = patch(at, value.clone());
    Scenario {
        name: format!("the whole journey with {at} = {word}"),
        change: Box::new(move |options| {
            // Every patch is taken: that was tried when the values were gathered.
            if let Ok(modes) = options.modes.patched(&change) {
                options.modes = modes;
            }
        }),
        overrides: JOURNEY,
        ends,
        code,
        // What cannot succeed comes to its end by a deadline.
        patience: if code.is_some() { DEADLINES } else { PATIENCE },
        ..Scenario::happy()
    }
}
