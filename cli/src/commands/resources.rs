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
    render::table,
};

/// Shows it.
pub(crate) async fn run(cx: &Cx, args: &Job) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job).await?;
    let resources = of(&client, id).await?;
    match cx.out.format {
        Format::Table if resources.is_empty() => cx.out.text(&format!("job {id} has made and found nothing\n")),
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
        let step = one.step.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = if one.id.is_empty() { "-".to_owned() } else { one.id.clone() };
        vec![one.kind.clone(), one.name.clone(), id, word(one.state).to_owned(), step]
    });
    let mut text = table::table(&["KIND", "NAME", "ID", "STATE", "STEP"], rows, columns);
    for one in resources.iter().filter(|one| !one.remedy.is_empty()) {
        text.push_str(&format!("by hand: {}\n", one.remedy));
    }
    text
}

fn word(state: State) -> &'static str {
    match state {
        State::Made => "made",
        State::Found => "found, not ours",
        State::Asked => "asked for, may be there",
        State::Unfinished => "unfinished upload",
        State::Delivered => "made, handed over",
        State::Removed => "removed",
        State::LeftOver => "left over",
    }
}
