//! Every metric of the agent: name, unit, help. They go to the controller, and from there to a collector.
//!
//! Labels are systems, routes and outcomes: never a job, a name or an address.

use std::{
    sync::{LazyLock, Weak},
    time::Duration,
};

use gantry_telemetry::{Signal, Spool};
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

/// From milliseconds to minutes.
const SHORT: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 120.0];

/// The metrics of this process.
pub(crate) fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(&global::meter("gantry")));
    &METRICS
}

/// All of them but for those that are looked at.
pub(crate) struct Metrics {
    links: Counter<u64>,
    out_of_contact: Histogram<f64>,
    calls: Histogram<f64>,
    upload_bytes: Counter<u64>,
    upload_retries: Counter<u64>,
}

impl Metrics {
    fn new(meter: &Meter) -> Self {
        let count = |name, unit, help| meter.u64_counter(name).with_unit(unit).with_description(help).build();
        let histogram = |name, help| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(help);
            histogram.with_boundaries(SHORT.to_vec()).build()
        };
        let metrics = Self {
            links: count(
                "gantry.agent.link.tries",
                "{try}",
                "Tries to reach the controller, by whether it let the agent in.",
            ),
            out_of_contact: histogram(
                "gantry.agent.link.gap",
                "From the end of a session until the next one was live.",
            ),
            calls: histogram(
                "gantry.agent.call.duration",
                "Duration of a call of the cluster, of CloudTower or of a command in the VM, by system, call and outcome.",
            ),
            upload_bytes: count("gantry.agent.upload.sent", "By", "Bytes of ISO files that were acknowledged."),
            upload_retries: count(
                "gantry.agent.upload.retries",
                "{chunk}",
                "Chunks of ISO files that had to be sent again.",
            ),
        };
        metrics.upload_bytes.add(0, &[]);
        metrics.upload_retries.add(0, &[]);
        metrics
    }

    /// A try to reach the controller has ended.
    pub(crate) fn tried(&self, welcomed: bool) {
        self.links.add(1, &[KeyValue::new("welcomed", welcomed)]);
    }

    /// Contact again, after so long.
    pub(crate) fn back_after(&self, gap: Duration) {
        self.out_of_contact.record(gap.as_secs_f64(), &[]);
    }

    /// A call has ended. `call`: its route or name, of a short list.
    pub(crate) fn called(&self, system: &'static str, call: String, outcome: &'static str, took: Duration) {
        let labels = [KeyValue::new("system", system), KeyValue::new("call", call), KeyValue::new("outcome", outcome)];
        self.calls.record(took.as_secs_f64(), &labels);
    }

    /// A chunk is acknowledged.
    pub(crate) fn uploaded(&self, bytes: u64) {
        self.upload_bytes.add(bytes, &[]);
    }

    /// A chunk is sent again.
    pub(crate) fn chunk_again(&self) {
        self.upload_retries.add(1, &[]);
    }
}

/// Tells of the spool, as long as it is there.
pub(crate) fn watch_spool(spool: Weak<Spool>) {
    let meter = global::meter("gantry");
    let (bytes, lost) = (spool.clone(), spool);
    let waiting = meter.u64_observable_gauge("gantry.agent.telemetry.waiting").with_unit("By");
    let waiting = waiting.with_description("Telemetry that waits on disk for the line.");
    let _kept_by_the_meter = waiting
        .with_callback(move |told| {
            if let Some(spool) = bytes.upgrade() {
                told.observe(spool.bytes(), &[]);
            }
        })
        .build();
    let counter = meter.u64_observable_counter("gantry.agent.telemetry.lost").with_unit("{item}");
    let counter = counter.with_description("Spans, log records and data points that were lost, by kind.");
    let _kept_by_the_meter = counter
        .with_callback(move |told| {
            let Some(spool) = lost.upgrade() else { return };
            let loss = spool.loss();
            for signal in Signal::ALL {
                told.observe(loss.of(signal), &[KeyValue::new("signal", signal.word())]);
            }
        })
        .build();
}
