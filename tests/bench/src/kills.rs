//! `kill -9`: what the agent sends again and reads again after it. The sink takes so few bytes in a second that half way is
//! a place where one can strike; it counts what came, so that nothing here rests on the agent's own word.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    clients::InFlight,
    command::Running,
    control::{Manner, SinkProcess},
    material::CHUNK,
    rig::{self, Rig, account, say},
    sink::Stats,
};

/// As `--only` calls them.
pub const HALF_WAY: &str = "kill";
pub const AGAIN_AND_AGAIN: &str = "kills";

/// How long the whole file takes at the sink's pace, seconds.
const WHOLE_S: u64 = 12;
/// The least pace: 16 chunks at a time must be through before the next kill, or nothing would ever be done.
const LEAST_MIB_PER_S: u64 = 64;
/// How often it is struck, when it is again and again.
const EVERY: Duration = Duration::from_secs(3);
/// Kills, at most.
const MOST_KILLS: u64 = 100;
/// How often the sink is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the sink may still hear a client that is dead, and how long half way may take.
const LIMIT: Duration = Duration::from_secs(300);

/// How fast the sink is, and how often it is struck.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub mib_per_s: u32,
    /// The time between two kills, when it is killed again and again.
    pub every: Duration,
}

impl Pace {
    /// For a file of so many bytes: it takes some [`WHOLE_S`], but each chunk is done well before the next kill.
    pub fn of(size: u64) -> Self {
        let mib_per_s = (size >> 20).div_ceil(WHOLE_S).max(LEAST_MIB_PER_S);
        Self { mib_per_s: u32::try_from(mib_per_s).unwrap_or(u32::MAX), every: EVERY }
    }
}

/// What came of one kill half way.
#[derive(Clone, Debug, Serialize)]
pub struct HalfWay {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes at the sink when the last of the killed agent had come.
    pub before: u64,
    /// Bytes at the sink in the end.
    pub total: u64,
    /// Most chunks in flight before the kill.
    pub in_flight: u64,
    /// Bytes that the second agent has read, files of every kind: only what goes over sockets is left out.
    pub read: u64,
    /// What the second agent says that it sent again.
    pub told_resent: Option<u64>,
}

/// What came of many.
#[derive(Clone, Debug, Serialize)]
pub struct Kills {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes at the sink in the end.
    pub total: u64,
    /// How often it was struck.
    pub kills: u64,
    /// Most chunks in flight.
    pub in_flight: u64,
}

/// Both; empty when not asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub half_way: Vec<Struck<HalfWay>>,
    pub again: Vec<Struck<Kills>>,
}

/// What came of striking, or why nothing did.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Struck<T: Serialize>(#[serde(serialize_with = "rig::plainly")] pub Result<T, String>);

impl HalfWay {
    /// Bytes sent more than once, of bytes that were in flight at most.
    pub fn resent(&self) -> f64 {
        self.total.saturating_sub(self.size) as f64 / (self.in_flight.max(1) * CHUNK) as f64
    }

    /// Bytes that the second agent read and did not send.
    pub fn read_again(&self) -> u64 {
        self.read.saturating_sub(self.total - self.before)
    }
}

impl Kills {
    /// Bytes sent, of the file's.
    pub fn sent(&self) -> f64 {
        self.total as f64 / self.size as f64
    }
}

/// Strikes.
///
/// # Errors
/// The sink does not start. What the agent does wrong is in the outcome.
pub async fn strike(rig: &Rig, pace: Pace) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let manner = Manner { bandwidth: Some(pace.mib_per_s), ..Manner::default() };
    if rig.choice.scene(HALF_WAY) {
        let sink = rig.sink(HALF_WAY, manner.clone()).await?;
        for round in 1..=rig.rounds {
            let struck = half_way(rig, &sink).await.map_err(|error| format!("{error:#}"));
            match &struck {
                Ok(it) => say(&format!(
                    "round {round}, killed half way: {:.1} MiB sent again, {} in flight",
                    (it.total.saturating_sub(it.size)) as f64 / f64::from(1 << 20),
                    it.in_flight
                )),
                Err(reason) => say(&format!("round {round}, killed half way: {reason}")),
            }
            outcome.half_way.push(Struck(struck));
        }
    }
    if rig.choice.scene(AGAIN_AND_AGAIN) {
        let sink = rig.sink(AGAIN_AND_AGAIN, manner).await?;
        let struck = again_and_again(rig, &sink, pace.every).await.map_err(|error| format!("{error:#}"));
        match &struck {
            Ok(it) => say(&format!("killed {} times: {:.3} times the file was sent", it.kills, it.sent())),
            Err(reason) => say(&format!("killed every {} s: {reason}", pace.every.as_secs())),
        }
        outcome.again.push(Struck(struck));
    }
    Ok(outcome)
}

async fn half_way(rig: &Rig, sink: &SinkProcess) -> anyhow::Result<HalfWay> {
    let iso = &rig.material.iso;
    let state = rig.state(Some(&rig.warm))?;
    let push = rig.agent.push(InFlight::Auto, sink, iso, &state)?;
    sink.reset().await?;
    let mut first = push.spawn(&rig.scratch()?)?;
    reached(sink, &mut first, iso.size / 2).await?;
    first.kill().await?;
    let middle = quiet(sink).await?;
    let mut second = push.spawn(&rig.scratch()?)?;
    let read = read_until_end(&mut second).await?;
    finished(rig, &mut second).await?;
    let last = whole(rig, sink).await?;
    let told_resent = account(&second.stdout()?)?["resent_bytes"].as_u64();
    Ok(HalfWay {
        size: iso.size,
        before: middle.bytes,
        total: last.bytes,
        in_flight: middle.max_in_flight,
        read,
        told_resent,
    })
}

async fn again_and_again(rig: &Rig, sink: &SinkProcess, every: Duration) -> anyhow::Result<Kills> {
    let iso = &rig.material.iso;
    let state = rig.state(Some(&rig.warm))?;
    let push = rig.agent.push(InFlight::Auto, sink, iso, &state)?;
    sink.reset().await?;
    for kills in 0..MOST_KILLS {
        let mut running = push.spawn(&rig.scratch()?)?;
        if let Ok(status) = timeout(every, running.wait()).await {
            if !status?.success() {
                bail!("after {kills} kills: {}", running.last_words());
            }
            let Stats { bytes, max_in_flight, .. } = whole(rig, sink).await?;
            return Ok(Kills { size: iso.size, total: bytes, kills, in_flight: max_in_flight });
        }
        running.kill().await?;
    }
    bail!("it was not done after {MOST_KILLS} kills")
}

/// Waits until the sink has so many bytes.
async fn reached(sink: &SinkProcess, agent: &mut Running, bytes: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while sink.stats().await?.bytes < bytes {
        if let Some(status) = agent.ended()? {
            bail!("the agent ended before half way ({status}): {}", agent.last_words());
        }
        if Instant::now() > deadline {
            bail!("half way was not reached in {} s", LIMIT.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until the sink has heard the last of a client that is dead: what was in the kernel's buffers still comes.
async fn quiet(sink: &SinkProcess) -> anyhow::Result<Stats> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let stats = sink.stats().await?;
        if stats.in_flight == 0 {
            return Ok(stats);
        }
        if Instant::now() > deadline {
            bail!("the sink still hears an agent that is dead");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits for the end of a command without taking its leave, and gives what it has read until then.
async fn read_until_end(running: &mut Running) -> anyhow::Result<u64> {
    let pid = running.pid().context("the agent has ended already")?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("looking at the agent")?;
        // The state stands behind the name, which may hold anything but ends in the last bracket.
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')) {
            let io = fs::read_to_string(format!("/proc/{pid}/io")).context("what the agent has read")?;
            return read_bytes(&io).context("the kernel does not tell what the agent has read");
        }
        if Instant::now() > deadline {
            bail!("the agent does not end");
        }
        sleep(LOOK_EVERY).await;
    }
}

fn read_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("rchar: "))?.trim().parse().ok()
}

async fn finished(rig: &Rig, running: &mut Running) -> anyhow::Result<()> {
    let status = running.wait().await?;
    if !status.success() {
        bail!("{} failed when it was to go on ({status}): {}", rig.agent.program.display(), running.last_words());
    }
    Ok(())
}

/// The sink's counters, once it has every chunk.
async fn whole(rig: &Rig, sink: &SinkProcess) -> anyhow::Result<Stats> {
    let stats = quiet(sink).await?;
    let chunks = rig.material.digests.len() as u64;
    if stats.chunks_ok < chunks {
        bail!("the agent says that it is done, the sink has {} of {chunks} chunks", stats.chunks_ok);
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_is_held_against_what_was_in_flight() {
        let chunks = |n: u64| n * CHUNK;
        let it = HalfWay {
            size: chunks(100),
            before: chunks(52),
            total: chunks(103),
            in_flight: 4,
            read: chunks(51) + 5,
            told_resent: None,
        };
        assert_eq!((it.resent(), it.read_again()), (0.75, 5));
        // A sink that resets is not worth a panic.
        assert_eq!(HalfWay { total: chunks(99), in_flight: 0, ..it }.resent(), 0.0);
        assert_eq!(Kills { size: 100, total: 104, kills: 3, in_flight: 4 }.sent(), 1.04);
    }

    #[test]
    fn what_was_read_is_found_in_the_kernels_words() {
        assert_eq!(read_bytes("rchar: 300\nwchar: 5\nread_bytes: 7\n"), Some(300));
        assert_eq!((read_bytes(""), read_bytes("rchar: x")), (None, None));
    }
}
