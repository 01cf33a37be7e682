//! `ctl deploy`: hands a workbook to the controller under a job id of ours, so that a lost answer never makes two jobs.
//! The controller's planner decides: its settings may fill what the workbook leaves open.

use gantry_proto::{
    JobId, Verdict,
    v1::{self, submit_job_response::Outcome},
};
use serde_json::json;

use super::{Cx, plan, watch};
use crate::{
    args::{Deploy, Format, OnFailure},
    client::{Client, Lost},
    exit::Failure,
    refusal,
    render::{findings, json},
    workbook,
};

/// Submits, then follows if that is wanted.
pub(crate) async fn run(cx: &Cx, args: Deploy) -> Result<(), Failure> {
    let overrides = plan::chosen(&args.plan)?;
    let name = workbook::name(&args.plan.file);
    let bytes = match workbook::read(&args.plan.file) {
        Ok(bytes) => bytes,
        Err(problem) => return plan::reject(cx.out, &name, Verdict::Unreadable, &[*problem]),
    };
    let job_id = args.job_id.unwrap_or_else(JobId::new);
    let client = cx.connect().await?;
    let request = v1::SubmitJobRequest {
        job_id: job_id.to_string(),
        workbook: bytes,
        file_name: name.clone(),
        overrides: overrides.into_iter().collect(),
        agent_id: args.agent.unwrap_or_default(),
        site: args.site.unwrap_or_default(),
        on_failure: policy(args.on_failure).into(),
    };
    if cx.out.format == Format::Table {
        cx.out.note(&say!("submitting {name} as job {job_id}", "正在提交 {name}，作业 {job_id}"));
    }
    let answer = client.submit(request).await.map_err(|lost| unanswered(lost, job_id))?;
    match answer.outcome {
        Some(Outcome::Accepted(accepted)) => accept(cx, &client, job_id, accepted, args.watch).await,
        Some(Outcome::Rejected(rejected)) => {
            let verdict = Verdict::try_from(rejected.verdict()).unwrap_or(Verdict::Invalid);
            plan::reject(cx.out, &name, verdict, &workbook::problems(rejected.problems))
        }
        None => Err(refusal::incomplete(client.url(), "outcome")),
    }
}

/// The job is stored: says so, or follows it.
async fn accept(
    cx: &Cx,
    client: &Client,
    job_id: JobId,
    accepted: v1::JobAccepted,
    watch: bool,
) -> Result<(), Failure> {
    let found = workbook::problems(accepted.problems);
    let Some(job) = accepted.job else { return Err(refusal::incomplete(client.url(), "job")) };
    tracing::Span::current().record("job_id", tracing::field::display(job_id));
    if cx.out.format == Format::Table && !found.is_empty() {
        cx.out.note(&findings::text(&job.file_name, Verdict::Ok, &found, cx.out.paint_err, cx.out.columns()));
    }
    if watch {
        return watch::to_the_end(cx, client, job_id, 1, json!({ "problems": found })).await;
    }
    let known = accepted.already_known;
    match cx.out.format {
        Format::Table => {
            let stored = if known {
                word!("had been stored before", "此前已保存")
            } else {
                word!("is stored", "已保存")
            };
            let when = match job.agent_in_contact {
                true => word!("is in contact and gets it now", "在线，立即接收"),
                false => word!("gets it when it is in contact", "恢复联系后接收"),
            };
            cx.out.text(&say!(
                "job {job_id} {stored}; agent {agent} {when}\nfollow it:  ctl watch {job_id}\nstop it:    ctl cancel {job_id}\n",
                "作业 {job_id} {stored}；代理 {agent} {when}\n跟踪：  ctl watch {job_id}\n取消：  ctl cancel {job_id}\n";
                agent = job.agent_id
            ))
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "job": json::job(&job), "already_known": known, "problems": found }))
        }
    }
}

/// No answer after all attempts: the job may be stored, and the same id finds out without making a second one.
fn unanswered(lost: Lost, job_id: JobId) -> Failure {
    match lost {
        Lost::No(failure) => failure,
        Lost::Maybe(failure) => failure
            .because(said!("so it is not known whether job {job_id} is stored", "因此无法确定作业 {job_id} 是否已保存"))
            .remedy(said!(
                "run the same command again with --job-id {job_id}: that never makes a second job",
                "加上 --job-id {job_id} 重新执行同一命令：不会产生第二个作业"
            )),
    }
}

pub(super) fn policy(given: Option<OnFailure>) -> v1::OnFailure {
    match given {
        None => v1::OnFailure::Unspecified,
        Some(OnFailure::Undo) => v1::OnFailure::Undo,
        Some(OnFailure::Keep) => v1::OnFailure::Keep,
    }
}
