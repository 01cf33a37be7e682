//! Telemetry of this controller and of its agents: the traces of jobs are kept here, and everything goes on to a collector,
//! where there is one.

mod agents;
mod forward;
mod split;
mod traces;

use std::{io, sync::Arc};

use gantry_proto::JobId;
use gantry_telemetry::{Collector, CollectorError, Intake, Loss, Record, Signal, Spool};

use crate::{config::Config, files};

pub use agents::AgentTelemetry;
pub(crate) use traces::PartStream;
use traces::Traces;

/// The directory of the spool.
const SPOOL: &str = "telemetry";
/// The directory of the traces.
const TRACES: &str = "traces";

/// Takes telemetry in.
#[derive(Debug)]
pub struct Recorder {
    traces: Traces,
    /// Where the collector is, and what waits for it.
    on: Option<(Collector, Arc<Spool>)>,
}

/// Why telemetry cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The collector's address.
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// The directories.
    #[error(transparent)]
    Directory(#[from] files::FileError),
    /// What is in them.
    #[error("the telemetry in the data directory cannot be read")]
    Disk(#[from] io::Error),
}

impl Recorder {
    /// Opens what is kept, or makes it (blocking).
    ///
    /// # Errors
    /// See [`RecorderError`].
    pub fn open(config: &Config) -> Result<Self, RecorderError> {
        let settings = &config.telemetry;
        let traces = config.data.join(TRACES);
        files::private_dir(&traces)?;
        let traces = Traces::open(&traces, settings.job_trace_mib << 20, settings.traces_mib << 20)?;
        let on = match Collector::find(settings.otlp_endpoint.as_deref())? {
            Some(collector) => {
                let spool = config.data.join(SPOOL);
                files::private_dir(&spool)?;
                Some((collector, Arc::new(Spool::open(&spool, settings.spool_mib << 20)?)))
            }
            None => None,
        };
        Ok(Self { traces, on })
    }

    /// The trace of a job, part by part, and its log records where they are wanted.
    pub(crate) fn trace(self: &Arc<Self>, job: JobId, with_logs: bool) -> PartStream {
        traces::stream(self.clone(), job, with_logs)
    }

    /// What was lost here on its way to the collector.
    pub fn loss(&self) -> Loss {
        self.on.as_ref().map(|(_, spool)| spool.loss()).unwrap_or_default()
    }

    /// Bytes that wait for the collector.
    pub fn waiting(&self) -> u64 {
        self.on.as_ref().map_or(0, |(_, spool)| spool.bytes())
    }

    /// Hands a batch on, and keeps the parts of it that belong to jobs (blocking).
    fn record(&self, record: Record, parts: &[(JobId, Record)]) {
        parts.iter().for_each(|(job, part)| self.traces.add(*job, part));
        if let Some((_, spool)) = &self.on {
            spool.take(record);
        }
    }
}

impl Intake for Recorder {
    fn take(&self, record: Record) {
        // What this controller tells of a job is true.
        let parts = split::by_job(&record);
        self.record(record, &parts);
    }

    fn lost(&self, signal: Signal, items: u64) {
        if let Some((_, spool)) = &self.on {
            spool.lost(signal, items);
        }
    }
}
