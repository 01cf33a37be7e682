//! What is done to a job from its page. Each stands for one call of the contract, as in `api`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use gantry_proto::{
    told,
    v1::{self, job_service_server::JobService as _},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Web,
    answer::{Answer, Refused},
    guest::{SMALL_BODY, body},
    words,
};

const CANCEL: &str = "/gantry.v1.JobService/CancelJob";
const PAUSE: &str = "/gantry.v1.JobService/PauseJob";
const RESUME: &str = "/gantry.v1.JobService/ResumeJob";
const DECIDE: &str = "/gantry.v1.JobService/DecideJob";
const RETRY: &str = "/gantry.v1.JobService/RetryJob";
const MOVE: &str = "/gantry.v1.JobService/MoveJob";

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    reason: String,
    request_id: String,
}

pub(super) async fn cancel(State(web): State<Arc<Web>>, Path(job_id): Path<String>, request: Request) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, CANCEL).await?;
    let Wish { reason, request_id } = read(sent).await?;
    let wish = v1::CancelJobRequest { job_id, reason, request_id };
    let answer = web.operators.cancel_job(guest.request(wish)).await?.into_inner();
    Ok(Json(json!({ "job": answer.job.as_ref().map(told::job), "undo_cut_short": answer.undo_cut_short })))
}

pub(super) async fn pause(State(web): State<Arc<Web>>, Path(job_id): Path<String>, request: Request) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, PAUSE).await?;
    let Wish { reason, request_id } = read(sent).await?;
    let wish = v1::PauseJobRequest { job_id, reason, request_id };
    let answer = web.operators.pause_job(guest.request(wish)).await?.into_inner();
    Ok(job(answer.job.as_ref()))
}

pub(super) async fn resume(State(web): State<Arc<Web>>, Path(job_id): Path<String>, request: Request) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, RESUME).await?;
    let Wish { request_id, .. } = read(sent).await?;
    let answer = web.operators.resume_job(guest.request(v1::ResumeJobRequest { job_id, request_id })).await?;
    Ok(job(answer.into_inner().job.as_ref()))
}

#[derive(Deserialize)]
struct Choice {
    choice: String,
    /// Number of the event that asked: a page that is late answers no other question.
    question: u64,
    #[serde(default)]
    reason: String,
    request_id: String,
}

pub(super) async fn decide(State(web): State<Arc<Web>>, Path(job_id): Path<String>, request: Request) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, DECIDE).await?;
    let Choice { choice, question, reason, request_id } = read(sent).await?;
    let wish = v1::DecideJobRequest { job_id, choice, question, reason, request_id };
    let answer = web.operators.decide_job(guest.request(wish)).await?.into_inner();
    Ok(job(answer.job.as_ref()))
}

/// What goes with a workbook, which is the body; for a retry it may be empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filing {
    file_name: String,
    request_id: String,
    /// Of a retry: the first step that is done again.
    from: String,
    on_failure: String,
    dry_run: bool,
    /// Of a move: who gets the job.
    agent: String,
    old_agent_is_off: bool,
}

pub(super) async fn retry(
    State(web): State<Arc<Web>>,
    Path(job_id): Path<String>,
    Query(filing): Query<Filing>,
    request: Request,
) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, RETRY).await?;
    let workbook = body(sent, web.workbook_bytes).await?;
    let Filing { file_name, request_id, from, on_failure, dry_run, .. } = filing;
    let wish = v1::RetryJobRequest {
        job_id,
        from_step: from,
        workbook,
        file_name,
        on_failure: words::policy(&on_failure).into(),
        dry_run,
        request_id,
        ..Default::default()
    };
    let answer = web.operators.retry_job(guest.request(wish)).await?.into_inner();
    let verdict = answer.rejected.as_ref().map(|rejected| words::verdict(rejected.verdict()));
    let problems = answer.rejected.map_or(answer.problems, |rejected| rejected.problems);
    Ok(Json(json!({
        "job": answer.job.as_ref().map(told::job),
        "accepted": answer.accepted,
        "steps": answer.steps.iter().map(words::fate).collect::<Vec<_>>(),
        "verdict": verdict,
        "problems": words::problems(problems),
    })))
}

pub(super) async fn relocate(
    State(web): State<Arc<Web>>,
    Path(job_id): Path<String>,
    Query(filing): Query<Filing>,
    request: Request,
) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, MOVE).await?;
    let workbook = body(sent, web.workbook_bytes).await?;
    let Filing { file_name, request_id, agent, old_agent_is_off, .. } = filing;
    let wish = v1::MoveJobRequest {
        job_id,
        agent_id: agent,
        workbook,
        file_name,
        old_agent_is_off,
        request_id,
        ..Default::default()
    };
    let answer = web.operators.move_job(guest.request(wish)).await?.into_inner();
    let verdict = answer.rejected.as_ref().map(|rejected| words::verdict(rejected.verdict()));
    let problems = answer.rejected.map(|rejected| rejected.problems).unwrap_or_default();
    Ok(Json(json!({
        "job": answer.job.as_ref().map(told::job),
        "moved": answer.moved,
        "verdict": verdict,
        "problems": words::problems(problems),
    })))
}

async fn read<T: DeserializeOwned>(sent: axum::body::Body) -> Result<T, Refused> {
    let sent = body(sent, SMALL_BODY).await?;
    serde_json::from_slice(&sent).map_err(|_| Refused::unreadable("the wish"))
}

fn job(job: Option<&v1::Job>) -> Json<Value> {
    Json(json!({ "job": job.map(told::job) }))
}
