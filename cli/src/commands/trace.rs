//! `ctl trace`: where a job's time went, and what failed on the way, without a collector.

use gantry_proto::v1;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Format, Trace as Args},
    exit::{Exit, Failure},
    jobref,
    outfile::OutFile,
    render::waterfall::{View, draw},
    trace::{Span, read, trees},
};

/// Draws it.
pub(crate) async fn run(cx: &Cx, args: Args) -> Result<(), Failure> {
    let file = args.otlp.as_ref().map(|path| OutFile::at(path, args.force)).transpose()?;
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let parts = client.trace(&id.to_string(), false).await?;
    if let Some(file) = file {
        file.write(&together(&parts))?;
        cx.out.note(&say!("{path} is written", "已写入 {path}"; path = file.path().display()));
    }
    let spans = read(&parts);
    if cx.out.format != Format::Table {
        let spans: Vec<_> = spans.iter().map(Span::json).collect();
        return cx.out.json(&json!({"job_id": id.to_string(), "spans": spans}));
    }
    if spans.is_empty() {
        let remedy = said!(
            "spans come when they end and the agent is in contact: look again later, or at its log (ctl watch {id}); the \
             traces of old jobs make room for new ones (telemetry.traces_mib)",
            "span 在结束且代理在线时才会送达：稍后再查看，或查看其日志（ctl watch {id}）；旧作业的追踪会为新作业让出空间\
             （telemetry.traces_mib）"
        );
        let message = said!("the controller has no span of job {id}", "控制器没有作业 {id} 的任何 span");
        return Err(Failure::new(Exit::Refused, message).remedy(remedy));
    }
    let view = View { all: args.all, failed: args.failed };
    let trees = trees(spans);
    let drawn: Vec<String> = trees.iter().map(|tree| draw(tree, view, cx.out.paint, cx.out.columns())).collect();
    cx.out.text(&drawn.join("\n"))
}

/// One message of all parts.
fn together(parts: &[v1::GetJobTraceResponse]) -> Vec<u8> {
    let requests = parts.iter().filter_map(|part| ExportTraceServiceRequest::decode(part.otlp.as_slice()).ok());
    let resource_spans = requests.flat_map(|request| request.resource_spans).collect();
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}
