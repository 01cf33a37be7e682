//! What an operator does by hand on the bastion, beside an agent that runs or before there is one: `agent iso`. A file a
//! verb; each prints its result on stdout and everything else on stderr. Knows no controller.

mod bar;
mod list;
mod push;
mod scan;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

pub use list::List;
pub use push::Push;
pub use scan::Scan;

use crate::{
    config::{ConfigError, Settings},
    iso::{HashError, IsoError, VolumeError},
};

/// The verbs of `agent iso`.
#[derive(Debug, Subcommand)]
pub enum Iso {
    /// Hash an ISO file into the inventory, so that no job has to: SHA-256 and MD5 of the whole file and SHA-256 of each
    /// chunk, in one read.
    #[command(after_help = scan::HELP)]
    Scan(Scan),
    /// Show the ISO files that the agent offers, and what its directory holds besides.
    #[command(after_help = list::HELP)]
    List(List),
    /// Bring an ISO file to a cluster ahead of its deployment, with the agent's own upload.
    #[command(after_help = push::HELP)]
    Push(Box<Push>),
}

/// Whose inventory it is.
#[derive(Debug, Args)]
struct Place {
    /// Settings file (TOML); without it, agent.toml in the data directory if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's data directory, where its inventory is; wins over the settings file.
    #[arg(long, visible_alias = "data", value_name = "DIR")]
    state: Option<PathBuf>,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// One document.
    Json,
}

/// Why a verb could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error("the file cannot be used")]
    File(#[from] IsoError),
    #[error("{} cannot be used", .0.display())]
    Volume(PathBuf, #[source] VolumeError),
    #[error("{} is not hashed", .0.display())]
    Hash(PathBuf, #[source] HashError),
    #[error("interrupted; the inventory is as it was")]
    Interrupted,
    #[error("{0}")]
    Usage(String),
    #[error("another `agent iso push` of this file to this cluster is at work ({})", .0.display())]
    Busy(PathBuf),
    #[error("the journal of the upload cannot be used; without {} the file is looked for and uploaded anew", .0.display())]
    Journal(PathBuf, #[source] crate::journal::JournalError),
    #[error("the ISO is not on the cluster: {message} ({remedy})")]
    Failed { message: String, remedy: String },
    #[error("stopped; the same command goes on where it was")]
    Stopped,
    #[error("what was asked for cannot be done here")]
    Io(#[from] io::Error),
}

impl Failure {
    /// 2: what was asked for cannot be; 130: interrupted; 1: it failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File(IsoError::Io { .. }) | Self::Volume(_, VolumeError::Io(_)) | Self::Hash(..) | Self::Io(_) => 1,
            Self::Failed { .. } | Self::Journal(..) => 1,
            Self::Settings(_) | Self::File(_) | Self::Volume(..) | Self::Usage(_) | Self::Busy(_) => 2,
            Self::Interrupted | Self::Stopped => 130,
        }
    }
}

impl Place {
    fn load(&self) -> Result<Settings, ConfigError> {
        Settings::load(self.config.as_deref(), self.state.as_deref(), None)
    }
}

/// Carries it out.
pub fn iso(verb: &Iso) -> Result<ExitCode, Failure> {
    let mut runtime = match verb {
        Iso::Push(_) => tokio::runtime::Builder::new_multi_thread(),
        Iso::Scan(_) | Iso::List(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    let ended = runtime.block_on(async {
        match verb {
            Iso::Scan(scan) => scan.run().await,
            Iso::List(list) => list.run(),
            Iso::Push(push) => Box::pin(push.run()).await,
        }
    });
    // A read that still blocks must not hold the process.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Does the work; Ctrl-C and SIGTERM cancel it, and when it does not end, a second one leaves it.
async fn interruptible<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> Result<T, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        if cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        cancel.cancel();
    }
}

/// A reader that has gone is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn warn(message: &str) {
    let _ = writeln!(io::stderr(), "warning: {message}");
}

/// What about this file an operator should know, though it can be hashed and is offered.
fn remarks(size: u64, looked: &Result<crate::iso::Contents, VolumeError>, settings: &Settings) -> Vec<String> {
    let mut remarks = Vec::new();
    match looked {
        Err(error) => remarks.push(gantry_proto::error::causes(error).join(": ")),
        Ok(contents) => {
            match contents.guest_tools {
                Some(true) => {}
                Some(false) => remarks
                    .push("the guest tools are missing (no SMTX_VM_TOOLS_INSTALL.sh in its root directory)".to_owned()),
                None => {
                    remarks.push("its root directory cannot be read, so the guest tools cannot be found".to_owned())
                }
            }
            if contents.missing_bytes > 0 {
                remarks.push(format!("it seems to be cut short: {} bytes are missing", contents.missing_bytes));
            }
        }
    }
    if size < settings.iso.min_bytes {
        remarks.push(format!("no job takes it: it has less than {} bytes (iso.min_bytes)", settings.iso.min_bytes));
    }
    remarks
}
