//! `ctl decide`: shows what a job cannot decide, and gives it the operator's answer.

use gantry_proto::v1;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Decide, Format},
    exit::{Exit, Failure},
    follow, jobref,
    render::{json, question},
};

/// Shows the question, or answers it.
pub(crate) async fn run(cx: &Cx, args: Decide) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let Some(choice) = args.choice else {
        return show(cx, &follow::read(&client, id).await?);
    };
    let request = v1::DecideJobRequest {
        job_id: id.to_string(),
        choice: choice.clone(),
        question: args.question,
        reason: args.reason,
        request_id: String::new(),
    };
    let job = client.decide(request).await?;
    let when = match job.agent_in_contact {
        true => word!("gets it now", "立即接收"),
        false => word!("gets it when it is in contact again", "恢复联系后接收"),
    };
    match cx.out.format {
        Format::Table => cx.out.text(&say!(
            "job {id}: the answer is \"{choice}\"; agent {agent} {when}\nfollow it:  ctl watch {id}\n",
            "作业 {id}：答复为“{choice}”；代理 {agent} {when}\n跟踪：  ctl watch {id}\n"; agent = job.agent_id
        )),
        Format::Json | Format::Ndjson => cx.out.json(&json!({ "job": json::job(&job) })),
    }
}

/// The question with its answers; whoever has asked is told by the exit code that the job waits.
fn show(cx: &Cx, known: &follow::Known) -> Result<(), Failure> {
    let (Some(job), Some(asked)) = (&known.job, known.question()) else {
        let id = known.job.as_ref().map(|job| job.job_id.as_str()).unwrap_or_default();
        return Err(Failure::new(
            Exit::Refused,
            said!("job {id} does not wait for an operator", "作业 {id} 没有等待操作员"),
        )
        .remedy(said!("see how it stands: ctl show {id}", "查看其状态：ctl show {id}")));
    };
    match cx.out.format {
        Format::Table => {
            let head = say!("job {id} waits for an operator", "作业 {id} 等待操作员"; id = job.job_id);
            let head = cx.out.paint.warn(&head);
            let page = question::text(&job.job_id, &asked, known, cx.out.columns());
            cx.out.text(&format!("{head}\n{page}"))?;
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "job": json::job(job), "question": json::question(&asked) }))?;
        }
    }
    Err(Failure::Told(Exit::NeedsOperator))
}
