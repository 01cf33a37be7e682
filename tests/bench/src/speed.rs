//! The rounds: every client at every sink in turn, round after round, so that a slow minute of the machine slows all.

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    clients::{Client, InFlight, PARALLEL},
    control::{Manner, SinkProcess},
    material::cool,
    rig::{self, Figures, Rig, say},
};

/// The agent with nothing to do, as tables call it.
pub const IDLE: &str = "agent-idle";
/// 4 chunks in flight, the number that the bars speak of.
pub const FOUR: Client = Client::Agent(InFlight::Fixed(4));
/// As many in flight as the agent finds good.
pub const AUTO: Client = Client::Agent(InFlight::Auto);
/// One after the other.
pub const ONE: Client = Client::Agent(InFlight::Fixed(1));

/// A part of the run that is measured in rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// No server time.
    Ms0,
    /// 20 ms of server time for each chunk.
    Ms20,
    /// 200 ms.
    Ms200,
    /// A server that refuses a second chunk in flight.
    Serial,
    /// The file is not in the page cache, and the agent has no digests of it.
    Cold,
}

/// One upload: who, where, when, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scene: &'static str,
    pub client: String,
    /// From 1.
    pub round: usize,
    /// Why it does not count, otherwise.
    #[serde(serialize_with = "rig::plainly")]
    pub figures: Result<Figures, String>,
}

/// All uploads so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    pub rows: Vec<Row>,
}

impl Scene {
    /// In the order of a round.
    pub const ALL: [Self; 5] = [Self::Ms0, Self::Ms20, Self::Ms200, Self::Serial, Self::Cold];

    /// As `--only` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ms0 => "0ms",
            Self::Ms20 => "20ms",
            Self::Ms200 => "200ms",
            Self::Serial => "serial",
            Self::Cold => "cold",
        }
    }

    /// As the report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ms0 => "0 ms of server time per chunk",
            Self::Ms20 => "20 ms of server time per chunk",
            Self::Ms200 => "200 ms of server time per chunk",
            Self::Serial => "a server that refuses a second chunk in flight, 0 ms",
            Self::Cold => "cold: the file not in the page cache, its digests not known, 0 ms",
        }
    }

    /// Who is measured here.
    pub fn clients(self) -> Vec<Client> {
        let curls = PARALLEL.into_iter().map(Client::Curl);
        match self {
            Self::Ms0 => curls.chain([Client::DigestThenCurl(4), Client::Loop, FOUR, AUTO]).collect(),
            Self::Ms20 | Self::Ms200 => curls.chain([Client::Loop, FOUR, AUTO]).collect(),
            Self::Serial => vec![Client::Curl(1), ONE, AUTO],
            Self::Cold => vec![Client::Curl(4), FOUR],
        }
    }

    fn manner(self) -> Manner {
        let latency_ms = match self {
            Self::Ms20 => 20,
            Self::Ms200 => 200,
            _ => 0,
        };
        Manner { latency_ms, serial: self == Self::Serial, ..Manner::default() }
    }
}

impl Table {
    /// A figure of one client at one scene, round by round; `None` where it does not count.
    pub fn column(&self, scene: &str, client: &str, figure: impl Fn(&Figures) -> f64) -> Vec<Option<f64>> {
        let rows = self.of(scene, client);
        rows.map(|row| row.figures.as_ref().ok().map(&figure)).collect()
    }

    /// Why a client's figures at a scene do not count: the first reason, and how many there are. `None` when all count.
    pub fn failures(&self, scene: &str, client: &str) -> Option<(String, usize)> {
        let mut reasons = self.of(scene, client).filter_map(|row| row.figures.as_ref().err());
        let first = reasons.next()?.clone();
        Some((first, 1 + reasons.count()))
    }

    /// Who was measured at a scene, in the order of its first round.
    pub fn clients(&self, scene: &str) -> Vec<&str> {
        let mut names = Vec::new();
        for row in self.rows.iter().filter(|row| row.scene == scene) {
            if !names.contains(&row.client.as_str()) {
                names.push(row.client.as_str());
            }
        }
        names
    }

    /// Adds an upload, and tells it.
    pub fn add(&mut self, scene: &'static str, client: String, round: usize, figures: anyhow::Result<Figures>) {
        let figures = figures.map_err(|error| format!("{error:#}"));
        let told = match &figures {
            Ok(it) if it.bytes > 0 => {
                format!("{:.2} s, {:.0} MiB/s, {:.2} CPU s/GiB", it.wall_s, it.mib_per_s(), it.cpu_per_gib())
            }
            Ok(it) => format!("{:.1} MiB", it.peak_bytes as f64 / f64::from(1 << 20)),
            Err(reason) => format!("does not count: {reason}"),
        };
        say(&format!("round {round}, {scene}, {client}: {told}"));
        self.rows.push(Row { scene, client, round, figures });
    }

    fn of<'a>(&'a self, scene: &'a str, client: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.scene == scene && row.client == client)
    }
}

/// Makes all rounds.
///
/// # Errors
/// A sink does not start, or has ended. What a client does wrong is in the table.
pub async fn rounds(rig: &Rig, table: &mut Table) -> anyhow::Result<()> {
    let mut sinks = Vec::new();
    for scene in Scene::ALL.into_iter().filter(|scene| rig.choice.scene(scene.name())) {
        sinks.push((scene, rig.sink(scene.name(), scene.manner()).await?));
    }
    for round in 1..=rig.rounds {
        for (scene, sink) in &mut sinks {
            let mut clients = scene.clients();
            // Nobody is always the first, or always behind the same.
            let turn = (round - 1) % clients.len();
            clients.rotate_left(turn);
            for client in clients.into_iter().filter(|client| rig.choice.client(*client)) {
                one(rig, table, *scene, sink, client, round).await?;
            }
            sink.check()?;
        }
    }
    Ok(())
}

async fn one(
    rig: &Rig,
    table: &mut Table,
    scene: Scene,
    sink: &SinkProcess,
    client: Client,
    round: usize,
) -> anyhow::Result<()> {
    let figures =
        if scene == Scene::Cold { cold(rig, sink, client).await } else { warm(rig, scene, sink, client).await };
    let counts = figures.is_ok();
    table.add(scene.name(), client.name(), round, figures);
    if scene == Scene::Ms0 && client == FOUR && counts {
        table.add(scene.name(), IDLE.to_owned(), round, rig.idle(sink, &rig.dir.join("state")).await);
    }
    Ok(())
}

async fn warm(rig: &Rig, scene: Scene, sink: &SinkProcess, client: Client) -> anyhow::Result<Figures> {
    rig.upload(client, sink, scene == Scene::Serial).await
}

async fn cold(rig: &Rig, sink: &SinkProcess, client: Client) -> anyhow::Result<Figures> {
    let iso = &rig.material.iso;
    match client {
        Client::Agent(in_flight) => {
            cool(&iso.path)?;
            let state = rig.state(None).context("making an empty state")?;
            rig.push(in_flight, sink, iso, crate::material::CHUNK, &state, false).await
        }
        _ => {
            rig.material.cool_chunks()?;
            rig.upload(client, sink, false).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_by_round_and_failures_are_counted() {
        let mut table = Table::default();
        let figures = |wall_s| Figures {
            wall_s,
            cpu_s: 1.0,
            peak_bytes: 0,
            bytes: 1 << 30,
            in_flight: 1,
            sink_cpu_s: 0.0,
            suites: Vec::new(),
            result: None,
        };
        table.add("0ms", "a".into(), 1, Ok(figures(2.0)));
        table.add("0ms", "b".into(), 1, Ok(figures(1.0)));
        table.add("0ms", "a".into(), 2, Err(anyhow::anyhow!("broken")));
        table.add("20ms", "a".into(), 2, Ok(figures(9.0)));
        assert_eq!(table.column("0ms", "a", Figures::mib_per_s), [Some(512.0), None]);
        assert_eq!(table.column("0ms", "b", Figures::cpu_per_gib), [Some(1.0)]);
        assert_eq!(table.failures("0ms", "a"), Some(("broken".to_owned(), 1)));
        assert_eq!(table.failures("0ms", "b"), None);
        assert_eq!(table.clients("0ms"), ["a", "b"]);
        assert_eq!(serde_json::to_value(&table).unwrap()["rows"][2]["figures"]["failed"], "broken");
    }

    #[test]
    fn names_are_told_apart() {
        let all: Vec<String> = Scene::ALL.iter().flat_map(|scene| scene.clients()).map(Client::name).collect();
        for client in [FOUR, AUTO, ONE] {
            assert!(all.contains(&client.name()) && client.is_agent());
        }
        assert_eq!(Scene::Ms200.clients().len(), PARALLEL.len() + 3);
    }
}
