//! `cargo bench-eta`: how far the time left that is told after a quarter of a job is from the time that it then takes, over runs
//! against the simulator whose steps take up to 30 % less or more, each for itself. Says whether the goal is met.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use gantry_e2e::{Lab, LabOptions, binaries::Binaries};
use gantry_proto::{Body, Event, JobView, eta};
use serde_json::{Value, json};

/// How far a step is from its usual time, at most.
const SPREAD: f64 = 0.3;
/// Below this share of the job's own time.
const QUARTER: f64 = 0.25;
/// Neighbouring numbers are far apart, and all of them evenly spread.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Measure the error of the estimated time left after a quarter of a job.
#[derive(Parser)]
#[command(
    name = "bench-eta",
    after_help = "Examples:\n  cargo bench-eta\n  cargo bench-eta --jobs 20 --learn 4\n\nExit codes: 0 met, 1 missed, 2 not measured"
)]
struct Args {
    /// Jobs that are measured.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=200))]
    jobs: u32,
    /// Jobs before them, from which the steps' times are learned.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=200))]
    learn: u32,
    /// The median error that is the goal, percent.
    #[arg(long, default_value_t = 20.0)]
    goal: f64,
    /// How much faster than real the outside world runs.
    #[arg(long, default_value_t = 120.0)]
    time_scale: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("not measured: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> anyhow::Result<bool> {
    let binaries = tokio::task::spawn_blocking(Binaries::build).await??;
    let (mut taken, mut errors): (Vec<(String, f64)>, Vec<f64>) = (Vec::new(), Vec::new());
    for number in 1..=args.learn + args.jobs {
        let events = job(binaries.clone(), number, args.time_scale).await?;
        let known = eta::learn(taken.iter().map(|(step, seconds)| (step.as_str(), *seconds)), []);
        let Told { left, was, low, high } = after_a_quarter(&events, &known)?;
        let error = (left - was).abs() / was * 100.0;
        let kind = if number <= args.learn { "learned from" } else { "measured" };
        say(&format!(
            "job {number:>3}, {kind}: after a quarter {left:.1} s left ({low:.1} to {high:.1}), it took {was:.1} s: {error:.0} %"
        ));
        if number > args.learn {
            errors.push(error);
        }
        taken.extend(steps(&events));
    }
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    let met = median <= args.goal;
    say(&format!(
        "median error after a quarter, {} jobs: {median:.0} %, largest {:.0} %; goal {} %: {}",
        errors.len(),
        errors.last().copied().unwrap_or_default(),
        args.goal,
        if met { "met" } else { "missed" }
    ));
    Ok(met)
}

/// The events of one job in a lab of its own, where what takes time takes a drawn part more or less.
async fn job(binaries: Binaries, number: u32, time_scale: f64) -> anyhow::Result<Vec<Event>> {
    let drawn = |step: u32, usual: f64| {
        let share = (f64::from(number) * GOLDEN + f64::from(step) * GOLDEN * GOLDEN).fract();
        (usual * (1.0 - SPREAD + 2.0 * SPREAD * share)).round() as u64
    };
    let both = |step: u32, usual: f64| [drawn(step, usual), drawn(step, usual)];
    let options = LabOptions {
        iso_bytes: 8 << 20,
        time_scale,
        scenario: json!({
            "chunk_size": 1 << 16,
            "latencies": {"chunk": both(1, 900.0), "vm_create_job": both(2, 30_000.0), "network_job": both(3, 20_000.0),
                "ssh_open": both(4, 40_000.0)},
            "guest_times": {"installing_os_s": drawn(5, 600.0), "first_boot_s": drawn(6, 60.0),
                "tools_install_s": drawn(7, 90.0)},
            "guest": {"preinstall_s": drawn(8, 40.0), "installer_s": drawn(9, 1200.0), "first_line_s": 60},
        }),
        ..LabOptions::default()
    };
    let lab = Lab::start_with(binaries, options).await?;
    let job = lab.deploy(&["--watch"]).await?;
    let output = lab.ctl(&["-o", "ndjson", "watch", &job, "--from-seq", "1"]).await?;
    lab.stop().await?;
    let mut events = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let item: Value = serde_json::from_str(line)?;
        if item.get("seq").is_some() {
            events.push(serde_json::from_value(item).context("an event of ctl watch")?);
        }
    }
    ensure!(matches!(events.last(), Some(Event { body: Body::JobFinished { .. }, .. })), "the job has not ended");
    Ok(events)
}

struct Told {
    left: f64,
    low: f64,
    high: f64,
    was: f64,
}

/// What is told after a quarter of the time, and what the rest took.
fn after_a_quarter(events: &[Event], known: &eta::Expected) -> anyhow::Result<Told> {
    let (first, last) = (events.first().context("no event")?.at, events.last().context("no event")?.at);
    let total = last.duration_since(first).as_secs_f64();
    let at = first + jiff::SignedDuration::from_secs_f64(total * QUARTER);
    let until: Vec<Event> = events.iter().filter(|event| event.at <= at).cloned().collect();
    let told = JobView::of(&until).eta(known, at).context("nothing is told of the time left")?;
    Ok(Told { left: told.seconds, low: told.low, high: told.high, was: total * (1.0 - QUARTER) })
}

/// What each step took.
fn steps(events: &[Event]) -> Vec<(String, f64)> {
    let done = |event: &Event| match &event.body {
        Body::StepSucceeded { step, elapsed_ms } => Some((step.to_string(), *elapsed_ms as f64 / 1e3)),
        _ => None,
    };
    events.iter().filter_map(done).collect()
}

fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stdout(), "{text}");
}
