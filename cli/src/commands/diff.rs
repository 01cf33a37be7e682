//! `ctl plan diff`: what deploying a workbook would do, as an agent at the site sees it by looking alone.

use gantry_proto::{
    Verdict,
    v1::{self, DiffKind, diff_plan_response::Item},
};

use super::{Cx, plan};
use crate::{
    args::{Format, PlanDiff},
    exit::{Exit, Failure},
    refusal,
    render::{diff, findings},
    workbook,
};

/// Asks, waits and shows.
pub(crate) async fn run(cx: &Cx, args: &PlanDiff) -> Result<(), Failure> {
    let overrides = plan::chosen(&args.plan)?;
    let name = workbook::name(&args.plan.file);
    let bytes = match workbook::read(&args.plan.file) {
        Ok(bytes) => bytes,
        Err(problem) => return plan::reject(cx.out, &name, Verdict::Unreadable, &[*problem]),
    };
    let client = cx.connect().await?;
    let request = v1::DiffPlanRequest {
        workbook: bytes,
        file_name: name.clone(),
        overrides: overrides.into_iter().collect(),
        agent_id: args.agent.clone().unwrap_or_default(),
        site: args.site.clone().unwrap_or_default(),
    };
    let mut answers = client.diff(request).await?;
    let begun = match client.next_of_diff(&mut answers).await? {
        Some(Item::Begun(begun)) => begun,
        Some(Item::Rejected(rejected)) => {
            let verdict = Verdict::try_from(rejected.verdict()).unwrap_or(Verdict::Invalid);
            return plan::reject(cx.out, &name, verdict, &workbook::problems(rejected.problems));
        }
        Some(Item::Diff(_)) | None => return Err(refusal::incomplete(client.url(), "begun")),
    };
    let problems = workbook::problems(begun.problems);
    if cx.out.format == Format::Table {
        if !problems.is_empty() {
            cx.out.note(&findings::text(&name, Verdict::Ok, &problems, cx.out.paint_err, cx.out.columns()));
        }
        let (site, agent) = (&begun.site, &begun.agent_id);
        cx.out.note(&say!(
            "looking at site {site} through agent {agent} ...",
            "正在通过代理 {agent} 查看站点 {site} ..."
        ));
    }
    let Some(Item::Diff(found)) = client.next_of_diff(&mut answers).await? else {
        return Err(refusal::incomplete(client.url(), "diff"));
    };
    let seen = diff::Seen { file: &name, site: &begun.site, agent: &begun.agent_id, problems: &problems, diff: &found };
    match cx.out.format {
        Format::Table => cx.out.text(&diff::text(&seen, cx.out.paint, cx.out.columns()))?,
        Format::Json => cx.out.json(&diff::document(&seen))?,
        Format::Ndjson => found.lines.iter().try_for_each(|line| cx.out.json(&diff::line(line)))?,
    }
    let refused = found.lines.iter().any(|line| line.kind() == DiffKind::Refuse);
    if refused { Err(Failure::Told(Exit::Refused)) } else { Ok(()) }
}
