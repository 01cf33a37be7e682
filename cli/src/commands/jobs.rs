//! `ctl jobs`: which jobs there are.

use gantry_proto::v1;
use jiff::Timestamp;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Format, Jobs},
    exit::Failure,
    render::{jobs, json},
};

/// Lists them, newest first.
pub(crate) async fn run(cx: &Cx, args: Jobs) -> Result<(), Failure> {
    let request = v1::ListJobsRequest {
        limit: args.limit,
        site: args.site.unwrap_or_default(),
        active_only: args.active,
        before_job_id: String::new(),
    };
    let all = cx.connect().await?.list(request).await?;
    match cx.out.format {
        Format::Table => cx.out.text(&jobs::text(&all, Timestamp::now(), cx.out.columns())),
        Format::Json => cx.out.json(&json!({ "jobs": all.iter().map(json::job).collect::<Vec<_>>() })),
        Format::Ndjson => all.iter().try_for_each(|job| cx.out.json(&json::job(job))),
    }
}
