//! The hand-over report of a job, as `ctl report` makes it: a page of its own, or a JSON file.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::{
        HeaderName,
        header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
        request::Parts,
    },
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use gantry_proto::{
    Event, JobView,
    audit::Record,
    v1::{
        self, Role, audit_service_server::AuditService as _, fleet_service_server::FleetService as _,
        job_service_server::JobService as _, watch_job_response::Item,
    },
};
use gantry_report::{Lang, Material, Report, page};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tonic::Status;

use super::{Web, answer::Refused, guest::Guest};
use crate::audit::AuditApi;

const GET_JOB: &str = "/gantry.v1.JobService/GetJob";
const LIST_AUDIT: &str = "/gantry.v1.AuditService/ListAudit";
/// Records of the audit log about one job, the newest ones.
const RECORDS_MAX: u32 = 500;
/// The page brings its own style, and fetches and runs nothing.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Form {
    /// `json`: a file to be kept; else the page.
    form: String,
    /// `zh` or `en`.
    lang: String,
}

pub(super) async fn report(
    State(web): State<Arc<Web>>,
    Path(job_id): Path<String>,
    Query(Form { form, lang }): Query<Form>,
    parts: Parts,
) -> Result<Response, Refused> {
    let guest = web.admit(&parts, GET_JOB).await?;
    let report = Report::of(material(&web, &guest, &parts, job_id.clone()).await?, web.operators.jobs.redactor());
    let header = |name: HeaderName, value: String| (name, value);
    if form == "json" {
        let mut document = json!(report);
        web.operators.jobs.redactor().json(&mut document);
        let name = job_id.chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').collect::<String>();
        let headers = [
            header(CONTENT_TYPE, "application/json".to_owned()),
            header(CONTENT_DISPOSITION, format!("attachment; filename=\"report-{name}.json\"")),
        ];
        return Ok((headers, format!("{document:#}\n")).into_response());
    }
    let lang = if lang == "en" { Lang::En } else { Lang::Zh };
    let headers = [
        header(CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        header(CONTENT_SECURITY_POLICY, POLICY.to_owned()),
    ];
    Ok((headers, page(&report, lang)).into_response())
}

/// Asks for it as `ctl` does, call by call.
async fn material(web: &Web, guest: &Guest, parts: &Parts, job_id: String) -> Result<Material, Refused> {
    let answer = web.operators.get_job(guest.request(v1::GetJobRequest { job_id })).await?.into_inner();
    let mut job = answer.job;
    let job_id = job.as_ref().map(|job| job.job_id.clone()).unwrap_or_default();
    let wish = v1::WatchJobRequest { job_id: job_id.clone(), after_seq: 0, no_follow: true };
    let mut log = web.operators.watch_job(guest.request(wish)).await?.into_inner();
    let mut events = Vec::new();
    while let Some(item) = log.next().await {
        match item?.item {
            Some(Item::Event(event)) => events.extend(Event::try_from(event)),
            Some(Item::Job(told)) => job = Some(told),
            Some(Item::Sample(_)) | None => {}
        }
    }
    let version = web.operators.get_version(guest.request(v1::GetVersionRequest {})).await?.into_inner();
    let audit = audit(web, guest, parts, job_id).await?;
    Ok(Material {
        view: JobView::of(&events),
        events,
        job,
        plan: answer.plan,
        audit,
        controller: version.version,
        ctl: None,
        made: Timestamp::now(),
    })
}

/// What the audit log has about the job, or why this operator does not get it: that is no reason to have no report.
async fn audit(
    web: &Web,
    guest: &Guest,
    parts: &Parts,
    job_id: String,
) -> Result<Result<Vec<Record>, String>, Refused> {
    if let Err(refusal) = guest.caller.may(Role::Admin) {
        return Ok(Err(refusal.message));
    }
    let guest = web.admit(parts, LIST_AUDIT).await?;
    let wish = v1::ListAuditRequest { limit: RECORDS_MAX, newest: true, job_id, ..Default::default() };
    let api = AuditApi { audit: web.operators.audit.clone() };
    let asked = async {
        let mut pages = api.list_audit(guest.request(wish)).await?.into_inner();
        let mut records = Vec::new();
        while let Some(page) = pages.next().await {
            records.extend(page?.records.into_iter().filter_map(|record| Record::try_from(record).ok()));
        }
        Ok::<_, Status>(records)
    };
    Ok(asked.await.map_err(|status| status.message().to_owned()))
}
