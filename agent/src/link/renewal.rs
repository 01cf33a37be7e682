//! The next certificate, over a session that is live: asked for after two thirds of the life of the one in use, and again
//! until it has come. The session goes on with the old one.

use std::{sync::Arc, time::Duration};

use gantry_proto::{error::causes, v1};
use jiff::Timestamp;
use tokio::{task::spawn_blocking, time::Instant};
use tokio_retry::strategy::jitter;

use crate::{
    config,
    credentials::{Credentials, Life},
};

/// How far it may be off when nothing is to be renewed: looked at again then.
const FAR: Duration = Duration::from_secs(24 * 3600);
/// The share of its life by which a renewal may come late, so that many agents do not come at once.
const SPREAD: u32 = 50;

/// When the next certificate is asked for, in one session.
pub(super) struct Renewal {
    credentials: Arc<Credentials>,
    again: Duration,
    due: Instant,
    /// The key that was asked for.
    asked: String,
}

impl Renewal {
    pub(super) fn new(credentials: &Arc<Credentials>, settings: &config::Link) -> Self {
        let credentials = credentials.clone();
        let again = Duration::from_secs(settings.renew_again_s.max(1));
        let mut renewal = Self { credentials, again, due: Instant::now() + FAR, asked: String::new() };
        if let Some(life) = renewal.credentials.life() {
            renewal.due = Instant::now() + until(&life);
        }
        renewal
    }

    /// When it is asked for.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The request, if it is time.
    pub(super) async fn begin(&mut self) -> Option<v1::RenewRequest> {
        let life = self.credentials.life();
        let due = life.is_some_and(|life| life.renewal() <= Timestamp::now());
        // Until there is an answer, or a session that has one.
        self.due = Instant::now() + life.filter(|_| due).map_or(FAR, |life| self.again.min(life.length() / 10));
        if let Some(life) = life.filter(|_| !due) {
            // The clock was set back, or it was too far off to wait for at once.
            self.due = Instant::now() + until(&life);
            return None;
        }
        if let Some(life) =
            life.filter(|life| life.end.duration_since(Timestamp::now()) < life.end.duration_since(life.begin) / 6)
        {
            tracing::warn!(until = %life.end, "the certificate of this agent ends soon and has not been renewed so far");
        }
        let credentials = self.credentials.clone();
        match spawn_blocking(move || credentials.prepare()).await.ok()? {
            Ok(prepared) => {
                self.asked = prepared.key_sha256;
                Some(v1::RenewRequest { request_der: prepared.request_der })
            }
            Err(error) => {
                self.tell(&causes(&error).join(": "));
                None
            }
        }
    }

    /// The controller's answer.
    pub(super) async fn answered(&mut self, answer: v1::RenewResponse) {
        if answer.cert_pem.is_empty() {
            self.tell(&answer.message.chars().take(500).collect::<String>());
            return;
        }
        if answer.key_sha256 != self.asked {
            tracing::warn!(
                "the controller has renewed a certificate that was not asked for in this session; it is not taken"
            );
            return;
        }
        let credentials = self.credentials.clone();
        match spawn_blocking(move || credentials.commit(&answer.cert_pem)).await {
            Ok(Ok(life)) => {
                tracing::info!(until = %life.end, "the certificate of this agent was renewed");
                self.due = Instant::now() + until(&life);
            }
            Ok(Err(error)) => self.tell(&causes(&error).join(": ")),
            Err(_) => self.tell("a thread broke off"),
        }
    }

    fn tell(&self, why: &str) {
        let until = self.credentials.life().map(|life| life.end.to_string()).unwrap_or_default();
        tracing::warn!(why, until, "the certificate of this agent is not renewed; it is asked for again");
    }
}

/// So long from now to the renewal, a little spread, and never far.
fn until(life: &Life) -> Duration {
    let wait = life.renewal().duration_since(Timestamp::now());
    let wait = Duration::try_from(wait).unwrap_or(Duration::ZERO);
    (wait + jitter(life.length() / SPREAD)).min(FAR)
}
