//! A sample of `cargo chaos`: the matrices sampled by a printed seed, and random runs. The long command does them all.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use gantry_e2e::chaos::{
    Crashes, Scenario,
    campaign::{self, Case, Make},
    matrix::{self, Who},
    modes,
};

/// Places of one matrix that are tried.
const SAMPLE: usize = 16;
/// Random runs of each half.
const SEEDS: u64 = 30;

/// From the clock, and told: another sample each time, and each one can be had again.
#[expect(clippy::print_stderr, reason = "a failing sample is had again by its seed")]
fn seed() -> u64 {
    let seed = std::env::var("GANTRY_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    eprintln!("sampled by GANTRY_CHAOS_SEED={seed}");
    seed
}

async fn hold(cases: Vec<Case>) {
    let count = cases.len();
    let tally = campaign::all(cases, |_, _| {}).await;
    assert!(tally.failures.is_empty(), "{} of {count} failed:\n{}", tally.failures.len(), tally.failures.join("\n"));
}

/// Some places of a matrix, spread over the whole of it.
async fn sampled(scenario: Make, who: Who) {
    let places = matrix::places(&scenario(), who).await.unwrap();
    let step = places.len().div_ceil(SAMPLE).max(1);
    let offset = usize::try_from(seed()).unwrap_or(0) % step;
    hold(places.into_iter().skip(offset).step_by(step).map(|crashes| Case::of(scenario, crashes)).collect()).await;
}

#[tokio::test]
async fn the_agent_dies_on_the_happy_path() {
    sampled(Scenario::happy, Who::Agent).await;
}

#[tokio::test]
async fn the_agent_dies_in_a_failure_and_its_undo() {
    sampled(Scenario::undone, Who::Agent).await;
}

#[tokio::test]
async fn the_agent_dies_again_when_it_is_taken_up() {
    let places = matrix::and_again(&matrix::places(&Scenario::undone(), Who::Agent).await.unwrap());
    let step = places.len().div_ceil(SAMPLE).max(1);
    let offset = usize::try_from(seed()).unwrap_or(0) % step;
    let sample = places.into_iter().skip(offset).step_by(step);
    hold(sample.map(|crashes| Case::of(Scenario::undone, crashes)).collect()).await;
}

#[tokio::test]
async fn the_agent_dies_in_a_cancel() {
    sampled(Scenario::cancelled, Who::Agent).await;
}

#[tokio::test]
async fn the_controller_dies_on_the_happy_path() {
    sampled(Scenario::happy, Who::Controller).await;
}

#[tokio::test]
async fn the_controller_dies_in_a_cancel() {
    sampled(Scenario::cancelled, Who::Controller).await;
}

#[tokio::test]
async fn the_agent_dies_around_a_pause() {
    sampled(Scenario::held, Who::Agent).await;
}

#[tokio::test]
async fn the_agent_dies_in_a_retry() {
    sampled(Scenario::retried, Who::Agent).await;
}

#[tokio::test]
async fn the_controller_dies_in_a_retry() {
    sampled(Scenario::retried, Who::Controller).await;
}

#[tokio::test]
async fn the_agent_dies_around_a_question() {
    sampled(Scenario::asked, Who::Agent).await;
}

#[tokio::test]
async fn either_agent_dies_in_a_move() {
    sampled(Scenario::moved, Who::Agent).await;
    sampled(Scenario::moved, Who::Second).await;
}

#[tokio::test]
async fn the_controller_dies_in_a_move() {
    sampled(Scenario::moved, Who::Controller).await;
    sampled(Scenario::moved_from_one_that_is_off, Who::Controller).await;
}

#[tokio::test]
async fn random_runs_hold() {
    let from = seed();
    hold((from..from + SEEDS).map(Case::made_up).collect()).await;
}

#[tokio::test]
async fn more_random_runs_hold() {
    // Always the same ones, so that what held once is known to hold still.
    hold((1..=SEEDS).map(Case::made_up).collect()).await;
}

/// A quarter of the modes; all four make it whole.
async fn the_whole_journey_in(quarter: usize) {
    let all = modes::all().unwrap();
    assert!(all.len() > 100, "{} modes", all.len());
    let case =
        |mode: modes::Unusual| Case { scenario: Arc::new(move || modes::journey(&mode)), crashes: Crashes::default() };
    hold(all.into_iter().skip(quarter).step_by(4).map(case).collect()).await;
}

#[tokio::test]
async fn the_whole_journey_in_every_mode_1_of_4() {
    the_whole_journey_in(0).await;
}

#[tokio::test]
async fn the_whole_journey_in_every_mode_2_of_4() {
    the_whole_journey_in(1).await;
}

#[tokio::test]
async fn the_whole_journey_in_every_mode_3_of_4() {
    the_whole_journey_in(2).await;
}

#[tokio::test]
async fn the_whole_journey_in_every_mode_4_of_4() {
    the_whole_journey_in(3).await;
}
