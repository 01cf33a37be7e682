//! What deploying a workbook would do: planned as a job would be, sealed to the same agent, stored nowhere.

use std::{collections::BTreeMap, future::Future, time::Duration};

use gantry_proto::{Code, JobId, Problem, redact::Held, v1};

use super::{
    Jobs, LIST_MAX,
    submit::{Checked, checked, no_fitting_iso, seal_to, target},
};
use crate::{agents::Looking, config::ms, refusal::Refusal, store::JobFilter};

/// A wish to know.
#[derive(Clone, Debug)]
pub struct DiffWish {
    /// The file.
    pub workbook: Vec<u8>,
    /// Values that win over the workbook.
    pub overrides: BTreeMap<String, String>,
    /// The agent; empty to choose by site.
    pub agent: String,
    /// The site; empty when there is one agent.
    pub site: String,
    /// Only these sites are the operator's business; empty for all.
    pub sites: Vec<String>,
}

/// What became of a [`DiffWish`].
pub enum Diffed {
    /// The agent is looking.
    Looks(Box<Looked>),
    /// The workbook gives no plan; nobody was asked.
    Rejected(Checked),
}

/// An agent that is looking.
pub struct Looked {
    /// The agent.
    pub agent: String,
    /// Its site.
    pub site: String,
    /// The plan's hash.
    pub plan_sha256: String,
    /// Warnings and notices.
    pub problems: Vec<Problem>,
    looking: Looking,
    limit: Duration,
    /// Why the job would be refused here.
    busy: Option<v1::DiffLine>,
    _held: Held,
}

impl Jobs {
    /// Plans a workbook and has the agent that would get the job look at its site.
    ///
    /// # Errors
    /// Why no agent could be chosen, or why it cannot be asked now.
    pub async fn diff(&self, wish: DiffWish) -> Result<Diffed, Refusal> {
        let DiffWish { workbook, overrides, agent, site, sites } = wish;
        let (mut outcome, held) = self.planned(workbook, overrides).await?;
        let checked = checked(&mut outcome)?;
        let (Some(plan), Some(document), Some(secrets)) = (outcome.plan, &checked.plan, outcome.secrets) else {
            return Ok(Diffed::Rejected(checked));
        };
        let mut problems = checked.problems;
        let agent = self.agents.choose(&agent, &site, &sites).await?;
        problems.extend(no_fitting_iso(&plan, &agent));
        let survey = JobId::new();
        let sealed = seal_to(&agent, &secrets, survey)?;
        drop(secrets);
        let busy = self.busy(&target(&plan)).await?;
        let request = v1::SurveyRequest {
            survey_id: survey.to_string(),
            site: agent.site.clone(),
            plan: Some(document.clone()),
            secrets: Some(sealed),
        };
        let looking = self.agents.survey(&agent.id, request)?;
        tracing::info!(agent = %agent.id, %survey, "an agent looks what a deployment would do");
        Ok(Diffed::Looks(Box::new(Looked {
            agent: agent.id.to_string(),
            site: agent.site,
            plan_sha256: super::submit::hex(&document.sha256),
            problems,
            looking,
            limit: ms(self.config.limits.survey_ms),
            busy,
            _held: held,
        })))
    }

    /// Carries on in the background, and ends with the controller.
    pub(crate) fn beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(task).await });
    }

    /// Why a job with this target would not be stored.
    async fn busy(&self, target: &str) -> Result<Option<v1::DiffLine>, Refusal> {
        let filter = JobFilter { limit: LIST_MAX, active_only: true, ..JobFilter::default() };
        let jobs = self.store.list_jobs(filter).await?;
        Ok(jobs.into_iter().find(|job| job.target == target).map(|job| v1::DiffLine {
            step: String::new(),
            kind: v1::DiffKind::Refuse.into(),
            call: String::new(),
            subject: job.id.to_string(),
            message: format!(
                "job {} is at work on the same CloudTower {} (VM {})",
                job.id, job.cloudtower_ip, job.vm_name
            ),
            remedy: format!("wait for it (`ctl watch {}`) or cancel it first", job.id),
            code: Code::TargetBusy.word().to_owned(),
        }))
    }
}

impl Looked {
    /// Waits for what the agent finds.
    ///
    /// # Errors
    /// Why it could not look.
    pub async fn diff(self) -> Result<v1::SiteDiff, Refusal> {
        let mut diff = self.looking.diff(self.limit).await?;
        if let Some(mut busy) = self.busy {
            busy.step = diff.steps.first().map(|step| step.id.clone()).unwrap_or_default();
            diff.lines.retain(|line| line.code != busy.code);
            diff.lines.insert(0, busy);
        }
        Ok(diff)
    }
}
