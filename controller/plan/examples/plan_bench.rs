//! How long the planner takes and how much memory it needs: `plan_bench [FILE [RUNS]]`. Without a file it plans a
//! generated workbook with about as much XML as the published template. Aim: at most 100 ms and 64 MiB (release).
#![expect(clippy::print_stdout, reason = "a measuring tool prints its result")]

use std::{collections::BTreeMap, time::Instant};

use gantry_plan::{Defaults, plan};
use gantry_sim::workbook::Hostile;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = match arguments.next() {
        Some(path) => std::fs::read(path)?,
        None => Hostile::HugeSheet { rows: 60_000 }.bytes(),
    };
    let runs = arguments.next().and_then(|runs| runs.parse().ok()).unwrap_or(25_usize).max(1);
    let before = peak_kib();
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            let outcome = plan(&file, &Defaults::default(), &BTreeMap::new());
            (start.elapsed(), outcome.verdict)
        })
        .collect();
    times.sort_unstable_by_key(|(time, _)| *time);
    let (median, verdict) = times[runs / 2];
    let (worst, _) = times[runs - 1];
    println!(
        "{} bytes, verdict {verdict:?}, {runs} runs: median {:.1} ms, worst {:.1} ms, peak RSS {} KiB ({} KiB before the first run)",
        file.len(),
        median.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3,
        peak_kib(),
        before,
    );
    Ok(())
}

/// The most memory this process ever had, KiB; 0 where the system does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
