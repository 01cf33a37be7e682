//! `JobService` and `FleetService`: between the wire and the domain. It decides nothing.

use std::sync::Arc;

use gantry_proto::{AgentId, Code, JobId, PROTOCOL, StepId, retry::Fate, v1};
use tonic::{Request, Response, Status};

use crate::{
    agents::Agents,
    jobs::{Checked, Decision, Jobs, Move, Moved, Retried, Retry, Submission, Submitted, WatchStream},
    peer::OperatorName,
    refusal::Refusal,
    store::JobFilter,
};

/// The operators' services.
#[derive(Clone)]
pub struct OperatorApi {
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// The agents.
    pub agents: Arc<Agents>,
}

#[tonic::async_trait]
impl v1::job_service_server::JobService for OperatorApi {
    type WatchJobStream = WatchStream;

    async fn check_plan(
        &self,
        request: Request<v1::CheckPlanRequest>,
    ) -> Result<Response<v1::CheckPlanResponse>, Status> {
        let request = request.into_inner();
        let Checked { verdict, problems, plan } =
            self.jobs.check(request.workbook, request.overrides.into_iter().collect()).await?;
        let verdict = v1::PlanVerdict::from(verdict).into();
        Ok(Response::new(v1::CheckPlanResponse { verdict, problems: problems.iter().map(Into::into).collect(), plan }))
    }

    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        let keep_on_failure = keep(request.on_failure());
        let wish = Submission {
            job: job_id(&request.job_id)?,
            workbook: request.workbook,
            file_name: request.file_name,
            overrides: request.overrides.into_iter().collect(),
            agent: agent_id(request.agent_id)?,
            site: request.site,
            keep_on_failure,
            by,
        };
        let outcome = match self.jobs.submit(wish).await? {
            Submitted::Accepted { job, already_known, problems } => {
                let problems = problems.iter().map(Into::into).collect();
                v1::submit_job_response::Outcome::Accepted(v1::JobAccepted { job: Some(*job), already_known, problems })
            }
            Submitted::Rejected(found) => v1::submit_job_response::Outcome::Rejected(rejected(&found)),
        };
        Ok(Response::new(v1::SubmitJobResponse { outcome: Some(outcome) }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let v1::ListJobsRequest { limit, site, active_only, before_job_id } = request.into_inner();
        let before = if before_job_id.is_empty() { None } else { Some(job_id(&before_job_id)?) };
        let jobs = self.jobs.list(JobFilter { limit, site, active_only, before }).await?;
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        let row = self.jobs.find(&request.into_inner().job_id).await?;
        let plan = self.jobs.plan(row.id).await?;
        Ok(Response::new(v1::GetJobResponse { job: Some(self.jobs.describe(&row)), plan }))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<WatchStream>, Status> {
        let v1::WatchJobRequest { job_id, after_seq, no_follow } = request.into_inner();
        let row = self.jobs.find(&job_id).await?;
        Ok(Response::new(self.jobs.watch(row, after_seq, no_follow)?))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let by = operator(&request)?;
        let v1::CancelJobRequest { job_id, reason, request_id } = request.into_inner();
        let row = self.jobs.find(&job_id).await?;
        let cancelled = self.jobs.cancel(&row, &by, &reason, &request_id).await?;
        let job = Some(self.jobs.describe(&cancelled.row));
        Ok(Response::new(v1::CancelJobResponse { job, undo_cut_short: cancelled.cut_short }))
    }

    async fn pause_job(&self, request: Request<v1::PauseJobRequest>) -> Result<Response<v1::PauseJobResponse>, Status> {
        let by = operator(&request)?;
        let v1::PauseJobRequest { job_id, reason, request_id } = request.into_inner();
        let row = self.jobs.find(&job_id).await?;
        let row = self.jobs.pause(&row, &by, &reason, &request_id).await?;
        Ok(Response::new(v1::PauseJobResponse { job: Some(self.jobs.describe(&row)) }))
    }

    async fn resume_job(
        &self,
        request: Request<v1::ResumeJobRequest>,
    ) -> Result<Response<v1::ResumeJobResponse>, Status> {
        let by = operator(&request)?;
        let v1::ResumeJobRequest { job_id, request_id } = request.into_inner();
        let row = self.jobs.find(&job_id).await?;
        let row = self.jobs.resume(&row, &by, &request_id).await?;
        Ok(Response::new(v1::ResumeJobResponse { job: Some(self.jobs.describe(&row)) }))
    }

    async fn retry_job(&self, request: Request<v1::RetryJobRequest>) -> Result<Response<v1::RetryJobResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        let keep_on_failure = keep(request.on_failure());
        let row = self.jobs.find(&request.job_id).await?;
        let wish = Retry {
            from: request.from_step,
            workbook: request.workbook,
            file_name: request.file_name,
            overrides: request.overrides.into_iter().collect(),
            keep_on_failure,
            dry_run: request.dry_run,
            by,
            request: request.request_id,
        };
        Ok(Response::new(match self.jobs.retry(&row, wish).await? {
            Retried::Judged { job, steps, accepted, problems } => v1::RetryJobResponse {
                job: Some(*job),
                steps: steps.into_iter().map(verdict).collect(),
                accepted,
                rejected: None,
                problems: problems.iter().map(Into::into).collect(),
            },
            Retried::Rejected(checked) => v1::RetryJobResponse {
                job: Some(self.jobs.describe(&row)),
                rejected: Some(rejected(&checked)),
                ..Default::default()
            },
        }))
    }

    async fn sweep_job(&self, request: Request<v1::SweepJobRequest>) -> Result<Response<v1::SweepJobResponse>, Status> {
        let by = operator(&request)?;
        let v1::SweepJobRequest { job_id, request_id } = request.into_inner();
        let row = self.jobs.find(&job_id).await?;
        let row = self.jobs.sweep(&row, &by, &request_id).await?;
        Ok(Response::new(v1::SweepJobResponse { job: Some(self.jobs.describe(&row)) }))
    }

    async fn decide_job(
        &self,
        request: Request<v1::DecideJobRequest>,
    ) -> Result<Response<v1::DecideJobResponse>, Status> {
        let by = operator(&request)?;
        let v1::DecideJobRequest { job_id, choice, question, reason, request_id } = request.into_inner();
        let row = self.jobs.find(&job_id).await?;
        let wish = Decision { choice, question, reason, by, request: request_id };
        let row = self.jobs.decide(&row, wish).await?;
        Ok(Response::new(v1::DecideJobResponse { job: Some(self.jobs.describe(&row)) }))
    }

    async fn move_job(&self, request: Request<v1::MoveJobRequest>) -> Result<Response<v1::MoveJobResponse>, Status> {
        let by = operator(&request)?;
        let request = request.into_inner();
        let row = self.jobs.find(&request.job_id).await?;
        let wish = Move {
            to: agent_id(request.agent_id)?,
            workbook: request.workbook,
            file_name: request.file_name,
            overrides: request.overrides.into_iter().collect(),
            old_agent_is_off: request.old_agent_is_off,
            by,
            request: request.request_id,
        };
        Ok(Response::new(match self.jobs.relocate(&row, wish).await? {
            Moved::Accepted { row, moved } => {
                v1::MoveJobResponse { job: Some(self.jobs.describe(&row)), moved, rejected: None }
            }
            Moved::Rejected(found) => v1::MoveJobResponse {
                job: Some(self.jobs.describe(&row)),
                moved: false,
                rejected: Some(rejected(&found)),
            },
        }))
    }

    async fn get_job_result(
        &self,
        request: Request<v1::GetJobResultRequest>,
    ) -> Result<Response<v1::GetJobResultResponse>, Status> {
        let row = self.jobs.find(&request.into_inner().job_id).await?;
        let result_json = self.jobs.result(&row).await?;
        Ok(Response::new(v1::GetJobResultResponse { job: Some(self.jobs.describe(&row)), result_json }))
    }
}

#[tonic::async_trait]
impl v1::fleet_service_server::FleetService for OperatorApi {
    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let agents = self.agents.list(&request.into_inner().site).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::ListAgentsResponse { agents }))
    }

    async fn get_version(
        &self,
        _request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(v1::GetVersionResponse { version, protocol: PROTOCOL }))
    }
}

/// Who calls, by the certificate. `peer::require_operator` has put it there.
fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    let name = request.extensions().get::<OperatorName>().map(|name| name.0.clone());
    name.ok_or_else(|| Code::NotAllowed.status("this call needs an operator's certificate"))
}

/// Keep what was made when the job fails; `None`: not said.
fn keep(policy: v1::OnFailure) -> Option<bool> {
    match policy {
        v1::OnFailure::Unspecified => None,
        v1::OnFailure::Undo => Some(false),
        v1::OnFailure::Keep => Some(true),
    }
}

/// Why a workbook gives no plan.
fn rejected(found: &Checked) -> v1::PlanRejected {
    v1::PlanRejected {
        verdict: v1::PlanVerdict::from(found.verdict).into(),
        problems: found.problems.iter().map(Into::into).collect(),
    }
}

fn verdict((step, fate): (StepId, Fate)) -> v1::StepVerdict {
    let (fate, reason) = match fate {
        Fate::Kept => (v1::StepFate::Kept, String::new()),
        Fate::Redone => (v1::StepFate::Redone, String::new()),
        Fate::Blocked(reason) => (v1::StepFate::Blocked, reason),
    };
    v1::StepVerdict { step: step.to_string(), fate: fate.into(), reason }
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|error| Refusal::new(Code::BadRequest, format!("{error}")))
}

/// The agent's name as given; empty stays empty.
fn agent_id(text: String) -> Result<String, Refusal> {
    if text.is_empty() {
        return Ok(text);
    }
    let id = text.parse::<AgentId>().map_err(|error| Refusal::new(Code::BadRequest, format!("{error}")))?;
    Ok(id.to_string())
}
