//! Images that are there already: which one may be reused, and the removal of one that is ours and incomplete
//! (`fisheye.md` 4, `flow.md` 2.0 and 2.3).

use std::collections::BTreeSet;

use gantry_proto::{Leftover, Level};
use serde_json::json;

use super::super::{
    iso_hash,
    story::{blocking, fields, permanent, read, story},
};
use crate::{
    facts::{Facts, ImageFact, ImageState, IsoFact},
    fisheye::{self, Image, same_image_name},
    iso::IsoName,
    step::{StepCx, StepError},
    upload::Unfinished,
};

/// What the list says about an ISO.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Match {
    /// The one to reuse.
    pub reuse: Option<Image>,
    /// Worth telling.
    pub warnings: Vec<String>,
    /// What the agent that had the job may have left incomplete: image uuid and name.
    pub doubtful: Vec<(String, String)>,
}

/// What an intent to remove one is called.
pub(in crate::steps) const DELETE: &str = "delete_image";

/// Looks for the ISO among the images (2.0); its hashes are read where one of them gives a checksum to compare with.
pub(super) async fn look(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<(Match, IsoFact), StepError> {
    let images = read(cx, "listing the images", cx.outside.fisheye.images()).await?;
    let unfinished = Unfinished::new(&cx.settings);
    let unfinished = blocking(move || unfinished.all()).await.map_err(StepError::Journal)?;
    let asks = |image: &Image| {
        image.size == Some(iso.size) && image.md5.is_some() && same_image_name(&image.name, &iso.file_name)
    };
    let hashed = if images.iter().any(asks) { iso_hash::known(cx, facts, iso).await? } else { iso.clone() };
    Ok((pick(&images, &hashed, &unfinished, cx.log.may_lack_facts()), hashed))
}

/// An image that was found.
pub(super) fn reused(image: Image) -> ImageFact {
    ImageFact {
        state: ImageState::Reused,
        image_uuid: image.uuid,
        zbs_volume_id: image.zbs_volume_id,
        image_path: image.path,
        name: image.name,
        ..ImageFact::default()
    }
}

/// Takes the ISO's image over, if there is one. True: found, and in the facts.
pub(super) async fn reuse(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<bool, StepError> {
    let (Match { reuse, warnings, doubtful }, iso) = look(cx, facts, iso).await?;
    for warning in warnings {
        cx.note(Level::Warning, "iso_lookup", warning, fields(json!({"step": "iso_lookup"}))).await?;
    }
    for (uuid, name) in &doubtful {
        facts.leave(maybe_unfinished(uuid, name));
    }
    let uuid = reuse.as_ref().map(|image| image.uuid.as_str());
    let message = match uuid {
        Some(uuid) => format!("{} is on the cluster already (image {uuid}); it is reused", iso.file_name),
        None => format!("{} is not on the cluster; it is uploaded", iso.file_name),
    };
    let extra = json!({"step": "iso_lookup", "found": uuid.is_some(), "image_uuid": uuid});
    cx.note(Level::Info, "iso_lookup", message, fields(extra)).await?;
    let Some(image) = reuse else {
        if !doubtful.is_empty() {
            cx.save(facts).await?;
        }
        return Ok(false);
    };
    facts.image = Some(reused(image));
    cx.save(facts).await?;
    Ok(true)
}

/// Same name (C3), same size, a path, and an MD5 that is ours or missing; never a volume that is known as unfinished
/// (C49). The newest of several. `proved`: only with an MD5, since it may be unfinished without anybody here knowing.
pub(super) fn pick(images: &[Image], iso: &IsoFact, unfinished: &BTreeSet<String>, proved: bool) -> Match {
    let mut found = Match::default();
    for image in images.iter().filter(|image| same_image_name(&image.name, &iso.file_name)) {
        let reason = if image.uuid.is_empty() || image.path.is_empty() {
            Some("it lacks uuid or path".to_owned())
        } else if image.size != Some(iso.size) {
            Some(format!("it has {} bytes, the ISO has {}", image.size.unwrap_or_default(), iso.size))
        } else if image.md5.as_ref().is_some_and(|md5| !md5.eq_ignore_ascii_case(&iso.md5)) {
            Some("its MD5 is another one".to_owned())
        } else if unfinished.contains(&image.uuid) {
            Some("it is an upload of ours that was never completed".to_owned())
        } else if proved && image.md5.is_none() {
            Some("the agent that had the job may have left it incomplete, and the cluster gives no MD5".to_owned())
        } else {
            None
        };
        if proved && image.md5.is_none() && !image.uuid.is_empty() {
            found.doubtful.push((image.uuid.clone(), image.name.clone()));
        }
        match reason {
            Some(reason) => {
                found.warnings.push(format!("the image {} ({}) is not reused: {reason}", image.name, image.uuid))
            }
            None if found.reuse.as_ref().is_none_or(|best| best.time < image.time) => found.reuse = Some(image.clone()),
            None => {}
        }
    }
    if found.reuse.as_ref().is_some_and(|image| image.md5.is_none()) {
        found.warnings.push("the cluster gives no MD5 for the image: it is reused by name and size alone".to_owned());
    }
    found
}

/// Lists what an agent that is said to be off may have left incomplete, where this one goes back without ever having
/// looked for the ISO.
pub(super) async fn list_doubtful(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    if !cx.log.may_lack_facts() {
        return Ok(());
    }
    let images = read(cx, "listing the images", cx.outside.fisheye.images()).await?;
    let own = facts.image.as_ref().map(|image| image.image_uuid.clone());
    let iso = facts.iso.as_ref().map(|iso| iso.file_name.clone());
    for image in images.iter().filter(|image| is_doubtful(image, iso.as_deref(), own.as_deref())) {
        facts.leave(maybe_unfinished(&image.uuid, &image.name));
    }
    cx.save(facts).await
}

/// An image that may be an upload of the job's first agent, and is not proved: of the ISO's name, or of that of any
/// CloudTower ISO where the file is not known.
fn is_doubtful(image: &Image, iso: Option<&str>, own: Option<&str>) -> bool {
    let named = match iso {
        Some(iso) => same_image_name(&image.name, iso),
        None => IsoName::parse(&image.name).or_else(|| IsoName::parse(&format!("{}.iso", image.name))).is_some(),
    };
    named && image.md5.is_none() && !image.uuid.is_empty() && Some(image.uuid.as_str()) != own
}

/// Removes our unfinished volume; a complete or foreign image stays.
pub(super) async fn undo(cx: &StepCx, facts: &mut Facts) -> Result<Option<String>, StepError> {
    let ours = |image: &&ImageFact| image.state == ImageState::Uploading && !image.image_uuid.is_empty();
    let Some(image) = facts.image.clone().filter(|image| ours(&image)) else { return Ok(None) };
    match remove(cx, &image.image_uuid).await? {
        Ok(()) => {
            facts.no_longer_left("image", &image.image_uuid);
            super::forget(cx, facts).await?;
            Ok(Some(format!("the upload volume {} ({})", image.name, image.image_uuid)))
        }
        Err(reason) => {
            let leftover = leftover(cx, &image.image_uuid, &image.name);
            let remedy = leftover.remedy.clone();
            facts.leave(leftover);
            cx.save(facts).await?;
            let message = format!("the upload volume {} could not be removed: {reason}", image.image_uuid);
            Err(permanent(story("image_not_removed", message, remedy)))
        }
    }
}

/// Deletes an image and makes sure by the list that it is gone (U20, U21). The inner error says why it is not.
pub(in crate::steps) async fn remove(cx: &StepCx, image_uuid: &str) -> Result<Result<(), String>, StepError> {
    let timing = &cx.settings.timing;
    let mut reason = String::new();
    for attempt in 1..=timing.undo_attempts.max(2) {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.undo_retry_s)).await?;
        }
        let mut detail = fields(json!({"image_uuid": image_uuid, "attempt": attempt}));
        let intent = cx.intend(DELETE, detail.clone()).await?;
        let deleted = cx.outside.fisheye.delete_image(image_uuid).await;
        let listed = cx.outside.fisheye.images().await;
        let gone = listed.as_ref().map(|images| images.iter().all(|image| image.uuid != image_uuid));
        let (result, said) = match (&deleted, gone) {
            (Ok(()), Ok(true)) => (gantry_proto::event::IntentResult::Done, None),
            (Ok(()), Ok(false)) => (gantry_proto::event::IntentResult::Failed, Some("it is still listed".to_owned())),
            (Ok(()), Err(error)) => (gantry_proto::event::IntentResult::Unknown, Some(told(error))),
            // Hidden volumes are never listed: an error is believed then.
            (Err(error), _) => (gantry_proto::event::IntentResult::Unknown, Some(told(error))),
        };
        if let Some(said) = &said {
            detail.insert("error".to_owned(), said.clone().into());
        }
        cx.outcome(intent, result, detail).await?;
        match said {
            None => return Ok(Ok(())),
            Some(said) => reason = said,
        }
    }
    Ok(Err(reason))
}

fn told(error: &fisheye::Error) -> String {
    gantry_proto::error::causes(error).join(": ")
}

/// An image that a person has to remove.
pub(super) fn leftover(cx: &StepCx, image_uuid: &str, name: &str) -> Leftover {
    let url = cx.outside.fisheye.base_url();
    let remedy = format!(
        "delete the ISO image in the cluster's web page, or: curl -k -X DELETE -H 'x-smartx-token: <token>' {url}/api/v2/images/{image_uuid}"
    );
    Leftover { kind: "image".to_owned(), id: image_uuid.to_owned(), name: name.to_owned(), remedy }
}

/// An image that may be an upload that an agent which is off never completed. It may as well be somebody's complete
/// image, so it is not touched, and a person is not told to delete it unseen.
fn maybe_unfinished(image_uuid: &str, name: &str) -> Leftover {
    let remedy = "the agent that had the job before may have left this ISO image incomplete, which the cluster does not tell: look in the cluster's web page whether it was made by that upload and nothing uses it, and only then delete it";
    Leftover { kind: "image".to_owned(), id: image_uuid.to_owned(), name: name.to_owned(), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso() -> IsoFact {
        IsoFact { file_name: "cloudtower-v4.a.b.iso".into(), size: 100, md5: "aa".into(), ..IsoFact::default() }
    }

    fn image(uuid: &str, name: &str, size: u64, md5: Option<&str>, time: u64) -> Image {
        let md5 = md5.map(str::to_owned);
        Image {
            uuid: uuid.into(),
            name: name.into(),
            path: "iscsi://x/1".into(),
            size: Some(size),
            md5,
            time,
            ..Image::default()
        }
    }

    fn picked(images: &[Image], unfinished: &[&str]) -> (Option<String>, usize) {
        let unfinished = unfinished.iter().map(|uuid| (*uuid).to_owned()).collect();
        let found = pick(images, &iso(), &unfinished, false);
        (found.reuse.map(|image| image.uuid), found.warnings.len())
    }

    #[test]
    fn the_right_image_is_reused_whatever_its_case_and_suffix() {
        for name in ["cloudtower-v4.a.b.iso", "CLOUDTOWER-v4.A.b", "cloudtower-v4.a.b.ISO"] {
            assert_eq!(picked(&[image("a", name, 100, Some("AA"), 1)], &[]), (Some("a".into()), 0), "{name}");
        }
    }

    #[test]
    fn after_an_agent_that_could_not_tell_everything_only_an_md5_proves() {
        let images =
            [image("a", "cloudtower-v4.a.b", 100, None, 2), image("b", "cloudtower-v4.a.b", 100, Some("aa"), 1)];
        let found = |proved| pick(&images, &iso(), &BTreeSet::new(), proved).reuse.map(|image| image.uuid);
        assert_eq!((found(false).as_deref(), found(true).as_deref()), (Some("a"), Some("b")));
        // What it may have left incomplete is named; what an MD5 proves is not, and nothing when it has told everything.
        let doubtful = |proved| pick(&images, &iso(), &BTreeSet::new(), proved).doubtful;
        assert_eq!(doubtful(true), [("a".to_owned(), "cloudtower-v4.a.b".to_owned())]);
        assert!(doubtful(false).is_empty());
        let told = maybe_unfinished("a", "n");
        assert_eq!((told.id.as_str(), told.remedy.contains("only then delete")), ("a", true));
    }

    #[test]
    fn another_size_md5_or_an_unfinished_volume_is_not_reused() {
        let name = "cloudtower-v4.a.b.iso";
        assert_eq!(picked(&[image("a", name, 99, None, 1)], &[]), (None, 1));
        assert_eq!(picked(&[image("a", name, 100, Some("bb"), 1)], &[]), (None, 1));
        assert_eq!(picked(&[image("a", name, 100, None, 1)], &["a"]), (None, 1));
        assert_eq!(picked(&[image("", name, 100, Some("aa"), 1)], &[]), (None, 1));
        let no_path = Image { path: String::new(), ..image("a", name, 100, Some("aa"), 1) };
        assert_eq!(picked(&[no_path], &[]), (None, 1));
        assert_eq!(picked(&[image("a", "other.iso", 100, Some("aa"), 1)], &[]), (None, 0));
    }

    #[test]
    fn the_newest_of_several_is_taken_and_a_missing_md5_is_told() {
        let name = "cloudtower-v4.a.b.iso";
        let images = [
            image("a", name, 100, Some("aa"), 5),
            image("b", name, 100, Some("aa"), 9),
            image("c", name, 100, Some("aa"), 7),
        ];
        assert_eq!(picked(&images, &[]), (Some("b".into()), 0));
        assert_eq!(picked(&[image("a", name, 100, None, 1)], &[]), (Some("a".into()), 1));
    }

    #[test]
    fn an_unproved_image_of_a_cloudtower_iso_is_doubtful_unless_it_is_ours() {
        let image = |name: &str, md5: Option<&str>| Image {
            uuid: "u".into(),
            name: name.into(),
            md5: md5.map(str::to_owned),
            ..Image::default()
        };
        let ours = image("cloudtower-v4.a.b.iso", None);
        assert!(is_doubtful(&ours, None, None) && is_doubtful(&ours, Some("cloudtower-v4.a.b.iso"), None));
        assert!(is_doubtful(&image("cloudtower-v4.a.b", None), None, None));
        assert!(!is_doubtful(&ours, None, Some("u")) && !is_doubtful(&ours, Some("cloudtower-v5.a.b.iso"), None));
        assert!(!is_doubtful(&image("other.iso", None), None, None));
        assert!(!is_doubtful(&image("cloudtower-v4.a.b.iso", Some("aa")), None, None));
    }
}
