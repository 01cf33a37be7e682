//! One trace from `ctl` through controller and link to every step, HTTP call and SSH command of the agent: as one tree, at a
//! collector and in `ctl trace`, for a run with retries and for one that fails and is undone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use gantry_e2e::{Lab, lab::text};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use serde_json::{Value, json};

use crate::{
    collector::{Collector, attribute, has_event},
    faults::fault,
    support::quick_with,
};

/// The spans of a job's trace, once the job's own has arrived and every span is below one that is there.
async fn tree(collector: &Collector, job: &str) -> anyhow::Result<BTreeMap<Vec<u8>, (String, Span)>> {
    let of = |spans: &BTreeMap<Vec<u8>, (String, Span)>| {
        let own =
            spans.values().find(|(_, span)| span.name == "job" && attribute(&span.attributes, "job.id") == Some(job));
        let trace = own.map(|(_, span)| span.trace_id.clone());
        let inside = |span: &Span| trace.as_ref() == Some(&span.trace_id);
        spans.iter().filter(|(_, (_, span))| inside(span)).map(|(id, told)| (id.clone(), told.clone())).collect()
    };
    let whole = |spans: &BTreeMap<Vec<u8>, (String, Span)>| {
        let known =
            |(_, span): &(String, Span)| span.parent_span_id.is_empty() || spans.contains_key(&span.parent_span_id);
        !spans.is_empty() && spans.values().all(known)
    };
    collector.until("a tree without orphans", |arrived| whole(&of(&arrived.spans))).await?;
    Ok(of(&collector.arrived().spans))
}

/// The names from the root down to a span.
fn way(spans: &BTreeMap<Vec<u8>, (String, Span)>, span: &Span) -> Vec<String> {
    let mut way = vec![span.name.clone()];
    let mut at = span;
    while let Some((_, parent)) = spans.get(&at.parent_span_id) {
        way.insert(0, parent.name.clone());
        at = parent;
    }
    way
}

fn named<'a>(spans: &'a BTreeMap<Vec<u8>, (String, Span)>, name: &str) -> anyhow::Result<&'a Span> {
    let found = spans.values().find(|(_, span)| span.name == name).map(|(_, span)| span);
    found
        .with_context(|| format!("no span {name}: {:?}", spans.values().map(|(_, s)| &s.name).collect::<BTreeSet<_>>()))
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// What `ctl trace` knows is what arrived at the collector, without `ctl`'s own span.
async fn same_in_ctl(lab: &Lab, job: &str, spans: &BTreeMap<Vec<u8>, (String, Span)>) -> anyhow::Result<()> {
    let told = lab.ctl_json(&["-o", "json", "trace", job]).await?;
    let told = told["spans"].as_array().context("spans")?;
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let known: BTreeSet<&str> = told.iter().filter_map(|span| span["span_id"].as_str()).collect();
    for (service, span) in spans.values().filter(|(service, _)| service == "agent") {
        assert!(known.contains(hex(&span.span_id).as_str()), "ctl trace does not know {service}: {}", span.name);
    }
    assert!(told.iter().any(|span| span["service"] == "gantry-controller"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_with_retries_is_one_tree() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let chunk = json!({"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload", "chunk": 3});
    let refused = json!({"answer": {"status": 500, "body": "oops"}});
    let mut options = quick_with(fault(chunk, "before", 4, refused));
    options.otlp = Some(collector.endpoint());
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&["--watch"]).await?;
    let spans = tree(&collector, &job).await?;

    let roots: Vec<&(String, Span)> = spans.values().filter(|(_, span)| span.parent_span_id.is_empty()).collect();
    let [(service, root)] = roots.as_slice() else { panic!("{roots:?}") };
    assert_eq!((service.as_str(), root.name.as_str()), ("ctl", "ctl deploy"));
    let top = ["ctl deploy", "/gantry.v1.JobService/SubmitJob", "job"];
    for (name, above) in [
        ("POST /api/v3/sessions", "step preflight"),
        ("POST /api/v2/images/upload/volume", "step upload-iso"),
        ("POST /api/v2/vms", "step create-vm"),
        ("PUT /api/v2/vms/{vm_uuid}", "step configure-network"),
        ("ssh write-resolv-conf", "step install"),
        ("ssh start-installer", "step install"),
        ("POST /v2/api create-root-user", "step initial-setup"),
        ("POST /api createOrganization", "step initial-setup"),
    ] {
        let way = way(&spans, named(&spans, name)?);
        assert_eq!(way, [&top[..], &[above, name]].concat(), "the way to {name}");
    }
    for step in ["wait-guest-agent", "verify-https", "configure-services", "finish"] {
        assert_eq!(way(&spans, named(&spans, &format!("step {step}"))?).len(), 4, "{step}");
    }
    // Whose they are.
    for (service, span) in spans.values().filter(|(service, _)| service == "agent") {
        let told = |key| attribute(&span.attributes, key);
        assert_eq!(told("job.id"), Some(job.as_str()), "{service} {}", span.name);
        let below_a_step = way(&spans, span).iter().find_map(|name| name.strip_prefix("step ").map(str::to_owned));
        assert_eq!(told("step.id").map(str::to_owned), below_a_step, "{}", span.name);
    }
    assert!(collector.arrived().agents.contains(&("bastion-1".to_owned(), "rehearsal".to_owned())));
    // Attempts are events, failed calls bear codes, and the step went well in the end.
    let (step, upload) = (named(&spans, "step upload-iso")?, named(&spans, "upload of the chunks")?);
    assert!(has_event(upload, "chunk_retry") && !failed(step), "{upload:?}");
    let chunks: Vec<&Span> =
        spans.values().map(|(_, span)| span).filter(|span| span.name == "POST /api/v2/images/upload").collect();
    let bad: Vec<&&Span> = chunks.iter().filter(|span| failed(span)).collect();
    assert_eq!(bad.len(), 4, "each refused sending is a span of its own");
    assert!(bad.iter().all(|span| attribute(&span.attributes, "error.type") == Some("refused")), "{bad:?}");
    // Log records know their job.
    collector.until("log records", |arrived| arrived.records.iter().any(|(_, _, of)| *of == job)).await?;
    same_in_ctl(&lab, &job, &spans).await?;
    let drawn = text(&lab.ctl(&["trace", &job]).await?);
    for line in ["step upload-iso", "[chunk_retry]", "ssh start-installer", "/gantry.v1.JobService/SubmitJob"] {
        assert!(drawn.contains(line), "{line}:\n{drawn}");
    }
    lab.stop().await
}

#[tokio::test]
async fn a_run_that_is_undone_is_one_tree_with_the_codes_of_its_failure() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let mut options = quick_with(json!({"modes": {"guest": {"installer": "fails"}}}));
    options.otlp = Some(collector.endpoint());
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let spans = tree(&collector, &job).await?;

    let shown = lab.ctl_json(&["-o", "json", "show", &job]).await?;
    let code = shown.pointer("/job/failure/code").or_else(|| shown.pointer("/failure/code")).and_then(Value::as_str);
    let code = code.with_context(|| format!("no code in {shown:#}"))?;
    for name in ["step install", "job"] {
        let span = named(&spans, name)?;
        assert!(failed(span), "{span:?}");
        assert_eq!(attribute(&span.attributes, "error.type"), Some(code), "{name}");
    }
    assert!(has_event(named(&spans, "step install")?, code));
    let undo = named(&spans, "undo create-vm")?;
    assert!(!failed(undo) && way(&spans, undo).ends_with(&["job".into(), "undo create-vm".into()]), "{undo:?}");
    let removed = named(&spans, "DELETE /api/v2/vms/{vm_uuid}")?;
    assert!(way(&spans, removed).contains(&"undo create-vm".to_owned()), "{:?}", way(&spans, removed));
    assert_eq!(attribute(&removed.attributes, "step.id"), Some("create-vm"));
    same_in_ctl(&lab, &job, &spans).await?;
    let drawn = text(&lab.ctl(&["trace", &job, "--failed"]).await?);
    assert!(drawn.contains("step install") && drawn.contains(&format!("[{code}]")), "{drawn}");
    assert!(!drawn.contains("step create-vm"), "only what failed:\n{drawn}");
    lab.stop().await
}
