//! Asking for an upload volume, and finding out what became of a question whose answer was lost
//! (`fisheye.md` 5, `flow.md` 2.1 and 6).

use gantry_proto::{Leftover, Level, event::IntentResult};
use serde_json::json;

use super::{
    super::story::{blocking, fields, permanent, read, story, unsure},
    image,
};
use crate::{
    facts::{AskedVolume, Facts, ImageFact, ImageState, IsoFact},
    fisheye::{Error, Image, Volume, backoff, same_image_name},
    step::{StepCx, StepError},
    upload::Unfinished,
};

/// What an intent of ours is called.
pub(super) const CALL: &str = "create_upload_volume";
/// Lost answers that are borne: after them the next question is not asked (`flow.md` 6).
const MOST_LOST: u32 = 2;
/// Looks at the list for a volume that may still appear.
const LOOKS: u32 = 2;

/// Makes a volume and puts it into the facts.
pub(super) async fn make(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<(), StepError> {
    for times in 1..=MOST_LOST + 1 {
        match ask(cx, facts, iso, times).await? {
            Ok(volume) => {
                keep(cx, facts, iso, volume).await?;
                // The doubt may be as old as an earlier run of the step.
                if facts.leftovers.iter().any(is_doubt) {
                    drop_doubt(cx, facts).await?;
                }
                return Ok(());
            }
            Err(error) if error.had_no_effect() => return Err(refused(&error)),
            Err(error) if times > MOST_LOST => {
                look_for(cx, facts).await?;
                return Err(refused(&error));
            }
            Err(_) => look_for(cx, facts).await?,
        }
    }
    Ok(())
}

/// What a question without an answer has done can only be seen.
pub(super) async fn look_for(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    unsure(true, "the cluster has made an upload volume", settle_asked(cx, facts).await).map(drop)
}

/// What is known about a volume that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// It is certain that nothing is left.
    Clear,
    /// Something may be left; it is on the list of leftovers.
    Unsure,
}

/// A question without an answer: finds the volume by what is new in the list, and deletes it (L1, L2).
async fn settle_asked(cx: &StepCx, facts: &mut Facts) -> Result<Settled, StepError> {
    let Some(asked) = facts.asked_volume.clone() else { return Ok(Settled::Clear) };
    let known = facts.image.as_ref().map(|image| image.image_uuid.clone());
    let mut orphans = Vec::new();
    for look in 1..=LOOKS {
        if look > 1 {
            cx.sleep(cx.settings.timing.scaled(cx.settings.timing.job_poll_s)).await?;
        }
        let images = read(cx, "looking for a volume whose answer was lost", cx.outside.fisheye.images()).await?;
        orphans = new_since(&images, &asked, known.as_deref());
        if known.is_some() || !orphans.is_empty() {
            break;
        }
    }
    let settled = match orphans.as_slice() {
        _ if known.is_some() => Settled::Clear,
        [orphan] => match image::remove(cx, &orphan.uuid).await? {
            Ok(()) => {
                let message = "the answer to a volume's creation was lost; the orphan was found and deleted";
                let extra = fields(json!({"image_uuid": orphan.uuid}));
                cx.note(Level::Warning, "orphan_volume_deleted", message, extra).await?;
                Settled::Clear
            }
            Err(_) => {
                facts.leave(image::leftover(cx, &orphan.uuid, &orphan.name));
                Settled::Unsure
            }
        },
        // None: hidden, or never made. Several: not known which one is ours, and a foreign one is not touched.
        _ => {
            facts.leave(asked.leftover());
            let message =
                "the answer to a volume's creation was lost, and the image list does not tell what became of it";
            cx.note(Level::Warning, "possible_leftover", message, fields(json!({"name": asked.name}))).await?;
            Settled::Unsure
        }
    };
    facts.asked_volume = None;
    cx.save(facts).await?;
    Ok(settled)
}

/// The same for an undo: says what was removed.
pub(super) async fn undo_asked(cx: &StepCx, facts: &mut Facts) -> Result<Option<String>, StepError> {
    let Some(asked) = facts.asked_volume.clone() else { return Ok(None) };
    match settle_asked(cx, facts).await? {
        Settled::Clear => Ok(Some(format!("whatever a lost answer had made of the volume {}", asked.name))),
        Settled::Unsure => Ok(None),
    }
}

/// The indices that the volume named at first: kept only within the run that made it.
pub(super) fn named_at_first(image: &ImageFact) -> Option<Vec<i64>> {
    image.named_at_first.clone()
}

/// The server's volume cannot be used.
pub(super) fn unusable(reason: &str) -> StepError {
    permanent(story(
        "volume_unusable",
        format!("the upload volume cannot be used: {reason}"),
        "the cluster's version may not be supported; the agent's debug log has the whole answer",
    ))
}

/// One question. The inner error is the call's; transient ones that certainly had no effect are repeated.
async fn ask(cx: &StepCx, facts: &mut Facts, iso: &IsoFact, times: u32) -> Result<Result<Volume, Error>, StepError> {
    let timing = &cx.settings.timing;
    let mut delays = backoff(timing.scaled(timing.read_retry_first_s), timing.scaled(timing.read_retry_cap_s))
        .take(timing.read_attempts.saturating_sub(1) as usize);
    loop {
        cx.check()?;
        let images = read(cx, "listing the images before a volume is made", cx.outside.fisheye.images()).await?;
        let alike = |image: &&Image| same_image_name(&image.name, &iso.file_name) && image.size == Some(iso.size);
        let listed_before: Vec<String> = images.iter().filter(alike).map(|image| image.uuid.clone()).collect();
        let (name, size) = (iso.file_name.clone(), iso.size);
        facts.asked_volume = Some(AskedVolume { name, size, listed_before: listed_before.clone(), times });
        cx.save(facts).await?;
        let detail = json!({"name": iso.file_name, "size": iso.size, "listed_before": listed_before, "times": times});
        let intent = match cx.intend(CALL, fields(detail)).await {
            Err(StepError::Stopping) => {
                // It was not asked for: no doubt about it may stay.
                facts.asked_volume = None;
                cx.save(facts).await?;
                return Err(StepError::Stopping);
            }
            intent => intent?,
        };
        let outcome = cx.outside.fisheye.create_volume(&iso.file_name, iso.size).await;
        let error = match outcome {
            Ok(volume) => {
                // The fact comes before the outcome: nobody may know that it was made without knowing what.
                let detail = json!({"image_uuid": volume.image_uuid, "zbs_volume_id": volume.zbs_volume_id});
                keep_uuid(cx, facts, iso, &volume).await?;
                cx.outcome(intent, IntentResult::Done, fields(detail)).await?;
                return Ok(Ok(volume));
            }
            Err(error) => error,
        };
        let result = if error.had_no_effect() { IntentResult::Failed } else { IntentResult::Unknown };
        cx.outcome(intent, result, fields(json!({"error": error.kind.to_string()}))).await?;
        if result == IntentResult::Failed {
            facts.asked_volume = None;
            cx.save(facts).await?;
            if error.kind.is_transient()
                && let Some(delay) = delays.next()
            {
                let asked = error.kind.refusal().and_then(|refusal| refusal.asked_wait());
                cx.sleep(asked.unwrap_or(delay)).await?;
                continue;
            }
        }
        return Ok(Err(error));
    }
}

/// Writes the new volume down, before anything else is done with it.
async fn keep_uuid(cx: &StepCx, facts: &mut Facts, iso: &IsoFact, volume: &Volume) -> Result<(), StepError> {
    let (unfinished, uuid) = (Unfinished::new(&cx.settings), volume.image_uuid.clone());
    facts.image = Some(ImageFact {
        state: ImageState::Uploading,
        image_uuid: volume.image_uuid.clone(),
        zbs_volume_id: Some(volume.zbs_volume_id.clone()),
        image_path: volume.image_path.clone(),
        name: iso.file_name.clone(),
        chunk_size: volume.chunk_size.unwrap_or(cx.plan.deployment.upload.chunk_size_fallback),
        named_at_first: volume.to_upload.clone(),
        ..ImageFact::default()
    });
    facts.asked_volume = None;
    cx.save(facts).await?;
    let added = blocking(move || unfinished.add(&uuid)).await.and_then(|added| added);
    added.map_err(StepError::Journal)
}

/// Checks what the server gave, and tells it (R33).
async fn keep(cx: &StepCx, facts: &mut Facts, iso: &IsoFact, volume: Volume) -> Result<(), StepError> {
    let chunk_size = volume.chunk_size.unwrap_or(cx.plan.deployment.upload.chunk_size_fallback);
    let rounds = cx.settings.timing.upload_rounds;
    let chunks =
        crate::upload::Chunks::new(iso.size, chunk_size, volume.to_upload.as_deref(), Default::default(), rounds)
            .map_err(|error| unusable(&error.to_string()))?;
    if let Some(image) = facts.image.as_mut() {
        image.chunk_size = chunk_size;
        image.chunks = chunks.count();
    }
    cx.save(facts).await?;
    let named = volume.to_upload.as_ref().map(Vec::len);
    let message = format!("an upload volume of {} chunks of {chunk_size} bytes was made", chunks.count());
    let extra = json!({
        "step": "upload_volume",
        "device": cx.plan.deployment.upload.device,
        "chunk_size": chunk_size,
        "to_upload": named,
        "to_upload_count": named,
        "chunks": chunks.count(),
        "image_uuid": volume.image_uuid,
    });
    cx.note(Level::Info, "upload_volume", message, fields(extra)).await
}

/// A server that lists the new volume lists unfinished ones: then a lost one would have been listed, too, and there is
/// none.
async fn drop_doubt(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let uuid = facts.image.as_ref().map(|image| image.image_uuid.clone()).unwrap_or_default();
    let images = read(cx, "listing the images", cx.outside.fisheye.images()).await?;
    if images.iter().any(|image| image.uuid == uuid) {
        facts.leftovers.retain(|leftover| !is_doubt(leftover));
        cx.save(facts).await?;
    }
    Ok(())
}

/// An upload volume that may be there or not.
fn is_doubt(leftover: &Leftover) -> bool {
    leftover.kind == "image" && leftover.id.is_empty()
}

/// Images of the asked name and size that were not there before and are not the one we know.
fn new_since(images: &[Image], asked: &AskedVolume, known: Option<&str>) -> Vec<Image> {
    let new = |image: &&Image| {
        same_image_name(&image.name, &asked.name)
            && image.size == Some(asked.size)
            && !image.uuid.is_empty()
            && !asked.listed_before.contains(&image.uuid)
            && known != Some(image.uuid.as_str())
    };
    images.iter().filter(new).cloned().collect()
}

/// The stage fails at once, with the advice of R64.
fn refused(error: &Error) -> StepError {
    let mut failure = error.failure("making the upload volume");
    if failure.code == "fisheye_refused" {
        failure.code = "volume_refused".to_owned();
        failure.remedy = "check the free space of the cluster's storage: it needs the ISO's size times the number of replicas; then retry the job".to_owned();
    }
    permanent(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_entries_of_our_name_and_size_can_be_the_orphan() {
        let asked = AskedVolume { name: "a.iso".into(), size: 5, listed_before: vec!["old".into()], times: 1 };
        let image = |uuid: &str, name: &str, size: u64| Image {
            uuid: uuid.into(),
            name: name.into(),
            size: Some(size),
            ..Image::default()
        };
        let images = [
            image("old", "a.iso", 5),
            image("new", "A", 5),
            image("x", "a.iso", 6),
            image("y", "b", 5),
            image("", "a", 5),
        ];
        let uuids = |known| new_since(&images, &asked, known).into_iter().map(|i| i.uuid).collect::<Vec<_>>();
        assert_eq!(uuids(None), ["new"]);
        assert!(uuids(Some("new")).is_empty());
    }
}
