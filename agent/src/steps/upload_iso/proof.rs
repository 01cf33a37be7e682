//! The last word about an upload: our image in the list, with our size and our MD5 (`fisheye.md` 6.2, rules 4 and 5).

use gantry_proto::Level;
use serde_json::json;
use tokio::time::Instant;

use super::super::story::{blocking, fields, read, story};
use crate::{
    facts::{Facts, ImageState, IsoFact},
    fisheye::Image,
    step::{StepCx, StepError},
    upload::{Broken, Unfinished},
};

/// What one look at the list says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Listed, right size, right MD5.
    Proved,
    /// Listed with the right size; the MD5 is not there yet.
    NoMd5,
    /// Wrong for now; why.
    Wrong(&'static str, String),
}

/// Looks until the image is proved, or the time is up. `doubtful`: the server's own list of missing chunks contradicts
/// its acknowledgements.
pub(super) async fn prove(cx: &StepCx, facts: &mut Facts, iso: &IsoFact, doubtful: bool) -> Result<(), Broken> {
    let timing = &cx.settings.timing;
    let (begin, limit) = (Instant::now(), timing.scaled(timing.image_proof_limit_s));
    let uuid = facts.image.as_ref().map(|image| image.image_uuid.clone()).unwrap_or_default();
    loop {
        let images = read(cx, "listing the images for the proof of the upload", cx.outside.fisheye.images()).await?;
        let listed = images.into_iter().find(|image| image.uuid == uuid);
        let late = begin.elapsed() >= limit;
        match (verdict(listed.as_ref(), iso), listed) {
            (Verdict::Proved, Some(image)) => return Ok(accept(cx, facts, image, true, doubtful).await?),
            (Verdict::NoMd5, Some(image)) if late => return Ok(accept(cx, facts, image, false, doubtful).await?),
            (Verdict::Wrong(code, why), _) if late => {
                let message = format!("the uploaded image {uuid} cannot be proved: {why}");
                let remedy = "look at the storage of the cluster; the volume is removed and the upload made once more";
                return Err(Broken::Chunk(Box::new(story(code, message, remedy))));
            }
            _ => cx.sleep(timing.scaled(timing.image_proof_poll_s)).await?,
        }
    }
}

fn verdict(listed: Option<&Image>, iso: &IsoFact) -> Verdict {
    let Some(image) = listed else { return Verdict::Wrong("image_not_listed", "it is not in the list".to_owned()) };
    if image.size != Some(iso.size) {
        let told = image.size.unwrap_or_default();
        return Verdict::Wrong("image_wrong_size", format!("it has {told} bytes instead of {}", iso.size));
    }
    if image.path.is_empty() {
        return Verdict::Wrong("image_without_path", "it has no path".to_owned());
    }
    match &image.md5 {
        None => Verdict::NoMd5,
        Some(md5) if md5.eq_ignore_ascii_case(&iso.md5) => Verdict::Proved,
        Some(md5) => Verdict::Wrong("image_corrupted", format!("its MD5 is {md5}, the ISO's is {}", iso.md5)),
    }
}

async fn accept(cx: &StepCx, facts: &mut Facts, image: Image, by_md5: bool, doubtful: bool) -> Result<(), StepError> {
    if !by_md5 {
        let message = if doubtful {
            "the cluster gave no MD5 and contradicts itself about missing chunks; size and acknowledgements are right"
        } else {
            "the cluster gave no MD5 for the image; size and acknowledgements are right"
        };
        cx.note(Level::Warning, "image_without_md5", message, fields(json!({"image_uuid": image.uuid}))).await?;
    }
    let uuid = image.uuid.clone();
    if let Some(fact) = facts.image.as_mut() {
        fact.state = ImageState::Uploaded;
        fact.image_path = image.path;
        fact.named_at_first = None;
        fact.zbs_volume_id = fact.zbs_volume_id.take().or(image.zbs_volume_id);
    }
    cx.save(facts).await?;
    let unfinished = Unfinished::new(&cx.settings);
    let done = uuid.clone();
    blocking(move || unfinished.remove(&done)).await.and_then(|removed| removed).map_err(StepError::Journal)?;
    let message = format!("the image {uuid} is complete{}", if by_md5 { ", its MD5 is that of the ISO" } else { "" });
    cx.note(Level::Info, "image_complete", message, fields(json!({"image_uuid": uuid, "by_md5": by_md5}))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_size_path_and_md5_together_are_a_proof() {
        let iso = IsoFact { size: 5, md5: "aa".into(), ..IsoFact::default() };
        let image = |size, path: &str, md5: Option<&str>| Image {
            uuid: "u".into(),
            size: Some(size),
            path: path.into(),
            md5: md5.map(str::to_owned),
            ..Image::default()
        };
        assert_eq!(verdict(Some(&image(5, "p", Some("AA"))), &iso), Verdict::Proved);
        assert_eq!(verdict(Some(&image(5, "p", None)), &iso), Verdict::NoMd5);
        for (listed, code) in [
            (None, "image_not_listed"),
            (Some(image(4, "p", Some("aa"))), "image_wrong_size"),
            (Some(image(5, "", Some("aa"))), "image_without_path"),
            (Some(image(5, "p", Some("bb"))), "image_corrupted"),
        ] {
            assert!(matches!(verdict(listed.as_ref(), &iso), Verdict::Wrong(told, _) if told == code), "{code}");
        }
    }
}
