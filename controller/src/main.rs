//! The program: arguments, settings, telemetry, run, exit code.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use gantry_controller::{Config, ConfigError, RunError, Watched, run, setup};
use gantry_proto::{Redactor, error::causes};
use gantry_telemetry::Telling;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long the collector may take for the last batches; what it does not take is sent after the next start.
const LAST_TELEMETRY: Duration = Duration::from_secs(3);

/// Plans deployments from workbooks, keeps the log of every job, and tells agents what to do.
#[derive(Parser)]
#[command(
    name = "controller",
    version,
    about,
    after_help = "Examples:\n  controller init --data /var/lib/gantry --name gantry.example.net\n  controller run --data /var/lib/gantry\n  controller backup --data /var/lib/gantry --out /backup/gantry-2026-11-27\n  controller operator-file --data /var/lib/gantry --name rescue --out ./rescue\n\nSettings: a TOML file, every key with its default in deploy/config/controller.toml."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make data directory, CA, server certificate and the first operator's profile. What exists is kept.
    Init {
        #[command(flatten)]
        place: Place,
        /// Host name or address by which others reach this controller; may be given several times.
        #[arg(long = "name", value_name = "HOST")]
        names: Vec<String>,
        /// Address of the TLS port.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// URL for profiles and join tokens, when it is not https://NAME:PORT.
        #[arg(long)]
        url: Option<String>,
    },
    /// Run until SIGTERM or Ctrl-C.
    Run {
        #[command(flatten)]
        place: Place,
        /// Write the bound address into this file once the port is open.
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Copy CA, server certificate, settings and the store into a new directory; works beside a running controller. Whoever
    /// has the copy can be the controller: keep it secret.
    Backup {
        #[command(flatten)]
        place: Place,
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Let somebody in as an admin, here on the controller's host, when no admin is left who could run `ctl operator add`.
    OperatorFile {
        #[command(flatten)]
        place: Place,
        /// The operator's name.
        #[arg(long)]
        name: String,
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// URL to put into it, when it is not the one of the settings.
        #[arg(long)]
        url: Option<String>,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Settings file (TOML); without it, controller.toml in the data directory if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; wins over the settings file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), self.data.as_deref())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", causes(error.as_ref()).join(": "));
            // 2: what was asked for cannot be; 1: it failed.
            let usage = matches!(error.downcast_ref(), Some(RunError::Config(_))) || error.is::<ConfigError>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn carry_out(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Init { place, names, listen, url } => {
            let mut config = place.load()?;
            if !names.is_empty() {
                config.names = names;
            }
            config.listen = listen.unwrap_or(config.listen);
            config.url = url.unwrap_or(config.url);
            init(&config)
        }
        Command::Run { place, ready_file } => {
            let mut config = place.load()?;
            config.ready_file = ready_file.or(config.ready_file);
            serve(config)
        }
        Command::Backup { place, out } => {
            let made = in_runtime(setup::backup(&place.load()?, &out))?;
            let mut text: String = made.iter().map(|path| format!("made   {}\n", path.display())).collect();
            text.push_str(&format!(
                "next:  keep {} where only you can read it; to restore, make it the data directory of a controller",
                out.display()
            ));
            say(&text)
        }
        Command::OperatorFile { place, name, out, url } => {
            let mut config = place.load()?;
            config.url = url.unwrap_or(config.url);
            let profile = in_runtime(setup::let_in(&config, &name, &out))?;
            say(&format!(
                "made   profile of operator {name}, an admin: {}\nnext:  hand the directory to {name}, then run  ctl --profile {} version",
                profile.display(),
                profile.display()
            ))
        }
    }
}

fn init(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    let mut profile = PathBuf::new();
    for made in setup::init(config)? {
        let word = if made.new { "made " } else { "kept " };
        text.push_str(&format!("{word}  {}: {}\n", made.what, made.path.display()));
        profile = made.path;
    }
    let data = quoted(&config.data);
    text.push_str(&format!(
        "next:  controller run --data {data}\nthen:  ctl --profile {profile} site add SITE\n\
         then:  ctl --profile {profile} agent token --site SITE\nand:   agent join TOKEN      (on the bastion host)",
        profile = quoted(&profile)
    ));
    say(&text)
}

fn in_runtime<T>(work: impl Future<Output = Result<T, setup::SetupError>>) -> Result<T, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work)?)
}

fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let redactor = Redactor::new();
        let watched = Watched::open(&config).map_err(RunError::from)?;
        let settings = config.telemetry.common();
        let telling = Telling {
            service: "gantry-controller",
            version: env!("CARGO_PKG_VERSION"),
            settings: &settings,
            redactor: &redactor,
            intake: Some(watched.recorder.clone()),
        };
        let reader =
            opentelemetry_prometheus::exporter().with_registry(watched.metrics.clone()).scope_info_enabled(false);
        let reader = reader.build()?;
        let telemetry = gantry_telemetry::init_with(telling, |meters| meters.with_reader(reader))?;
        let shutdown = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let ended = {
            let running = run(config, redactor, watched.clone(), shutdown.clone());
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                _ = term.recv() => { shutdown.cancel(); running.await }
                _ = int.recv() => { shutdown.cancel(); running.await }
            }
        };
        telemetry.shutdown().await;
        watched.recorder.send_rest(LAST_TELEMETRY).await;
        Ok(ended?)
    })
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Results go to stdout; a closed pipe is no failure.
fn say(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
