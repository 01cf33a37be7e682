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
    let when = if job.agent_in_contact { "gets it now" } else { "gets it when it is in contact again" };
    match cx.out.format {
        Format::Table => cx.out.text(&format!(
            "job {id}: the answer is \"{choice}\"; agent {} {when}\nfollow it:  ctl watch {id}\n",
            job.agent_id
        )),
        Format::Json | Format::Ndjson => cx.out.json(&json!({ "job": json::job(&job) })),
    }
}

/// The question with its answers; whoever has asked is told by the exit code that the job waits.
fn show(cx: &Cx, known: &follow::Known) -> Result<(), Failure> {
    let (Some(job), Some(asked)) = (&known.job, known.question()) else {
        let id = known.job.as_ref().map(|job| job.job_id.as_str()).unwrap_or_default();
        return Err(Failure::new(Exit::Refused, format!("job {id} does not wait for an operator"))
            .remedy(format!("see how it stands: ctl show {id}")));
    };
    match cx.out.format {
        Format::Table => {
            let head = cx.out.paint.warn(&format!("job {} waits for an operator", job.job_id));
            let page = question::text(&job.job_id, &asked, known, cx.out.columns());
            cx.out.text(&format!("{head}\n{page}"))?;
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "job": json::job(job), "question": json::question(&asked) }))?;
        }
    }
    Err(Failure::Told(Exit::NeedsOperator))
}
