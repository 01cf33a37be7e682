//! The program: arguments, settings, telemetry, run, exit code.

use std::{
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use gantry_agent::{ConfigError, RunError, Settings, doctor, run};
use gantry_proto::{Redactor, error::causes};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Deploys CloudTower from a bastion host: dials the controller, takes its orders, does the work at the cluster.
#[derive(Parser)]
#[command(name = "agent", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  agent run --join join.json --data /var/lib/gantry-agent
  agent run --config /etc/gantry/agent.toml
  agent config --config /etc/gantry/agent.toml
  agent doctor --fisheye 192.0.2.10

The join file comes from `controller join-file`. ISO files belong into iso_dir (default: iso in the data directory).";

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM or Ctrl-C. Jobs then stop at a safe point and go on at the next start; a second signal ends the
    /// agent at once.
    Run {
        #[command(flatten)]
        place: Place,
        /// Write the agent's id into this file once it is at work.
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Look at everything that the agent needs, from the controller's name to the ISO files, and say what to do about
    /// what is wrong. Writes nothing and disturbs no running agent. Exit code 0: nothing fails; 1: something does.
    Doctor {
        #[command(flatten)]
        place: Place,
        /// A cluster's Fisheye, HOST or HOST:PORT; may be given several times. Without it, those of the newest jobs.
        #[arg(long, value_name = "ADDRESS")]
        fisheye: Vec<String>,
        /// One JSON document at the end instead of a line for each check.
        #[arg(long)]
        json: bool,
    },
    /// Print the settings that are in effect, as TOML.
    Config {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Settings file (TOML); without it, agent.toml in the data directory if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; wins over the settings file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Join file; wins over the settings file.
    #[arg(long, value_name = "FILE")]
    join: Option<PathBuf>,
}

impl Place {
    fn load(&self) -> Result<Settings, ConfigError> {
        Settings::load(self.config.as_deref(), self.data.as_deref(), self.join.as_deref())
    }
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", causes(error.as_ref()).join(": "));
            // 2: what was asked for cannot be; 1: it failed.
            let usage = error.is::<ConfigError>() || matches!(error.downcast_ref(), Some(RunError::Identity(_)));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn carry_out(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Run { place, ready_file } => serve(place.load()?, ready_file),
        Command::Doctor { place, fisheye, json } => examine(place.load()?, fisheye, json),
        Command::Config { place } => {
            print(&toml::to_string(&place.load()?)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A reader that has gone is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn examine(settings: Settings, fisheye: Vec<String>, json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut printed = Ok(());
    let tell = |check: &doctor::Check| {
        if !json && printed.is_ok() {
            printed = print(&format!("{check}\n"));
        }
    };
    let report = runtime.block_on(Box::pin(doctor::examine(settings, fisheye, tell)));
    // A look that still blocks must not hold the process.
    runtime.shutdown_background();
    printed?;
    print(&if json { format!("{:#}\n", report.json()) } else { format!("{report}\n") })?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve(settings: Settings, ready_file: Option<PathBuf>) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let redactor = Redactor::new();
        let telemetry =
            gantry_telemetry::init("gantry-agent", env!("CARGO_PKG_VERSION"), &settings.telemetry, &redactor)?;
        let shutdown = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let running = run(settings, redactor, ready_file.as_deref(), shutdown.clone());
        let mut running = Box::pin(running);
        let code = loop {
            tokio::select! {
                ended = &mut running => break ended.map(|()| ExitCode::SUCCESS),
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if shutdown.is_cancelled() {
                tracing::warn!("a second signal: the agent ends at once; its jobs go on at the next start");
                break Ok(ExitCode::FAILURE);
            }
            tracing::info!("the agent stops; jobs come to a safe point first");
            shutdown.cancel();
        };
        telemetry.shutdown().await;
        Ok(code?)
    });
    // A call that still blocks must not hold the process.
    runtime.shutdown_background();
    ended
}
