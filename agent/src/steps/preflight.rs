//! The pre-checks (`flow.md` 3, 1.1 to 1.12): all of them are run, each is told, and the errors come together. Nothing is
//! made here. A wrong Fisheye password ends them at once: a second try could lock the account.

mod capacity;
mod cluster_side;
mod compat;
mod iso_file;
mod reach;
mod space;

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use gantry_proto::{Failure, Level, StepInfo, plan::Stage};
use serde_json::json;

use super::{
    cluster,
    story::{fields, permanent, story},
};
use crate::{
    diff::{Diff, Part},
    facts::Facts,
    step::{Step, StepCx, StepError},
};

/// Checks everything that can be checked before anything is made.
pub struct Preflight;

#[async_trait]
impl Step for Preflight {
    fn info(&self) -> StepInfo {
        StepInfo {
            id: "preflight".into(),
            title: "Check bastion, network and cluster".to_owned(),
            weight: 60,
            attempts: 1,
        }
    }

    fn stage(&self) -> Option<Stage> {
        Some(Stage::Prepare)
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        let mut report = Report::new(cx);
        checks(&mut report, facts).await?;
        report.verdict()
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let mut report = Report::new(cx);
        let checked = checks(&mut report, facts).await;
        for (target, warning) in report.warnings() {
            diff.notice(&target, warning);
        }
        report.failures.iter().for_each(|(target, failure)| diff.refuse(target, failure));
        diff.set_door(Part::Cluster, report.logged_in && checked.is_ok());
        checked
    }
}

/// All of them, in their order.
async fn checks(report: &mut Report<'_>, facts: &mut Facts) -> Result<(), StepError> {
    let cx = report.cx;
    cluster::enter(cx, facts);
    cluster::warn_of_settings(cx).await?;
    reach::data_dir(report).await?;
    let found = iso_file::choose(report).await?;
    reach::hosts(report).await?;
    reach::vip(report).await?;
    reach::certificates(report).await?;
    cluster::remember(cx, facts).await?;
    // A VM of ours that no fact tells of may have the address: then the cluster is asked first.
    let ask_first = cx.log.may_lack_facts();
    if !ask_first {
        reach::cloudtower_address(report, facts).await?;
    }
    reach::bmcs(report).await?;
    cluster_side::check(report, facts, found.as_ref()).await?;
    if ask_first {
        reach::cloudtower_address(report, facts).await?;
    }
    if let Some(found) = found {
        iso_file::hashes(report, facts, found).await?;
    }
    cluster::remember(cx, facts).await
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    /// Worth knowing, nothing more.
    Info,
    Warning,
    Error,
    /// Could not be made, because of an error that is told elsewhere.
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Ok | Self::Info | Self::Skipped => Level::Info,
            Self::Warning => Level::Warning,
            Self::Error => Level::Error,
        }
    }
}

/// The checks so far.
struct Report<'a> {
    cx: &'a StepCx,
    /// What each is about, and why it failed.
    failures: Vec<(String, Failure)>,
    /// What each is about, and its words. Behind a lock because telling needs no more than a look at the report.
    warnings: Mutex<Vec<(String, String)>>,
    /// There is a session with Fisheye.
    logged_in: bool,
}

impl<'a> Report<'a> {
    fn new(cx: &'a StepCx) -> Self {
        Self { cx, failures: Vec::new(), warnings: Mutex::default(), logged_in: false }
    }

    fn warnings(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells a check.
    async fn tell(
        &self,
        check: &str,
        target: &str,
        outcome: Outcome,
        message: impl Into<String> + Send,
    ) -> Result<(), StepError> {
        let message = message.into();
        if outcome == Outcome::Warning {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push((target.to_owned(), message.clone()));
        }
        let extra = json!({"check": check, "result": outcome.word(), "target": target});
        self.cx.note(outcome.level(), "check", message, fields(extra)).await
    }

    async fn ok(&self, check: &str, target: &str, message: impl Into<String> + Send) -> Result<(), StepError> {
        self.tell(check, target, Outcome::Ok, message).await
    }

    async fn warn(&self, check: &str, target: &str, message: impl Into<String> + Send) -> Result<(), StepError> {
        self.tell(check, target, Outcome::Warning, message).await
    }

    /// Tells a check that failed, and keeps the failure for the verdict.
    async fn fail(&mut self, check: &str, target: &str, mut failure: Failure) -> Result<(), StepError> {
        self.tell(check, target, Outcome::Error, failure.message.clone()).await?;
        failure.detail.insert("check".to_owned(), check.into());
        failure.detail.insert("target".to_owned(), target.into());
        self.failures.push((target.to_owned(), failure));
        Ok(())
    }

    /// One failure is itself; several become one that names them all.
    fn verdict(self) -> Result<(), StepError> {
        let mut failures: Vec<Failure> = self.failures.into_iter().map(|(_, failure)| failure).collect();
        match failures.len() {
            0 => Ok(()),
            1 => Err(permanent(failures.remove(0))),
            count => {
                let messages: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
                let mut remedies: Vec<&str> = failures.iter().map(|failure| failure.remedy.as_str()).collect();
                remedies.dedup();
                let message = format!("{count} pre-checks failed: {}", messages.join("; "));
                let mut all = story("precheck_failed", message, remedies.join("; "));
                let checks = serde_json::to_value(&failures).unwrap_or_default();
                all.detail.insert("checks".to_owned(), checks);
                Err(permanent(all))
            }
        }
    }
}
