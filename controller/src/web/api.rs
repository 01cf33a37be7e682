//! The calls of the pages. Each stands for one call of the contract: it is let through as that one, makes its message,
//! hands it to the same service, and gives the answer as JSON.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header::SET_COOKIE, request::Parts},
    response::{IntoResponse as _, Response},
};
use gantry_proto::{
    audit::{Entry, Outcome},
    told,
    v1::{
        self, fleet_service_server::FleetService as _, job_service_server::JobService as _,
        submit_job_response::Outcome as Submitted,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Held, Web,
    answer::{Answer, Refused},
    guest::{COOKIE, SMALL_BODY, body, cookie, from_here, remote},
    words,
};
use crate::{
    access::Shows,
    audit::{Who, act},
};

const GET_VERSION: &str = "/gantry.v1.FleetService/GetVersion";
const LIST_AGENTS: &str = "/gantry.v1.FleetService/ListAgents";
const LIST_JOBS: &str = "/gantry.v1.JobService/ListJobs";
const GET_JOB: &str = "/gantry.v1.JobService/GetJob";
const GET_RESULT: &str = "/gantry.v1.JobService/GetJobResult";
const CHECK: &str = "/gantry.v1.JobService/CheckPlan";
const SUBMIT: &str = "/gantry.v1.JobService/SubmitJob";
/// The one call that nobody is known at.
const ENTER: &str = "/web/api/enter";

/// The token stays in the body, which is wiped; it is made of hexadecimal digits, so it can be read in place.
#[derive(Deserialize)]
struct Token<'a> {
    token: &'a str,
}

/// Uses a link up and begins a session.
pub(super) async fn enter(State(web): State<Arc<Web>>, request: Request) -> Result<Response, Refused> {
    let (parts, sent) = request.into_parts();
    from_here(&parts.headers, &parts.uri)?;
    let remote = remote(&parts);
    web.access.admit_unknown(ENTER, remote).await?;
    let sent = Zeroizing::new(body(sent, SMALL_BODY).await?);
    let Token { token } = serde_json::from_slice(&sent).map_err(|_| Refused::unreadable("the token"))?;
    let audit = &web.operators.audit;
    let held = match web.operators.sessions.take(token) {
        Ok(held) => held,
        Err(refusal) => {
            audit.refused(&Who { remote, ..Who::default() }, ENTER, &refusal).await;
            return Err(refusal.into());
        }
    };
    let Held { operator, issued } = held.clone();
    // Whoever was shut out meanwhile does not come in.
    let admitted = web.access.admit(GET_VERSION, Shows::Session { operator: &operator, issued }, remote).await?;
    let entry = Entry {
        act: act::WEB_ENTER.to_owned(),
        outcome: Outcome::Done,
        operator,
        role: admitted.caller.role.word().to_owned(),
        remote: remote.map(|remote| remote.to_string()).unwrap_or_default(),
        ..Entry::default()
    };
    audit.record(entry).await?;
    let text = web.operators.sessions.begin(held)?;
    let life = web.operators.sessions.life_s();
    // Made of hexadecimal digits and a number: it always fits into a header.
    set_cookie(&format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={life}", &**text))
}

/// Ends the session.
pub(super) async fn leave(State(web): State<Arc<Web>>, parts: Parts) -> Result<Response, Refused> {
    from_here(&parts.headers, &parts.uri)?;
    if let Some(cookie) = cookie(&parts.headers) {
        web.operators.sessions.end(&cookie);
    }
    set_cookie(&format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"))
}

fn set_cookie(cookie: &str) -> Result<Response, Refused> {
    let mut cookie = HeaderValue::from_str(cookie).map_err(|_| Refused::unreadable("the cookie"))?;
    cookie.set_sensitive(true);
    Ok((StatusCode::OK, [(SET_COOKIE, cookie)], Json(json!({}))).into_response())
}

/// Who is at the browser, and with which controller.
pub(super) async fn me(State(web): State<Arc<Web>>, parts: Parts) -> Answer {
    let guest = web.admit(&parts, GET_VERSION).await?;
    let version = web.operators.get_version(guest.request(v1::GetVersionRequest {})).await?.into_inner();
    Ok(Json(json!({
        "operator": guest.caller.name,
        "role": guest.caller.role.word(),
        "sites": guest.caller.sites,
        "session_left_s": guest.left_s(),
        "version": version.version,
        "workbook_bytes": web.workbook_bytes,
    })))
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    limit: u32,
    site: String,
    active: bool,
    before: String,
}

pub(super) async fn jobs(State(web): State<Arc<Web>>, Query(page): Query<Page>, parts: Parts) -> Answer {
    let guest = web.admit(&parts, LIST_JOBS).await?;
    let Page { limit, site, active, before } = page;
    let wish = v1::ListJobsRequest { limit, site, active_only: active, before_job_id: before };
    let jobs = web.operators.list_jobs(guest.request(wish)).await?.into_inner().jobs;
    Ok(Json(json!({ "jobs": jobs.iter().map(told::job).collect::<Vec<_>>() })))
}

pub(super) async fn job(State(web): State<Arc<Web>>, Path(job_id): Path<String>, parts: Parts) -> Answer {
    let guest = web.admit(&parts, GET_JOB).await?;
    let answer = web.operators.get_job(guest.request(v1::GetJobRequest { job_id })).await?.into_inner();
    Ok(Json(json!({ "job": answer.job.as_ref().map(told::job) })))
}

pub(super) async fn result(State(web): State<Arc<Web>>, Path(job_id): Path<String>, parts: Parts) -> Answer {
    let guest = web.admit(&parts, GET_RESULT).await?;
    let answer = web.operators.get_job_result(guest.request(v1::GetJobResultRequest { job_id })).await?.into_inner();
    let result: Value = serde_json::from_slice(&answer.result_json).unwrap_or(Value::Null);
    Ok(Json(json!({ "result": result })))
}

pub(super) async fn agents(State(web): State<Arc<Web>>, parts: Parts) -> Answer {
    let guest = web.admit(&parts, LIST_AGENTS).await?;
    let wish = v1::ListAgentsRequest { site: String::new() };
    let agents = web.operators.list_agents(guest.request(wish)).await?.into_inner().agents;
    Ok(Json(json!({ "agents": agents.iter().map(told::agent).collect::<Vec<_>>() })))
}

/// What goes with a workbook; the workbook itself is the body.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filing {
    job_id: String,
    file_name: String,
    site: String,
    agent: String,
    on_failure: String,
    stages: String,
}

impl Filing {
    fn overrides(&self) -> HashMap<String, String> {
        let stages = (!self.stages.is_empty()).then(|| ("deployment.stages".to_owned(), self.stages.clone()));
        stages.into_iter().collect()
    }
}

pub(super) async fn check(State(web): State<Arc<Web>>, Query(filing): Query<Filing>, request: Request) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, CHECK).await?;
    let workbook = body(sent, web.workbook_bytes).await?;
    let overrides = filing.overrides();
    let wish = v1::CheckPlanRequest { workbook, file_name: filing.file_name, overrides };
    let answer = web.operators.check_plan(guest.request(wish)).await?.into_inner();
    let verdict = words::verdict(answer.verdict());
    let plan = answer.plan.map(|plan| serde_json::from_slice(&plan.json).unwrap_or(Value::Null));
    Ok(Json(json!({ "verdict": verdict, "problems": words::problems(answer.problems), "plan": plan })))
}

pub(super) async fn submit(State(web): State<Arc<Web>>, Query(filing): Query<Filing>, request: Request) -> Answer {
    let (parts, sent) = request.into_parts();
    let guest = web.admit_act(&parts, SUBMIT).await?;
    let workbook = body(sent, web.workbook_bytes).await?;
    let overrides = filing.overrides();
    let on_failure = words::policy(&filing.on_failure);
    let Filing { job_id, file_name, site, agent, .. } = filing;
    let on_failure = on_failure.into();
    let wish = v1::SubmitJobRequest { job_id, workbook, file_name, overrides, agent_id: agent, site, on_failure };
    let outcome = web.operators.submit_job(guest.request(wish)).await?.into_inner().outcome;
    Ok(Json(match outcome {
        Some(Submitted::Accepted(accepted)) => json!({
            "job": accepted.job.as_ref().map(told::job),
            "already_known": accepted.already_known,
            "problems": words::problems(accepted.problems),
        }),
        Some(Submitted::Rejected(rejected)) => json!({
            "job": null,
            "verdict": words::verdict(rejected.verdict()),
            "problems": words::problems(rejected.problems),
        }),
        None => json!({ "job": null }),
    }))
}
