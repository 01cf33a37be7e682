//! `ctl site`: the customers' places.

use serde_json::json;

use super::Cx;
use crate::{
    args::{Format, SiteCommand},
    exit::Failure,
    render::access,
};

/// Adds or lists.
pub(crate) async fn run(cx: &Cx, command: SiteCommand) -> Result<(), Failure> {
    let client = cx.connect().await?;
    match command {
        SiteCommand::Add { site } => {
            let already = client.add_site(&site).await?.already_known;
            match cx.out.format {
                Format::Table if already => cx.out.text(&say!("site {site} was there already", "站点 {site} 已存在")),
                Format::Table => {
                    cx.out.text(&say!("site {site} added", "站点 {site} 已添加"))?;
                    cx.out.note(&say!("next: ctl agent token --site {site}", "接下来：ctl agent token --site {site}"));
                    Ok(())
                }
                Format::Json | Format::Ndjson => cx.out.json(&json!({ "site": site, "already_known": already })),
            }
        }
        SiteCommand::List => {
            let sites = client.sites().await?;
            match cx.out.format {
                Format::Table => cx.out.text(&access::sites(&sites, cx.out.columns())),
                Format::Json => cx.out.json(&json!({ "sites": sites.iter().map(access::site).collect::<Vec<_>>() })),
                Format::Ndjson => sites.iter().try_for_each(|site| cx.out.json(&access::site(site))),
            }
        }
    }
}
