//! Hands on to the collector what waits in the spool, one batch after the other.

use std::{sync::Arc, time::Duration};

use gantry_proto::error::causes;
use gantry_telemetry::{Collector, SendError, Spool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Recorder;

/// Between two tries while the collector does not take anything: from, to.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Recorder {
    /// Runs until it is stopped.
    pub(crate) async fn forward(self: Arc<Self>, stop: CancellationToken) {
        let Some((collector, spool)) = &self.on else { return };
        let mut wait = AGAIN.0;
        loop {
            let sent = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                sent = step(collector, spool) => sent,
            };
            match sent {
                Ok(true) => wait = AGAIN.0,
                Ok(false) => tokio::select! {
                    () = stop.cancelled() => return,
                    () = spool.news() => {}
                },
                Err(why) => {
                    // Once for each time that it does not answer.
                    if wait == AGAIN.0 {
                        tracing::warn!(%why, "telemetry waits for its collector");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
    }

    /// Hands on what is left, for at most `limit`. What stays is sent at the next start.
    pub async fn send_rest(&self, limit: Duration) {
        let Some((collector, spool)) = &self.on else { return };
        let rest = async { while matches!(step(collector, spool).await, Ok(true)) {} };
        let _ = timeout(limit, rest).await;
    }
}

/// Whether there was something, and it is settled.
async fn step(collector: &Collector, spool: &Arc<Spool>) -> Result<bool, String> {
    let unusable = |error| format!("the spool cannot be used: {error}");
    let Some(waiting) = spool.next().await.map_err(unusable)? else { return Ok(false) };
    let refused = match collector.send(&waiting.record).await {
        Ok(refused) => refused,
        Err(error @ SendError::Never(_)) => {
            tracing::warn!(why = %causes(&error).join(": "), "the collector refuses a batch: it is lost and counted");
            waiting.record.items.into()
        }
        Err(error @ SendError::Later(_)) => return Err(causes(&error).join(": ")),
    };
    spool.settled(waiting, refused).await.map_err(unusable)?;
    Ok(true)
}
