//! `cargo bench-upload`: how fast the agent uploads, with how much CPU and memory, held against curl and a shell loop in the
//! same run. Leaves nothing running and no file behind.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, Parser, error::ErrorKind};
use gantry_bench::{
    bars,
    clients::{Agent, Client},
    kills,
    machine::{Machine, load},
    material::{LEAST, Material},
    memory, proof,
    report::Report,
    rig::{Choice, Rig, gib, say, scan},
    speed::{self, Scene, Table},
};
use tokio::signal::unix::{SignalKind, signal};

/// What `--quick` does instead of 2 GiB in 5 rounds.
const QUICK_GIB: f64 = 0.25;
const QUICK_ROUNDS: usize = 2;

const EXAMPLES: &str = "Examples:
  cargo bench-upload                                the whole run
  cargo bench-upload --quick                        whether it works, not how well
  cargo bench-upload --only 0ms --rounds 3          only without server time
  cargo bench-upload --only 200ms --only agent-auto --only curl-par16
  cargo bench-upload --only kill --only kills --json killed.json

Parts: proof, 0ms, 20ms, 200ms, serial, cold, memory, kill, kills.
Clients: curl-seq, curl-par2, curl-par4, curl-par8, curl-par16, dgst+curl-par4, loop, agent-4, agent-auto, agent-1.

It needs curl, openssl, sh and dd, and installs nothing. The file and its chunks take twice the file's size on disk, and \
as much memory for the page cache. Exit code 0: everything that must be reached is; 1: something is not, or failed; \
2: usage; 130: stopped.";

/// Uploads a file over TLS to a sink on loopback: the agent, curl, and a shell loop in turn, round after round. Prints
/// throughput, CPU and memory of each, the ratios, and what of the goals is reached.
#[derive(Parser)]
#[command(name = "bench-upload", after_help = EXAMPLES)]
struct Args {
    /// Size of the file, GiB [default: 2].
    #[arg(long, value_parser = parse_gib)]
    gib: Option<f64>,
    /// Rounds [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Small and short: 0.25 GiB, 2 rounds.
    #[arg(long)]
    quick: bool,
    /// Only this part of the run, or only this client; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write everything that was measured into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the files are made, below a directory that is removed at the end [default: the system's].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The agent to measure, instead of the workspace's own.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Take the binaries beside this one as they are.
    #[arg(long)]
    no_build: bool,
}

fn parse_gib(text: &str) -> Result<f64, String> {
    let size: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (gib(LEAST)..=64.0).contains(&size) { Ok(size) } else { Err("use a number from 0.001 to 64".to_owned()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let choice = match choice(&args.only) {
        Ok(choice) => choice,
        Err(message) => Args::command().error(ErrorKind::InvalidValue, message).exit(),
    };
    let mut interrupt = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => return fail(&anyhow::Error::new(error).context("waiting for signals")),
    };
    let stopped = async {
        tokio::select! { _ = interrupt.0.recv() => {}, _ = interrupt.1.recv() => {} }
    };
    // When a signal comes, the run is dropped: it kills its processes and removes its directory.
    tokio::select! {
        done = Box::pin(run(args, choice)) => done.unwrap_or_else(|error| fail(&error)),
        () = stopped => { say("stopped; everything is removed"); ExitCode::from(130) }
    }
}

async fn run(args: Args, choice: Choice) -> anyhow::Result<ExitCode> {
    let (default_gib, default_rounds) = if args.quick { (QUICK_GIB, QUICK_ROUNDS) } else { (2.0, 5) };
    // Whole sectors, as an ISO has.
    let size = (args.gib.unwrap_or(default_gib) * f64::from(1 << 30)) as u64 / 2048 * 2048;
    let rounds = args.rounds.map_or(default_rounds, usize::from);
    let beside = env::current_exe().context("finding the running executable")?;
    let beside = beside.parent().context("the executable has no directory")?;
    let profile = beside.file_name().and_then(|name| name.to_str()).unwrap_or("release").to_owned();
    if !args.no_build {
        build(beside, &profile, args.agent.is_none()).await?;
    }
    let agent = args.agent.unwrap_or_else(|| beside.join("agent"));
    let agent = agent.canonicalize().with_context(|| format!("{} is not there", agent.display()))?;
    let machine = Machine::look(&agent, &profile)?;
    // Removed last: everything that lies in it belongs to what is dropped before.
    let parent = args.dir.unwrap_or_else(env::temp_dir);
    let dir = tempfile::Builder::new().prefix("gantry-bench-").tempdir_in(&parent);
    let dir = dir.with_context(|| format!("making a directory in {}", parent.display()))?;
    let rig = prepare(dir.path(), beside, &agent, size, rounds, choice).await?;
    let proofs = proof::prove(&rig).await?;
    let mut table = Table::default();
    speed::rounds(&rig, &mut table).await?;
    memory::measure(&rig, &mut table).await?;
    let kills = kills::strike(&rig, kills::Pace::of(size)).await?;
    let bars = bars::all(&table, &kills);
    let warm = rig.agent.scan;
    let report = Report { machine, bytes: size, rounds, warm, proofs, table, kills, bars };
    if let Some(file) = &args.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", file.display()))?;
    }
    say(&format!("done; load {:.1}", load()));
    print(&report.text())?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Files, password, and what the agent knows beforehand.
async fn prepare(
    dir: &Path,
    beside: &Path,
    agent: &Path,
    size: u64,
    rounds: usize,
    choice: Choice,
) -> anyhow::Result<Rig> {
    // The agent's state may be no one else's to read.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).context("closing the directory to others")?;
    let password_file = dir.join("password");
    let mut password = fs::File::options().write(true).create_new(true).mode(0o600).open(&password_file)?;
    password.write_all(b"the-sink-takes-any\n").context("writing the password file")?;
    let agent = Agent::ask(agent, &password_file)?;
    if let Err(reason) = &agent.push {
        say(&format!("{reason}: its rows will fail"));
    }
    say(&format!("making a file of {:.2} GiB and its chunks in {}", gib(size), dir.display()));
    let material = Material::make(dir, size).await?;
    let (warm, scratch, measure) = (dir.join("warm"), dir.join("scratch"), beside.join("measure"));
    fs::create_dir(&scratch).context("making a directory")?;
    say("letting the agent look at the file beforehand");
    scan(&agent, &measure, &material.iso, &warm, &scratch).await?;
    let sink = beside.join("sink");
    Ok(Rig { agent, sink, measure, dir: dir.to_owned(), material, warm, rounds, choice })
}

/// Builds what is measured, in the profile of this program and with the features of the whole workspace.
async fn build(beside: &Path, profile: &str, agent: bool) -> anyhow::Result<()> {
    say(&format!("building ({profile}) …"));
    let target = beside.parent().context("the executable lies outside of a target directory")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut cargo = tokio::process::Command::from(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())));
    // What a cargo that runs us says of our own package would make build scripts run again, and everything be built anew.
    let about_us = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|begin| name.starts_with(begin))
            || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&name)
    };
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(about_us)) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--workspace", "--bin", "sink", "--bin", "measure"]);
    if agent {
        cargo.args(["--bin", "agent"]);
    }
    // The profile `dev` builds into `debug`.
    cargo.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    cargo.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target);
    let cargo = cargo.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let status = cargo.status().await.context("starting cargo to build the binaries")?;
    if !status.success() {
        bail!("cargo could not build the binaries: {status}");
    }
    Ok(())
}

/// Sorts the names of `--only` into parts and clients.
fn choice(only: &[String]) -> Result<Choice, String> {
    let scenes = Scene::ALL.map(Scene::name);
    let scenes: Vec<&str> =
        scenes.into_iter().chain([proof::SCENE, memory::SCENE, kills::HALF_WAY, kills::AGAIN_AND_AGAIN]).collect();
    let clients: Vec<String> = Scene::ALL.into_iter().flat_map(Scene::clients).map(Client::name).collect();
    let mut choice = Choice::default();
    for name in only {
        if scenes.contains(&name.as_str()) {
            choice.scenes.push(name.clone());
        } else if clients.contains(name) {
            choice.clients.push(name.clone());
        } else {
            return Err(format!("--only {name}: there is no such part or client; see --help\n"));
        }
    }
    Ok(choice)
}

/// A reader that has gone is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("the benchmark failed: {error:#}"));
    ExitCode::FAILURE
}
