//! The session with the controller: dial, Hello, replay, events up, orders down, and again after every cut. Knows no
//! step; what a job is the runner knows.
//!
//! A cut line is not a failure: the jobs go on, and everything that they tell is sent when the line is back.

mod backoff;
mod outbox;
mod session;

use std::{error::Error, sync::Arc, time::Duration};

use gantry_proto::{Code, error::causes, v1};
use tokio::time::{Instant, sleep};
use tokio_retry::strategy::jitter;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    dialer::{DialError, Dialer, certificate_refused},
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
    dialer: Dialer,
    isos: IsoList,
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
}

impl Link {
    /// Makes the link; opens no connection.
    pub fn new(
        settings: Arc<Settings>,
        identity: Arc<Identity>,
        runner: Arc<Runner>,
        isos: IsoList,
    ) -> Result<Self, DialError> {
        let dialer = Dialer::new(&identity.join, &settings.link)?;
        Ok(Self { settings, identity, runner, dialer, isos })
    }

    /// Holds the link until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(&self.settings.link);
        let way = self.dialer.proxy().map_or_else(|| "no proxy".to_owned(), ToString::to_string);
        tracing::info!(controller = %self.dialer.address(), %way, "the link is dialled");
        while !stop.is_cancelled() {
            let mut welcomed = None;
            let cut = self.session(&stop, &mut welcomed).await;
            if matches!(cut, Cut::Stopping) {
                break;
            }
            let asked = match &cut {
                Cut::Goodbye { retry_after, .. } => *retry_after,
                _ => Duration::ZERO,
            };
            let wait = backoff.after(welcomed.map(|at: Instant| at.elapsed()), asked, jitter);
            self.tell(&cut, wait);
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
            }
        }
        tracing::info!("the link is closed");
    }

    /// Out of contact, and what to do where a person can do something.
    fn tell(&self, cut: &Cut, wait: Duration) {
        let (address, wait_ms) = (self.dialer.address(), u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let why = causes(cut).join(": ");
        match remedy(cut) {
            Some(remedy) => tracing::error!(controller = %address, %why, remedy, wait_ms, "out of contact"),
            None => tracing::warn!(controller = %address, %why, wait_ms, "out of contact; the jobs go on"),
        }
    }
}

/// What a person does; `None` when waiting is enough.
fn remedy(cut: &Cut) -> Option<&'static str> {
    if let Cut::Dial(DialError::Way(error)) = cut {
        return Some(error.remedy());
    }
    let Cut::Status(status) = cut else {
        return matches!(cut, Cut::Dial(DialError::Tls(..) | DialError::Join(..))).then_some("see the reason");
    };
    let source: Option<&(dyn Error + 'static)> = status.source();
    if source.is_some_and(certificate_refused) {
        return Some(
            "the controller refuses this agent's certificate: make a new join file with `controller join-file`",
        );
    }
    match Code::of(status) {
        Some(Code::Incompatible) => Some("controller and agent are too far apart: update the older one"),
        Some(Code::NotAllowed) => Some("the certificate is not one of an agent: make a new join file"),
        _ if status.code() == tonic::Code::Unimplemented => {
            Some("that port serves no agents: compare the join file's address")
        }
        _ => None,
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
