//! A job moves to another agent of its site: its workbook is planned again so that the secrets can be sealed to that
//! agent, and the job goes there once the agent that has it has let go, or is said to be off.

use std::collections::BTreeMap;

use gantry_proto::{Code, JobOutcome, v1};

use super::{
    Checked, Jobs, short,
    submit::{checked, hex, seal_to},
};
use crate::{
    refusal::Refusal,
    store::{AgentRow, JobRow, Relocate, Relocated},
};

/// A wish to move a job.
#[derive(Clone, Debug, Default)]
pub struct Move {
    /// The agent that gets it.
    pub to: String,
    /// The workbook that was planned.
    pub workbook: Vec<u8>,
    /// Its name, for messages.
    pub file_name: String,
    /// Values that win over the workbook, as at submission.
    pub overrides: BTreeMap<String, String>,
    /// The operator vouches that the agent that has the job is off.
    pub old_agent_is_off: bool,
    /// The operator, by the certificate.
    pub by: String,
    /// Chosen by who asks: the same one twice is one wish.
    pub request: String,
}

/// What became of a [`Move`].
#[derive(Clone, Debug)]
pub enum Moved {
    /// Stored: the new epoch, or that the agent which has the job is to let go.
    Accepted {
        /// The job.
        row: Box<JobRow>,
        /// The new epoch is stored.
        moved: bool,
    },
    /// The workbook gives no plan; nothing was stored.
    Rejected(Checked),
}

impl Jobs {
    /// Moves a job to another agent of its site.
    ///
    /// # Errors
    /// [`Code::BadRequest`] when it is another workbook, site or the same agent; [`Code::AgentUnknown`];
    /// [`Code::JobState`] when the job has succeeded or is on its way elsewhere; [`Code::TargetBusy`].
    pub async fn relocate(&self, row: &JobRow, wish: Move) -> Result<Moved, Refusal> {
        if self.store.requested(row.id, short(&wish.request)).await? {
            return Ok(accepted(row.clone(), &wish.to));
        }
        if row.progress.outcome == Some(JobOutcome::Succeeded) {
            let message = format!("job {} has succeeded: there is nothing to move", row.id);
            return Err(Refusal::new(Code::JobState, message));
        }
        let to = self.next_agent(row, &wish.to).await?;
        let (mut outcome, _held) = self.planned(wish.workbook, wish.overrides).await?;
        let checked = checked(&mut outcome)?;
        let (Some(document), Some(secrets)) = (&checked.plan, outcome.secrets) else {
            return Ok(Moved::Rejected(checked));
        };
        if document.sha256 != row.plan_sha256 {
            return Err(another_workbook(row, &wish.file_name, &document.sha256));
        }
        let sealed = seal_to(&to, &secrets, row.id)?;
        drop(secrets);
        let order = |kind| self.order(row.id, &row.site, kind);
        let take_over = v1::order::Kind::TakeOver(v1::TakeOverJob {
            plan: Some(document.clone()),
            secrets: Some(sealed),
            keep_on_failure: row.keep_on_failure,
            submitted_by: row.submitted_by.clone(),
            from: Some(v1::TakenOver { by: wish.by.clone(), ..Default::default() }),
            ..Default::default()
        });
        let surrender =
            v1::order::Kind::Surrender(v1::SurrenderOrder { by: wish.by.clone(), to_agent: to.id.to_string() });
        let relocate = Relocate {
            job: row.id,
            epoch: row.epoch,
            from: row.agent.clone(),
            to: to.id,
            request: short(&wish.request),
            surrender: order(surrender),
            take_over: order(take_over),
            old_agent_is_off: wish.old_agent_is_off,
        };
        let vouched = wish.old_agent_is_off.then_some(wish.by.as_str());
        self.store_move(row, relocate, vouched).await
    }

    /// The agent that is asked for, if it can take the job.
    async fn next_agent(&self, row: &JobRow, wanted: &str) -> Result<AgentRow, Refusal> {
        let bad = |message: String| Err(Refusal::new(Code::BadRequest, message));
        if wanted.is_empty() {
            return bad(format!(
                "which agent gets job {} is not said: choose one of `ctl agents --site {}`",
                row.id, row.site
            ));
        }
        // An agent that has refused to take the job over may be asked again.
        let refused = row.progress.state == v1::JobState::Queued && !row.refusal.is_empty();
        if wanted == row.agent.as_str() && !refused {
            return bad(format!("job {} is at agent {wanted} already: see `ctl show {}`", row.id, row.id));
        }
        let agent = self.agents.choose(wanted, "", &[]).await?;
        if agent.site != row.site {
            return bad(format!(
                "agent {wanted} is at site \"{}\" and job {} at \"{}\": choose one of `ctl agents --site {}`",
                agent.site, row.id, row.site, row.site
            ));
        }
        Ok(agent)
    }

    async fn store_move(&self, before: &JobRow, wish: Relocate, vouched: Option<&str>) -> Result<Moved, Refusal> {
        let to = wish.to.clone();
        match self.give(&[&before.agent, &to], |store| async move { store.relocate(wish).await }).await? {
            Some(Relocated::Moved(row)) => {
                self.has_moved(&row, &before.agent);
                if let (Some(by), false) = (vouched, before.finished()) {
                    tracing::warn!(job = %row.id, from = %before.agent, %to, by, "moved on the word that its agent is off");
                    // If that was wrong, it hears at once that it has the job no more.
                    self.agents.recall(&before.agent);
                }
                Ok(accepted(row, to.as_str()))
            }
            Some(Relocated::Asked(row)) => {
                tracing::info!(job = %row.id, agent = %row.agent, %to, "the agent is asked to let go of the job");
                self.changed(&row);
                Ok(accepted(row, to.as_str()))
            }
            Some(Relocated::Known(row)) => Ok(accepted(row, to.as_str())),
            Some(Relocated::Elsewhere(row)) => {
                let other = row.moving_to.as_ref().map(ToString::to_string).unwrap_or_default();
                let message = format!(
                    "job {} is on its way to agent {other} already, as soon as agent {} lets go: wait for that \
                     (`ctl watch {}`), or say that {} is off with --old-agent-is-off",
                    row.id, row.agent, row.id, row.agent
                );
                Err(Refusal::new(Code::JobState, message))
            }
            Some(Relocated::Overtaken(row)) => {
                let message = format!("job {} has moved on meanwhile: see `ctl show {}`", row.id, row.id);
                Err(Refusal::new(Code::JobState, message))
            }
            Some(Relocated::TargetBusy(busy)) => {
                let (id, ip) = (busy.id, &busy.cloudtower_ip);
                let message = format!("job {id} is at work on the same CloudTower {ip}: wait for it or cancel it");
                Err(Refusal::new(Code::TargetBusy, message))
            }
            None => Err(Refusal::new(Code::JobNotFound, "the job is gone")),
        }
    }

    /// A job has got its new epoch, and its next agent gets the order.
    pub(super) fn has_moved(&self, row: &JobRow, before: &gantry_proto::AgentId) {
        tracing::info!(job = %row.id, from = %before, to = %row.agent, epoch = row.epoch, "the job has moved");
        self.changed(row);
        self.agents.wake(&row.agent);
    }
}

fn accepted(row: JobRow, to: &str) -> Moved {
    let moved = row.agent.as_str() == to && row.moving_to.is_none();
    Moved::Accepted { row: Box::new(row), moved }
}

fn another_workbook(row: &JobRow, file_name: &str, sha256: &[u8]) -> Refusal {
    let name: String = file_name.chars().filter(|c| !c.is_control()).take(255).collect();
    let message = format!(
        "{name} is not the workbook that was planned for job {}: its plan has the hash {}, the job's {}; give the same \
         file ({}) and the same --set values as at submission",
        row.id,
        &hex(sha256)[..12.min(sha256.len() * 2)],
        &hex(&row.plan_sha256)[..12.min(row.plan_sha256.len() * 2)],
        row.file_name
    );
    Refusal::new(Code::BadRequest, message)
}
