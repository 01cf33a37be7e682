//! The agent on the bastion: the link with the controller, the journal, the steps, the clients of the outside world.
//! Knows no workbook, no operator and no other agent.
//!
//! [`run`] is the whole agent: an [`identity`], a [`runner`] that owns the jobs, and a [`link`] that tells the controller
//! of them, while ISO files are hashed ahead. A job is an [`executor`] that walks the [`pipeline`], and a [`joblog`] over
//! a [`journal`]. [`doctor`] looks at all that it needs, without any of it; [`by_hand`] is what an operator does beside it.

pub mod by_hand;
pub mod cloudtower;
pub mod config;
pub mod credentials;
pub mod dialer;
pub mod diff;
pub mod doctor;
pub mod enroll;
pub mod executor;
pub mod facts;
pub mod fisheye;
pub mod guest;
pub mod http;
pub mod identity;
pub mod iso;
pub mod joblog;
pub mod journal;
pub mod link;
pub mod outside;
pub mod pipeline;
pub mod push;
pub mod result;
pub mod runner;
pub mod step;
pub mod steps;
pub mod tls;
pub mod upload;
pub mod way;

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use gantry_proto::Redactor;
use gantry_telemetry::Spool;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

pub use config::{ConfigError, Settings};

/// The directory of the spool, in the data directory.
const SPOOL: &str = "telemetry";

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It does not know who it is.
    #[error("the agent does not know who it is")]
    Identity(#[from] identity::IdentityError),
    /// The join file does not lead anywhere.
    #[error("the controller cannot be dialled")]
    Dial(#[from] dialer::DialError),
    /// The disk says no.
    #[error("{0}")]
    Disk(&'static str, #[source] io::Error),
}

/// Runs the agent until the token is cancelled; then jobs get `jobs.drain_limit_s` to come to a safe point. They go on
/// at the next start. `ready_file` is written once the jobs on disk have been taken up.
pub async fn run(
    settings: Settings,
    redactor: Redactor,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
    spool: Option<Arc<Spool>>,
) -> Result<(), RunError> {
    run_steps(settings, redactor, ready_file, shutdown, spool, pipeline::PIPELINE).await
}

/// Opens what is told on over the link, in the data directory (blocking).
///
/// # Errors
/// [`RunError::Disk`].
pub fn open_spool(settings: &Settings) -> Result<Arc<Spool>, RunError> {
    let directory = settings.data_dir.join(SPOOL);
    let spool = Spool::open(&directory, settings.telemetry.spool_mib << 20);
    spool.map(Arc::new).map_err(|error| RunError::Disk("the telemetry under data_dir cannot be used", error))
}

/// The same with another table of steps.
pub async fn run_steps(
    settings: Settings,
    redactor: Redactor,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
    spool: Option<Arc<Spool>>,
    steps: pipeline::Pipeline,
) -> Result<(), RunError> {
    let settings = Arc::new(settings);
    let load = settings.clone();
    let identity = spawn_blocking(move || identity::Identity::load(&load)).await;
    let identity =
        Arc::new(identity.map_err(|error| RunError::Disk("starting a thread failed", io::Error::other(error)))??);
    redactor.register(&identity.credentials.current().key_pem);
    tracing::info!(agent = %identity.agent, boot = %identity.boot_id, data = %settings.data_dir.display(), "the agent starts");
    let runner =
        runner::Runner::start(settings.clone(), identity.clone(), redactor, steps, Arc::new(journal::OsDisk)).await;
    let runner = runner.map_err(|error| RunError::Disk("the jobs under data_dir cannot be read", error))?;
    let listed = settings.clone();
    let isos: link::IsoList = Arc::new(move || iso::list(&listed));
    let link = link::Link::new(settings.clone(), identity.clone(), runner.clone(), isos)?.telling(spool);
    if let Some(file) = ready_file {
        let (file, text) = (file.to_owned(), format!("{}\n", identity.agent));
        let written = spawn_blocking(move || fs::write(file, text)).await.map_err(io::Error::other).flatten();
        written.map_err(|error| RunError::Disk("the ready file cannot be written", error))?;
    }
    tokio::join!(link.run(shutdown.clone()), iso::hash_ahead(settings.clone(), shutdown));
    let limit = Duration::from_secs(settings.jobs.drain_limit_s);
    if !runner.shutdown(limit).await {
        tracing::warn!(
            limit_s = limit.as_secs(),
            "not every job came to a safe point in time; they go on at the next start"
        );
    }
    Ok(())
}
