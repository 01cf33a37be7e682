//! `ctl agents`: which agents there are and which ISO files they offer.

use jiff::Timestamp;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Agents, Format},
    exit::Failure,
    render::{agents, json},
};

/// Lists them by site and id.
pub(crate) async fn run(cx: &Cx, args: Agents) -> Result<(), Failure> {
    let all = cx.connect().await?.agents(&args.site.unwrap_or_default()).await?;
    match cx.out.format {
        Format::Table => cx.out.text(&agents::text(&all, Timestamp::now(), cx.out.columns())),
        Format::Json => cx.out.json(&json!({ "agents": all.iter().map(json::agent).collect::<Vec<_>>() })),
        Format::Ndjson => all.iter().try_for_each(|agent| cx.out.json(&json::agent(agent))),
    }
}
