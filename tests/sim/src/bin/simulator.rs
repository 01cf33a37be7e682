//! The simulator on its own: rehearse a deployment against a cluster, a VM and a CloudTower that do not exist.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use gantry_sim::{Sim, SimOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Plays a cluster (Fisheye), the CloudTower VM (SSH) and the CloudTower service on loopback addresses.
///
/// Prints one JSON object with all addresses on stdout when everything answers, then runs until SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Scenario file (TOML, or JSON when it ends in .json): seed, time scale, addresses, modes, faults
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Sets one key of the scenario; the value is JSON or a plain word. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Also writes the JSON object to this file, at once and whole
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Prints the scenario that results, with every default, and ends
    #[arg(long)]
    show: bool,
}

const EXAMPLES: &str = "\
Examples:
  Rehearse a whole deployment sixty times as fast, on the default addresses:
    simulator --set time_scale=60
  The same with fixed ports and an awkward reading of to_upload:
    simulator --set ports.fisheye=8443 --set ports.ssh=2222 --set ports.tower=9443 --set modes.to_upload=echo
  Keep what is uploaded, to compare it:
    simulator --set 'storage={\"mode\":\"spool\",\"directory\":\"/tmp/spool\"}'
  While it runs (CONTROL is control_url of the printed object), break the third chunk twice:
    curl $CONTROL/faults -H content-type:application/json -d '{\"id\":\"U2\",\"times\":2,
      \"match\":{\"face\":\"fisheye\",\"path\":\"/api/v2/images/upload\",\"chunk\":2},\"action\":{\"answer\":{\"status\":503}}}'
  Make the VM creation job fail for want of memory:
    curl $CONTROL/faults -H content-type:application/json -d '{\"id\":\"V5\",\"match\":{\"face\":\"job\",\"job\":\"VM_CREATE\"},
      \"action\":{\"job\":{\"fail\":{\"code\":\"HostAvailableMemoryFilter\",\"follower_first\":true}}}}'
  Move the VIP, skip ten minutes, look at what was asked, check that nothing was left behind:
    curl $CONTROL/world -H content-type:application/json -d '{\"action\":{\"vip_move\":{\"down_s\":10}}}'
    curl $CONTROL/clock -H content-type:application/json -d '{\"advance_s\":600}'
    curl \"$CONTROL/transcript?path=/api/v2/vms\"; curl $CONTROL/invariants";

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match scenario(&args) {
        Ok(options) => run(&args, options).await.map_err(|error| (1, error)),
        // As for a wrong argument.
        Err(error) => Err((2, error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            // Nobody to tell is no reason for another code.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn scenario(args: &Args) -> anyhow::Result<SimOptions> {
    let mut options = match &args.scenario {
        Some(path) => SimOptions::load(path)?,
        None => SimOptions::default(),
    };
    args.set.iter().try_for_each(|assignment| options.set(assignment))?;
    Ok(options)
}

async fn run(args: &Args, options: SimOptions) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    if args.show {
        return say(&serde_json::to_string_pretty(&options)?);
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let sim = Sim::start(options).await.context("starting the simulation")?;
    let ready = serde_json::to_string(&sim.addresses())?;
    if let Some(path) = &args.ready_file {
        // Renamed into place, so that whoever waits for the file never reads half of it.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, &ready).with_context(|| format!("writing {}", partial.display()))?;
        std::fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))?;
    }
    say(&ready)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sim.stop().await;
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to stdout"),
    }
}
