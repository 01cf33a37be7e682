//! `ctl show`: everything about one job, from its log and its plan.

use gantry_proto::Plan;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Cx;
use crate::{
    args::{Format, Job},
    exit::Failure,
    follow, jobref,
    render::{job, json},
};

/// Shows it.
pub(crate) async fn run(cx: &Cx, args: &Job) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job).await?;
    let answer = client.get(&id.to_string()).await?;
    let mut known = follow::read(&client, id).await?;
    known.job = known.job.or(answer.job);
    let plan = answer.plan.as_ref();
    match cx.out.format {
        Format::Table => {
            let plan = plan.and_then(|document| Plan::from_document(document).ok());
            let (now, columns) = (Timestamp::now(), cx.out.columns());
            cx.out.text(&job::page(&known, plan.as_ref(), now, cx.out.paint, columns))
        }
        Format::Json | Format::Ndjson => {
            // A plan of a newer form is passed on as it is; only the page for people needs its meaning.
            let plan = plan.and_then(|document| serde_json::from_slice::<Value>(&document.json).ok());
            let mut document = json::known(&known);
            if let Value::Object(map) = &mut document {
                map.insert("plan".to_owned(), json!(plan));
            }
            cx.out.json(&document)
        }
    }
}
