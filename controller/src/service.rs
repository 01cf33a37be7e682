//! `JobService` and `FleetService`: between the wire and the domain. It decides nothing.

mod acts;
mod diff;

use std::sync::Arc;

use gantry_proto::{AgentId, Code, JobId, PROTOCOL, StepId, retry::Fate, v1};
use tonic::{Request, Response, Status};

use crate::{
    access::{Caller, Issued},
    agents::Agents,
    audit::{Audit, act, caller},
    jobs::{Checked, Jobs, WatchStream},
    refusal::Refusal,
    store::{JobFilter, JobRow},
    telemetry::{PartStream, Recorder},
    web::Sessions,
};

/// The operators' services.
#[derive(Clone)]
pub struct OperatorApi {
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// The agents.
    pub agents: Arc<Agents>,
    /// Where every act is recorded.
    pub audit: Arc<Audit>,
    /// Links and sessions of the web pages.
    pub sessions: Arc<Sessions>,
    /// The traces of jobs.
    pub recorder: Arc<Recorder>,
}

#[tonic::async_trait]
impl v1::job_service_server::JobService for OperatorApi {
    type DiffPlanStream = diff::DiffStream;
    type GetJobTraceStream = PartStream;
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
        let (mut act, request) = self.audit.act(request, act::SUBMIT)?;
        let answer = self.submit(&mut act, request).await;
        act.end(answer).await
    }

    async fn diff_plan(&self, request: Request<v1::DiffPlanRequest>) -> Result<Response<Self::DiffPlanStream>, Status> {
        let (act, request) = self.audit.act(request, act::DIFF)?;
        self.diff(act, request).await
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let sites = caller(&request)?.sites;
        let v1::ListJobsRequest { limit, site, active_only, before_job_id } = request.into_inner();
        let before = if before_job_id.is_empty() { None } else { Some(job_id(&before_job_id)?) };
        let jobs = self.jobs.list(JobFilter { limit, site, sites, active_only, before }).await?;
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        let caller = caller(&request)?;
        let row = self.find(&caller, &request.into_inner().job_id).await?;
        let plan = self.jobs.plan(row.id).await?;
        let job = v1::Job { expected: self.jobs.expected(&row.site).await, ..self.jobs.describe(&row) };
        Ok(Response::new(v1::GetJobResponse { job: Some(job), plan }))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<WatchStream>, Status> {
        let caller = caller(&request)?;
        let v1::WatchJobRequest { job_id, after_seq, no_follow } = request.into_inner();
        let row = self.find(&caller, &job_id).await?;
        Ok(Response::new(self.jobs.watch(row, after_seq, no_follow)?))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::CANCEL)?;
        let answer = self.cancel(&mut act, request).await;
        act.end(answer).await
    }

    async fn pause_job(&self, request: Request<v1::PauseJobRequest>) -> Result<Response<v1::PauseJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::PAUSE)?;
        let answer = self.pause(&mut act, request).await;
        act.end(answer).await
    }

    async fn resume_job(
        &self,
        request: Request<v1::ResumeJobRequest>,
    ) -> Result<Response<v1::ResumeJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::RESUME)?;
        let answer = self.resume(&mut act, request).await;
        act.end(answer).await
    }

    async fn tune_upload(
        &self,
        request: Request<v1::TuneUploadRequest>,
    ) -> Result<Response<v1::TuneUploadResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::TUNE)?;
        let answer = self.tune(&mut act, request).await;
        act.end(answer).await
    }

    async fn retry_job(&self, request: Request<v1::RetryJobRequest>) -> Result<Response<v1::RetryJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::RETRY)?;
        let answer = self.retry(&mut act, request).await;
        act.end(answer).await
    }

    async fn sweep_job(&self, request: Request<v1::SweepJobRequest>) -> Result<Response<v1::SweepJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::SWEEP)?;
        let answer = self.sweep(&mut act, request).await;
        act.end(answer).await
    }

    async fn decide_job(
        &self,
        request: Request<v1::DecideJobRequest>,
    ) -> Result<Response<v1::DecideJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::DECIDE)?;
        let answer = self.decide(&mut act, request).await;
        act.end(answer).await
    }

    async fn move_job(&self, request: Request<v1::MoveJobRequest>) -> Result<Response<v1::MoveJobResponse>, Status> {
        let (mut act, request) = self.audit.act(request, act::MOVE)?;
        let answer = self.relocate(&mut act, request).await;
        act.end(answer).await
    }

    async fn get_job_result(
        &self,
        request: Request<v1::GetJobResultRequest>,
    ) -> Result<Response<v1::GetJobResultResponse>, Status> {
        let caller = caller(&request)?;
        let row = self.find(&caller, &request.into_inner().job_id).await?;
        let result_json = self.jobs.result(&row).await?;
        Ok(Response::new(v1::GetJobResultResponse { job: Some(self.jobs.describe(&row)), result_json }))
    }

    async fn get_job_trace(&self, request: Request<v1::GetJobTraceRequest>) -> Result<Response<PartStream>, Status> {
        let caller = caller(&request)?;
        let v1::GetJobTraceRequest { job_id, with_logs } = request.into_inner();
        let row = self.find(&caller, &job_id).await?;
        Ok(Response::new(self.recorder.trace(row.id, with_logs)))
    }
}

#[tonic::async_trait]
impl v1::fleet_service_server::FleetService for OperatorApi {
    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let caller = caller(&request)?;
        let mut agents = self.agents.list(&request.into_inner().site).await.map_err(Refusal::from)?;
        agents.retain(|agent| caller.at(&agent.site).is_ok());
        Ok(Response::new(v1::ListAgentsResponse { agents }))
    }

    async fn get_version(
        &self,
        _request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(v1::GetVersionResponse { version, protocol: PROTOCOL }))
    }

    async fn make_web_link(
        &self,
        request: Request<v1::MakeWebLinkRequest>,
    ) -> Result<Response<v1::MakeWebLinkResponse>, Status> {
        let issued = request.extensions().get::<Issued>().copied();
        let (mut act, request) = self.audit.act(request, act::WEB_LINK)?;
        let answer = self.web_link(&mut act, issued, request).await;
        act.end(answer).await
    }
}

impl OperatorApi {
    /// The job that is meant, if it is the caller's business.
    async fn find(&self, caller: &Caller, text: &str) -> Result<JobRow, Refusal> {
        let row = self.jobs.find(text).await?;
        caller.at(&row.site)?;
        Ok(row)
    }
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
