//! `ctl retry`: takes a job up again and says what becomes of each of its steps.

use gantry_proto::{
    Verdict,
    v1::{self, StepFate},
    words::step_fate,
};
use serde_json::{Value, json};

use super::{Cx, deploy, plan, watch};
use crate::{
    args::{Format, Retry},
    exit::{Exit, Failure},
    jobref, refusal,
    render::{findings, json, table, words},
    workbook,
};

/// Asks, tells the steps, and follows if that is wanted.
pub(crate) async fn run(cx: &Cx, args: Retry) -> Result<(), Failure> {
    let (bytes, name) = match &args.plan {
        None => (Vec::new(), String::new()),
        Some(file) => match workbook::read(file) {
            Ok(bytes) => (bytes, workbook::name(file)),
            Err(problem) => return plan::reject(cx.out, &workbook::name(file), Verdict::Unreadable, &[*problem]),
        },
    };
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let request = v1::RetryJobRequest {
        job_id: id.to_string(),
        from_step: args.from.unwrap_or_default(),
        workbook: bytes,
        file_name: name.clone(),
        overrides: args.set.into_iter().collect(),
        on_failure: deploy::policy(args.on_failure).into(),
        dry_run: args.dry_run,
        request_id: String::new(),
    };
    let answer = client.retry(request).await?;
    let problems = workbook::problems(answer.problems);
    if let Some(rejected) = answer.rejected {
        let verdict = Verdict::try_from(rejected.verdict()).unwrap_or(Verdict::Invalid);
        return plan::reject(cx.out, &name, verdict, &workbook::problems(rejected.problems));
    }
    let job = answer.job.ok_or_else(|| refusal::incomplete(client.url(), "job"))?;
    let blocked: Vec<&v1::StepVerdict> = answer.steps.iter().filter(|step| step.fate() == StepFate::Blocked).collect();
    let document = json!({
        "job": json::job(&job),
        "accepted": answer.accepted,
        "steps": answer.steps.iter().map(step).collect::<Vec<_>>(),
        "problems": problems,
    });
    if cx.out.format == Format::Table {
        if !problems.is_empty() {
            cx.out.note(&findings::text(&name, Verdict::Ok, &problems, cx.out.paint_err, cx.out.columns()));
        }
        let text = steps(&answer.steps, cx.out.columns());
        if args.watch && answer.accepted { cx.out.note(&text) } else { cx.out.text(&text)? }
    } else if !(args.watch && answer.accepted) {
        cx.out.json(&document)?;
    }
    if let Some(first) = blocked.first() {
        let message = said!("job {id} cannot be taken up again like this", "作业 {id} 不能这样重试");
        let (step, why) = (&first.step, &first.reason);
        return Err(Failure::new(Exit::Refused, message)
            .because(said!("{step} is in the way: {why}", "步骤 {step} 受阻：{why}"))
            .remedy(said!(
                "nothing was changed; ctl retry --dry-run shows what would become of each step",
                "未作任何更改；用 ctl retry --dry-run 查看每个步骤将如何处理"
            )));
    }
    if !answer.accepted {
        return Ok(());
    }
    if args.watch {
        let seq = job.last_seq + 1;
        return watch::to_the_end(cx, &client, id, seq, json!({ "retry": document })).await;
    }
    match cx.out.format {
        Format::Table => cx.out.text(&say!(
            "job {id} goes on in epoch {epoch}\nfollow it:  ctl watch {id}\n",
            "作业 {id} 继续执行，轮次 {epoch}\n跟踪：  ctl watch {id}\n"; epoch = job.epoch
        )),
        Format::Json | Format::Ndjson => Ok(()),
    }
}

fn steps(steps: &[v1::StepVerdict], columns: usize) -> String {
    let rows = steps
        .iter()
        .map(|step| vec![words::step_of_id(&step.step).to_owned(), shown(step.fate()).to_owned(), step.reason.clone()]);
    table::table(&[word!("STEP", "步骤"), word!("WHAT", "处理"), word!("WHY", "原因")], rows, columns)
}

fn step(step: &v1::StepVerdict) -> Value {
    let reason = (!step.reason.is_empty()).then_some(&step.reason);
    json!({ "step": step.step, "fate": step_fate(step.fate()), "reason": reason })
}

/// What becomes of a step, for people.
fn shown(fate: StepFate) -> &'static str {
    match fate {
        StepFate::Kept => word!("kept", "保留"),
        StepFate::Redone => word!("redone", "重做"),
        StepFate::Blocked => word!("blocked", "受阻"),
        StepFate::Unspecified => word!("unknown", "未知"),
    }
}
