//! `ctl report`: the hand-over report of a job, as a page or as JSON.

use gantry_proto::{JobId, audit::Record, v1};
use gantry_report::{Material, Report, page};
use jiff::Timestamp;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Form, Lang, Report as Args},
    client::Client,
    exit::{Exit, Failure},
    follow::{self, Known},
    jobref,
    outfile::OutFile,
    records::Records,
};

/// Records of the audit log about one job, the newest ones.
const RECORDS_MAX: u32 = 500;

/// Writes it to stdout, or into a file.
pub(crate) async fn run(cx: &Cx, args: Args) -> Result<(), Failure> {
    let Args { job, out, force } = args;
    let out = out.map(|path| OutFile::at(&path, force)).transpose()?;
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &job.job).await?;
    let answer = client.get(&id.to_string()).await?;
    let (events, mut known) = follow::log(&client, id).await?;
    known.job = known.job.or(answer.job);
    let audit = audit(&client, id).await?;
    let controller = client.version().await?.version;
    let Known { view, job, .. } = known;
    let (plan, ctl) = (answer.plan, Some(env!("CARGO_PKG_VERSION")));
    let material = Material { events, view, job, plan, audit, controller, ctl, made: Timestamp::now() };
    let report = Report::of(material, &cx.redactor);
    let text = match cx.global.output {
        Form::Table | Form::Html => page(&report, language(cx).into()),
        Form::Json | Form::Ndjson => {
            let mut document = json!(report);
            cx.redactor.json(&mut document);
            cx.out.document(&document)?
        }
    };
    let Some(out) = out else { return cx.out.text(&text) };
    out.write(text.as_bytes())?;
    cx.out.note(&say!("{path} is written", "已写入 {path}"; path = out.path().display()));
    Ok(())
}

/// The page's language: it is made for the customer, so the environment of who makes it does not count.
pub(super) fn language(cx: &Cx) -> Lang {
    cx.global.lang.unwrap_or(Lang::Zh)
}

/// What the audit log has about the job, or why this operator does not get it: that is no reason to have no report.
pub(super) async fn audit(client: &Client, id: JobId) -> Result<Result<Vec<Record>, String>, Failure> {
    let request =
        v1::ListAuditRequest { limit: RECORDS_MAX, newest: true, job_id: id.to_string(), ..Default::default() };
    let asked = async { Records::ask(client, request).await?.all().await };
    match asked.await {
        Ok((records, _)) => Ok(Ok(records)),
        Err(Failure::Story(story)) if story.exit != Exit::Unreachable => Ok(Err(story.message.english().to_owned())),
        Err(failure) => Err(failure),
    }
}
