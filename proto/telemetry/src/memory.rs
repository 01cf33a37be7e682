//! Telemetry of a program that soon ends: kept in memory, sent at the end.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    collector::Collector,
    signal::{Intake, Record, Signal},
};

/// Bytes that are kept; what comes later is not.
const KEPT: usize = 1 << 20;

/// The batches so far.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Vec<Record>>);

impl Memory {
    /// Sends them, for at most `limit`. Nobody waits longer for what he may not even look at.
    pub async fn send(&self, collector: &Collector, limit: Duration) {
        let records = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let sending = async {
            for record in &records {
                if let Err(error) = collector.send(record).await {
                    tracing::debug!(%error, "the spans were not delivered");
                }
            }
        };
        if timeout(limit, sending).await.is_err() {
            tracing::debug!("the collector does not answer: spans were not delivered");
        }
    }

    /// The batches of one kind.
    pub fn of(&self, signal: Signal) -> Vec<Record> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().filter(|record| record.signal == signal).cloned().collect()
    }
}

impl Intake for Memory {
    fn take(&self, record: Record) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = records.iter().map(|record| record.otlp.len()).sum();
        if kept + record.otlp.len() <= KEPT {
            records.push(record);
        }
    }

    fn lost(&self, _signal: Signal, _items: u64) {}
}
