//! What holds after every run, whatever happened: the controller's log is the agent's journal, the world is as promised.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, ensure};
use gantry_agent::{config::Settings, journal::Journal};
use gantry_proto::{Body, Event, JobId, JobOutcome, JobView, v1};
use gantry_sim::Sim;
use sha2::{Digest as _, Sha256};

use super::{End, Happening, Scenario, site::Site};
use crate::lab::ISO_NAME;

/// Checks everything; says how the job ended.
pub(super) async fn check(
    site: &Site,
    scenario: &Scenario,
    job: JobId,
    row: &v1::Job,
    log: &[v1::Event],
) -> anyhow::Result<End> {
    let told: Vec<u64> = log.iter().map(|event| event.seq).collect();
    ensure!(told == (1..=told.len() as u64).collect::<Vec<_>>(), "the controller's log has a gap: {told:?}");
    let off = scenario.moments.iter().any(|moment| moment.what == Happening::MoveOff);
    let first = journal(&site.settings, job).await?;
    let second = journal(&site.second, job).await?;
    same_as_written(log, &first, &second, off)?;
    let events = log.iter().cloned().map(Event::try_from).collect::<Result<Vec<_>, _>>().context("the log")?;
    one_end_each(&events, row, off)?;
    let delivered = result(&events)?;
    for place in [&site.settings.data_dir, &site.second.data_dir, &site.config.data] {
        if place.exists() {
            site.canaries.absent_below(place)?;
        }
    }
    let why =
        || row.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message)).unwrap_or_default();
    let named = named(&events, off);
    let end = match (row.state(), row.undo()) {
        (v1::JobState::Failed, v1::UndoState::Incomplete) if !named.is_empty() => End::FailedAndUndone,
        (v1::JobState::Cancelled, v1::UndoState::Incomplete) if !named.is_empty() => End::CancelledAndUndone,
        (v1::JobState::Succeeded, _) => End::Succeeded,
        (v1::JobState::Failed, v1::UndoState::RolledBack | v1::UndoState::Nothing) if delivered => End::FailedLater,
        (v1::JobState::Failed, v1::UndoState::RolledBack | v1::UndoState::Nothing) => End::FailedAndUndone,
        (v1::JobState::Cancelled, v1::UndoState::RolledBack | v1::UndoState::Nothing) => End::CancelledAndUndone,
        (state, undo) => {
            anyhow::bail!("the job ended as {state:?} with {undo:?} in epoch {}: {}", row.epoch, why())
        }
    };
    ensure!(scenario.ends.contains(&end), "the job ended as {end:?}: {}", why());
    let code = row.failure.as_ref().map(|failure| failure.code.as_str());
    ensure!(scenario.code.is_none() || scenario.code == code, "the job failed for another reason: {}", why());
    world(&site.sim, &site.settings, end, &named)?;
    Ok(end)
}

/// The images that the job has listed as left over. Only an agent that is said to be off may leave one: what it made and
/// could not tell, nobody else may remove, but its successor sees it and has to name it.
fn named(events: &[Event], off: bool) -> HashSet<String> {
    let mut view = JobView::default();
    events.iter().for_each(|event| view.apply(event));
    let images = view.leftovers.into_iter().filter(|leftover| off && leftover.kind == "image");
    images.map(|leftover| leftover.id).filter(|id| !id.is_empty()).collect()
}

/// The world is as the end of a job leaves it.
pub(super) fn world(sim: &Sim, agent: &Settings, end: End, named: &HashSet<String>) -> anyhow::Result<()> {
    let core = sim.core();
    let mut violations = gantry_sim::invariants::violations(core);
    violations.retain(|broken| broken.invariant != 2 || !named.iter().any(|uuid| broken.what.contains(uuid.as_str())));
    ensure!(violations.is_empty(), "broken invariants: {violations:#?}");
    let world = core.world();
    let vms = world.vms.values().filter(|vm| vm.visible && !world.baseline.vms.contains_key(&vm.uuid)).count();
    let images: Vec<bool> = world
        .images
        .values()
        .filter(|image| !image.foreign && (image.is_complete() || !named.contains(&image.uuid)))
        .map(|image| image.is_complete())
        .collect();
    ensure!(vms == usize::from(matches!(end, End::Succeeded | End::FailedLater)), "{vms} VMs are there after {end:?}");
    ensure!(images.len() <= 1 && images.iter().all(|complete| *complete), "images (complete or not): {images:?}");
    ensure!(
        !matches!(end, End::Succeeded | End::FailedLater) || images.len() == 1,
        "CloudTower is there without an image"
    );
    let iso = sha256_of(&agent.iso_dir.join(ISO_NAME))?;
    let stored = world.images.values().filter(|image| !image.foreign).filter_map(|image| image.sha256.clone());
    for sha256 in stored {
        ensure!(sha256 == iso, "the stored image is {sha256}, the ISO is {iso}");
    }
    Ok(())
}

fn sha256_of(path: &std::path::Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The log is what the agents have written. What an agent that is said to be off had not told stays with it.
fn same_as_written(log: &[v1::Event], first: &[Event], second: &[Event], off: bool) -> anyhow::Result<()> {
    let written: HashMap<(u32, u64), v1::Event> =
        first.iter().chain(second).map(|event| ((event.epoch, event.seq), event.into())).collect();
    if written.is_empty() {
        // Cancelled before it was ever sent: the controller has written the one event.
        ensure!(log.len() == 1, "no agent has written anything, and the log has {} events", log.len());
        return Ok(());
    }
    for told in log {
        let known = written.get(&(told.epoch, told.seq));
        ensure!(known == Some(told), "event {} differs: told {told:?}, written {known:?}", told.seq);
    }
    let told: HashSet<(u32, u64)> = log.iter().map(|event| (event.epoch, event.seq)).collect();
    let untold = first.iter().filter(|_| !off).chain(second).find(|event| !told.contains(&(event.epoch, event.seq)));
    ensure!(untold.is_none(), "an event was never told: {untold:?}");
    Ok(())
}

/// Every epoch has one end, and nothing behind it; only one whose agent is off may lack it.
fn one_end_each(events: &[Event], row: &v1::Job, off: bool) -> anyhow::Result<()> {
    for epoch in 1..=row.epoch {
        let mut own = events.iter().filter(|event| event.epoch == epoch).rev();
        let last = own.next().is_some_and(is_end);
        ensure!(last || (off && epoch < row.epoch), "epoch {epoch} of {} does not end", row.epoch);
        ensure!(!own.any(is_end), "epoch {epoch} goes on after its end");
    }
    ensure!(events.last().is_some_and(|event| event.epoch == row.epoch), "the job is in epoch {}", row.epoch);
    Ok(())
}

/// The result of the deployment has either `status` or `error`, and `status` whenever the job succeeded. Says whether the
/// last one has `status`.
fn result(events: &[Event]) -> anyhow::Result<bool> {
    let mut delivered = false;
    for event in events {
        let Body::JobFinished { outcome, result, .. } = &event.body else { continue };
        let stage = &result["deploy_cloudtower"];
        let (status, error) = (!stage["status"].is_null(), !stage["error"].is_null());
        let succeeded = *outcome == JobOutcome::Succeeded;
        ensure!(status != error && (status || !succeeded), "the result of {outcome:?}: status {status}, error {error}");
        delivered = status;
    }
    Ok(delivered)
}

fn is_end(event: &Event) -> bool {
    matches!(event.body, Body::JobFinished { .. } | Body::Surrendered { .. })
}

/// What the agent has written; nothing when it never had the job.
async fn journal(agent: &Settings, job: JobId) -> anyhow::Result<Vec<Event>> {
    let dir = agent.data_dir.join("jobs").join(job.to_string());
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let (journal, _) =
        tokio::task::spawn_blocking(move || Journal::open(&dir)).await?.context("the agent's journal")?;
    let mut reader = journal.events_after(0);
    let mut all = Vec::new();
    loop {
        let page = reader.page(500, 1 << 20).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
