//! `cargo bench-watch`: how long after an event at the agent its line is on the screen of `ctl watch`, with slow lines from
//! agent to controller and from controller to `ctl`. Says whether the goal is met.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use gantry_e2e::{
    LabOptions,
    delay::{Delayed, Slow, measure, percentile},
};
use serde_json::json;

/// The slowest ones are listed, so many of them.
const LISTED: usize = 5;
/// Small, so that most of a job's time is not its upload.
const ISO_BYTES: u64 = (1 << 20) + 1;

/// Measure how long an event takes from the agent to the operator's screen, over slow lines.
#[derive(Parser)]
#[command(
    name = "bench-watch",
    after_help = "Examples:\n  cargo bench-watch\n  cargo bench-watch --jobs 1 --rtt-ms 600\n\nExit codes: 0 met, 1 missed, 2 not measured"
)]
struct Args {
    /// Jobs that are run, one after the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    jobs: u32,
    /// Round trip of each of the two lines, milliseconds.
    #[arg(long, default_value_t = 300)]
    rtt_ms: u64,
    /// How much each line takes, each way, kbit/s.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(8..))]
    kbit: u64,
    /// By when every event is to be on the screen, milliseconds.
    #[arg(long, default_value_t = 1000)]
    goal_ms: u64,
    /// How much faster than real the outside world runs.
    #[arg(long, default_value_t = 60.0)]
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
    let Args { jobs, rtt_ms, kbit, goal_ms, time_scale } = args;
    let line = Slow { round_trip: Duration::from_millis(rtt_ms), rate: kbit * 1000 / 8 };
    say(&format!(
        "agent - controller - ctl, each line {rtt_ms} ms there and back, {kbit} kbit/s each way; jobs: {jobs}"
    ));
    let mut all: Vec<Delayed> = Vec::new();
    for number in 1..=jobs {
        let options = LabOptions {
            iso_bytes: ISO_BYTES,
            time_scale,
            scenario: json!({"chunk_size": 1 << 16}),
            ..LabOptions::default()
        };
        let found = measure(line, options).await?;
        say(&format!("job {number}: {} events", found.len()));
        all.extend(found);
    }
    anyhow::ensure!(!all.is_empty(), "no event happened while the screen was there");
    all.sort_by_key(|one| one.delay);
    let ms = |delay: Duration| delay.as_millis();
    let worst = all.last().map(|one| one.delay).unwrap_or_default();
    say(&format!(
        "from event to screen, {} events: median {} ms, 95 % within {} ms, all within {} ms",
        all.len(),
        ms(percentile(&all, 50)),
        ms(percentile(&all, 95)),
        ms(worst)
    ));
    for one in all.iter().rev().take(LISTED) {
        say(&format!("  {:>5} ms  {}", ms(one.delay), one.words));
    }
    let met = ms(worst) <= u128::from(goal_ms);
    say(&format!("goal, all within {goal_ms} ms: {}", if met { "met" } else { "missed" }));
    Ok(met)
}

fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stdout(), "{text}");
}
