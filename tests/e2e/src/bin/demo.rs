//! `cargo demo`: a whole deployment on this machine, with nothing set up: simulated site, controller, agent, and a real
//! `ctl deploy --watch`. Leaves nothing running and no file behind.

use std::{
    io::{self, Write as _},
    process::{ExitCode, Stdio},
};

use anyhow::Context as _;
use clap::Parser;
use gantry_e2e::{Lab, LabOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Rehearse a whole deployment on this machine: simulator, controller, agent and ctl.
#[derive(Parser)]
#[command(
    name = "demo",
    after_help = "Examples:\n  cargo demo                    one deployment, then everything is stopped\n  cargo demo --keep             stay up afterwards, to try ctl\n  cargo demo --time-scale 20    slower, to watch at leisure\n  cargo demo --iso-mib 512      a larger ISO"
)]
struct Args {
    /// Stay up after the deployment and print ctl commands to try; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// How much faster than real the outside world runs.
    #[arg(long, default_value_t = 60.0, value_parser = parse_scale)]
    time_scale: f64,
    /// Size of the generated ISO, MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65536))]
    iso_mib: u64,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1.0..=1000.0).contains(&scale) { Ok(scale) } else { Err("use a number from 1 to 1000".to_owned()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut interrupt = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => return fail(&anyhow::Error::new(error).context("waiting for signals")),
    };
    let stopped = async {
        tokio::select! { _ = interrupt.0.recv() => {}, _ = interrupt.1.recv() => {} }
    };
    // When a signal comes, the lab is dropped: it kills its processes and removes its directory.
    tokio::select! {
        done = run(Args::parse()) => done.unwrap_or_else(|error| fail(&error)),
        () = stopped => { say("stopped"); ExitCode::from(130) }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    say("building controller, agent, ctl and simulator …");
    let options = LabOptions { iso_bytes: args.iso_mib << 20, time_scale: args.time_scale, ..LabOptions::default() };
    let lab = Lab::start(options).await?;
    say(&format!(
        "a simulated cluster, a controller and an agent are up; time runs {} times as fast as real",
        args.time_scale
    ));
    let workbook = lab.workbook();
    say(&format!("$ ctl deploy {} --watch", workbook.display()));
    let mut deploy = lab.ctl_command(&["deploy", "--watch"]);
    let colour = std::env::var_os("NO_COLOR");
    if colour.is_none() {
        deploy.env_remove("NO_COLOR");
    }
    let status = deploy.arg(&workbook).stdout(Stdio::inherit()).stderr(Stdio::inherit()).status().await;
    let status = status.context("running ctl deploy")?;
    if status.success() {
        lab.control()?.check_invariants().await.context("the simulated world is not as it should be")?;
        say("the simulated world was checked: one VM, one complete image equal to the file, no leftovers");
    }
    if args.keep {
        keep(&lab).await;
    }
    lab.stop().await?;
    say("everything is stopped");
    Ok(u8::try_from(status.code().unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Tells what can be tried, and waits for the end. Only a signal ends it, and `main` listens to that.
async fn keep(lab: &Lab) {
    let control = lab.addresses()["control_url"].as_str().unwrap_or_default().to_owned();
    let lines = [
        "The lab stays up. In another terminal:".to_owned(),
        format!("  export PATH={}:$PATH GANTRY_PROFILE={}", lab.binaries_dir().display(), lab.profile().display()),
        "  ctl jobs".to_owned(),
        "  ctl show JOB                 what the job did and made".to_owned(),
        "  ctl watch JOB --from-seq 1   its whole log".to_owned(),
        "  ctl result JOB -o json       what later stages read".to_owned(),
        "  ctl agents".to_owned(),
        format!("  ctl plan check {}", lab.workbook().display()),
        format!("  curl -s {control}/world      the simulated world; see tests/README.md for faults and modes"),
        "Ctrl-C here ends it.".to_owned(),
    ];
    say(&lines.join("\n"));
    std::future::pending::<()>().await;
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("the demo failed: {error:#}"));
    ExitCode::FAILURE
}

fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stderr(), "demo: {text}");
}
