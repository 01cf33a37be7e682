//! Hands the telemetry in the spool over, batch by batch, beside the session and never in front of it: small calls, one at a
//! time, no faster than the settings allow.

use std::{convert::Infallible, sync::Arc, time::Duration};

use gantry_proto::v1::{self, agent_link_client::AgentLinkClient};
use gantry_telemetry::{Loss, Spool, Waiting};
use tokio::time::{sleep, timeout};
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use super::{Link, ms};

/// After a failed call: from, to. A line that is gone ends the session, and with it this.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Link {
    /// As long as the session lasts.
    pub(super) async fn tell_on(&self, channel: Channel) -> Infallible {
        let Some(spool) = &self.spool else { return std::future::pending().await };
        let mut client = AgentLinkClient::new(channel).send_compressed(CompressionEncoding::Gzip);
        let mut wait = AGAIN.0;
        loop {
            match self.step(&mut client, spool).await {
                Ok(Some(bytes)) => {
                    wait = AGAIN.0;
                    // The line is the jobs' before it is ours.
                    sleep(Duration::from_secs_f64(
                        bytes as f64 / self.settings.link.telemetry_bytes_per_s.max(1) as f64,
                    ))
                    .await;
                }
                Ok(None) => spool.news().await,
                Err(why) => {
                    tracing::debug!(%why, "telemetry waits");
                    sleep(wait).await;
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
    }

    /// Hands one batch over; gives its size.
    async fn step(&self, client: &mut AgentLinkClient<Channel>, spool: &Arc<Spool>) -> Result<Option<usize>, String> {
        let unusable = |error| format!("the spool cannot be used: {error}");
        let Some(waiting) = spool.next().await.map_err(unusable)? else { return Ok(None) };
        let (bytes, limit) = (waiting.record.otlp.len(), ms(self.settings.link.telemetry_timeout_ms));
        let sent = timeout(limit, client.send_telemetry(request(&waiting, spool))).await;
        let delivered = match sent {
            Ok(Ok(_)) => true,
            // It would be refused for ever.
            Ok(Err(status)) if status.code() == Code::InvalidArgument => false,
            Ok(Err(status)) => return Err(status.to_string()),
            Err(_) => return Err(format!("no answer within {limit:?}")),
        };
        if !delivered {
            tracing::warn!("the controller refuses a batch of telemetry: it is lost and counted");
        }
        let refused = if delivered { 0 } else { waiting.record.items.into() };
        spool.settled(waiting, refused).await.map_err(unusable)?;
        Ok(Some(bytes))
    }
}

fn request(waiting: &Waiting, spool: &Spool) -> v1::SendTelemetryRequest {
    let Loss { spans, log_records, data_points } = spool.loss();
    v1::SendTelemetryRequest {
        signal: v1::Signal::from(waiting.record.signal).into(),
        otlp: waiting.record.otlp.clone(),
        lost: Some(v1::TelemetryLoss { spans, log_records, data_points }),
        waiting_bytes: spool.bytes(),
    }
}
