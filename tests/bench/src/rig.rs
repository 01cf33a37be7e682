//! One upload by one client, from an empty sink to figures that count. A figure counts only if the sink says that every
//! chunk came once and whole, with as many in flight as were asked for.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::{
    clients::{self, Agent, Client, InFlight},
    command::Done,
    control::{Manner, SinkProcess},
    material::{CHUNK, Iso, Material},
    sink::Stats,
};

/// Everything that does not change during a run.
#[derive(Debug)]
pub struct Rig {
    pub agent: Agent,
    pub sink: PathBuf,
    pub measure: PathBuf,
    /// Where everything lies that is removed at the end.
    pub dir: PathBuf,
    pub material: Material,
    /// An agent's state that knows the digests of the material's ISO.
    pub warm: PathBuf,
    /// Rounds.
    pub rounds: usize,
    pub choice: Choice,
}

/// What was asked for with `--only`; nothing is everything.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub scenes: Vec<String>,
    pub clients: Vec<String>,
}

/// Figures of one upload.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Seconds from the start of the process to its end.
    pub wall_s: f64,
    /// CPU seconds of the client.
    pub cpu_s: f64,
    /// Most resident bytes of its largest process.
    pub peak_bytes: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Most chunks in flight, as the sink saw it.
    pub in_flight: u64,
    /// CPU seconds of the sink.
    pub sink_cpu_s: f64,
    /// What the connections agreed on.
    pub suites: Vec<String>,
    /// The agent's own account.
    pub result: Option<Value>,
}

/// What the sink's counters have to say for a figure to count.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub chunks: u64,
    /// Exactly so many; `None` for the client's choice.
    pub in_flight: Option<u32>,
    /// Whether the sink may have refused chunks, which are then lost.
    pub refusals: bool,
}

impl Choice {
    /// Whether a part of the run is wanted.
    pub fn scene(&self, name: &str) -> bool {
        self.scenes.is_empty() || self.scenes.iter().any(|wanted| wanted == name)
    }

    /// Whether a client is wanted.
    pub fn client(&self, client: Client) -> bool {
        self.clients.is_empty() || self.clients.contains(&client.name())
    }
}

impl Figures {
    /// Throughput.
    pub fn mib_per_s(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20) / self.wall_s
    }

    /// CPU seconds for each GiB of the file.
    pub fn cpu_per_gib(&self) -> f64 {
        self.cpu_s / gib(self.bytes)
    }
}

impl Terms {
    /// Why a figure does not count.
    ///
    /// # Errors
    /// The reason.
    pub fn check(self, stats: &Stats) -> Result<(), String> {
        let Self { chunks, in_flight, refusals } = self;
        let Stats { chunks_ok, chunks_dup, chunks_bad, chunks_refused, lost_bytes, max_in_flight, .. } = stats;
        let wanted = in_flight.map(|wanted| u64::from(wanted).min(chunks));
        if *chunks_ok != chunks {
            Err(format!("the sink has {chunks_ok} of {chunks} chunks"))
        } else if *chunks_dup > 0 {
            Err(format!("the sink got {chunks_dup} chunks twice"))
        } else if *chunks_bad > 0 || (!refusals && (*lost_bytes > 0 || *chunks_refused > 0)) {
            Err(format!("the sink threw away {} chunks, {lost_bytes} bytes", chunks_bad + chunks_refused))
        } else if wanted.is_some_and(|wanted| wanted != *max_in_flight) {
            Err(format!("{max_in_flight} chunks were in flight, not {}", wanted.unwrap_or_default()))
        } else {
            Ok(())
        }
    }
}

impl Rig {
    /// A sink with the material's MD5; `name` tells its files from others'.
    ///
    /// # Errors
    /// It does not start.
    pub async fn sink(&self, name: &str, manner: Manner) -> anyhow::Result<SinkProcess> {
        let md5 = if manner.md5.is_empty() { self.material.iso.md5.clone() } else { manner.md5 };
        let chunk_size = if manner.chunk_size == 0 { CHUNK } else { manner.chunk_size };
        SinkProcess::start(&self.sink, &self.dir, name, &Manner { md5, chunk_size, ..manner }).await
    }

    /// One upload of the material by `client` to an emptied `sink`.
    ///
    /// # Errors
    /// It fails, or does not count.
    pub async fn upload(&self, client: Client, sink: &SinkProcess, refusals: bool) -> anyhow::Result<Figures> {
        if let Client::Agent(in_flight) = client {
            let state = self.state(Some(&self.warm))?;
            return self.push(in_flight, sink, &self.material.iso, CHUNK, &state, refusals).await;
        }
        sink.reset().await?;
        let scratch = self.scratch()?;
        let program = clients::foreign(client, sink, &self.material, &scratch).await?;
        let done = program.measured(&self.measure, &scratch).await?;
        let terms = Terms { chunks: self.material.digests.len() as u64, in_flight: client.in_flight(), refusals };
        figures(&done, sink, self.material.iso.size, terms, None).await
    }

    /// One upload by the agent, from `state` on.
    ///
    /// # Errors
    /// It fails, or does not count.
    pub async fn push(
        &self,
        in_flight: InFlight,
        sink: &SinkProcess,
        iso: &Iso,
        chunk_size: u64,
        state: &Path,
        refusals: bool,
    ) -> anyhow::Result<Figures> {
        sink.reset().await?;
        let program = self.agent.push(in_flight, sink, iso, state)?;
        let done = program.measured(&self.measure, &self.scratch()?).await?;
        let result = account(&done.stdout)?;
        if result["reused"] == Value::Bool(true) || result["bytes"] != iso.size {
            bail!("the agent says that it did not upload {} bytes: {result}", iso.size);
        }
        let sha256 = result["sha256"].as_str().unwrap_or_default();
        if !sha256.eq_ignore_ascii_case(&iso.sha256) {
            bail!("the agent says that the file's SHA-256 is {sha256:?}, it is {}", iso.sha256);
        }
        let chunks = iso.size.div_ceil(chunk_size);
        let terms = Terms { chunks, in_flight: Client::Agent(in_flight).in_flight(), refusals };
        figures(&done, sink, iso.size, terms, Some(result)).await
    }

    /// The agent with nothing to do: the image is there already. Must follow an upload by the agent from `state`.
    ///
    /// # Errors
    /// It fails, or uploads.
    pub async fn idle(&self, sink: &SinkProcess, state: &Path) -> anyhow::Result<Figures> {
        let program = self.agent.push(InFlight::Auto, sink, &self.material.iso, state)?;
        let before = sink.stats().await?.bytes;
        let done = program.measured(&self.measure, &self.scratch()?).await?;
        let (result, after) = (account(&done.stdout)?, sink.stats().await?);
        if result["reused"] != Value::Bool(true) || after.bytes != before {
            bail!("the agent did not reuse the image that it had just uploaded: {result}");
        }
        let usage = &done.usage;
        Ok(Figures {
            wall_s: usage.wall_s,
            cpu_s: usage.cpu_s(),
            peak_bytes: usage.peak_bytes,
            bytes: 0,
            in_flight: 0,
            sink_cpu_s: 0.0,
            suites: Vec::new(),
            result: Some(result),
        })
    }

    /// A fresh state directory for the agent, as a copy of `from`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn state(&self, from: Option<&Path>) -> anyhow::Result<PathBuf> {
        let state = self.dir.join("state");
        fresh(&state)?;
        if let Some(from) = from {
            copy(from, &state).with_context(|| format!("copying {}", from.display()))?;
        }
        Ok(state)
    }

    /// A state directory that knows the digests of `iso`, if the agent can make one; otherwise an empty one.
    ///
    /// # Errors
    /// The scan fails.
    pub async fn scanned(&self, iso: &Iso, state: &Path) -> anyhow::Result<()> {
        scan(&self.agent, &self.measure, iso, state, &self.scratch()?).await
    }

    /// An empty directory for one command.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> anyhow::Result<PathBuf> {
        let scratch = self.dir.join("scratch");
        fresh(&scratch)?;
        Ok(scratch)
    }
}

/// See [`Rig::scanned`].
///
/// # Errors
/// The scan fails.
pub async fn scan(agent: &Agent, measure: &Path, iso: &Iso, state: &Path, scratch: &Path) -> anyhow::Result<()> {
    fresh(state)?;
    if agent.scan {
        agent.scan(iso, state).measured(measure, scratch).await.context("agent iso scan")?;
    }
    Ok(())
}

/// What the agent has printed.
///
/// # Errors
/// It is no JSON.
pub fn account(stdout: &str) -> anyhow::Result<Value> {
    serde_json::from_str(stdout).with_context(|| format!("the agent's result is no JSON: {stdout:?}"))
}

/// Tells how far the run is.
pub fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stderr(), "bench: {text}");
}

/// GiB in so many bytes.
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Writes a figure, or why there is none as `{"failed": reason}`.
pub(crate) fn plainly<T: Serialize, S: Serializer>(
    outcome: &Result<T, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match outcome {
        Ok(figures) => figures.serialize(serializer),
        Err(failed) => json!({ "failed": failed }).serialize(serializer),
    }
}

async fn figures(
    done: &Done,
    sink: &SinkProcess,
    bytes: u64,
    terms: Terms,
    result: Option<Value>,
) -> anyhow::Result<Figures> {
    let stats = sink.stats().await?;
    terms.check(&stats).map_err(anyhow::Error::msg)?;
    let usage = &done.usage;
    Ok(Figures {
        wall_s: usage.wall_s,
        cpu_s: usage.cpu_s(),
        peak_bytes: usage.peak_bytes,
        bytes,
        in_flight: stats.max_in_flight,
        sink_cpu_s: stats.cpu_s,
        suites: stats.suites.into_keys().collect(),
        result,
    })
}

/// Makes an empty directory, whatever was there before.
fn fresh(dir: &Path) -> anyhow::Result<()> {
    let made = match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir(dir),
    };
    made.with_context(|| format!("making {} anew", dir.display()))
}

/// Copies what is in a directory, with its permissions.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { chunks: 4, in_flight: Some(2), refusals: false };

    fn good() -> Stats {
        Stats { chunks_ok: 4, max_in_flight: 2, bytes: 40, ..Stats::default() }
    }

    #[test]
    fn only_a_whole_upload_counts() {
        assert_eq!(TERMS.check(&good()), Ok(()));
        for bad in [
            Stats { chunks_ok: 3, ..good() },
            Stats { chunks_ok: 5, ..good() },
            Stats { chunks_dup: 1, ..good() },
            Stats { chunks_bad: 1, ..good() },
            Stats { chunks_refused: 1, lost_bytes: 10, ..good() },
            Stats { lost_bytes: 1, ..good() },
            Stats { max_in_flight: 1, ..good() },
            Stats { max_in_flight: 3, ..good() },
        ] {
            assert!(TERMS.check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whoever_chooses_may_have_any_number_in_flight_and_be_refused_where_that_is_the_point() {
        let terms = Terms { in_flight: None, refusals: true, ..TERMS };
        assert_eq!(terms.check(&Stats { max_in_flight: 9, chunks_refused: 2, lost_bytes: 20, ..good() }), Ok(()));
        assert!(terms.check(&Stats { chunks_bad: 1, ..good() }).is_err());
        // There are no more in flight than there are chunks.
        let terms = Terms { in_flight: Some(16), ..TERMS };
        assert_eq!(terms.check(&Stats { max_in_flight: 4, ..good() }), Ok(()));
    }

    #[test]
    fn a_state_is_copied_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/file"), "x").unwrap();
        fresh(&to).unwrap();
        fs::write(to.join("old"), "old").unwrap();
        fresh(&to).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("inner/file")).unwrap(), "x");
        assert!(!to.join("old").exists());
    }
}
