//! `cargo chaos`: every crash of the matrices, then random runs, each in this process and each checked in full.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use gantry_e2e::chaos::{
    Crashes, Scenario,
    campaign::{self, Case, Make, Tally},
    matrix::{self, Who},
};

/// Kills the agent and the controller at every write, and mixes crashes, faults and cancels by seed. The last line tells how
/// many runs held.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  cargo chaos                          every place of every matrix, then 2,000 random runs
  cargo chaos --seeds 2000             only random runs, so many
  cargo chaos --from 4711 --seeds 1    one random run again
  cargo chaos --real-processes 50      only rounds with real processes")]
struct Args {
    /// Random runs, without the matrices [default: the matrices and 2,000 random runs]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Rounds with real processes: kill -9 at random, a line that goes bad; about half a minute each
    #[arg(long, value_name = "ROUNDS")]
    real_processes: Option<u32>,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
}

/// Random runs behind the matrices.
const SEEDS: u64 = 2_000;

/// The matrices: in which scenario who dies, and whether in every way and once more in the life after it.
const MATRICES: &[(&str, Make, &[Who], bool)] = &[
    ("happy path", Scenario::happy, &[Who::Agent, Who::Controller], true),
    ("a failure and its undo", Scenario::undone, &[Who::Agent, Who::Controller], true),
    ("a cancel and its undo", Scenario::cancelled, &[Who::Agent, Who::Controller], false),
    ("two pauses", Scenario::held, &[Who::Agent, Who::Controller], false),
    ("a failure and its retry", Scenario::retried, &[Who::Agent, Who::Controller], false),
    ("a question", Scenario::asked, &[Who::Agent, Who::Controller], false),
    ("a move", Scenario::moved, &[Who::Agent, Who::Second, Who::Controller], false),
    (
        "a move from an agent that is off",
        Scenario::moved_from_one_that_is_off,
        &[Who::Agent, Who::Second, Who::Controller],
        false,
    ),
];

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut total = Tally::default();
    if args.seeds.is_none() && args.real_processes.is_none() {
        for (name, scenario, who, thorough) in MATRICES {
            for who in *who {
                let title = format!("{name}, the {who} dies at every write");
                match matrix::places(&scenario(), *who).await {
                    Ok(places) if *thorough => {
                        let again = matrix::and_again(&places);
                        add(&mut total, many(&title, cases(*scenario, places)).await);
                        add(&mut total, many(&format!("{title}, and again"), cases(*scenario, again)).await);
                    }
                    Ok(places) => add(&mut total, many(&title, cases(*scenario, matrix::one_way(places))).await),
                    Err(error) => total.failures.push(format!("{title}: {error:#}")),
                }
            }
        }
    }
    if let Some(rounds) = args.real_processes {
        let (passed, failed) = gantry_e2e::rounds::run(rounds, args.from).await;
        total.passed += u64::from(passed);
        total.failures.extend((0..failed).map(|_| "a round with real processes, told above".to_owned()));
    }
    let seeds = args.seeds.unwrap_or(if args.real_processes.is_some() { 0 } else { SEEDS });
    if seeds > 0 {
        let last = args.from.saturating_add(seeds);
        add(&mut total, many("made up by seed", (args.from..last).map(Case::made_up).collect()).await);
    }
    let mut out = std::io::stdout().lock();
    for failure in &total.failures {
        let _ = writeln!(out, "failed: {failure}");
    }
    let _ = writeln!(out, "our processes died {} times", total.crashes);
    let _ = writeln!(out, "{} passed, {} failed", total.passed, total.failures.len());
    if total.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cases(scenario: Make, places: Vec<Crashes>) -> Vec<Case> {
    places.into_iter().map(|crashes| Case::of(scenario, crashes)).collect()
}

fn add(total: &mut Tally, more: Tally) {
    total.passed += more.passed;
    total.crashes += more.crashes;
    total.failures.extend(more.failures);
}

/// A line for each set, redrawn on a terminal; a line for each failure.
async fn many(title: &str, cases: Vec<Case>) -> Tally {
    let (count, began, live) = (cases.len() as u64, Instant::now(), std::io::stderr().is_terminal());
    let tell = |tally: &Tally, failure: Option<&str>| {
        let done = tally.passed + tally.failures.len() as u64;
        let mut err = std::io::stderr().lock();
        if let Some(failure) = failure {
            let _ = writeln!(err, "{}failed: {failure}", if live { "\r\x1b[K" } else { "" });
        }
        if live || done == count || done.is_multiple_of(100) {
            let seconds = began.elapsed().as_secs_f64();
            let left = seconds / done as f64 * (count - done) as f64;
            let (begin, end) = if live { ("\r\x1b[K", if done == count { "\n" } else { "" }) } else { ("", "\n") };
            let failed = tally.failures.len();
            let _ = write!(
                err,
                "{begin}{title}: {done} of {count}, {failed} failed, {seconds:.0} s, about {left:.0} s left{end}"
            );
        }
    };
    campaign::all(cases, tell).await
}
