//! What leaves a process: spans, log records and metrics, as OTLP messages that are ready to be sent.

use std::fmt::Debug;

use gantry_proto::v1;

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans: `ExportTraceServiceRequest`.
    Traces,
    /// Log records: `ExportLogsServiceRequest`.
    Logs,
    /// Data points of metrics: `ExportMetricsServiceRequest`.
    Metrics,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// The number in files.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Traces => 1,
            Self::Logs => 2,
            Self::Metrics => 3,
        }
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.number() == number)
    }

    /// The word in labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

impl From<Signal> for v1::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::Traces,
            Signal::Logs => Self::Logs,
            Signal::Metrics => Self::Metrics,
        }
    }
}

impl TryFrom<v1::Signal> for Signal {
    type Error = v1::Signal;

    fn try_from(signal: v1::Signal) -> Result<Self, v1::Signal> {
        match signal {
            v1::Signal::Traces => Ok(Self::Traces),
            v1::Signal::Logs => Ok(Self::Logs),
            v1::Signal::Metrics => Ok(Self::Metrics),
            v1::Signal::Unspecified => Err(signal),
        }
    }
}

/// A batch of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind.
    pub signal: Signal,
    /// Spans, log records or data points in it.
    pub items: u32,
    /// The OTLP message, protobuf.
    pub otlp: Vec<u8>,
}

/// What was lost since somebody began to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Spans.
    pub spans: u64,
    /// Log records.
    pub log_records: u64,
    /// Data points of metrics.
    pub data_points: u64,
}

impl Loss {
    /// Counts more of it.
    pub fn add(&mut self, signal: Signal, items: u64) {
        let of = self.of_mut(signal);
        *of = of.saturating_add(items);
    }

    /// How many of a kind.
    pub fn of(&self, signal: Signal) -> u64 {
        match signal {
            Signal::Traces => self.spans,
            Signal::Logs => self.log_records,
            Signal::Metrics => self.data_points,
        }
    }

    fn of_mut(&mut self, signal: Signal) -> &mut u64 {
        match signal {
            Signal::Traces => &mut self.spans,
            Signal::Logs => &mut self.log_records,
            Signal::Metrics => &mut self.data_points,
        }
    }

    /// Whether nothing was lost.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where telemetry goes. Called on threads of its own, never on the async runtime: it may write to a disk.
pub trait Intake: Debug + Send + Sync {
    /// Takes a batch, or counts it as lost.
    fn take(&self, record: Record);

    /// Counts what never became a batch.
    fn lost(&self, signal: Signal, items: u64);
}
