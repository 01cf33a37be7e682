//! How long it takes from an event at the agent until an operator sees it, over slow lines on both sides of the
//! controller: measured at the rows of an emulated terminal against the event's own time.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use gantry_proto::{Body, Event, Level, StepId};
use jiff::Timestamp;

use crate::{Lab, LabOptions, Mode, Proxy, logs};

/// Columns and rows of the window: no line that is looked for is cut, and none is pushed out before it is drawn.
const WINDOW: (u16, u16) = (200, 60);
/// What of a long message is looked for, characters.
const WORDS_MAX: usize = 80;

/// A line: from agent to controller, and from controller to `ctl`.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// There and back.
    pub round_trip: Duration,
    /// Bytes a second, each way.
    pub rate: u64,
}

/// An event that was seen.
#[derive(Clone, Debug)]
pub struct Delayed {
    /// Its line on the screen.
    pub words: String,
    /// From its own time to the screen.
    pub delay: Duration,
}

/// Runs one job to its end behind such lines; gives every event that happened while its screen was there. One that never
/// got onto the screen is an error.
pub async fn measure(line: Slow, options: LabOptions) -> anyhow::Result<Vec<Delayed>> {
    let lab = Lab::start(LabOptions { proxied: true, ..options }).await?;
    let mode = Mode::slow(line.round_trip / 2, Some(line.rate));
    lab.line()?.set(mode);
    let operators_line = Proxy::start(lab.controller_address()?)?;
    operators_line.set(mode);
    let job = lab.deploy(&[]).await?;
    let controller = format!("https://{}", operators_line.address());
    let mut terminal = lab.ctl_terminal(&["--controller", &controller, "watch", &job], WINDOW)?;
    // What happened before is read from the log, and tells nothing of how fast news is.
    terminal.until_text("overall").await?;
    let live = Timestamp::now();
    let status = terminal.ended().await?;
    ensure!(status.success(), "ctl watch: {status}\n{}\n{}", terminal.text(), lab.logs());
    let rows = terminal.seen_rows();
    let delayed = compare(&logs::stored(&lab, &job).await?, &rows, live, line)?;
    lab.stop().await?;
    Ok(delayed)
}

/// Looks for the line of each event among the rows.
fn compare(
    events: &[Event],
    rows: &HashMap<String, Timestamp>,
    live: Timestamp,
    line: Slow,
) -> anyhow::Result<Vec<Delayed>> {
    let mut titles = HashMap::new();
    let (mut all, mut known) = (Vec::new(), HashSet::new());
    for event in events {
        if let Body::JobStarted { steps, .. } = &event.body {
            titles.extend(steps.iter().map(|step| (step.id.clone(), step.title.clone())));
        }
        let Some(words) = words(&event.body, &titles) else { continue };
        let clock = event.at.strftime("%H:%M:%S").to_string();
        // Two that cannot be told apart are one.
        if event.at < live || !known.insert((clock.clone(), words.clone())) {
            continue;
        }
        let fits = |row: &&String| row.starts_with(&clock) && row.contains(&words);
        let first = rows.iter().filter(|(row, _)| fits(row)).map(|(_, at)| *at).min();
        let first = first.with_context(|| format!("event {} was never on the screen: {clock} {words}", event.seq))?;
        let delay = Duration::try_from(first.duration_since(event.at)).unwrap_or_default();
        // Half of each line's round trip: less would mean that something went another way.
        ensure!(delay >= line.round_trip, "event {} was seen after {delay:?}: the lines are not slow", event.seq);
        all.push(Delayed { words: format!("{clock} {words}"), delay });
    }
    Ok(all)
}

/// What of an event stands on its line for certain; [`None`] for one that is only for engineers.
fn words(body: &Body, titles: &HashMap<StepId, String>) -> Option<String> {
    let title = |step: &StepId| titles.get(step).cloned().unwrap_or_default();
    match body {
        Body::Note { level: Level::Debug, .. } => None,
        Body::Note { message, .. } => Some(message.chars().take(WORDS_MAX).collect()),
        Body::StepStarted { step, .. } => Some(format!("{}: begun", title(step))),
        Body::StepSucceeded { step, .. } => Some(format!("{}: done in", title(step))),
        _ => None,
    }
}

/// The delay that so many of a hundred do not exceed.
pub fn percentile(sorted: &[Delayed], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|one| one.delay).unwrap_or_default()
}
