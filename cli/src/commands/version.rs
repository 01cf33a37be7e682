//! `ctl version`: ours, and the controller's when it can be reached.

use gantry_proto::{PROTOCOL, v1};
use serde_json::json;

use super::Cx;
use crate::{args::Format, client::Client, exit::Failure, profile};

/// Prints both. A controller out of reach is said on stderr and is no failure.
pub(crate) async fn run(cx: &Cx) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let theirs = controller(cx).await.unwrap_or_else(|failure| {
        cx.out.note(&failure.text(cx.out.paint_err));
        None
    });
    match cx.out.format {
        Format::Table => {
            let mut text = say!("ctl         {own} (protocol {PROTOCOL})\n", "ctl     {own}（协议 {PROTOCOL}）\n");
            if let Some((url, version)) = &theirs {
                text.push_str(&say!(
                    "controller  {version} (protocol {protocol}) at {url}\n",
                    "控制器  {version}（协议 {protocol}），地址 {url}\n";
                    version = version.version, protocol = version.protocol
                ));
            }
            cx.out.text(&text)
        }
        Format::Json | Format::Ndjson => {
            let theirs = theirs
                .map(|(url, version)| json!({ "version": version.version, "protocol": version.protocol, "url": url }));
            cx.out.json(&json!({ "ctl": { "version": own, "protocol": PROTOCOL }, "controller": theirs }))
        }
    }
}

async fn controller(cx: &Cx) -> Result<Option<(String, v1::GetVersionResponse)>, Failure> {
    let Some(endpoint) = profile::find(&cx.global)? else { return Ok(None) };
    let client = Client::connect(&endpoint, cx.global.timeout).await?;
    Ok(Some((client.url().to_owned(), client.version().await?)))
}
