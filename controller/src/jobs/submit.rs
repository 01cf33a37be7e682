//! From a workbook to a stored job: plan, choose the agent, seal the secrets to it, store, wake the agent.

use std::collections::BTreeMap;

use gantry_plan::Outcome;
use gantry_proto::{
    Code, JobId, Plan, Problem, Secrets, Severity, Verdict, plan::RollbackPolicy, redact::Held, sealed, v1,
};
use jiff::Timestamp;

use super::Jobs;
use crate::{
    metrics::metrics,
    refusal::Refusal,
    store::{AgentRow, Inserted, JobRow, NewJob, Progress},
};

/// Longest key or value of an override, bytes.
const OVERRIDE_MAX: usize = 4096;
/// Longest file name that is kept, characters.
const FILE_NAME_MAX: usize = 255;

/// What the planner says, ready to be told: no secret in it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The verdict.
    pub verdict: Verdict,
    /// Every finding.
    pub problems: Vec<Problem>,
    /// The plan; `None` unless the verdict is ok.
    pub plan: Option<v1::PlanDocument>,
}

/// A wish to deploy.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Chosen by the caller.
    pub job: JobId,
    /// The file.
    pub workbook: Vec<u8>,
    /// Its name.
    pub file_name: String,
    /// Values that win over the workbook.
    pub overrides: BTreeMap<String, String>,
    /// The agent; empty to choose by site.
    pub agent: String,
    /// The site; empty when there is one agent.
    pub site: String,
    /// Keep what was made when the job fails; `None`: as the plan says.
    pub keep_on_failure: Option<bool>,
    /// Only these sites are the operator's business; empty for all.
    pub sites: Vec<String>,
    /// The operator, by the certificate.
    pub by: String,
}

/// What became of a [`Submission`].
#[derive(Clone, Debug)]
pub enum Submitted {
    /// Stored.
    Accepted {
        /// The job.
        job: Box<v1::Job>,
        /// The same job had been stored before.
        already_known: bool,
        /// Warnings and notices.
        problems: Vec<Problem>,
    },
    /// The workbook gives no plan; nothing was stored.
    Rejected(Checked),
}

impl Jobs {
    /// Checks a workbook; stores nothing.
    ///
    /// # Errors
    /// [`Code::BadRequest`] when a bound is exceeded.
    pub async fn check(&self, workbook: Vec<u8>, overrides: BTreeMap<String, String>) -> Result<Checked, Refusal> {
        let (mut outcome, _held) = self.planned(workbook, overrides).await?;
        checked(&mut outcome)
    }

    /// Plans a workbook and stores the job. The same id with the same plan is the same job.
    ///
    /// # Errors
    /// [`Code::JobConflict`], [`Code::TargetBusy`], or why no agent could be chosen; nothing is stored then.
    pub async fn submit(&self, wish: Submission) -> Result<Submitted, Refusal> {
        let Submission { job, workbook, file_name, overrides, agent, site, keep_on_failure, sites, by } = wish;
        let (mut outcome, _held) = self.planned(workbook, overrides).await?;
        let checked = checked(&mut outcome)?;
        let (Some(plan), Some(document), Some(secrets)) = (outcome.plan, &checked.plan, outcome.secrets) else {
            return Ok(Submitted::Rejected(checked));
        };
        let mut problems = checked.problems;
        if let Some(known) = self.store.job(job).await? {
            if !sites.is_empty() && !sites.contains(&known.site) {
                return Err(Refusal::new(Code::NotAllowed, "this job id belongs to a job of a site that is not yours"));
            }
            return self.known(known, &document.sha256, problems);
        }

        let agent = self.agents.choose(&agent, &site, &sites).await?;
        problems.extend(no_fitting_iso(&plan, &agent));
        let sealed = seal_to(&agent, &secrets, job)?;
        drop(secrets);

        let keep = keep_on_failure.unwrap_or(plan.deployment.rollback_policy == RollbackPolicy::Keep);
        let start = v1::order::Kind::Start(v1::StartJob {
            plan: Some(document.clone()),
            secrets: Some(sealed),
            keep_on_failure: keep,
            submitted_by: by.clone(),
        });
        let start = self.order(job, &agent.site, start);
        let row = JobRow {
            id: job,
            epoch: 1,
            site: agent.site,
            agent: agent.id,
            created: Timestamp::now(),
            submitted_by: by,
            file_name: file_name.chars().take(FILE_NAME_MAX).collect(),
            plan_sha256: document.sha256.clone(),
            cluster: plan.cluster.name.clone().unwrap_or_default(),
            vm_name: plan.cloudtower.vm_name.clone(),
            cloudtower_ip: plan.cloudtower.ip.to_string(),
            target: target(&plan),
            keep_on_failure: keep,
            cancel: v1::CancelStage::Unspecified,
            refusal: String::new(),
            moving_to: None,
            undo_only: false,
            progress: Progress::queued(),
        };
        let (agent, new) = (row.agent.clone(), NewJob { row, plan: document.clone(), start });
        match self.give(&[&agent], |store| async move { store.insert_job(new).await }).await? {
            Inserted::Stored(row) => {
                tracing::info!(job = %row.id, agent = %row.agent, by = %row.submitted_by, "job stored");
                metrics().submitted();
                self.changed(&row);
                Ok(Submitted::Accepted { job: Box::new(self.describe(&row)), already_known: false, problems })
            }
            Inserted::Known(row) => self.known(row, &document.sha256, problems),
            Inserted::Conflict => Err(conflict(job)),
            Inserted::TargetBusy(busy) => Err(Refusal::new(
                Code::TargetBusy,
                format!(
                    "job {} is at work on the same CloudTower {} (VM {}): wait for it (`ctl watch {}`) or cancel it first",
                    busy.id, busy.cloudtower_ip, busy.vm_name, busy.id
                ),
            )),
        }
    }

    fn known(&self, row: JobRow, sha256: &[u8], problems: Vec<Problem>) -> Result<Submitted, Refusal> {
        if row.plan_sha256 != sha256 {
            return Err(conflict(row.id));
        }
        Ok(Submitted::Accepted { job: Box::new(self.describe(&row)), already_known: true, problems })
    }

    /// Runs the planner on a thread of its own. The redactor knows every secret before anything can be logged, and for
    /// as long as the guard lives: afterwards the controller holds the sealed form only.
    pub(super) async fn planned(
        &self,
        workbook: Vec<u8>,
        overrides: BTreeMap<String, String>,
    ) -> Result<(Outcome, Held), Refusal> {
        let limits = &self.config.limits;
        if workbook.len() > limits.workbook_bytes {
            let (is, may) = (workbook.len(), limits.workbook_bytes);
            let message = format!("the workbook has {is} bytes, the limit is {may}: is it the right file?");
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let long = |(key, value): (&String, &String)| key.len() > OVERRIDE_MAX || value.len() > OVERRIDE_MAX;
        if overrides.len() > limits.overrides || overrides.iter().any(long) {
            let message = format!(
                "too many or too long overrides: at most {} of {OVERRIDE_MAX} bytes each; put them into the workbook",
                limits.overrides
            );
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let internal = |what| Refusal::new(Code::Internal, what);
        let _permit = self.planning.acquire().await.map_err(|_| internal("the controller is shutting down"))?;
        let (defaults, redactor) = (self.config.plan.clone(), self.redactor.clone());
        let planning = tokio::task::spawn_blocking(move || {
            let outcome = gantry_plan::plan(&workbook, &defaults, &overrides);
            let mut all = outcome.all_secrets.clone();
            if let Some(secrets) = &outcome.secrets {
                all.extend(
                    [&secrets.root_password, &secrets.fisheye_password, &secrets.ssh_password].map(Clone::clone),
                );
            }
            let held = redactor.hold(all);
            (outcome, held)
        });
        planning
            .await
            .map_err(|_| internal("the planner failed on this workbook: please report it; nothing was stored"))
    }
}

/// Takes from an outcome what may be told.
pub(super) fn checked(outcome: &mut Outcome) -> Result<Checked, Refusal> {
    let plan = match &outcome.plan {
        Some(plan) => Some(
            plan.to_document()
                .map_err(|error| Refusal::new(Code::Internal, format!("the plan cannot be written down: {error}")))?,
        ),
        None => None,
    };
    Ok(Checked { verdict: outcome.verdict, problems: std::mem::take(&mut outcome.problems), plan })
}

/// A hash as people compare it.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The VM on its cluster, by the address under which the cluster is managed.
pub(super) fn target(plan: &Plan) -> String {
    let cluster = plan.cluster.vip.or_else(|| plan.hosts.first().map(|host| host.mgmt_ip));
    format!("{}/{}", cluster.map(|ip| ip.to_string()).unwrap_or_default(), plan.cloudtower.vm_name)
}

/// The secrets, for this agent and this job alone.
pub(super) fn seal_to(agent: &AgentRow, secrets: &Secrets, job: JobId) -> Result<v1::SealedSecrets, Refusal> {
    sealed::seal(secrets, job, &agent.id, &agent.sealing_key).map_err(|error| {
        let message = format!(
            "the secrets cannot be sealed to agent \"{}\": {error}; let the agent reconnect, then try again",
            agent.id
        );
        Refusal::new(Code::AgentUnknown, message)
    })
}

/// A warning when the agent tells of ISO files and none of them fits. The agent itself has the last word.
pub(super) fn no_fitting_iso(plan: &Plan, agent: &AgentRow) -> Option<Problem> {
    let bare = |version: &str| version.trim().trim_start_matches(['v', 'V']).to_owned();
    let wanted = match (&plan.deployment.iso.file_name, &plan.cloudtower.version) {
        (Some(name), _) => name.clone(),
        (None, Some(version)) => bare(version),
        (None, None) => return None,
    };
    let fits = |iso: &v1::IsoFile| match &plan.deployment.iso.file_name {
        Some(name) => iso.name == *name,
        None => bare(&iso.version) == wanted,
    };
    if agent.isos.is_empty() || agent.isos.iter().any(fits) {
        return None;
    }
    let offered: Vec<&str> = agent.isos.iter().take(10).map(|iso| iso.name.as_str()).collect();
    Some(Problem {
        severity: Severity::Warning,
        code: "no_fitting_iso".to_owned(),
        rule: "R12".to_owned(),
        sheet: None,
        cell: None,
        related: Vec::new(),
        label: "ISO".to_owned(),
        value: Some(wanted),
        message: format!("agent {} offers no ISO that fits; it has {}", agent.id, offered.join(", ")),
        remedy: "put the ISO into the agent's ISO directory, or correct the version".to_owned(),
    })
}

fn conflict(job: JobId) -> Refusal {
    let message = format!("job {job} exists with another plan: submit the changed workbook under a new job id");
    Refusal::new(Code::JobConflict, message)
}
