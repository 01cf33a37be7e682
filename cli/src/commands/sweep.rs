//! `ctl sweep`: what ended jobs have left behind, and its removal by the agents that made it.

use gantry_proto::{
    JobId, ended,
    ledger::Resource,
    v1::{self, UndoState},
};
use serde_json::{Value, json};

use super::{Cx, resources};
use crate::{
    args::{Format, Sweep},
    client::Client,
    exit::{Exit, Failure},
    follow::{Follow, Heard, Known},
    jobref,
    render::{json, words},
};

/// Jobs of one page of the list.
const PAGE: u32 = 1000;

/// A job and what is left of it.
struct Left {
    id: JobId,
    job: v1::Job,
    resources: Vec<Resource>,
}

/// Lists, and with `--yes` removes.
pub(crate) async fn run(cx: &Cx, args: &Sweep) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let jobs = match &args.job {
        Some(job) => {
            let id = jobref::resolve(&client, job).await?;
            client.get(&id.to_string()).await?.job.into_iter().collect()
        }
        None => of_site(&client, args.site.as_deref().unwrap_or_default()).await?,
    };
    let mut all = Vec::new();
    for job in jobs.into_iter().filter(has_left_something) {
        let Ok(id) = job.job_id.parse::<JobId>() else { continue };
        let mut resources = resources::of(&client, id).await?;
        // A complete image is kept for reuse; nobody calls it litter.
        resources
            .retain(|one| one.is_ours() && !(one.kind == "image" && one.state == gantry_proto::ledger::State::Made));
        all.push(Left { id, job, resources });
    }
    if !args.yes {
        return list(cx, &all);
    }
    let mut swept = Vec::new();
    for left in &all {
        client.sweep(&left.id.to_string()).await?;
        let (id, agent) = (left.id, &left.job.agent_id);
        cx.out.note(&say!(
            "job {id}: its agent {agent} removes what is left",
            "作业 {id}：由其代理 {agent} 清除残留对象"
        ));
        swept.push((left, finish(&client, left.id).await?));
    }
    conclude(cx, &swept)
}

/// Every ended job of a site.
async fn of_site(client: &Client, site: &str) -> Result<Vec<v1::Job>, Failure> {
    let (mut all, mut before) = (Vec::new(), String::new());
    loop {
        let request =
            v1::ListJobsRequest { limit: PAGE, site: site.to_owned(), active_only: false, before_job_id: before };
        let page = client.list(request).await?;
        let last = page.len() < PAGE as usize;
        before = page.last().map(|job| job.job_id.clone()).unwrap_or_default();
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

fn has_left_something(job: &v1::Job) -> bool {
    ended::is_final(job.state()) && matches!(job.undo(), UndoState::Kept | UndoState::Incomplete)
}

fn list(cx: &Cx, all: &[Left]) -> Result<(), Failure> {
    let documents = || all.iter().map(document);
    match cx.out.format {
        Format::Table if all.is_empty() => cx.out.text(word!("nothing is left behind\n", "没有残留对象\n")),
        Format::Table => {
            let mut text = String::new();
            for left in all {
                let (id, site, agent) = (left.id, &left.job.site, &left.job.agent_id);
                text.push_str(&say!("job {id} ({site}, agent {agent}):\n", "作业 {id}（{site}，代理 {agent}）：\n"));
                text.push_str(&resources::text(&left.resources, cx.out.columns()));
            }
            text.push_str(word!(
                "nothing was touched; with --yes the agents remove it\n",
                "未作任何改动；加上 --yes 由代理清除\n"
            ));
            cx.out.text(&text)
        }
        Format::Json => cx.out.json(&json!({ "jobs": documents().collect::<Vec<_>>() })),
        Format::Ndjson => documents().try_for_each(|document| cx.out.json(&document)),
    }
}

/// Waits for the end of the sweep.
async fn finish(client: &Client, id: JobId) -> Result<Known, Failure> {
    let mut known = Known::default();
    let mut follow = Follow::open(client, id, 0, true).await?;
    loop {
        let heard = follow.next().await?;
        known.take(&heard);
        if matches!(heard, Heard::End) || known.is_told() {
            return Ok(known);
        }
    }
}

fn conclude(cx: &Cx, swept: &[(&Left, Known)]) -> Result<(), Failure> {
    let undo = |known: &Known| known.view.undo.map(words::undo);
    let documents = swept.iter().map(|(left, known)| {
        let mut document = document(left);
        if let Value::Object(map) = &mut document {
            map.insert("undo".to_owned(), json!(undo(known)));
            map.insert("leftovers".to_owned(), json!(known.view.leftovers));
        }
        document
    });
    match cx.out.format {
        Format::Table if swept.is_empty() => cx.out.text(word!("nothing is left behind\n", "没有残留对象\n"))?,
        Format::Table => {
            for (left, known) in swept {
                let said = known.view.undo.map_or(word!("not known", "未知"), words::undo_sentence);
                cx.out.text(&say!("job {id}: {said}\n", "作业 {id}：{said}\n"; id = left.id))?;
            }
        }
        Format::Json => cx.out.json(&json!({ "jobs": documents.collect::<Vec<_>>() }))?,
        Format::Ndjson => documents.into_iter().try_for_each(|document| cx.out.json(&document))?,
    }
    let clean = |known: &Known| {
        matches!(known.view.undo, Some(gantry_proto::UndoState::RolledBack | gantry_proto::UndoState::Nothing))
    };
    if swept.iter().all(|(_, known)| clean(known)) { Ok(()) } else { Err(Failure::Told(Exit::Leftovers)) }
}

fn document(left: &Left) -> Value {
    json!({ "job": json::job(&left.job), "resources": left.resources })
}
