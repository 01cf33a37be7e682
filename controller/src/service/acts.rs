//! The calls that change something, each inside its [`Act`]: what it is about, then the record, then the act.

use gantry_proto::{Code, v1};
use tonic::Status;

use super::{OperatorApi, agent_id, job_id, keep, rejected, verdict};
use crate::{
    access::Issued,
    audit::Act,
    jobs::{Decision, Move, Moved, Retried, Retry, Submission, Submitted},
    refusal::Refusal,
    store::JobRow,
    web::Held,
};

/// Why a workbook that gives no plan is no act.
const REJECTED: &str = "plan_rejected";
/// Why a retry that cannot begin is none.
const BLOCKED: &str = "step_blocked";

impl OperatorApi {
    pub(super) async fn submit(
        &self,
        act: &mut Act,
        request: v1::SubmitJobRequest,
    ) -> Result<v1::SubmitJobResponse, Status> {
        let keep_on_failure = keep(request.on_failure());
        let about = act.about();
        about.job.clone_from(&request.job_id);
        about.site.clone_from(&request.site);
        about.agent.clone_from(&request.agent_id);
        about.detail = workbook(&request.file_name, request.overrides.len());
        let (job, agent) = (job_id(&request.job_id)?, agent_id(request.agent_id)?);
        let wish = Submission {
            job,
            workbook: request.workbook,
            file_name: request.file_name,
            overrides: request.overrides.into_iter().collect(),
            agent,
            site: request.site,
            keep_on_failure,
            sites: act.caller().sites.clone(),
            by: act.asked().await?,
        };
        let outcome = match self.jobs.submit(wish).await? {
            Submitted::Accepted { job, already_known, problems } => {
                act.on(&job);
                if already_known {
                    act.about().detail.push_str("; the job was there already");
                }
                let problems = problems.iter().map(Into::into).collect();
                v1::submit_job_response::Outcome::Accepted(v1::JobAccepted { job: Some(*job), already_known, problems })
            }
            Submitted::Rejected(found) => {
                act.reject(REJECTED, problems(found.problems.len()));
                v1::submit_job_response::Outcome::Rejected(rejected(&found))
            }
        };
        Ok(v1::SubmitJobResponse { outcome: Some(outcome) })
    }

    pub(super) async fn cancel(
        &self,
        act: &mut Act,
        request: v1::CancelJobRequest,
    ) -> Result<v1::CancelJobResponse, Status> {
        let v1::CancelJobRequest { job_id, reason, request_id } = request;
        let row = self.job(act, &job_id, &request_id).await?;
        act.about().detail.clone_from(&reason);
        let by = act.asked().await?;
        let cancelled = self.jobs.cancel(&row, &by, &reason, &request_id).await?;
        let job = Some(self.jobs.describe(&cancelled.row));
        Ok(v1::CancelJobResponse { job, undo_cut_short: cancelled.cut_short })
    }

    pub(super) async fn pause(
        &self,
        act: &mut Act,
        request: v1::PauseJobRequest,
    ) -> Result<v1::PauseJobResponse, Status> {
        let v1::PauseJobRequest { job_id, reason, request_id } = request;
        let row = self.job(act, &job_id, &request_id).await?;
        act.about().detail.clone_from(&reason);
        let by = act.asked().await?;
        let row = self.jobs.pause(&row, &by, &reason, &request_id).await?;
        Ok(v1::PauseJobResponse { job: Some(self.jobs.describe(&row)) })
    }

    pub(super) async fn resume(
        &self,
        act: &mut Act,
        request: v1::ResumeJobRequest,
    ) -> Result<v1::ResumeJobResponse, Status> {
        let v1::ResumeJobRequest { job_id, request_id } = request;
        let row = self.job(act, &job_id, &request_id).await?;
        let by = act.asked().await?;
        let row = self.jobs.resume(&row, &by, &request_id).await?;
        Ok(v1::ResumeJobResponse { job: Some(self.jobs.describe(&row)) })
    }

    pub(super) async fn tune(
        &self,
        act: &mut Act,
        request: v1::TuneUploadRequest,
    ) -> Result<v1::TuneUploadResponse, Status> {
        let v1::TuneUploadRequest { job_id, limit_bytes_per_s, in_flight, paused, request_id } = request;
        let row = self.job(act, &job_id, &request_id).await?;
        let wishes = v1::TuneUploadOrder { by: String::new(), limit_bytes_per_s, in_flight, paused };
        act.about().detail = told(&wishes);
        let by = act.asked().await?;
        let row = self.jobs.tune_upload(&row, v1::TuneUploadOrder { by, ..wishes }, &request_id).await?;
        Ok(v1::TuneUploadResponse { job: Some(self.jobs.describe(&row)) })
    }

    pub(super) async fn retry(
        &self,
        act: &mut Act,
        request: v1::RetryJobRequest,
    ) -> Result<v1::RetryJobResponse, Status> {
        let keep_on_failure = keep(request.on_failure());
        let row = self.job(act, &request.job_id, &request.request_id).await?;
        let dry_run = request.dry_run;
        let mut told = Vec::new();
        if dry_run {
            told.push("dry run: nothing is changed".to_owned());
        }
        if !request.from_step.is_empty() {
            told.push(format!("from {}", request.from_step));
        }
        if !request.workbook.is_empty() {
            told.push(workbook(&request.file_name, request.overrides.len()));
        }
        act.about().detail = told.join("; ");
        let wish = Retry {
            from: request.from_step,
            workbook: request.workbook,
            file_name: request.file_name,
            overrides: request.overrides.into_iter().collect(),
            keep_on_failure,
            dry_run,
            by: act.asked().await?,
            request: request.request_id,
        };
        Ok(match self.jobs.retry(&row, wish).await? {
            Retried::Judged { job, steps, accepted, problems } => {
                act.on(&job);
                if !accepted && !dry_run {
                    act.reject(BLOCKED, "a step is in the way, so nothing was begun");
                }
                v1::RetryJobResponse {
                    job: Some(*job),
                    steps: steps.into_iter().map(verdict).collect(),
                    accepted,
                    rejected: None,
                    problems: problems.iter().map(Into::into).collect(),
                }
            }
            Retried::Rejected(found) => {
                act.reject(REJECTED, problems(found.problems.len()));
                v1::RetryJobResponse {
                    job: Some(self.jobs.describe(&row)),
                    rejected: Some(rejected(&found)),
                    ..Default::default()
                }
            }
        })
    }

    pub(super) async fn sweep(
        &self,
        act: &mut Act,
        request: v1::SweepJobRequest,
    ) -> Result<v1::SweepJobResponse, Status> {
        let v1::SweepJobRequest { job_id, request_id } = request;
        let row = self.job(act, &job_id, &request_id).await?;
        let by = act.asked().await?;
        let row = self.jobs.sweep(&row, &by, &request_id).await?;
        Ok(v1::SweepJobResponse { job: Some(self.jobs.describe(&row)) })
    }

    pub(super) async fn decide(
        &self,
        act: &mut Act,
        request: v1::DecideJobRequest,
    ) -> Result<v1::DecideJobResponse, Status> {
        let v1::DecideJobRequest { job_id, choice, question, reason, request_id } = request;
        let row = self.job(act, &job_id, &request_id).await?;
        // The question that is open now is meant where none is named.
        let asked =
            row.progress.question.as_ref().map_or(question, |open| if question == 0 { open.seq } else { question });
        let mut told = format!("question {asked}: {choice}");
        if !reason.is_empty() {
            told = format!("{told}; {reason}");
        }
        act.about().detail = told;
        let by = act.asked().await?;
        let row = self.jobs.decide(&row, Decision { choice, question, reason, by, request: request_id }).await?;
        Ok(v1::DecideJobResponse { job: Some(self.jobs.describe(&row)) })
    }

    pub(super) async fn relocate(
        &self,
        act: &mut Act,
        request: v1::MoveJobRequest,
    ) -> Result<v1::MoveJobResponse, Status> {
        let row = self.job(act, &request.job_id, &request.request_id).await?;
        let off = if request.old_agent_is_off { "; the operator vouches that the old agent is off" } else { "" };
        let about = act.about();
        about.subject.clone_from(&request.agent_id);
        about.detail = format!("{}{off}", workbook(&request.file_name, request.overrides.len()));
        let to = agent_id(request.agent_id)?;
        let wish = Move {
            to,
            workbook: request.workbook,
            file_name: request.file_name,
            overrides: request.overrides.into_iter().collect(),
            old_agent_is_off: request.old_agent_is_off,
            by: act.asked().await?,
            request: request.request_id,
        };
        Ok(match self.jobs.relocate(&row, wish).await? {
            Moved::Accepted { row, moved } => {
                let job = self.jobs.describe(&row);
                act.on(&job);
                v1::MoveJobResponse { job: Some(job), moved, rejected: None }
            }
            Moved::Rejected(found) => {
                act.reject(REJECTED, problems(found.problems.len()));
                v1::MoveJobResponse {
                    job: Some(self.jobs.describe(&row)),
                    moved: false,
                    rejected: Some(rejected(&found)),
                }
            }
        })
    }

    pub(super) async fn web_link(
        &self,
        act: &mut Act,
        issued: Option<Issued>,
        request: v1::MakeWebLinkRequest,
    ) -> Result<v1::MakeWebLinkResponse, Status> {
        let hash = request.token_sha256.to_ascii_lowercase();
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refusal::new(Code::BadRequest, "token_sha256 must be 64 hexadecimal digits").into());
        }
        let Some(Issued(issued)) = issued else {
            return Err(Refusal::new(Code::NotAllowed, "a link to the web pages is made with a certificate").into());
        };
        act.about().detail = format!("token sha256 {hash}");
        let operator = act.asked().await?;
        let until = self.sessions.link(hash, Held { operator, issued })?;
        Ok(v1::MakeWebLinkResponse { until_micros: until.as_microsecond(), session_s: self.sessions.life_s() })
    }

    /// The job that is meant; the act is about it from here on.
    async fn job(&self, act: &mut Act, text: &str, request_id: &str) -> Result<JobRow, Status> {
        text.clone_into(&mut act.about().job);
        request_id.clone_into(&mut act.about().request_id);
        let row = self.jobs.find(text).await?;
        act.on(&self.jobs.describe(&row));
        act.caller().at(&row.site)?;
        Ok(row)
    }
}

/// A workbook in words. Values that win over it are only counted: one of them may be a secret.
pub(super) fn workbook(file_name: &str, overrides: usize) -> String {
    // A name is cut here already, so that what is said behind it is not lost.
    let name: String = file_name.chars().take(255).collect();
    if overrides == 0 { format!("workbook {name}") } else { format!("workbook {name}, {overrides} values set") }
}

/// The workbook does not make a plan.
pub(super) fn not_planned(act: &mut Act, count: usize) {
    act.reject(REJECTED, problems(count));
}

fn problems(count: usize) -> String {
    format!("the workbook gives no plan: {count} problems")
}

/// Wishes about an upload, for the audit log.
fn told(wishes: &v1::TuneUploadOrder) -> String {
    let limit = wishes.limit_bytes_per_s.map(|limit| format!("limit {limit} B/s"));
    let in_flight = wishes.in_flight.map(|count| format!("in flight {count}"));
    let paused = wishes.paused.map(|paused| if paused { "paused" } else { "resumed" }.to_owned());
    limit.into_iter().chain(in_flight).chain(paused).collect::<Vec<_>>().join(", ")
}
