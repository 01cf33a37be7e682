//! The optional removal of the ISO image after success (R74): only one that this job has uploaded, and only when nothing
//! mounts it. An image that has to stay is a warning.

use async_trait::async_trait;
use gantry_proto::{Level, StepInfo, plan::Stage, result::NamedId};
use serde_json::json;

use super::{
    cluster,
    story::{extra, read},
    upload_iso::image,
};
use crate::{
    diff::Diff,
    facts::{Facts, ImageState},
    step::{Step, StepCx, StepError},
};

/// Removes the ISO image.
pub struct Cleanup;

#[async_trait]
impl Step for Cleanup {
    fn info(&self) -> StepInfo {
        StepInfo { id: "cleanup".into(), title: "Remove the ISO image".to_owned(), weight: 5, attempts: 1 }
    }

    fn stage(&self) -> Option<Stage> {
        Some(Stage::Cleanup)
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        let Some(ours) = facts.image.clone().filter(|image| image.state == ImageState::Uploaded) else {
            let message = "there is no ISO image that this job has uploaded: nothing is removed";
            return cx.note(Level::Info, "cleanup_nothing", message, extra([])).await;
        };
        if facts.removed_image.is_some() {
            return Ok(());
        }
        cluster::enter(cx, facts);
        let images = read(cx, "listing the images", cx.outside.fisheye.images()).await?;
        let (uuid, name) = (ours.image_uuid.clone(), ours.name.clone());
        match images.iter().find(|listed| listed.uuid == uuid).map(|listed| listed.vms_count) {
            None => {}
            Some(0) => {
                if let Err(reason) = image::remove(cx, &uuid).await? {
                    return stays(cx, &name, &uuid, &reason).await;
                }
            }
            // The VM's CD-ROM is a clone of it on most clusters, and itself on others.
            Some(vms) => return stays(cx, &name, &uuid, &format!("{vms} virtual machines use it")).await,
        }
        facts.removed_image = Some(NamedId { id: uuid.clone(), name: name.clone() });
        cx.save(facts).await?;
        let message = format!("the ISO image {name} has been removed; the next deployment uploads it again");
        cx.note(Level::Info, "image_removed", message, extra([("image_uuid", json!(uuid))])).await
    }

    async fn survey(&self, _cx: &StepCx, facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        match facts.image.as_ref().filter(|image| image.state == ImageState::Uploaded) {
            Some(ours) => {
                let message = "the ISO image that was uploaded is removed, unless the cluster counts the new VM as using it: \
                               that is seen only then";
                diff.unknown(image::DELETE, &ours.name, message);
            }
            None => diff.notice("", "no ISO image is uploaded: none is removed"),
        }
        Ok(())
    }
}

async fn stays(cx: &StepCx, name: &str, uuid: &str, reason: &str) -> Result<(), StepError> {
    let message = format!("the ISO image {name} stays on the cluster: {reason}");
    cx.note(Level::Warning, "image_stays", message, extra([("image_uuid", json!(uuid))])).await
}
