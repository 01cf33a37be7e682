//! Upload volumes: which chunks of which image are there. No content is kept, at most its digests.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use uuid::Uuid;

/// Images at a time; more are refused.
const MOST_IMAGES: usize = 1_000;
/// Chunks of one image.
const MOST_CHUNKS: u64 = 1_000_000;

/// All images.
#[derive(Debug)]
pub(super) struct Images {
    chunk_size: u64,
    /// What a complete image shows as its MD5.
    md5: Option<String>,
    all: Mutex<BTreeMap<String, Image>>,
}

#[derive(Debug)]
struct Image {
    volume: String,
    name: String,
    size: u64,
    /// Digest of each chunk that is there; empty when nothing is verified.
    there: Vec<Option<String>>,
    missing: u64,
}

/// Where a chunk belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) image: String,
    pub(super) chunk: usize,
    /// Bytes that it must have.
    pub(super) length: u64,
}

impl Images {
    /// `chunk_size` must be above 0.
    pub(super) fn new(chunk_size: u64, md5: Option<String>) -> Self {
        Self { chunk_size, md5, all: Mutex::default() }
    }

    /// A new volume: what the call answers as `data`, or why there is none.
    pub(super) fn create(&self, name: &str, size: u64) -> Result<Value, &'static str> {
        let count = size.div_ceil(self.chunk_size);
        let mut all = self.lock();
        if name.is_empty() || size == 0 || count > MOST_CHUNKS {
            return Err("name and size are needed, and a size above 0 that makes no more than a million chunks");
        }
        if all.len() >= MOST_IMAGES {
            return Err("there are too many images; POST /reset removes them");
        }
        let (uuid, volume) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let data = json!({
            "image_uuid": uuid, "zbs_volume_id": volume, "image_path": path(&uuid), "chunk_size": self.chunk_size,
            "to_upload": (0..count).collect::<Vec<_>>(),
        });
        let there = vec![None; usize::try_from(count).unwrap_or_default()];
        all.insert(uuid, Image { volume, name: name.to_owned(), size, there, missing: count });
        Ok(data)
    }

    /// Where a chunk belongs; `None` when there is no such image, volume or chunk.
    pub(super) fn place(&self, image: &str, volume: &str, chunk: &str) -> Option<Place> {
        let all = self.lock();
        let known = all.get(image).filter(|known| known.volume == volume)?;
        let chunk: usize = chunk.parse().ok()?;
        known.there.get(chunk)?;
        let length = self.chunk_size.min(known.size - chunk as u64 * self.chunk_size);
        Some(Place { image: image.to_owned(), chunk, length })
    }

    /// Notes a chunk as there. Whether it was not before, and what the call answers as `data`; `None` when the image was
    /// removed meanwhile.
    pub(super) fn store(&self, place: &Place, digest: String) -> Option<(bool, Value)> {
        let mut all = self.lock();
        let image = all.get_mut(&place.image)?;
        let first = image.there.get_mut(place.chunk)?.replace(digest).is_none();
        image.missing -= u64::from(first);
        let missing = image.there.iter().enumerate().filter(|(_, there)| there.is_none()).map(|(chunk, _)| chunk);
        let data = json!({"chunk_num": place.chunk, "to_upload": missing.collect::<Vec<_>>()});
        Some((first, data))
    }

    /// The list, as `data`. An image that is not complete is listed without MD5.
    pub(super) fn list(&self) -> Value {
        let all = self.lock();
        let entry = |(uuid, image): (&String, &Image)| {
            json!({
                "uuid": uuid, "name": image.name, "file_name": uuid, "description": "", "path": path(uuid),
                "size": image.size, "md5": self.md5.as_ref().filter(|_| image.missing == 0), "type": "ISO_IMAGE",
                "os": null, "resource_state": "in-use", "time": 0, "zbs_volume_id": image.volume, "vms_count": 0,
                "vm_snapshots_count": 0, "vm_templates_count": 0,
            })
        };
        json!({"images": all.iter().map(entry).collect::<Vec<_>>()})
    }

    /// Digests of the chunks of the newest image.
    pub(super) fn digests(&self) -> Vec<Option<String>> {
        self.lock().values().next_back().map(|image| image.there.clone()).unwrap_or_default()
    }

    /// Whether there was such an image.
    pub(super) fn remove(&self, image: &str) -> bool {
        self.lock().remove(image).is_some()
    }

    /// Removes all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Image>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(uuid: &str) -> String {
    format!("iscsi://iqn.2016-02.com.smartx:system:zbs-iscsi-datastore-bench/{uuid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_complete_with_its_last_chunk() {
        let images = Images::new(10, Some("aa".into()));
        let volume = images.create("x.iso", 25).unwrap();
        assert_eq!(volume["to_upload"], json!([0, 1, 2]));
        let (image, id) = (volume["image_uuid"].as_str().unwrap(), volume["zbs_volume_id"].as_str().unwrap());
        let place = |chunk: &str| images.place(image, id, chunk);
        assert_eq!(place("1").unwrap().length, 10);
        assert_eq!(place("2").unwrap().length, 5);
        assert_eq!((place("3"), place("-1"), images.place(image, "other", "1")), (None, None, None));
        let store = |chunk: &str| images.store(&place(chunk).unwrap(), format!("d{chunk}")).unwrap();
        assert_eq!(store("1"), (true, json!({"chunk_num": 1, "to_upload": [0, 2]})));
        assert_eq!(store("1"), (false, json!({"chunk_num": 1, "to_upload": [0, 2]})));
        assert!(store("2").0 && images.list()["images"][0]["md5"].is_null());
        assert_eq!(store("0"), (true, json!({"chunk_num": 0, "to_upload": []})));
        assert_eq!(images.list()["images"][0]["md5"], "aa");
        assert_eq!(images.digests(), ["d0", "d1", "d2"].map(|digest| Some(digest.to_owned())));
        assert!(images.remove(image) && !images.remove(image));
        assert_eq!(images.list(), json!({"images": []}));
    }

    #[test]
    fn a_volume_that_makes_no_sense_is_refused() {
        let images = Images::new(10, None);
        assert!(images.create("", 5).is_err() && images.create("x", 0).is_err());
        assert!(images.create("x", 10 * (MOST_CHUNKS + 1)).is_err());
    }
}
