//! The session with the controller: dial, Hello, replay, events up, orders down, and again after every cut. Knows no
//! step; what a job is the runner knows.
//!
//! A cut line is not a failure: the jobs go on, and everything that they tell is sent when the line is back.

mod backoff;
mod outbox;
mod renewal;
mod session;
mod telemetry;

use std::{error::Error, sync::Arc, time::Duration};

use gantry_proto::{Code, error::causes, v1};
use gantry_telemetry::Spool;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_retry::strategy::jitter;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    dialer::{DialError, Dialer, certificate_expired, certificate_refused},
    enroll::{self, Back, BackError},
    identity::Identity,
    runner::Runner,
};
use backoff::Backoff;

/// Lists the ISO files that the agent offers (blocking).
pub type IsoList = Arc<dyn Fn() -> Vec<v1::IsoFile> + Send + Sync>;

/// The link of one agent.
pub struct Link {
    settings: Arc<Settings>,
    identity: Arc<Identity>,
    runner: Arc<Runner>,
    isos: IsoList,
    /// What is told on over this link, beside events.
    spool: Option<Arc<Spool>>,
}

/// Why a session ended, or did not begin.
#[derive(Debug, thiserror::Error)]
enum Cut {
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The controller ends the session.
    #[error("the controller ends the session: {reason}")]
    Goodbye { reason: String, retry_after: Duration },
    /// Nothing was heard.
    #[error("nothing was heard for {0:?}: the line counts as dead")]
    Silent(Duration),
    /// The call ended with a status.
    #[error("the session broke off")]
    Status(#[source] Box<tonic::Status>),
    /// The stream ended without a word.
    #[error("the controller closed the session")]
    Closed,
    /// The peer said something that makes no sense.
    #[error("the controller does not keep to the protocol: {0}")]
    Protocol(String),
    /// The disk says no.
    #[error("a journal cannot be read")]
    Disk(#[source] std::io::Error),
    /// No cut: the expired certificate has a successor.
    #[error("the certificate was replaced")]
    Back,
    /// The certificate has expired, and nobody has said yet that the agent may come back.
    #[error(
        "the certificate of this agent has ended on {end}; an admin lets it come back with `ctl agent approve {agent} --key \
         {key_sha256}`"
    )]
    NotApproved { agent: String, key_sha256: String, end: String, ask_again: Duration },
    /// The certificate has expired, and the agent may not come back.
    #[error("the certificate of this agent has expired, and it cannot come back")]
    NotBack(#[source] BackError),
}

/// An agent that waits for its approval does not ask more often than so.
const ASK_AGAIN_LEAST: Duration = Duration::from_millis(100);
/// How often an agent that waits for its approval says so in its log.
const WAITING_TOLD: Duration = Duration::from_secs(600);

impl Link {
    /// Makes the link; opens no connection.
    pub fn new(
        settings: Arc<Settings>,
        identity: Arc<Identity>,
        runner: Arc<Runner>,
        isos: IsoList,
    ) -> Result<Self, DialError> {
        let link = Self { settings, identity, runner, isos, spool: None };
        link.dialer()?;
        Ok(link)
    }

    /// Hands over what is in the spool, too.
    pub fn telling(mut self, spool: Option<Arc<Spool>>) -> Self {
        self.spool = spool;
        self
    }

    /// Shows the certificate of now.
    fn dialer(&self) -> Result<Dialer, DialError> {
        Dialer::new(&self.identity.credentials.current(), &self.settings.link)
    }

    /// Holds the link until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(&self.settings.link);
        let (mut refused_as_expired, mut told_waiting) = (false, None);
        if let Ok(dialer) = self.dialer() {
            let way = dialer.proxy().map_or_else(|| "no proxy".to_owned(), ToString::to_string);
            tracing::info!(controller = %dialer.address(), %way, "the link is dialled");
        }
        while !stop.is_cancelled() {
            let mut welcomed = None;
            let over = self.identity.credentials.life().is_some_and(|life| life.is_over(Timestamp::now()));
            // The controller's clock may be what is wrong: each second try is a session again.
            let cut = if over || std::mem::take(&mut refused_as_expired) {
                self.come_back(&stop).await
            } else {
                self.session(&stop, &mut welcomed).await
            };
            let asked = match &cut {
                Cut::Stopping => break,
                Cut::Back => continue,
                Cut::Goodbye { retry_after, .. } => *retry_after,
                Cut::NotApproved { ask_again, .. } => (*ask_again).max(ASK_AGAIN_LEAST),
                _ if shut_out(&cut) => ms(self.settings.link.refused_again_ms),
                _ => Duration::ZERO,
            };
            // Its clock decides, not ours.
            refused_as_expired = match &cut {
                Cut::Status(status) => status.source().is_some_and(certificate_expired),
                Cut::Dial(DialError::Http(_, error)) => certificate_expired(error),
                _ => false,
            };
            let wait = backoff.after(welcomed.map(|at: Instant| at.elapsed()), asked, jitter);
            // Who waits for a person says so now and then, not at every try.
            let waits = matches!(cut, Cut::NotApproved { .. });
            if !waits || told_waiting.is_none_or(|told: Instant| told.elapsed() >= WAITING_TOLD) {
                self.tell(&cut, wait);
            }
            told_waiting = if waits {
                told_waiting.filter(|told| told.elapsed() < WAITING_TOLD).or(Some(Instant::now()))
            } else {
                None
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
            }
        }
        tracing::info!("the link is closed");
    }

    /// Asks for a certificate in the place of the expired one.
    async fn come_back(&self, stop: &CancellationToken) -> Cut {
        let asked = tokio::select! {
            biased;
            () = stop.cancelled() => return Cut::Stopping,
            asked = enroll::come_back(&self.identity.credentials, &self.settings) => asked,
        };
        match asked {
            Ok(Back::Here) => {
                tracing::info!("the controller has given this agent a new certificate in the place of the expired one");
                Cut::Back
            }
            Ok(Back::NotYet { ask_again, key_sha256 }) => {
                let agent = self.identity.agent.to_string();
                let end = self.identity.credentials.life().map(|life| life.end.to_string()).unwrap_or_default();
                Cut::NotApproved { agent, key_sha256, end, ask_again }
            }
            Err(BackError::Dial(error)) => Cut::Dial(error),
            Err(error) => Cut::NotBack(error),
        }
    }

    /// Out of contact, and what to do where a person can do something.
    fn tell(&self, cut: &Cut, wait: Duration) {
        let (address, wait_ms) =
            (&self.identity.credentials.current().controller, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let why = causes(cut).join(": ");
        match remedy(cut) {
            Some(remedy) => tracing::error!(controller = %address, %why, remedy, wait_ms, "out of contact"),
            None => tracing::warn!(controller = %address, %why, wait_ms, "out of contact; the jobs go on"),
        }
    }
}

/// Whether the controller does not want this agent: it may be let in again, but hardly soon.
fn shut_out(cut: &Cut) -> bool {
    match cut {
        Cut::Status(status) | Cut::NotBack(BackError::Status(status)) => Code::of(status) == Some(Code::NotAllowed),
        _ => false,
    }
}

/// What a person does; `None` when waiting is enough.
fn remedy(cut: &Cut) -> Option<&'static str> {
    if let Cut::Dial(DialError::Way(error)) = cut {
        return Some(error.remedy());
    }
    if matches!(cut, Cut::NotBack(BackError::Status(_) | BackError::Credentials(_))) {
        return Some("see the reason");
    }
    let Cut::Status(status) = cut else {
        return matches!(cut, Cut::Dial(DialError::Tls(..) | DialError::Join(..))).then_some("see the reason");
    };
    let source: Option<&(dyn Error + 'static)> = status.source();
    if source.is_some_and(certificate_refused) {
        return Some(
            "the controller refuses this agent's certificate: make a token with `ctl agent token`, then run `agent join \
             TOKEN --again`",
        );
    }
    match Code::of(status) {
        Some(Code::Incompatible) => Some("controller and agent are too far apart: update the older one"),
        Some(Code::NotAllowed) => Some("see the reason"),
        _ if status.code() == tonic::Code::Unimplemented => {
            Some("that port serves no agents: compare the address of the identity")
        }
        _ => None,
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
