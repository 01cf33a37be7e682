//! `ctl bundle`: everything that the operator's side can learn about a job, in one archive.

use std::{env, path::PathBuf};

use gantry_proto::{Event, JobId, PROTOCOL, audit::Hash, audit::Record, ledger::ledger, v1};
use gantry_report::{Material, Report, page};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Map, Value, json};

use super::{Cx, report};
use crate::{
    args::{Bundle as Args, Format},
    bundle::Bundle,
    client::Client,
    exit::{Exit, Failure},
    follow::{self, Known},
    jobref,
    outfile::OutFile,
    profile::{self, Endpoint},
    render::json,
    trace::{self, Span},
};

/// The parts, and what each is.
const JOB: (&str, &str) = ("job.json", "the job as the controller has it");
const EVENTS: (&str, &str) = ("events.jsonl", "every numbered event, one a line, the oldest first");
const VIEW: (&str, &str) = ("view.json", "what the events add up to, as ctl show tells it");
const PLAN: (&str, &str) = ("plan.json", "the plan, which holds no secret, and where each value came from");
const RESULT: (&str, &str) = ("result.json", "the result document");
const RESOURCES: (&str, &str) = ("resources.json", "what the job made, found, removed and left over");
const TIMES: (&str, &str) = ("times.json", "how long steps and phases took");
const REPORT: (&str, &str) = ("report.json", "the hand-over report as a document");
const PAGE: (&str, &str) = ("report.html", "the hand-over report as a page");
const AUDIT: (&str, &str) = ("audit.jsonl", "the newest records of the audit log about the job, one a line");
const AGENTS: (&str, &str) = ("agents.json", "the agents of the job's site");
const SPANS: (&str, &str) =
    ("spans.jsonl", "the spans of controller and agent that belong to the job, one a line: ctl trace draws them");
const LOG_RECORDS: (&str, &str) =
    ("log.jsonl", "the log records of controller and agent that belong to the job, one a line, the oldest first");
const CTL: (&str, &str) = ("ctl.json", "how ctl reaches the controller; no key");

/// What is not here, and where it is.
const ELSEWHERE: [&str; 3] = [
    "the agent's log files of the job (stage_deploy_cloudtower.log, cloudtower_install_*.log, inspection_report.zip, \
     evidence/): on the bastion, in the job's directory below data_dir",
    "what agent and controller log beside the job: in the system's journal on their hosts",
    "samples of progress: they are never stored",
];

/// Collects it and writes the file. What cannot be had is told, and stops nothing else.
pub(crate) async fn run(cx: &Cx, args: Args) -> Result<(), Failure> {
    // A name that is given is looked at before anything is asked.
    let given = args.out.as_ref().map(|path| OutFile::at(path, args.force)).transpose()?;
    let endpoint = profile::require(&cx.global)?;
    cx.redactor.register(&endpoint.key);
    let client = Client::connect(&endpoint, cx.global.timeout).await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let out = match given {
        Some(out) => out,
        None => OutFile::at(&PathBuf::from(format!("gantry-{id}.zip")), args.force)?,
    };
    let mut bundle = Bundle::new(&cx.redactor);
    let fields = collect(&mut bundle, cx, &client, id, &endpoint).await;
    let gaps = bundle.gaps();
    let packed = bundle.pack(fields);
    let (manifest, bytes) = packed.map_err(|error| {
        Failure::new(Exit::Internal, said!("the archive cannot be made", "无法生成归档")).because(error.to_string())
    })?;
    out.write(&bytes)?;
    for gap in gaps {
        cx.out.note(&cx.out.paint_err.warn(&say!("warning: {gap}", "警告：{gap}")));
    }
    cx.out.note(&say!(
        "{path} is written, {size} KiB",
        "已写入 {path}，{size} KiB"; path = out.path().display(), size = bytes.len().div_ceil(1024)
    ));
    match cx.out.format {
        Format::Table => Ok(()),
        Format::Json | Format::Ndjson => cx.out.json(&manifest),
    }
}

/// Puts every part in, and gives the fields of the manifest.
async fn collect(
    bundle: &mut Bundle<'_>,
    cx: &Cx,
    client: &Client,
    id: JobId,
    endpoint: &Endpoint,
) -> Map<String, Value> {
    let (job, plan) = match client.get(&id.to_string()).await {
        Ok(answer) => (answer.job, Ok(answer.plan)),
        Err(failure) => (None, Err(english(&failure))),
    };
    match (&job, &plan) {
        (Some(job), _) => bundle.document(JOB.0, JOB.1, json::job(job)),
        (None, Err(why)) => bundle.missing(JOB.0, JOB.1, why),
        (None, Ok(_)) => bundle.missing(JOB.0, JOB.1, "the controller's answer has no job"),
    }
    put_plan(bundle, &plan);
    let log = follow::log(client, id).await.map_err(|failure| english(&failure)).map(|(events, mut known)| {
        known.job = known.job.take().or_else(|| job.clone());
        (events, known)
    });
    put_log(bundle, &log);
    put_result(bundle, client, id).await;
    let audit = report::audit(client, id).await.unwrap_or_else(|failure| Err(english(&failure)));
    put_audit(bundle, &audit);
    let site = job.as_ref().map(|job| job.site.clone()).unwrap_or_default();
    match client.agents(&site).await {
        Ok(agents) => bundle.document(AGENTS.0, AGENTS.1, json!(agents.iter().map(json::agent).collect::<Vec<_>>())),
        Err(failure) => bundle.missing(AGENTS.0, AGENTS.1, english(&failure)),
    }
    let traces = put_trace(bundle, client, id).await;
    let controller = client.version().await;
    bundle.document(CTL.0, CTL.1, connection(cx, endpoint));
    let told =
        Told { ids: request_ids(&audit), agents: log.as_ref().map(|(events, _)| agents(events)).unwrap_or_default() };
    let versions = json!({
        "ctl": { "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL },
        "controller": match &controller {
            Ok(version) => json!({ "version": version.version, "protocol": version.protocol }),
            Err(failure) => json!({ "missing": english(failure) }),
        },
        "agents": told.agents,
    });
    let version = controller.map(|version| version.version).unwrap_or_default();
    put_report(bundle, cx, log, plan.ok().flatten(), audit, version);
    let by = json!({
        "user": env::var("USER").or_else(|_| env::var("LOGNAME")).ok(),
        "certificate_sha256": fingerprint(endpoint),
    });
    let trace = json!({
        "request_ids": told.ids,
        "trace_ids": traces,
    });
    let fields = json!({
        "made": Timestamp::now(),
        "made_by": by,
        "job_id": id,
        "versions": versions,
        "trace": trace,
        "elsewhere": ELSEWHERE,
    });
    if let Value::Object(fields) = fields { fields } else { Map::new() }
}

/// Why a part is not there: it stands in the manifest.
fn english(failure: &Failure) -> String {
    failure.sentence().english().to_owned()
}

/// What the manifest tells of the log and the audit log.
struct Told {
    ids: Vec<String>,
    agents: Vec<Value>,
}

fn put_plan(bundle: &mut Bundle<'_>, plan: &Result<Option<v1::PlanDocument>, String>) {
    let document = match plan {
        Ok(Some(document)) => {
            serde_json::from_slice::<Value>(&document.json).map_err(|error| format!("it is not JSON: {error}"))
        }
        Ok(None) => Err("the controller's answer has no plan".to_owned()),
        Err(why) => Err(why.clone()),
    };
    match document {
        Ok(document) => bundle.document(PLAN.0, PLAN.1, document),
        Err(why) => bundle.missing(PLAN.0, PLAN.1, why),
    }
}

/// Events, and what follows from them alone.
fn put_log(bundle: &mut Bundle<'_>, log: &Result<(Vec<Event>, Known), String>) {
    match log {
        Ok((events, known)) => {
            bundle.lines(EVENTS.0, EVENTS.1, events.iter().map(json::event_line));
            bundle.document(VIEW.0, VIEW.1, json::known(known));
            bundle.document(RESOURCES.0, RESOURCES.1, json!(ledger(events)));
        }
        Err(why) => [EVENTS, VIEW, RESOURCES].into_iter().for_each(|(file, what)| bundle.missing(file, what, why)),
    }
}

async fn put_result(bundle: &mut Bundle<'_>, client: &Client, id: JobId) {
    let result = match client.result(&id.to_string()).await {
        Ok(answer) if answer.result_json.is_empty() => Err("the job has left none".to_owned()),
        Ok(answer) => {
            serde_json::from_slice::<Value>(&answer.result_json).map_err(|error| format!("it is not JSON: {error}"))
        }
        Err(failure) => Err(english(&failure)),
    };
    match result {
        Ok(result) => bundle.document(RESULT.0, RESULT.1, result),
        Err(why) => bundle.missing(RESULT.0, RESULT.1, why),
    }
}

/// Spans and log records; gives the ids of the traces.
async fn put_trace(bundle: &mut Bundle<'_>, client: &Client, id: JobId) -> Vec<String> {
    let parts = match client.trace(&id.to_string(), true).await {
        Ok(parts) => parts,
        Err(failure) => {
            let why = failure.sentence().english().to_owned();
            [SPANS, LOG_RECORDS].into_iter().for_each(|(file, what)| bundle.missing(file, what, &why));
            return Vec::new();
        }
    };
    let spans = trace::read(&parts);
    bundle.lines(SPANS.0, SPANS.1, spans.iter().map(Span::json));
    bundle.lines(LOG_RECORDS.0, LOG_RECORDS.1, trace::log_records(&parts).into_iter());
    let mut ids: Vec<String> = spans.into_iter().map(|span| span.trace_id).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn put_audit(bundle: &mut Bundle<'_>, audit: &Result<Vec<Record>, String>) {
    match audit {
        Ok(records) => bundle.lines(AUDIT.0, AUDIT.1, records.iter().map(|record| json!(record))),
        Err(why) => bundle.missing(AUDIT.0, AUDIT.1, why),
    }
}

fn put_report(
    bundle: &mut Bundle<'_>,
    cx: &Cx,
    log: Result<(Vec<Event>, Known), String>,
    plan: Option<v1::PlanDocument>,
    audit: Result<Vec<Record>, String>,
    controller: String,
) {
    let (events, known) = match log {
        Ok(log) => log,
        Err(why) => {
            return [TIMES, REPORT, PAGE].into_iter().for_each(|(file, what)| bundle.missing(file, what, &why));
        }
    };
    let Known { view, job, .. } = known;
    let ctl = Some(env!("CARGO_PKG_VERSION"));
    let material = Material { events, view, job, plan, audit, controller, ctl, made: Timestamp::now() };
    let report = Report::of(material, &cx.redactor);
    let document = json!(report);
    bundle.document(TIMES.0, TIMES.1, json!({ "timings": document["timings"], "steps": document["steps"] }));
    bundle.document(REPORT.0, REPORT.1, document);
    bundle.text(PAGE.0, PAGE.1, page(&report, report::language(cx).into()));
}

/// Which agent has begun each epoch, and its version.
fn agents(events: &[Event]) -> Vec<Value> {
    let begun = |event: &Event| match &event.body {
        gantry_proto::Body::JobStarted { agent, agent_version, .. } => {
            Some(json!({ "epoch": event.epoch, "agent_id": agent, "version": agent_version }))
        }
        _ => None,
    };
    events.iter().filter_map(begun).collect()
}

fn request_ids(audit: &Result<Vec<Record>, String>) -> Vec<String> {
    let ids = audit.iter().flatten().map(|record| record.entry.request_id.clone()).filter(|id| !id.is_empty());
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids.dedup();
    ids
}

/// How the controller is reached, without the path of anything on this machine.
fn connection(cx: &Cx, endpoint: &Endpoint) -> Value {
    json!({
        "controller": endpoint.url,
        "server_name": endpoint.server_name,
        "certificate_sha256": fingerprint(endpoint),
        "ca_sha256": sha256(&endpoint.ca),
        "timeout_s": cx.global.timeout.as_secs(),
        "profile": if cx.global.profile.is_some() { "given" } else { "the default place" },
        "controller_given": cx.global.controller.is_some(),
    })
}

fn fingerprint(endpoint: &Endpoint) -> Option<String> {
    sha256(&endpoint.cert)
}

/// Of the first certificate in a PEM file.
fn sha256(pem: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(Hash::of(&certificate).to_string())
}
