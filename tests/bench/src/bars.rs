//! What must be reached, and what is aimed at, each held against figures of the same run. Pure.

use serde::Serialize;

use crate::{
    clients::{Client, PARALLEL},
    figures::{Spread, best, ratios, spread},
    kills::{self, Outcome, Struck},
    memory,
    rig::Figures,
    speed::{AUTO, FOUR, IDLE, ONE, Scene, Table},
};

/// Bytes that the agent reads besides the ISO: libraries, its state, `/proc`. More counts as read again.
const OTHER_READS: u64 = 1 << 20;
/// Bytes of a MiB.
const MIB: f64 = (1 << 20) as f64;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sense {
    AtLeast,
    AtMost,
}

/// A figure that is held against a bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    Is(f64),
    /// It was not asked for.
    NotRun,
    /// It was, and there is none.
    Failed(String),
}

/// How a bar is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Goal,
    Must,
    Missed,
    NotRun,
    Failed,
}

/// One bar.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    pub what: String,
    pub against: String,
    pub sense: Sense,
    /// `x` for a ratio, else what it is counted in.
    pub unit: &'static str,
    /// `None` when only a goal is set.
    pub must: Option<f64>,
    pub goal: f64,
    /// The median of the rounds, or what the bar says.
    pub value: Value,
    /// The ratio of each round that counts, where the value is their median.
    pub rounds: Vec<f64>,
    /// Rounds that do not count, or what else should be known.
    pub note: Option<String>,
}

impl Bar {
    /// Whether and how it is met.
    pub fn verdict(&self) -> Verdict {
        let reached = |bar: f64, value: f64| match self.sense {
            Sense::AtLeast => value >= bar,
            Sense::AtMost => value <= bar,
        };
        match &self.value {
            Value::NotRun => Verdict::NotRun,
            Value::Failed(_) => Verdict::Failed,
            Value::Is(value) if reached(self.goal, *value) => Verdict::Goal,
            // Short of a goal beside which nothing must be: as good as what must be.
            Value::Is(value) if self.must.is_none_or(|must| reached(must, *value)) => Verdict::Must,
            Value::Is(_) => Verdict::Missed,
        }
    }

    fn new(what: impl Into<String>, against: impl Into<String>, sense: Sense, must: f64, goal: f64) -> Self {
        Self {
            what: what.into(),
            against: against.into(),
            sense,
            unit: "x",
            must: Some(must),
            goal,
            value: Value::NotRun,
            rounds: Vec::new(),
            note: None,
        }
    }
}

/// Every bar, with what this run says to it.
pub fn all(table: &Table, kills: &Outcome) -> Vec<Bar> {
    let mut bars = speed(table);
    bars.push(peak(table));
    bars.push(memory_bar(table, memory::LARGE_FILE, memory::SMALL_FILE));
    bars.push(memory_bar(table, memory::LARGE_CHUNKS, memory::SMALL_CHUNKS));
    bars.extend(killed(kills));
    bars
}

/// A client at a scene.
type Place = (Scene, String);

fn at(scene: Scene, client: Client) -> Place {
    (scene, client.name())
}

fn speed(table: &Table) -> Vec<Bar> {
    use Sense::{AtLeast, AtMost};
    let (ms0, ms20, ms200, serial) = (Scene::Ms0, Scene::Ms20, Scene::Ms200, Scene::Serial);
    let (par4, work) = (Client::Curl(4), Client::DigestThenCurl(4));
    let speed = Figures::mib_per_s;
    let cpu = Figures::cpu_per_gib;
    let best_curl = best_curl(table, ms200);
    let against_best = best_curl.clone().unwrap_or_else(|| "the best of curl".to_owned());
    let curl = "curl --parallel 4, no hash";
    let equal = "openssl dgst, then curl";
    let throughput = "throughput, 4 in flight, hashing";
    let bar =
        |bar: Bar, figure: fn(&Figures) -> f64, ours: Place, theirs: Place| ratio(bar, table, figure, &ours, &theirs);
    let four = || at(ms0, FOUR);
    vec![
        bar(Bar::new(throughput, curl, AtLeast, 0.95, 1.2), speed, four(), at(ms0, par4)),
        bar(Bar::new(throughput, equal, AtLeast, 1.5, 1.9), speed, four(), at(ms0, work)),
        bar(Bar::new("client CPU per GiB", curl, AtMost, 1.3, 1.1), cpu, four(), at(ms0, par4)),
        bar(Bar::new("client CPU per GiB", equal, AtMost, 0.75, 0.6), cpu, four(), at(ms0, work)),
        bar(
            Bar::new("throughput at 20 ms, auto", "its own at 0 ms", AtLeast, 0.85, 0.95),
            speed,
            at(ms20, AUTO),
            at(ms0, AUTO),
        ),
        bar(
            Bar::new("throughput at 200 ms, auto", format!("{against_best} (best of 1..16)"), AtLeast, 0.9, 0.97),
            speed,
            at(ms200, AUTO),
            (ms200, against_best),
        ),
        bar(
            Bar::new("one in flight, server that refuses more", "curl sequential", AtLeast, 0.9, 1.0),
            speed,
            at(serial, ONE),
            at(serial, Client::Curl(1)),
        ),
        bar(
            Bar::new("the same, auto: it finds out by itself", "curl sequential", AtLeast, 0.9, 1.0),
            speed,
            at(serial, AUTO),
            at(serial, Client::Curl(1)),
        ),
    ]
}

/// The way to call curl that is fastest at a scene.
pub fn best_curl(table: &Table, scene: Scene) -> Option<String> {
    let names: Vec<String> = PARALLEL.into_iter().map(|n| Client::Curl(n).name()).collect();
    let columns = names.iter().map(|name| (name.as_str(), table.column(scene.name(), name, Figures::mib_per_s)));
    best(columns).map(str::to_owned)
}

/// The median of the ratios round by round, and what should be known about it.
fn ratio(bar: Bar, table: &Table, figure: fn(&Figures) -> f64, ours: &Place, theirs: &Place) -> Bar {
    let column = |place: &Place| table.column(place.0.name(), &place.1, figure);
    let (own, other) = (column(ours), column(theirs));
    if own.is_empty() || other.is_empty() {
        return bar;
    }
    let failures = [ours, theirs].into_iter().filter_map(|(scene, client)| {
        let (reason, count) = table.failures(scene.name(), client)?;
        Some((format!("{client} at {}: {reason}", scene.name()), count))
    });
    let failure = failures.into_iter().next();
    let rounds = ratios(&own, &other);
    let (value, note) = match (Spread::of(&rounds), failure) {
        (Some(spread), None) => (Value::Is(spread.median), None),
        (Some(spread), Some((reason, count))) => {
            (Value::Is(spread.median), Some(format!("{count} of {} rounds do not count: {reason}", own.len())))
        }
        (None, Some((reason, _))) => (Value::Failed(reason), None),
        (None, None) => (Value::Failed("there is no round with both".to_owned()), None),
    };
    Bar { value, rounds, note, ..bar }
}

/// The largest peak of any of the agent's uploads with chunks of the usual size, above the one with nothing to do.
fn peak(table: &Table) -> Bar {
    let warm = [Scene::Ms0, Scene::Ms20, Scene::Ms200, Scene::Serial];
    let clients = [FOUR, AUTO, ONE].map(Client::name);
    let peaks = |scene: Scene, client: &str| table.column(scene.name(), client, |figures| figures.peak_bytes as f64);
    let all = warm.into_iter().flat_map(|scene| clients.iter().map(move |client| (scene, client)));
    let busiest = all
        .filter_map(|(scene, client)| Some((spread(&peaks(scene, client))?.max, scene, client)))
        .max_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let idle = spread(&peaks(Scene::Ms0, IDLE));
    let bar = Bar::new("peak memory above the idle agent", "absolute", Sense::AtMost, 32.0, 16.0);
    let (value, note) = match (busiest, idle) {
        (Some((most, scene, client)), Some(idle)) => {
            let note = format!(
                "{:.1} MiB, {client} at {}; idle, the image there already: {:.1} MiB",
                most / MIB,
                scene.name(),
                idle.median / MIB
            );
            (Value::Is((most - idle.median) / MIB), Some(note))
        }
        _ => {
            let failed = table.failures(Scene::Ms0.name(), &FOUR.name());
            let failed = failed.or_else(|| table.failures(Scene::Ms0.name(), IDLE));
            (failed.map_or(Value::NotRun, |(reason, _)| Value::Failed(reason)), None)
        }
    };
    Bar { unit: "MiB", value, note, ..bar }
}

fn memory_bar(table: &Table, ours: &str, theirs: &str) -> Bar {
    let peaks = |client: &str| table.column(memory::SCENE, client, |figures| figures.peak_bytes as f64);
    let (own, other) = (peaks(ours), peaks(theirs));
    let value = match (spread(&own), spread(&other)) {
        _ if own.is_empty() && other.is_empty() => Value::NotRun,
        (Some(own), Some(other)) if other.median > 0.0 => Value::Is(own.median / other.median),
        _ => {
            let failed = table.failures(memory::SCENE, ours).or_else(|| table.failures(memory::SCENE, theirs));
            Value::Failed(failed.map_or_else(|| "there is no figure".to_owned(), |(reason, _)| reason))
        }
    };
    let bar = Bar::new(format!("peak memory, {ours}"), format!("its own, {theirs}"), Sense::AtMost, 1.1, 1.05);
    Bar { value, ..bar }
}

fn killed(kills: &Outcome) -> Vec<Bar> {
    let value = |figure: fn(&kills::HalfWay) -> f64| worst(kills.half_way.iter(), figure);
    let first = kills.half_way.iter().find_map(|struck| struck.0.as_ref().ok());
    let note = first.map(|it| format!("{} in flight in the first round", it.in_flight));
    let resent =
        Bar::new("bytes sent again after kill -9 half way", "chunks in flight x chunk size", Sense::AtMost, 1.0, 1.0);
    let read_again = Bar::new("bytes of the file read again after it", "absolute", Sense::AtMost, 0.0, 0.0);
    let again = Bar::new("bytes sent, killed every few seconds until done", "file size", Sense::AtMost, 1.05, 1.02);
    let count = kills.again.iter().find_map(|struck| struck.0.as_ref().ok());
    let count = count.map(|it| format!("{} kills, {} in flight", it.kills, it.in_flight));
    let extra = |it: &kills::HalfWay| {
        let bytes = it.read_again();
        if bytes <= OTHER_READS { 0.0 } else { bytes as f64 / MIB }
    };
    vec![
        Bar { value: value(kills::HalfWay::resent), note, ..resent },
        Bar { value: value(extra), unit: "MiB", must: None, ..read_again },
        Bar { value: worst(kills.again.iter(), kills::Kills::sent), note: count, ..again },
    ]
}

/// The largest of the figures: of a promise about a crash the worst case counts, not the median.
fn worst<'a, T: Serialize + 'a>(all: impl Iterator<Item = &'a Struck<T>>, figure: impl Fn(&T) -> f64) -> Value {
    let mut value = Value::NotRun;
    for struck in all {
        value = match (value, &struck.0) {
            (Value::Failed(reason), _) => Value::Failed(reason),
            (_, Err(reason)) => Value::Failed(reason.clone()),
            (Value::Is(most), Ok(it)) => Value::Is(most.max(figure(it))),
            (Value::NotRun, Ok(it)) => Value::Is(figure(it)),
        };
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kills::{HalfWay, Kills};

    fn table(rows: &[(Scene, Client, &[f64])]) -> Table {
        let mut table = Table::default();
        for (scene, client, walls) in rows {
            for (round, wall_s) in walls.iter().enumerate() {
                let figures = Figures {
                    wall_s: *wall_s,
                    cpu_s: wall_s / 2.0,
                    peak_bytes: 20 << 20,
                    bytes: 1 << 30,
                    in_flight: 4,
                    sink_cpu_s: 1.0,
                    suites: Vec::new(),
                    result: None,
                };
                let figures = if *wall_s > 0.0 { Ok(figures) } else { Err(anyhow::anyhow!("broken")) };
                table.add(scene.name(), client.name(), round + 1, figures);
            }
        }
        table
    }

    fn find<'a>(bars: &'a [Bar], what: &str, against: &str) -> &'a Bar {
        bars.iter().find(|bar| bar.what.contains(what) && bar.against.contains(against)).unwrap()
    }

    #[test]
    fn nothing_run_is_nothing_reached() {
        let bars = all(&Table::default(), &Outcome::default());
        assert_eq!(bars.len(), 14);
        assert!(bars.iter().all(|bar| bar.verdict() == Verdict::NotRun), "{bars:?}");
    }

    #[test]
    fn faster_with_less_cpu_reaches_the_goals_and_slower_misses() {
        let rows: [(Scene, Client, &[f64]); 3] = [
            (Scene::Ms0, Client::Curl(4), &[2.0, 4.0]),
            (Scene::Ms0, FOUR, &[1.0, 2.0]),
            (Scene::Ms0, Client::DigestThenCurl(4), &[1.0, 2.0]),
        ];
        let bars = all(&table(&rows), &Outcome::default());
        let bar = find(&bars, "throughput, 4 in flight", "curl --parallel 4");
        assert_eq!((bar.value.clone(), bar.verdict()), (Value::Is(2.0), Verdict::Goal));
        assert_eq!(find(&bars, "client CPU", "curl --parallel 4").value, Value::Is(0.5));
        let equal = find(&bars, "throughput, 4 in flight", "openssl");
        assert_eq!((equal.value.clone(), equal.verdict()), (Value::Is(1.0), Verdict::Missed));
        assert_eq!(find(&bars, "client CPU", "openssl").verdict(), Verdict::Missed);
    }

    #[test]
    fn the_best_curl_is_the_one_to_beat() {
        let rows: [(Scene, Client, &[f64]); 3] = [
            (Scene::Ms200, Client::Curl(1), &[50.0, 50.0]),
            (Scene::Ms200, Client::Curl(16), &[9.3, 9.3]),
            (Scene::Ms200, AUTO, &[10.0, 10.0]),
        ];
        let bars = all(&table(&rows), &Outcome::default());
        let bar = find(&bars, "200 ms", "curl-par16");
        assert!(matches!(bar.value, Value::Is(value) if (value - 0.93).abs() < 1e-9), "{bar:?}");
        assert_eq!(bar.verdict(), Verdict::Must);
    }

    #[test]
    fn what_fails_is_said_and_what_fails_at_times_is_noted() {
        let rows: [(Scene, Client, &[f64]); 4] = [
            (Scene::Ms0, Client::Curl(4), &[1.0, 1.0]),
            (Scene::Ms0, FOUR, &[0.0, 0.0]),
            (Scene::Serial, Client::Curl(1), &[1.0, 1.0, 1.0]),
            (Scene::Serial, ONE, &[1.0, 0.0, 1.0]),
        ];
        let bars = all(&table(&rows), &Outcome::default());
        let bar = find(&bars, "throughput, 4 in flight", "curl --parallel 4");
        assert_eq!(bar.value, Value::Failed("agent-4 at 0ms: broken".into()));
        assert_eq!(find(&bars, "peak memory above", "absolute").value, Value::Failed("broken".into()));
        let serial = find(&bars, "one in flight", "sequential");
        assert_eq!((serial.value.clone(), serial.verdict()), (Value::Is(1.0), Verdict::Goal));
        assert!(serial.note.as_ref().unwrap().contains("1 of 3 rounds do not count"));
    }

    #[test]
    fn of_kills_the_worst_counts() {
        let half_way =
            |total, read| HalfWay { size: 100 << 23, before: 50 << 23, total, in_flight: 2, read, told_resent: None };
        let good = half_way(101 << 23, 51 << 23);
        let bad = half_way(103 << 23, (53 << 23) + (5 << 20));
        let again = vec![Struck(Ok(Kills { size: 100, total: 104, kills: 3, in_flight: 2 }))];
        let bars =
            all(&Table::default(), &Outcome { half_way: vec![Struck(Ok(good.clone())), Struck(Ok(bad))], again });
        assert_eq!(find(&bars, "sent again", "in flight").value, Value::Is(1.5));
        let read = find(&bars, "read again", "");
        assert_eq!((read.value.clone(), read.verdict()), (Value::Is(5.0), Verdict::Must));
        assert_eq!(find(&bars, "every few seconds", "").verdict(), Verdict::Must);
        let outcome = Outcome { half_way: vec![Struck(Ok(good)), Struck(Err("gone".into()))], again: Vec::new() };
        let bars = all(&Table::default(), &outcome);
        assert_eq!(find(&bars, "sent again", "in flight").verdict(), Verdict::Failed);
    }
}
