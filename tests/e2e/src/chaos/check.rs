//! What holds after every run, whatever happened: the controller's log is the agent's journal, the world is as promised.

use anyhow::{Context as _, ensure};
use gantry_agent::journal::Journal;
use gantry_proto::{Event, JobId, v1};

use sha2::{Digest as _, Sha256};

use super::{End, Scenario, site::Site};
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
    let journal = match journal(site, job).await? {
        Some(journal) => journal,
        // Cancelled before it was ever sent: the controller has written the one event.
        None => log.iter().cloned().map(Event::try_from).collect::<Result<_, _>>().context("the controller's log")?,
    };
    ensure!(journal.iter().filter(|event| !is_end(event)).count() > 0 || log.len() == 1, "a log of ends alone");
    let written: Vec<v1::Event> = journal.iter().map(Into::into).collect();
    ensure!(
        log.len() == written.len(),
        "the controller's log has {} events, the agent's journal {}",
        log.len(),
        written.len()
    );
    for (told, written) in log.iter().zip(&written) {
        ensure!(told == written, "event {} differs: told {told:?}, written {written:?}", told.seq);
    }
    let ends: Vec<u32> = journal.iter().filter(|event| is_end(event)).map(|event| event.epoch).collect();
    ensure!(ends == (1..=row.epoch).collect::<Vec<_>>(), "not one end for each epoch: {ends:?} of {}", row.epoch);

    let why =
        || row.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message)).unwrap_or_default();
    let end = match (row.state(), row.undo()) {
        (v1::JobState::Succeeded, _) => End::Succeeded,
        (v1::JobState::Failed, v1::UndoState::RolledBack | v1::UndoState::Nothing) => End::FailedAndUndone,
        (v1::JobState::Cancelled, v1::UndoState::RolledBack | v1::UndoState::Nothing) => End::CancelledAndUndone,
        (state, undo) => {
            anyhow::bail!("the job ended as {state:?} with {undo:?} in epoch {}: {}", row.epoch, why())
        }
    };
    ensure!(scenario.ends.contains(&end), "the job ended as {end:?}: {}", why());
    world(site, end)
}

fn world(site: &Site, end: End) -> anyhow::Result<End> {
    let core = site.sim.core();
    let violations = gantry_sim::invariants::violations(core);
    ensure!(violations.is_empty(), "broken invariants: {violations:#?}");
    let world = core.world();
    let vms = world.vms.values().filter(|vm| vm.visible && !world.baseline.vms.contains_key(&vm.uuid)).count();
    let images: Vec<bool> =
        world.images.values().filter(|image| !image.foreign).map(|image| image.is_complete()).collect();
    ensure!(vms == usize::from(end == End::Succeeded), "{vms} VMs are there after {end:?}");
    ensure!(images.len() <= 1 && images.iter().all(|complete| *complete), "images (complete or not): {images:?}");
    ensure!(end != End::Succeeded || images.len() == 1, "the job succeeded without an image");
    let iso = sha256_of(&site.settings.iso_dir.join(ISO_NAME))?;
    let stored = world.images.values().filter(|image| !image.foreign).filter_map(|image| image.sha256.clone());
    for sha256 in stored {
        ensure!(sha256 == iso, "the stored image is {sha256}, the ISO is {iso}");
    }
    Ok(end)
}

fn sha256_of(path: &std::path::Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_end(event: &Event) -> bool {
    matches!(event.body, gantry_proto::Body::JobFinished { .. })
}

/// What the agent has written; `None`: it never had the job.
async fn journal(site: &Site, job: JobId) -> anyhow::Result<Option<Vec<Event>>> {
    let dir = site.settings.data_dir.join("jobs").join(job.to_string());
    if !dir.exists() {
        return Ok(None);
    }
    let (journal, _) =
        tokio::task::spawn_blocking(move || Journal::open(&dir)).await?.context("the agent's journal")?;
    let mut reader = journal.events_after(0);
    let mut all = Vec::new();
    loop {
        let page = reader.page(500, 1 << 20).await?;
        if page.is_empty() {
            return Ok(Some(all));
        }
        all.extend(page);
    }
}
