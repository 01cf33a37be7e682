//! The end (`flow.md` 6): log out, close SSH, wipe what is secret, say what there is now.

use async_trait::async_trait;
use gantry_proto::{Level, StepInfo, plan::Stage};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::story::extra;
use crate::{
    diff::Diff,
    facts::Facts,
    step::{Step, StepCx, StepError},
};

/// Ends the sessions.
pub struct Finish;

#[async_trait]
impl Step for Finish {
    fn info(&self) -> StepInfo {
        StepInfo { id: "finish".into(), title: "Close the sessions".to_owned(), weight: 1, attempts: 1 }
    }

    fn stage(&self) -> Option<Stage> {
        None
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        if let Err(error) = cx.outside.fisheye.logout().await {
            let message = format!("logging out of Fisheye failed ({error}); the session ends by itself");
            cx.note(Level::Debug, "fisheye_logout_failed", message, extra([])).await?;
        }
        cx.outside.guest.wipe().await;
        cx.outside.tower.wipe();
        let serial = facts.license.as_ref().and_then(|license| license.get("license_serial"));
        let logs = cx.log.log_files(facts);
        let elapsed = elapsed(cx).await.map_err(StepError::Journal)?;
        let url = cx.outside.tower.base_url();
        let summary = extra([
            ("ip", json!(cx.plan.cloudtower.ip)),
            ("base_url", json!(url)),
            ("serial", serial.cloned().unwrap_or(Value::Null)),
            ("log_path", json!(logs.install)),
            ("elapsed", json!(elapsed)),
        ]);
        let stages = &cx.plan.deployment.stages;
        let message = match stages.iter().max() {
            Some(Stage::Prepare) => "everything was checked, nothing was made".to_owned(),
            Some(_) if stages.contains(&Stage::DeployCloudtower) => format!("CloudTower is ready at {url}"),
            _ => format!("what was chosen is done at {url}"),
        };
        cx.note(Level::Info, "summary", message, summary).await
    }

    /// It changes nothing.
    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}

/// Seconds since the first event of the job, as the outside world counts them.
async fn elapsed(cx: &StepCx) -> std::io::Result<Option<f64>> {
    let first = cx.log.journal().events_after(0).page(1, 1).await?;
    let since = first.first().map(|event| Timestamp::now().duration_since(event.at).unsigned_abs());
    Ok(since.map(|real| cx.settings.timing.told(real)))
}
