//! The ISO on the cluster (`flow.md` 2.0 to 2.3): found and reused, or brought there chunk by chunk and proved.
//! At most two volumes in a run: the executor undoes a failed attempt and tries once more (R15, R65).

pub(super) mod image;
mod proof;
mod volume;

use async_trait::async_trait;
use gantry_proto::{Level, StepInfo, result::UploadResult};
use serde_json::json;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    cluster, iso_hash,
    iso_hash::found,
    story::{again, blocking, fields, permanent, read, story, story_of},
};
use crate::{
    diff::{Diff, Part},
    facts::{Facts, ImageFact, ImageState, IsoFact},
    fisheye::Image,
    iso::{self, Identity, Inventory},
    joblog::Chunk,
    step::{Step, StepCx, StepError},
    tls::hex,
    upload::{Broken, Chunks, Filled, Source, Times, Unfinished, Upload, changed},
};

/// Brings the ISO to the cluster.
pub struct UploadIso;

#[async_trait]
impl Step for UploadIso {
    fn info(&self) -> StepInfo {
        StepInfo { id: "upload-iso".into(), title: "Upload the CloudTower ISO".to_owned(), weight: 300, attempts: 2 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        cluster::enter(cx, facts);
        let begin = Instant::now();
        let iso = same_file(cx, facts).await?;
        volume::look_for(cx, facts).await?;
        if !still_there(cx, facts, &iso).await? && !image::reuse(cx, facts, &iso).await? {
            volume::make(cx, facts, &iso).await?;
        }
        if facts.image.as_ref().is_some_and(|image| image.state == ImageState::Uploading) {
            fill(cx, facts, &iso).await?;
            let elapsed = cx.settings.timing.told(begin.elapsed());
            *facts.timings.entry("upload_s".to_owned()).or_default() += elapsed;
        }
        iso_hash::known(cx, facts, &iso).await?;
        cluster::remember(cx, facts).await
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        cluster::enter(cx, facts);
        let Some(iso) = facts.iso.clone() else {
            diff.unknown(volume::CALL, "", "no ISO was chosen, so it is not known what would be uploaded");
            return Ok(());
        };
        if diff.door(Part::Cluster) == Some(false) {
            let message = "the cluster cannot be looked at, so it is not known whether the ISO is there";
            diff.unknown(volume::CALL, &iso.file_name, message);
            return Ok(());
        }
        let (found, _) = image::look(cx, facts, &iso).await?;
        found.warnings.iter().for_each(|warning| diff.notice(&iso.file_name, warning.as_str()));
        facts.image = Some(match found.reuse {
            Some(image) => {
                diff.keep(
                    &image.name,
                    format!("the ISO image is on the cluster already ({}); it is reused", image.uuid),
                );
                image::reused(image)
            }
            None => {
                let message = format!("an upload volume is made and filled with {} bytes", iso.size);
                diff.create(volume::CALL, &iso.file_name, message);
                ImageFact { state: ImageState::Uploaded, name: iso.file_name.clone(), ..ImageFact::default() }
            }
        });
        Ok(())
    }

    async fn undo(&self, cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
        cluster::enter(cx, facts);
        let mut removed: Vec<String> = volume::undo_asked(cx, facts).await?.into_iter().collect();
        removed.extend(image::undo(cx, facts).await?);
        image::list_doubtful(cx, facts).await?;
        Ok(removed)
    }
}

/// The file that the pre-checks chose; hashed again only when it looks changed, and refused when it is another one.
async fn same_file(cx: &StepCx, facts: &mut Facts) -> Result<IsoFact, StepError> {
    let Some(iso) = facts.iso.clone() else {
        let message = "no ISO was chosen: the pre-checks have not been run";
        return Err(permanent(story("internal", message, "report it with the job's log")));
    };
    let path = std::path::PathBuf::from(&iso.path);
    let at = { blocking(move || Identity::at(&path)).await.and_then(|identity| identity) };
    let identity = at.map_err(|error| {
        let remedy = "put the file back and start the job again";
        permanent(story_of("iso_changed", &format!("looking at {}", iso.path), &error, remedy))
    })?;
    if identity == Identity::from(&iso) {
        return Ok(iso);
    }
    let found = found(&iso, identity).ok_or_else(|| permanent(changed(&iso.file_name)))?;
    let digests = Inventory::new(&cx.settings).digests(&found, Default::default(), &cx.cancel).await;
    match digests {
        Ok(digests) if digests.sha256 == iso.sha256 => {
            let Identity { device, inode, size, mtime_ns, ctime_ns } = identity;
            let iso = IsoFact { device, inode, size, mtime_ns, ctime_ns, ..iso };
            facts.iso = Some(iso.clone());
            cx.save(facts).await?;
            Ok(iso)
        }
        Err(iso::HashError::Cancelled) => Err(cx.log.why_stopped()),
        _ => Err(permanent(changed(&iso.file_name))),
    }
}

/// Whether the image of an earlier run of this step is still on the cluster, complete or to be carried on.
async fn still_there(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<bool, StepError> {
    let Some(image) = facts.image.clone().filter(|image| !image.image_uuid.is_empty()) else { return Ok(false) };
    let images = read(cx, "listing the images", cx.outside.fisheye.images()).await?;
    let listed = images.iter().find(|listed| listed.uuid == image.image_uuid);
    let whole = image.state != ImageState::Uploading;
    let iso = if whole { iso_hash::known(cx, facts, iso).await? } else { iso.clone() };
    let same = |listed: &Image| {
        let same_md5 = listed.md5.as_ref().is_none_or(|md5| md5.eq_ignore_ascii_case(&iso.md5));
        same_md5 && listed.size.is_none_or(|size| size == iso.size)
    };
    let there = match (image.state, listed) {
        // An unfinished volume may be hidden from the list, or listed with what it has so far: the next chunk and the
        // proof tell.
        (ImageState::Uploading, _) => true,
        // In a job that comes from another agent, that one may have had another ISO.
        (_, listed) => listed.is_some_and(same),
    };
    if there {
        list_unfinished(cx, &image).await?;
    } else {
        let why = if listed.is_some() { "is not that of this ISO" } else { "is no longer on the cluster" };
        let message = format!("the image {} {why}", image.image_uuid);
        let extra = fields(json!({"image_uuid": image.image_uuid}));
        cx.note(Level::Warning, "image_gone", message, extra).await?;
        facts.image = None;
        cx.save(facts).await?;
    }
    Ok(there)
}

/// The agent's list of unfinished volumes follows the facts: a crash may have come between the two.
async fn list_unfinished(cx: &StepCx, image: &ImageFact) -> Result<(), StepError> {
    let (unfinished, uuid, state) = (Unfinished::new(&cx.settings), image.image_uuid.clone(), image.state);
    let listed = blocking(move || match state {
        ImageState::Uploading => unfinished.add(&uuid),
        ImageState::Uploaded => unfinished.remove(&uuid),
        ImageState::Reused => Ok(()),
    });
    listed.await.and_then(|listed| listed).map_err(StepError::Journal)
}

/// Sends what is missing and proves the image. A volume of an earlier run that is gone by now is made anew.
async fn fill(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<(), StepError> {
    let resumed = facts.image.as_ref().is_some_and(|image| !cx.log.chunks(&image.image_uuid).is_empty());
    match send(cx, facts, iso).await {
        Err(Broken::Gone(failure)) if resumed => {
            let extra = fields(json!({"error": failure.message}));
            let message = "the upload volume vanished while the agent was away; a new one is made";
            cx.note(Level::Warning, "volume_gone", message, extra).await?;
            forget(cx, facts).await?;
            volume::make(cx, facts, iso).await?;
            send(cx, facts, iso).await.map_err(broken)
        }
        outcome => outcome.map_err(broken),
    }
}

async fn send(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<(), Broken> {
    let Some(image) = facts.image.as_mut() else { return Ok(()) };
    let source = open(cx, iso).await?;
    let acknowledged: std::collections::BTreeSet<u64> = cx.log.chunks(&image.image_uuid).into_keys().collect();
    let named = volume::named_at_first(image);
    let rounds = cx.settings.timing.upload_rounds;
    let chunks = Chunks::new(iso.size, image.chunk_size, named.as_deref(), acknowledged, rounds);
    let chunks = chunks.map_err(|error| Broken::Step(volume::unusable(&error.to_string())))?;
    let expected = expected(cx, iso, image.chunk_size).await;
    let mut upload = Upload { cx, source: &source, image, chunks, expected, file_name: &iso.file_name };
    let span = tracing::info_span!(
        "upload",
        otel.name = "upload of the chunks",
        bytes = Empty,
        resent_bytes = Empty,
        max_in_flight = Empty,
        disk_s = Empty,
        hashing_s = Empty,
        waiting_s = Empty,
        network_s = Empty,
        server_s = Empty,
    );
    let filled = upload.send().instrument(span.clone()).await?;
    record(&span, &filled);
    let doubtful = upload.chunks.is_doubtful();
    tell(cx, facts, &filled).await?;
    // What is not known by now was read beside the sending.
    let hashed = iso_hash::known(cx, facts, iso).await?;
    if iso.sha256.is_empty() {
        same_chunks(cx, facts, &hashed).await?;
    }
    proof::prove(cx, facts, &hashed, doubtful).await
}

/// What was sent is what was hashed.
async fn same_chunks(cx: &StepCx, facts: &Facts, iso: &IsoFact) -> Result<(), Broken> {
    let Some(image) = &facts.image else { return Ok(()) };
    let Some(expected) = expected(cx, iso, image.chunk_size).await else { return Ok(()) };
    let sent = cx.log.chunks(&image.image_uuid);
    let same = |(index, chunk): (&u64, &Chunk)| {
        let known = usize::try_from(*index).ok().and_then(|index| expected.get(index));
        known.is_some_and(|known| hex(known) == chunk.sha256)
    };
    if sent.iter().all(same) { Ok(()) } else { Err(Broken::Source(Box::new(changed(&iso.file_name)))) }
}

/// The digests that the chunks must have, where the inventory knows them for this chunk size.
async fn expected(cx: &StepCx, iso: &IsoFact, chunk_size: u64) -> Option<Vec<[u8; 32]>> {
    let inventory = Inventory::new(&cx.settings);
    let found = found(iso, Identity::from(iso))?;
    let known = blocking(move || inventory.known(&found)).await.ok()??;
    let whole = known.sha256 == iso.sha256;
    known.chunks.filter(|chunks| whole && chunks.size == chunk_size).map(|chunks| chunks.sha256)
}

/// The figures on the span.
fn record(span: &Span, filled: &Filled) {
    span.record("bytes", filled.sent_bytes);
    span.record("resent_bytes", filled.resent_bytes);
    span.record("max_in_flight", filled.max_in_flight as u64);
    for (kind, seconds) in filled.times().seconds() {
        span.record(kind.as_str(), seconds);
    }
}

/// Where the time went.
async fn tell(cx: &StepCx, facts: &mut Facts, filled: &Filled) -> Result<(), StepError> {
    let all = filled.times();
    let wall = filled.wall.as_secs_f64();
    let extra = json!({
        "seconds": (wall * 1000.0).round() / 1000.0,
        "sent_bytes": filled.sent_bytes,
        "resent_bytes": filled.resent_bytes,
        "max_in_flight": filled.max_in_flight,
        "times": all.seconds(),
        "slots": filled.slots.iter().map(Times::seconds).collect::<Vec<_>>(),
    });
    facts.upload = Some(UploadResult {
        seconds: (wall * 1000.0).round() / 1000.0,
        sent_bytes: filled.sent_bytes,
        resent_bytes: filled.resent_bytes,
        max_in_flight: filled.max_in_flight as u64,
        times: all.seconds(),
    });
    cx.save(facts).await?;
    let rate = crate::upload::human(filled.sent_bytes as f64 / wall.max(1e-6));
    let message = format!(
        "every chunk is acknowledged: {} in {wall:.1} s, {rate}/s, at most {} in flight",
        crate::upload::human(filled.sent_bytes as f64),
        filled.max_in_flight
    );
    cx.note(Level::Info, "upload_sent", message, fields(extra)).await
}

async fn open(cx: &StepCx, iso: &IsoFact) -> Result<Source, Broken> {
    let (path, piece) = (std::path::PathBuf::from(&iso.path), cx.settings.iso.piece_bytes);
    let source = blocking(move || Source::open(&path, piece)).await.and_then(|source| source);
    match source {
        Ok(source) if source.identity() == Identity::from(iso) => Ok(source),
        Ok(_) => Err(Broken::Source(Box::new(changed(&iso.file_name)))),
        Err(error) => {
            let remedy = "put the file back and start the job again";
            Err(Broken::Source(Box::new(story_of("iso_changed", &format!("opening {}", iso.path), &error, remedy))))
        }
    }
}

/// What a broken upload means for the step: everything but the server's and the file's final words is worth one more
/// volume.
fn broken(broken: Broken) -> StepError {
    match broken {
        Broken::Step(error) => error,
        Broken::Gone(failure) | Broken::Chunk(failure) | Broken::Source(failure) => again(*failure),
    }
}

/// The volume is no more.
async fn forget(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    if let Some(ImageFact { image_uuid, .. }) = facts.image.take() {
        let unfinished = Unfinished::new(&cx.settings);
        let removed = blocking(move || unfinished.remove(&image_uuid)).await.and_then(|removed| removed);
        removed.map_err(StepError::Journal)?;
    }
    cx.save(facts).await
}
