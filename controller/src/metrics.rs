//! Every metric of the controller: name, unit, help. By OTLP with everything else, and at `/metrics`.
//!
//! Labels are steps, outcomes, calls and other words of a short list: never a job, a name or an address.

mod events;
mod gauges;

use std::{
    collections::BTreeSet,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use gantry_proto::METHODS;
use gantry_telemetry::Signal;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram, Meter},
};
use tonic::Code;

pub(crate) use events::Seen;
pub(crate) use gauges::refresh;

/// From milliseconds to minutes.
const SHORT: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 120.0];
/// From seconds to hours.
const LONG: [f64; 14] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 2700.0, 3600.0, 7200.0, 14400.0];
/// Bytes a second.
const RATES: [f64; 12] = [1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 2e8, 3e8, 5e8, 1e9, 2e9];
/// Different words of one label; further ones are "other": an agent may say anything.
const WORDS_MAX: usize = 64;

/// The metrics of this process.
pub(crate) fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(&global::meter_provider().meter("gantry")));
    &METRICS
}

/// All of them.
pub(crate) struct Metrics {
    jobs_submitted: Counter<u64>,
    jobs_ended: Counter<u64>,
    jobs_active: Gauge<u64>,
    job_duration: Histogram<f64>,
    step_duration: Histogram<f64>,
    step_failures: Counter<u64>,
    upload_bytes: Counter<u64>,
    upload_resent: Counter<u64>,
    upload_retries: Counter<u64>,
    upload_rate: Histogram<f64>,
    events: Counter<u64>,
    event_lag: Histogram<f64>,
    agents: Gauge<u64>,
    links_opened: Counter<u64>,
    links_ended: Counter<u64>,
    store_duration: Histogram<f64>,
    store_failures: Counter<u64>,
    call_duration: Histogram<f64>,
    telemetry_lost: Counter<u64>,
    telemetry_waiting: Gauge<u64>,
    words: Mutex<BTreeSet<String>>,
}

impl Metrics {
    fn new(meter: &Meter) -> Self {
        let count = |name, unit, help| meter.u64_counter(name).with_unit(unit).with_description(help).build();
        let gauge = |name, unit, help| meter.u64_gauge(name).with_unit(unit).with_description(help).build();
        let histogram = |name, unit, help, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit(unit).with_description(help);
            histogram.with_boundaries(bounds.to_vec()).build()
        };
        let metrics = Self {
            jobs_submitted: count("gantry.jobs.submitted", "{job}", "Jobs that were accepted."),
            jobs_ended: count(
                "gantry.jobs.ended",
                "{job}",
                "Jobs that ended, by outcome and by what became of what they had made.",
            ),
            jobs_active: gauge("gantry.jobs.active", "{job}", "Jobs that have not ended, by state."),
            job_duration: histogram(
                "gantry.job.duration",
                "s",
                "From the first to the last event of an epoch of a job, by outcome.",
                &LONG,
            ),
            step_duration: histogram(
                "gantry.step.duration",
                "s",
                "Duration of the attempt of a step that succeeded, by step.",
                &LONG,
            ),
            step_failures: count(
                "gantry.step.failures",
                "{attempt}",
                "Attempts of a step that failed, by step and by whether another one followed.",
            ),
            upload_bytes: count("gantry.upload.sent", "By", "Bytes of ISO files that were sent to clusters."),
            upload_resent: count("gantry.upload.resent", "By", "Bytes of ISO files that were sent once more."),
            upload_retries: count("gantry.upload.retries", "{chunk}", "Chunks of ISO files that had to be sent again."),
            upload_rate: histogram(
                "gantry.upload.throughput",
                "By/s",
                "Bytes a second of an upload, from its first to its last chunk.",
                &RATES,
            ),
            events: count("gantry.events.stored", "{event}", "Events of jobs that were stored."),
            event_lag: histogram(
                "gantry.event.lag",
                "s",
                "From when an event happened, by the agent's clock, until it was stored.",
                &SHORT,
            ),
            agents: gauge("gantry.agents", "{agent}", "Agents that may come in, by whether they are in contact."),
            links_opened: count("gantry.link.opened", "{session}", "Sessions with agents that began."),
            links_ended: count("gantry.link.ended", "{session}", "Sessions with agents that ended, by reason."),
            store_duration: histogram(
                "gantry.store.commit.duration",
                "s",
                "Duration of a transaction of the store with everything that was committed together.",
                &SHORT,
            ),
            store_failures: count(
                "gantry.store.failures",
                "{transaction}",
                "Transactions that the store could not commit.",
            ),
            call_duration: histogram(
                "gantry.call.duration",
                "s",
                "From a call of an operator or agent until its answer began, by call and gRPC status.",
                &SHORT,
            ),
            telemetry_lost: count(
                "gantry.telemetry.lost",
                "{item}",
                "Spans, log records and data points that were lost, by kind and by where.",
            ),
            telemetry_waiting: gauge(
                "gantry.telemetry.waiting",
                "By",
                "Telemetry that waits on disk, by where; that of agents as they last told.",
            ),
            words: Mutex::default(),
        };
        metrics.begin();
        metrics
    }

    /// What has not happened yet is there with 0: a rate over the first time would miss it.
    fn begin(&self) {
        self.jobs_submitted.add(0, &[]);
        for outcome in ["succeeded", "failed", "cancelled"] {
            self.jobs_ended.add(0, &[word("outcome", outcome), word("undo", "nothing")]);
        }
        self.jobs_ended.add(0, &[word("outcome", "failed"), word("undo", "rollback_incomplete")]);
        for reason in ["gone", "silent", "replaced", "recalled", "draining", "refused"] {
            self.links_ended.add(0, &[word("reason", reason)]);
        }
        for counter in [&self.upload_bytes, &self.upload_resent, &self.upload_retries] {
            counter.add(0, &[]);
        }
        for counter in [&self.events, &self.links_opened, &self.store_failures] {
            counter.add(0, &[]);
        }
        for signal in Signal::ALL {
            for at in ["agent", "controller"] {
                self.telemetry_lost.add(0, &[word("signal", signal.word()), word("at", at)]);
            }
        }
    }

    /// A job was accepted.
    pub(crate) fn submitted(&self) {
        self.jobs_submitted.add(1, &[]);
    }

    /// A session with an agent began.
    pub(crate) fn link_opened(&self) {
        self.links_opened.add(1, &[]);
    }

    /// A session with an agent ended.
    pub(crate) fn link_ended(&self, reason: &'static str) {
        self.links_ended.add(1, &[word("reason", reason)]);
    }

    /// The store has committed, or could not.
    pub(crate) fn committed(&self, took: Duration, done: bool) {
        self.store_duration.record(took.as_secs_f64(), &[]);
        self.store_failures.add(u64::from(!done), &[]);
    }

    /// A call was answered. One that is not of the contract is "other": anybody may ask for anything.
    pub(crate) fn answered(&self, call: &str, code: Code, took: Duration) {
        let status = format!("{code:?}");
        let call = METHODS.iter().find(|method| **method == call).copied().unwrap_or("other");
        self.call_duration.record(took.as_secs_f64(), &[word("call", call), KeyValue::new("status", status)]);
    }

    /// Telemetry was lost.
    pub(crate) fn lost(&self, signal: Signal, at: &'static str, items: u64) {
        self.telemetry_lost.add(items, &[word("signal", signal.word()), word("at", at)]);
    }

    /// A label of a peer.
    fn bounded(&self, key: &'static str, value: &str) -> KeyValue {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if !words.contains(value) {
            if words.len() >= WORDS_MAX || value.len() > 100 {
                return word(key, "other");
            }
            words.insert(value.to_owned());
        }
        KeyValue::new(key, value.to_owned())
    }
}

fn word(key: &'static str, value: &'static str) -> KeyValue {
    KeyValue::new(key, value)
}
