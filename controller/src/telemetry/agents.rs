//! Telemetry of agents: looked at, marked with whose it is, and taken in.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use gantry_proto::{Code, JobId, v1};
use gantry_telemetry::{Record, Signal};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use prost::Message;
use tokio::task::spawn_blocking;

use super::{Recorder, split};
use crate::{peer::AgentPeer, refusal::Refusal, store::Store};

/// The largest message, bytes.
const OTLP_MAX: usize = 1 << 20;
/// Jobs whose site is remembered.
const SITES_MAX: usize = 1000;
/// What says whose telemetry it is. The certificate decides, not the agent.
const AGENT: &str = "service.instance.id";
const SITE: &str = "gantry.site";

/// Takes the telemetry of agents in.
#[derive(Clone)]
pub struct AgentTelemetry {
    recorder: Arc<Recorder>,
    store: Arc<dyn Store>,
    /// Sites of jobs, as far as they were looked up. A job never changes its site.
    sites: Arc<Mutex<HashMap<JobId, String>>>,
}

impl AgentTelemetry {
    /// Keeps it there; the store knows whose jobs are whose.
    pub fn new(recorder: Arc<Recorder>, store: Arc<dyn Store>) -> Self {
        Self { recorder, store, sites: Arc::default() }
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// [`Code::BadRequest`]: it will never be taken.
    pub async fn take(&self, peer: &AgentPeer, signal: v1::Signal, otlp: Vec<u8>) -> Result<(), Refusal> {
        let bad = |why: &str| Refusal::new(Code::BadRequest, format!("the telemetry cannot be taken: {why}"));
        let signal = Signal::try_from(signal).map_err(|_| bad("its kind is not known here"))?;
        if otlp.len() > OTLP_MAX {
            return Err(bad("it is larger than 1 MiB"));
        }
        let (otlp, items) = match signal {
            Signal::Traces => marked::<ExportTraceServiceRequest>(&otlp, peer),
            Signal::Logs => marked::<ExportLogsServiceRequest>(&otlp, peer),
            Signal::Metrics => marked::<ExportMetricsServiceRequest>(&otlp, peer),
        }
        .ok_or_else(|| bad("it is no OTLP message of its kind"))?;
        let record = Record { signal, items: u32::try_from(items).unwrap_or(u32::MAX), otlp };
        let mut parts = split::by_job(&record);
        let ours = self.ours(peer, parts.iter().map(|(job, _)| *job).collect()).await?;
        parts.retain(|(job, _)| ours.contains(job));
        let recorder = self.recorder.clone();
        let taken = spawn_blocking(move || recorder.record(record, &parts)).await;
        taken.map_err(|_| Refusal::new(Code::Internal, "taking telemetry in broke off: look into the controller's log"))
    }

    /// The jobs among these that are of the agent's site.
    async fn ours(&self, peer: &AgentPeer, jobs: HashSet<JobId>) -> Result<HashSet<JobId>, Refusal> {
        let mut ours = HashSet::new();
        for job in jobs {
            let known = self.sites.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned();
            let site = match known {
                Some(site) => site,
                None => {
                    let Some(row) = self.store.job(job).await? else { continue };
                    let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
                    if sites.len() >= SITES_MAX {
                        sites.clear();
                    }
                    sites.insert(job, row.site.clone());
                    row.site
                }
            };
            if site == peer.site {
                ours.insert(job);
            }
        }
        Ok(ours)
    }
}

/// An OTLP message.
trait Batch: Message + Default {
    /// Whose it is.
    fn resources(&mut self) -> Vec<&mut Option<Resource>>;
    /// Spans, log records or data points.
    fn items(&self) -> usize;
}

impl Batch for ExportTraceServiceRequest {
    fn resources(&mut self) -> Vec<&mut Option<Resource>> {
        self.resource_spans.iter_mut().map(|part| &mut part.resource).collect()
    }

    fn items(&self) -> usize {
        self.resource_spans.iter().flat_map(|part| &part.scope_spans).map(|scope| scope.spans.len()).sum()
    }
}

impl Batch for ExportLogsServiceRequest {
    fn resources(&mut self) -> Vec<&mut Option<Resource>> {
        self.resource_logs.iter_mut().map(|part| &mut part.resource).collect()
    }

    fn items(&self) -> usize {
        self.resource_logs.iter().flat_map(|part| &part.scope_logs).map(|scope| scope.log_records.len()).sum()
    }
}

impl Batch for ExportMetricsServiceRequest {
    fn resources(&mut self) -> Vec<&mut Option<Resource>> {
        self.resource_metrics.iter_mut().map(|part| &mut part.resource).collect()
    }

    fn items(&self) -> usize {
        gantry_telemetry::points(self)
    }
}

/// The message with the agent's name and site in it, and how many items it has.
fn marked<B: Batch>(otlp: &[u8], peer: &AgentPeer) -> Option<(Vec<u8>, usize)> {
    let mut batch = B::decode(otlp).ok()?;
    for resource in batch.resources() {
        let attributes = &mut resource.get_or_insert_default().attributes;
        attributes.retain(|pair| pair.key != AGENT && pair.key != SITE);
        for (key, value) in [(AGENT, peer.id.to_string()), (SITE, peer.site.clone())] {
            let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
            attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        }
    }
    Some((batch.encode_to_vec(), batch.items()))
}
