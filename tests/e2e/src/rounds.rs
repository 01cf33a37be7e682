//! Rounds of bad luck with real processes: in each one a deployment, while the controller, the agent and `ctl` are killed
//! with `kill -9` and the line goes bad, at moments that a seed chooses. Then everything heals, and must be as if nothing
//! had been.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use gantry_proto::JobId;
use serde_json::{Value, json};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};

use crate::{
    binaries::Binaries,
    lab::{Lab, LabOptions, text},
    logs,
    proxy::Mode,
};

/// A job that has not ended so long after everything is healed hangs.
const HEALED_LIMIT: Duration = Duration::from_secs(180);
/// Nothing in a round takes longer.
const ROUND_LIMIT: Duration = Duration::from_secs(400);
/// Runs as fast as the quick labs of the tests.
const TIME_SCALE: f64 = 200.0;

/// Plays so many rounds; the seed of each is the first one's plus its number, and `run(1, that)` plays it again. Prints a
/// line for each to stderr. Gives how many passed and how many failed.
pub async fn run(rounds: u32, seed: u64) -> (u32, u32) {
    let binaries = match tokio::task::spawn_blocking(Binaries::build).await {
        Ok(Ok(binaries)) => binaries,
        failed => {
            say(&format!("no round is played: {failed:?}"));
            return (0, rounds);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for number in 0..rounds {
        let seed = seed.wrapping_add(number.into());
        let (began, mut story) = (Instant::now(), String::new());
        let played = timeout(ROUND_LIMIT, Box::pin(round(binaries.clone(), seed, &mut story))).await;
        let played = played.unwrap_or_else(|_| Err(anyhow::anyhow!("the round did not end within {ROUND_LIMIT:?}")));
        let took = began.elapsed().as_secs();
        match played {
            Ok(()) => {
                passed += 1;
                say(&format!("round {}/{rounds} seed {seed}: ok in {took} s:{story}", number + 1));
            }
            Err(error) => {
                failed += 1;
                say(&format!("round {}/{rounds} seed {seed}: FAILED in {took} s:{story}\n{error:?}", number + 1));
            }
        }
    }
    (passed, failed)
}

async fn round(binaries: Binaries, seed: u64, story: &mut String) -> anyhow::Result<()> {
    let mut dice = Dice(seed);
    let mut lab = Lab::start_with(binaries, options()).await?;
    let job = JobId::new().to_string();
    let mut ctl = deploy(&lab, &job)?;
    for _ in 0..dice.between(3, 8) {
        sleep(dice.ms(50, 2_000)).await;
        let blow = strike(&mut lab, &mut ctl, &job, &mut dice).await;
        let _ = write!(story, " {}", blow.with_context(|| format!("a blow could not be dealt\n{}", lab.logs()))?);
    }
    lab.line()?.set(Mode::PASS);
    ctl.kill().await?;
    drop(ctl);
    settled(&lab, &job).await.with_context(|| format!("all processes:\n{}", lab.logs()))?;
    lab.stop().await
}

fn options() -> LabOptions {
    LabOptions {
        iso_bytes: (1 << 20) + 1,
        time_scale: TIME_SCALE,
        scenario: json!({"chunk_size": 1 << 16}),
        controller: json!({"link": {"heartbeat_ms": 400, "silence_ms": 600}}),
        agent: json!({"link": {"connect_timeout_ms": 2_000, "hello_timeout_ms": 2_000, "retry_first_ms": 20,
            "retry_cap_ms": 800}}),
        proxied: true,
        ..LabOptions::default()
    }
}

/// The operator, who follows what he has submitted. Under the same id it is the same job, however often he begins.
fn deploy(lab: &Lab, job: &str) -> anyhow::Result<Child> {
    let workbook = lab.workbook();
    let mut command = lab.ctl_command(&["deploy", "--watch", "--job-id", job]);
    command.arg(workbook).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("starting ctl")
}

/// One piece of bad luck; what it was.
async fn strike(lab: &mut Lab, ctl: &mut Child, job: &str, dice: &mut Dice) -> anyhow::Result<String> {
    let pause = dice.ms(0, 1_000);
    let blow = match dice.between(0, 11) {
        0 | 1 => {
            lab.kill_controller().await?;
            sleep(pause).await;
            lab.start_controller().await?;
            "controller".to_owned()
        }
        2 | 3 => {
            lab.kill_agent().await?;
            sleep(pause).await;
            lab.start_agent().await?;
            "agent".to_owned()
        }
        4 => {
            lab.kill_agent().await?;
            lab.kill_controller().await?;
            sleep(pause).await;
            lab.start_controller().await?;
            lab.start_agent().await?;
            "agent+controller".to_owned()
        }
        5 => {
            ctl.kill().await?;
            sleep(pause).await;
            *ctl = deploy(lab, job)?;
            "ctl".to_owned()
        }
        6 => {
            lab.line()?.cut();
            return Ok("cut".to_owned());
        }
        which => {
            let (name, mode) = match which {
                7 => ("refuse", Mode::refuse()),
                8 => ("black-hole", Mode::black_hole()),
                9 => ("half-open", if dice.between(0, 1) == 0 { Mode::deaf() } else { Mode::mute() }),
                10 => ("throttle", Mode::slow(Duration::ZERO, Some(dice.between(2_000, 125_000)))),
                _ => ("late", Mode::slow(dice.ms(10, 300), None)),
            };
            lab.line()?.set(mode);
            // Sometimes the next blow falls while the line is still bad.
            if dice.between(0, 2) > 0 {
                sleep(pause * 2).await;
                lab.line()?.set(Mode::PASS);
            }
            return Ok(name.to_owned());
        }
    };
    Ok(format!("{blow}({} ms)", pause.as_millis()))
}

/// Everything is healed: the job ends well, and both ends and the world say the same.
async fn settled(lab: &Lab, job: &str) -> anyhow::Result<()> {
    // It may be that no ctl has lived long enough to submit it.
    let submitted = async {
        loop {
            let workbook = lab.workbook();
            let output = lab.ctl(&["deploy", "--job-id", job, &workbook.to_string_lossy()]).await?;
            match output.status.code() {
                Some(0) => return Ok(()),
                // The agent may never have been in contact, or the controller may be starting.
                Some(6 | 7) => sleep(Duration::from_millis(200)).await,
                _ => bail!("ctl deploy: {}", text(&output)),
            }
        }
    };
    timeout(HEALED_LIMIT, submitted).await.context("the job cannot be submitted")??;
    let code = timeout(HEALED_LIMIT, lab.watch(job)).await.context("the job does not end")??;
    ensure!(code == 0, "ctl watch ended with {code}");
    logs::same(lab, job).await?;
    let control = lab.control()?;
    control.check_invariants().await?;
    let world = control.world().await?;
    let count = |kind: &str| match &world[kind] {
        Value::Array(items) => items.len(),
        Value::Object(items) => items.len(),
        _ => 0,
    };
    let counts = (count("vms"), count("images"));
    ensure!(counts == (1, 1), "{counts:?} VMs and images instead of one each");
    let jobs = lab.ctl_json(&["-o", "json", "jobs"]).await?;
    let jobs = jobs["jobs"].as_array().map_or(0, Vec::len);
    ensure!(jobs == 1, "{jobs} jobs instead of one");
    Ok(())
}

/// Chance that a seed decides (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both ends included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stderr(), "{line}");
}
