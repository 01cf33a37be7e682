//! The program: arguments, settings, telemetry, run, exit code.

use std::{
    error::Error,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use gantry_agent::{
    ConfigError, RunError, Settings, by_hand,
    config::{AllowError, AllowFile, parse_ranges},
    doctor, enroll, open_spool, run,
};
use gantry_proto::{
    JoinFile, JoinToken, Redactor,
    error::causes,
    token::{TOKEN_MAX, TokenError},
};
use gantry_telemetry::Telling;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Deploys CloudTower from a bastion host: dials the controller, takes its orders, does the work at the cluster.
#[derive(Parser)]
#[command(name = "agent", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  agent join --config /etc/gantry/agent.toml      then paste the token that `ctl agent token` has printed
  agent join gantry-join-1.eyJ1cmwi... --data /var/lib/gantry-agent
  agent run --config /etc/gantry/agent.toml
  agent config --config /etc/gantry/agent.toml
  agent doctor --fisheye 192.0.2.10
  agent iso list --config /etc/gantry/agent.toml

An agent joins once; from then on it renews its certificate by itself. ISO files belong into iso_dir (default: iso in the
data directory).";

const JOIN_HELP: &str = "The key is made here and never leaves this host. The token works once, for one agent; when the answer gets lost, the
same command can be run again. A token in the arguments can be seen by others on this host while the command runs: leave
it out to be asked for it, or pipe it in.

Examples:
  agent join --data /var/lib/gantry-agent
  agent join gantry-join-1.eyJ1cmwi... --name bastion-1 --no-run
  agent join --allow 10.20.0.0/16 --allow 192.0.2.10/32
  agent join --again < token      replace the identity that is there";

/// The longest answer about ranges, bytes.
const ANSWER_MAX: usize = 16 << 10;

#[derive(Subcommand)]
enum Command {
    /// Join a controller with a token of `ctl agent token`, then run.
    #[command(after_help = JOIN_HELP)]
    Join {
        /// The token; without it, or as `-`, it is read from stdin.
        token: Option<String>,
        #[command(flatten)]
        place: Place,
        /// The name that this agent would like to have, when the token does not say [default: the host's name].
        #[arg(long)]
        name: Option<String>,
        /// Replace the identity that is there.
        #[arg(long)]
        again: bool,
        /// A range that plans may lead this agent to, like 10.20.0.0/16; may be given several times, and is written into
        /// the settings file. Without it, and with no `allow` there, it is asked for [default: the private ranges].
        #[arg(long, value_name = "CIDR", value_parser = parse_allow)]
        allow: Vec<Ranges>,
        /// Only join.
        #[arg(long)]
        no_run: bool,
        /// Write the agent's id into this file once it is at work.
        #[arg(long, value_name = "FILE", conflicts_with = "no_run")]
        ready_file: Option<PathBuf>,
    },
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
    /// Look after the ISO files on this host: hash one ahead of the jobs, list what the agent offers.
    #[command(subcommand)]
    Iso(by_hand::Iso),
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
            if let Some(failure) = error.downcast_ref::<by_hand::Failure>() {
                return ExitCode::from(failure.exit_code());
            }
            // 2: what was asked for cannot be; 1: it failed.
            let usage = error.is::<ConfigError>()
                || error.is::<AllowError>()
                || error.is::<TokenError>()
                || matches!(error.downcast_ref(), Some(RunError::Identity(_)));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn carry_out(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Join { token, place, name, again, allow, no_run, ready_file } => {
            let token = read_token(token)?;
            keep_ranges(&place, allow.into_iter().flat_map(|ranges| ranges.0).collect())?;
            let settings = place.load()?;
            enroll_here(&settings, &token, name, again)?;
            if no_run { Ok(ExitCode::SUCCESS) } else { serve(settings, ready_file) }
        }
        Command::Run { place, ready_file } => serve(place.load()?, ready_file),
        Command::Doctor { place, fisheye, json } => examine(place.load()?, fisheye, json),
        Command::Iso(verb) => Ok(by_hand::iso(&verb)?),
        Command::Config { place } => {
            print(&toml::to_string(&place.load()?)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Ranges of one argument.
#[derive(Clone, Debug)]
struct Ranges(Vec<IpNet>);

fn parse_allow(text: &str) -> Result<Ranges, String> {
    parse_ranges(text).map(Ranges).map_err(|error| error.to_string())
}

/// The token of the arguments, or of stdin.
fn read_token(token: Option<String>) -> Result<JoinToken, Box<dyn Error>> {
    let token = Zeroizing::new(match token.filter(|token| token != "-") {
        Some(token) => token,
        None => ask("token: ", TOKEN_MAX)?,
    });
    Ok(JoinToken::parse(&token)?)
}

/// Settles which ranges plans may lead this agent to, before it joins: what the settings say, else what was given, else
/// what is answered at the terminal, else the private ranges.
fn keep_ranges(place: &Place, given: Vec<IpNet>) -> Result<(), Box<dyn Error>> {
    let settings = place.load()?;
    let file = AllowFile::of(&settings, place.config.as_deref())?;
    let given = if given.is_empty() && !file.is_set() && io::stdin().is_terminal() {
        let default: Vec<String> = settings.allow.iter().map(ToString::to_string).collect();
        let question = format!("ranges that plans may lead this agent to [{}]: ", default.join(", "));
        let answer = ask(&question, ANSWER_MAX)?;
        if answer.trim().is_empty() { settings.allow } else { parse_ranges(&answer)? }
    } else {
        given
    };
    if !given.is_empty() {
        file.keep(&given)?;
    }
    Ok(())
}

/// One line of stdin, of at most `most` bytes; the question only to a person.
fn ask(question: &str, most: usize) -> io::Result<String> {
    if io::stdin().is_terminal() {
        let _ = write!(io::stderr(), "{question}");
    }
    let mut text = String::new();
    io::stdin().lock().take(most as u64 + 1).read_line(&mut text)?;
    Ok(text)
}

/// Joins, and tells how it went.
fn enroll_here(
    settings: &Settings,
    token: &JoinToken,
    name: Option<String>,
    again: bool,
) -> Result<(), Box<dyn Error>> {
    let name = name.unwrap_or_else(enroll::host_name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let joined = runtime.block_on(enroll::join(settings, token, &name, again))?;
    let JoinFile { agent, site, controller, .. } = &joined.join;
    let ranges: Vec<String> = settings.allow.iter().map(ToString::to_string).collect();
    print(&format!(
        "joined   {controller} as agent {agent} of site {site}\nidentity {}: keep it secret; the agent renews it by itself\n\
         allow    {}: no plan leads this agent anywhere else\n",
        joined.file.display(),
        ranges.join(", ")
    ))?;
    Ok(())
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
        let spool = open_spool(&settings)?;
        let telemetry = gantry_telemetry::init(Telling {
            service: "gantry-agent",
            version: env!("CARGO_PKG_VERSION"),
            settings: &settings.telemetry,
            redactor: &redactor,
            intake: Some(spool.clone()),
        })?;
        let shutdown = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let running = run(settings, redactor, ready_file.as_deref(), shutdown.clone(), Some(spool));
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
