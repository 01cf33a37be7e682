//! What CloudTower needs to work (`flow.md` 5.3 to 5.5): a login, NTP, the licence, and another look at DNS (C18).

use async_trait::async_trait;
use gantry_proto::{Level, StepInfo, result::ServersResult};
use serde_json::{Value, json};

use super::{
    dns,
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::{Error, same_servers},
    diff::Diff,
    facts::Facts,
    step::{Step, StepCx, StepError},
};

/// Configures the services.
pub struct ConfigureServices;

/// What an intent of ours is called.
const NTP: &str = "updateCloudTowerNtpUrl";
/// Looks at the licence: the installer may write it late (W12).
const LICENSE_LOOKS: u32 = 4;
/// Fields of a licence that are kept, and their longest text, characters.
const LICENSE_FIELDS_MAX: usize = 32;
const LICENSE_TEXT_MAX: usize = 1_024;
/// Seconds at scale 1 between two of them.
const LICENSE_POLL_S: f64 = 10.0;
/// Tries to set the NTP servers: one and three retries (`flow.md` 5.4).
const NTP_TRIES: u32 = 4;

#[async_trait]
impl Step for ConfigureServices {
    fn info(&self) -> StepInfo {
        let title = "Configure NTP, licence and DNS".to_owned();
        StepInfo { id: "configure-services".into(), title, weight: 15, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        tower::come_in(cx, facts).await?;
        ntp(cx, facts).await?;
        license(cx, facts).await?;
        check_dns(cx, facts).await
    }

    async fn survey(&self, cx: &StepCx, _facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let (ip, planned) = (cx.plan.cloudtower.ip.to_string(), &cx.plan.ntp_servers);
        if planned.is_empty() {
            diff.notice(&ip, "the plan names no NTP server: CloudTower keeps its own time");
        } else {
            diff.change(NTP, &ip, format!("CloudTower is given the NTP servers {}", planned.join(", ")));
        }
        Ok(())
    }
}

async fn ntp(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let planned = &cx.plan.ntp_servers;
    if planned.is_empty() {
        facts.ntp = Some(ServersResult::default());
        cx.save(facts).await?;
        let message = "the plan names no NTP server (集群管理信息!E22:E24): CloudTower keeps its own time";
        return cx.note(Level::Warning, "ntp_skipped", message, extra([])).await;
    }
    match set_ntp(cx, planned).await? {
        Ok(told) => {
            let ordered = told.iter().map(|server| server.to_lowercase()).eq(planned.iter().map(|s| s.to_lowercase()));
            let (level, message) = match ordered {
                true => (Level::Info, "the NTP servers are set"),
                false => (Level::Warning, "the NTP servers are set, but CloudTower tells them in another order"),
            };
            facts.ntp = Some(ServersResult { servers: planned.clone(), applied: true });
            cx.save(facts).await?;
            cx.note(level, "ntp_set", message, extra([("servers", json!(planned)), ("told", json!(told))])).await
        }
        Err(failure) if cx.plan.deployment.ntp_failure_is_warning => {
            facts.ntp = Some(ServersResult { servers: planned.clone(), applied: false });
            cx.save(facts).await?;
            let fields = extra([("failure", json!(failure.code)), ("causes", json!(failure.causes))]);
            cx.note(Level::Warning, "ntp_failed", failure.message, fields).await
        }
        Err(failure) => Err(permanent(failure)),
    }
}

/// Sets them and gives them as CloudTower repeats them; a lost answer is read back (L11).
async fn set_ntp(cx: &StepCx, planned: &[String]) -> Result<Result<Vec<String>, gantry_proto::Failure>, StepError> {
    let tower = &cx.outside.tower;
    let mut last = None;
    for round in 0..NTP_TRIES {
        cx.check()?;
        let intent = cx.intend(NTP, extra([("servers", json!(planned))])).await?;
        let set = tower.set_ntp(planned).await;
        cx.outcome(intent, tower::became(&set), extra([])).await?;
        let told = match set {
            Ok(told) => Ok(told),
            Err(error) if error.had_no_effect() => Err(error),
            Err(_) => tower::try_ask(cx, || tower.ntp()).await?,
        };
        match told {
            Ok(told) if same_servers(&told, planned) => return Ok(Ok(told)),
            Ok(told) => last = Some(differs(planned, &told)),
            Err(error) => {
                let again = error.is_transient();
                last = Some(refused(planned, &error));
                if !again {
                    break;
                }
            }
        }
        cx.sleep(tower::backoff(cx, round)).await?;
    }
    Ok(Err(last.unwrap_or_default()))
}

fn differs(planned: &[String], told: &[String]) -> gantry_proto::Failure {
    let message = format!("CloudTower was given the NTP servers {planned:?}, but tells {told:?}");
    let remedy = "check the NTP servers in 集群管理信息!E22:E24 and in CloudTower's settings";
    let mut failure = story("ntp_not_set", message, remedy);
    failure.detail = extra([("planned", json!(planned)), ("told", json!(told))]);
    failure
}

fn refused(planned: &[String], error: &Error) -> gantry_proto::Failure {
    let mut failure = tower::failed(&format!("setting the NTP servers {planned:?} in CloudTower"), error);
    failure.code = "ntp_not_set".to_owned();
    failure.remedy = "check that CloudTower reaches the NTP servers of 集群管理信息!E22:E24, or make their failure a \
                      warning (deployment.ntp_failure_is_warning)"
        .to_owned();
    failure
}

async fn license(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let tower = &cx.outside.tower;
    for look in 1..=LICENSE_LOOKS {
        match tower::try_ask(cx, || tower.license()).await? {
            Ok(Some(license)) => {
                let license = bounded(&license);
                let serial = license.get("license_serial").and_then(Value::as_str).unwrap_or_default().to_owned();
                let fields = extra([("license_serial", json!(serial)), ("type", license["type"].clone())]);
                facts.license = Some(license);
                cx.save(facts).await?;
                return cx.note(Level::Info, "license_found", format!("CloudTower's serial is {serial}"), fields).await;
            }
            Ok(None) if look < LICENSE_LOOKS => cx.sleep(cx.settings.timing.scaled(LICENSE_POLL_S)).await?,
            Ok(None) => {}
            // The licence is information for later stages: not to know it is no reason to undo a deployment.
            Err(error) => {
                let message = format!("the licence cannot be read: {}", error.kind);
                return cx.note(Level::Warning, "license_unknown", message, extra([])).await;
            }
        }
    }
    let message = "CloudTower tells no licence: its serial cannot be written to 集群管理信息!M3";
    cx.note(Level::Warning, "license_missing", message, extra([])).await
}

/// Its short fields: the facts must fit in a line of the journal, whatever CloudTower tells.
fn bounded(license: &Value) -> Value {
    let short = |value: &Value| match value {
        Value::String(text) => text.chars().nth(LICENSE_TEXT_MAX).is_none(),
        Value::Array(_) | Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    };
    let fields = license.as_object().into_iter().flatten().filter(|(_, value)| short(value));
    let fields = fields.filter(|(key, _)| key.chars().nth(LICENSE_TEXT_MAX).is_none()).take(LICENSE_FIELDS_MAX);
    Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The resolver file once more. A VM that SSH does not reach any more is a warning: the service itself has been proved.
async fn check_dns(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    match dns::verify(cx, facts).await {
        Err(StepError::Permanent(failure)) if failure.code != "guest_host_key_changed" => {
            let message = format!("the DNS servers could not be verified: {}", failure.message);
            cx.note(Level::Warning, "dns_unverified", message, extra([("failure", json!(failure.code))])).await
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_licence_only_short_fields_are_kept() {
        let license = json!({
            "license_serial": "serial", "max_vm_num": 5, "sign_date": null, "vendor": "v".repeat(1_025), "extra": {"a": 1},
            "list": ["x"], "software_edition": "e".repeat(1_024),
        });
        let kept = bounded(&license);
        let keys: Vec<&String> = kept.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["license_serial", "max_vm_num", "sign_date", "software_edition"]);
        let many = Value::Object((0..100).map(|n| (n.to_string(), json!(n))).collect());
        assert_eq!(bounded(&many).as_object().unwrap().len(), LICENSE_FIELDS_MAX);
    }
}
