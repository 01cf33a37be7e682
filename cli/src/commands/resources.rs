//! `ctl resources`: the ledger of a job, from its log.

use gantry_proto::{
    JobId,
    ledger::{Resource, State, ledger},
};
use serde_json::json;

use super::Cx;
use crate::{
    args::{Format, Job},
    client::Client,
    exit::Failure,
    follow, jobref,
    render::{table, words},
};

/// Shows it.
pub(crate) async fn run(cx: &Cx, args: &Job) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job).await?;
    let resources = of(&client, id).await?;
    match cx.out.format {
        Format::Table if resources.is_empty() => {
            cx.out.text(&say!("job {id} has made and found nothing\n", "作业 {id} 未创建也未发现任何对象\n"))
        }
        Format::Table => cx.out.text(&text(&resources, cx.out.columns())),
        Format::Json => cx.out.json(&json!({ "job_id": id, "resources": resources })),
        Format::Ndjson => resources.iter().try_for_each(|one| cx.out.json(&json!(one))),
    }
}

/// The ledger of a job as its log is now.
pub(super) async fn of(client: &Client, id: JobId) -> Result<Vec<Resource>, Failure> {
    Ok(ledger(&follow::events(client, id).await?))
}

/// A line each, and below what a person does about what is left over.
pub(super) fn text(resources: &[Resource], columns: usize) -> String {
    let rows = resources.iter().map(|one| {
        let step = one.step.as_ref().map(|id| words::step_of_id(id.as_str()).to_owned()).unwrap_or_default();
        let id = if one.id.is_empty() { "-".to_owned() } else { one.id.clone() };
        vec![words::kind(&one.kind).to_owned(), one.name.clone(), id, shown(one.state).to_owned(), step]
    });
    let mut text = table::table(
        &[
            word!("KIND", "类型"),
            word!("NAME", "名称"),
            word!("ID", "标识"),
            word!("STATE", "状态"),
            word!("STEP", "步骤"),
        ],
        rows,
        columns,
    );
    for one in resources.iter().filter(|one| !one.remedy.is_empty()) {
        text.push_str(&say!("by hand: {what}\n", "手工处理：{what}\n"; what = one.remedy));
    }
    text
}

fn shown(state: State) -> &'static str {
    match state {
        State::Made => word!("made", "由作业创建"),
        State::Found => word!("found, not ours", "原已存在"),
        State::Asked => word!("asked for, may be there", "已请求，可能存在"),
        State::Unfinished => word!("unfinished upload", "上传未完成"),
        State::Delivered => word!("made, handed over", "由作业创建并已交付"),
        State::Removed => word!("removed", "已清除"),
        State::LeftOver => word!("left over", "残留"),
    }
}
