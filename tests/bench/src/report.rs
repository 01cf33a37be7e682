//! What a run says, for people and as JSON. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    bars::{self, Bar, Sense, Value, Verdict},
    clients::Client,
    figures::{Spread, median_ratio, spread},
    kills::Outcome,
    machine::Machine,
    material::CHUNK,
    memory,
    proof::Proof,
    rig::{Figures, gib},
    speed::{IDLE, Scene, Table},
};

/// Size and rounds that the bars are meant for.
const BAR_GIB: f64 = 2.0;
const BAR_ROUNDS: usize = 5;
/// Bytes of a MiB.
const MIB: f64 = (1 << 20) as f64;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// Bytes of the file.
    pub bytes: u64,
    pub rounds: usize,
    /// Whether the agent knew the file's digests beforehand.
    pub warm: bool,
    pub proofs: Vec<Proof>,
    pub table: Table,
    pub kills: Outcome,
    pub bars: Vec<Bar>,
}

impl Report {
    /// Whether everything that was run counts, and reaches what it must.
    pub fn is_good(&self) -> bool {
        let bad = |bar: &Bar| matches!(bar.verdict(), Verdict::Missed | Verdict::Failed);
        self.proofs.iter().all(|proof| proof.failed.is_none())
            && self.table.rows.iter().all(|row| row.figures.is_ok())
            && !self.bars.iter().any(bad)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.head();
        for proof in &self.proofs {
            let outcome = proof.failed.as_deref().unwrap_or("every chunk is the file's");
            let _ = writeln!(text, "proof     {}: {outcome}", proof.client);
        }
        for scene in Scene::ALL {
            text.push_str(&self.scene(scene));
        }
        text.push_str(&self.memory());
        text.push_str(&self.bars());
        text
    }

    fn head(&self) -> String {
        let Machine { cpu, cores, memory_gib, kernel, load, programs, agent, profile } = &self.machine;
        let mut text = format!(
            "upload    {:.2} GiB in chunks of {} MiB over TLS on loopback, {} rounds in turn; medians (least-most)\n",
            gib(self.bytes),
            CHUNK >> 20,
            self.rounds
        );
        let _ = writeln!(
            text,
            "machine   {cpu}, {cores} cores shared with the sink, {memory_gib:.1} GiB, Linux {kernel}, load {load:.1}"
        );
        let _ = writeln!(text, "programs  {agent} ({profile}); {}", programs.join("; "));
        let suites: std::collections::BTreeSet<&str> = self.suites().collect();
        if !suites.is_empty() {
            let _ = writeln!(text, "ciphers   {}", suites.into_iter().collect::<Vec<_>>().join(", "));
        }
        if !self.warm {
            text.push_str("note      the agent has no `iso scan`: it knew no digests beforehand, in any run\n");
        }
        if gib(self.bytes) < BAR_GIB || self.rounds < BAR_ROUNDS || profile != "release" {
            let _ = writeln!(
                text,
                "note      the bars are meant for {BAR_GIB} GiB, {BAR_ROUNDS} rounds and a release build: this run says little"
            );
        }
        text
    }

    fn suites(&self) -> impl Iterator<Item = &str> {
        let rows = self.table.rows.iter().filter_map(|row| row.figures.as_ref().ok());
        rows.flat_map(|figures| figures.suites.iter().map(String::as_str))
    }

    fn scene(&self, scene: Scene) -> String {
        let clients = self.table.clients(scene.name());
        if clients.is_empty() {
            return String::new();
        }
        let best = bars::best_curl(&self.table, scene);
        let looped = Client::Loop.name();
        let against = best.clone().unwrap_or_else(|| "curl".to_owned());
        let (speed_best, cpu_best) = (format!("speed/{against}"), format!("CPU/{against}"));
        let ratios = [&speed_best, "speed/loop", &cpu_best, "CPU/loop"];
        let head = [&["", "MiB/s", "CPU s/GiB", "peak MiB", "in flight", "sink s/GiB"][..], &ratios].concat();
        let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        let mut failures = String::new();
        // In the order of the scene, which the rounds have turned.
        let order = scene.clients().into_iter().map(Client::name).chain([IDLE.to_owned()]);
        for client in order.filter(|client| clients.contains(&client.as_str())) {
            let column = |figure: fn(&Figures) -> f64| self.table.column(scene.name(), &client, figure);
            if let Some((reason, count)) = self.table.failures(scene.name(), &client) {
                let _ = writeln!(
                    failures,
                    "  {client}: {count} of {} rounds do not count: {reason}",
                    self.rounds_of(scene.name(), &client)
                );
            }
            let to = |name: Option<&str>, figure: fn(&Figures) -> f64| {
                let theirs = name.map(|name| self.table.column(scene.name(), name, figure));
                let ratio = theirs.and_then(|theirs| median_ratio(&column(figure), &theirs));
                ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            let peak = most(&column(|figures| figures.peak_bytes as f64 / MIB), 1);
            if client == IDLE {
                lines.push([vec![client], vec!["-".to_owned(); 2], vec![peak], vec!["-".to_owned(); 6]].concat());
                continue;
            }
            lines.push(vec![
                client.clone(),
                with_ends(&column(Figures::mib_per_s), 0),
                with_ends(&column(Figures::cpu_per_gib), 2),
                peak,
                most(&column(|figures| figures.in_flight as f64), 0),
                median(&column(|figures| figures.sink_cpu_s / gib(figures.bytes)), 2),
                to(best.as_deref(), Figures::mib_per_s),
                to(Some(&looped), Figures::mib_per_s),
                to(best.as_deref(), Figures::cpu_per_gib),
                to(Some(&looped), Figures::cpu_per_gib),
            ]);
        }
        format!("\n{}\n{}{failures}", scene.title(), aligned(&lines))
    }

    fn rounds_of(&self, scene: &str, client: &str) -> usize {
        self.table.column(scene, client, Figures::mib_per_s).len()
    }

    fn memory(&self) -> String {
        let clients = self.table.clients(memory::SCENE);
        if clients.is_empty() {
            return String::new();
        }
        let mut lines = vec![["", "MiB", "peak MiB", "CPU s/GiB"].map(str::to_owned).to_vec()];
        let mut failures = String::new();
        for client in clients {
            let column = |figure: fn(&Figures) -> f64| self.table.column(memory::SCENE, client, figure);
            lines.push(vec![
                client.to_owned(),
                median(&column(|figures| figures.bytes as f64 / MIB), 0),
                with_ends(&column(|figures| figures.peak_bytes as f64 / MIB), 1),
                median(&column(Figures::cpu_per_gib), 2),
            ]);
            if let Some((reason, count)) = self.table.failures(memory::SCENE, client) {
                let _ = writeln!(
                    failures,
                    "  {client}: {count} of {} rounds do not count: {reason}",
                    self.rounds_of(memory::SCENE, client)
                );
            }
        }
        format!("\nmemory of the agent, 4 in flight\n{}{failures}", aligned(&lines))
    }

    fn bars(&self) -> String {
        let mut lines = vec![["", "against", "figure", "must", "goal", ""].map(str::to_owned).to_vec()];
        let mut notes: Vec<String> = Vec::new();
        for bar in &self.bars {
            let sign = if bar.sense == Sense::AtLeast { ">=" } else { "<=" };
            let unit = if bar.unit == "x" { "x".to_owned() } else { format!(" {}", bar.unit) };
            let figure = match &bar.value {
                Value::Is(value) => match Spread::of(&bar.rounds) {
                    Some(Spread { min, max, .. }) => format!("{value:.2}{unit} ({min:.2}-{max:.2})"),
                    None => format!("{value:.2}{unit}"),
                },
                Value::NotRun | Value::Failed(_) => "-".to_owned(),
            };
            let limit = |limit: f64| format!("{sign} {limit:.2}");
            let verdict = match bar.verdict() {
                Verdict::Goal => "goal reached",
                Verdict::Must if bar.must.is_none() => "goal missed",
                Verdict::Must => "must reached",
                Verdict::Missed => "MISSED",
                Verdict::NotRun => "not run",
                Verdict::Failed => "FAILED",
            };
            let must = bar.must.map_or_else(|| "-".to_owned(), limit);
            lines.push(vec![bar.what.clone(), bar.against.clone(), figure, must, limit(bar.goal), verdict.to_owned()]);
            let note = match (&bar.value, &bar.note) {
                (Value::Failed(reason), _) => Some(format!("  FAILED: {reason}\n")),
                (_, Some(note)) => Some(format!("  {}, against {}: {note}\n", bar.what, bar.against)),
                _ => None,
            };
            // The same reason fails many.
            notes.extend(note.filter(|note| !notes.contains(note)));
        }
        format!("\nbars\n{}{}", aligned(&lines), notes.concat())
    }
}

fn with_ends(column: &[Option<f64>], digits: usize) -> String {
    spread(column).map_or_else(
        || "-".to_owned(),
        |Spread { median, min, max }| format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
    )
}

fn median(column: &[Option<f64>], digits: usize) -> String {
    spread(column).map_or_else(|| "-".to_owned(), |spread| format!("{:.digits$}", spread.median))
}

fn most(column: &[Option<f64>], digits: usize) -> String {
    spread(column).map_or_else(|| "-".to_owned(), |spread| format!("{:.digits$}", spread.max))
}

/// Columns of equal width: the first one to the left, as are those of words, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let cell = |line: &Vec<String>, column: usize| line.get(column).cloned().unwrap_or_default();
    let width = |column| lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    // What begins with a digit or is missing everywhere below the head is a figure.
    let is_figure = |column: usize| {
        lines.iter().skip(1).all(|line| {
            let text = cell(line, column);
            text == "-" || text.starts_with(|first: char| first.is_ascii_digit() || "<>-".contains(first))
        })
    };
    let figures: Vec<bool> = (0..columns).map(|column| column > 0 && is_figure(column)).collect();
    lines.iter().fold(String::new(), |mut text, line| {
        let cells = (0..columns).map(|column| {
            let (cell, width) = (cell(line, column), widths[column]);
            if figures[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(table: Table) -> Report {
        let machine = Machine {
            cpu: "A CPU".into(),
            cores: 2,
            memory_gib: 24.0,
            kernel: "6.18".into(),
            load: 0.3,
            programs: vec!["curl 8".into()],
            agent: "agent 0.1.0".into(),
            profile: "release".into(),
        };
        let bars = bars::all(&table, &Outcome::default());
        Report {
            machine,
            bytes: 2 << 30,
            rounds: 5,
            warm: true,
            proofs: Vec::new(),
            table,
            kills: Outcome::default(),
            bars,
        }
    }

    #[test]
    fn a_client_that_fails_is_said_and_makes_the_run_bad() {
        let mut table = Table::default();
        assert!(report(table.clone()).is_good());
        table.add("0ms", "agent-4".into(), 1, Err(anyhow::anyhow!("this agent has no `iso push`")));
        let report = report(table);
        assert!(!report.is_good());
        let text = report.text();
        assert!(text.contains("agent-4: 1 of 1 rounds do not count: this agent has no `iso push`"), "{text}");
        assert!(text.contains("FAILED") || text.contains("not run"), "{text}");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let lines = [["", "MiB/s", "what"], ["a", "5 (1-20)", "x"], ["long", "-", "yy"]];
        let lines = lines.map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(aligned(&lines), "           MiB/s  what\n  a     5 (1-20)  x\n  long         -  yy\n");
    }

    #[test]
    fn a_short_run_says_so() {
        assert!(!report(Table::default()).text().contains("says little"));
        let short = Report { rounds: 1, ..report(Table::default()) };
        assert!(short.text().contains("says little"));
    }
}
