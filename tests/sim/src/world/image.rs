//! Upload volumes and images: what was received, what the list shows, how much space it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Effect, World};
use crate::core::Core;
use crate::modes::Unfinished;
use crate::options::PlantedImage;
use crate::rng::named_uuid;
use crate::store::Whole;

/// Chunks an image may have; more are refused.
pub const MAX_CHUNKS: u64 = 1_000_000;

/// An image or the upload volume it begins as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `image_uuid`.
    pub uuid: String,
    /// `zbs_volume_id`.
    pub zbs_volume_id: String,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// iSCSI URL.
    pub path: String,
    /// Declared bytes.
    pub size: u64,
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// Epoch seconds.
    pub time: i64,
    /// How far it is.
    pub state: ImageState,
    /// SHA-256 of each stored chunk.
    pub received: BTreeMap<u64, String>,
    /// How often each chunk was stored, when more than once.
    pub resent: BTreeMap<u64, u64>,
    /// MD5 of the content, once listed.
    pub md5: Option<String>,
    /// SHA-256 of the content, once complete.
    pub sha256: Option<String>,
    /// Whether the ISO holds the guest tools, once known.
    pub guest_tools: Option<bool>,
    /// Bytes taken from the free space.
    pub reserved: u64,
    /// Chunks that were stored damaged on purpose.
    pub damaged: BTreeSet<u64>,
    /// It existed before the run.
    pub foreign: bool,
    /// The chunk reported missing although stored (mode `repeat_once`).
    pub repeat: Option<u64>,
    /// Counts stored chunks, for expiry.
    pub activity: u64,
    /// Chunks that are being received.
    #[serde(skip)]
    pub receiving: u32,
    /// Chunks that were being received at a time, at most.
    #[serde(skip)]
    pub most_at_once: u32,
}

/// How far an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// No chunk yet.
    Allocated,
    /// Some chunks.
    Receiving,
    /// All chunks; the digest is being made.
    Complete,
    /// Finished and listed with its MD5.
    Listed,
}

impl Image {
    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.size.div_ceil(self.chunk_size.max(1))
    }

    /// Bytes of a chunk; 0 when there is no such chunk.
    #[must_use]
    pub fn chunk_len(&self, chunk: u64) -> u64 {
        let from = chunk.saturating_mul(self.chunk_size);
        self.chunk_size.min(self.size.saturating_sub(from))
    }

    /// Indices not yet stored, ascending.
    #[must_use]
    pub fn missing(&self) -> Vec<u64> {
        (0..self.chunks()).filter(|chunk| !self.received.contains_key(chunk)).collect()
    }

    /// All chunks are there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, ImageState::Complete | ImageState::Listed)
    }
}

impl World {
    /// Allocates an upload volume.
    ///
    /// # Errors
    /// There is not enough free space: how many bytes are missing.
    pub fn allocate_image(&mut self, core: &Core, name: &str, description: &str, size: u64) -> Result<Image, u64> {
        let needed = size.saturating_mul(self.replicas());
        if needed > self.free_bytes {
            return Err(needed - self.free_bytes);
        }
        let reserved = if core.options.thin_volumes { 0 } else { needed };
        self.free_bytes -= reserved;
        let image = Image {
            uuid: core.chance.uuid("image"),
            zbs_volume_id: core.chance.uuid("zbs-volume"),
            name: name.into(),
            description: description.into(),
            path: self.next_path(),
            size,
            chunk_size: core.options.chunk_size.max(1),
            time: core.clock.now().as_second(),
            state: ImageState::Allocated,
            received: BTreeMap::new(),
            resent: BTreeMap::new(),
            md5: None,
            sha256: None,
            guest_tools: None,
            reserved,
            damaged: BTreeSet::new(),
            foreign: false,
            repeat: None,
            activity: 0,
            receiving: 0,
            most_at_once: 0,
        };
        self.images.insert(image.uuid.clone(), image.clone());
        self.watch_expiry(core, &image.uuid);
        Ok(image)
    }

    /// Records a stored chunk. False when the image is gone or, with thin volumes, the disk is full.
    pub fn chunk_stored(&mut self, core: &Core, uuid: &str, chunk: u64, sha256: String) -> bool {
        let replicas = self.replicas();
        let Some(image) = self.images.get_mut(uuid) else { return false };
        let grows = image.chunk_len(chunk).saturating_mul(replicas);
        if core.options.thin_volumes && !image.received.contains_key(&chunk) {
            if grows > self.free_bytes {
                return false;
            }
            self.free_bytes -= grows;
            image.reserved += grows;
        }
        if image.received.insert(chunk, sha256).is_some() {
            *image.resent.entry(chunk).or_insert(1) += 1;
        }
        image.activity += 1;
        if image.state == ImageState::Allocated {
            image.state = ImageState::Receiving;
        }
        self.watch_expiry(core, uuid);
        true
    }

    /// All chunks are there and the digests are made; the MD5 shows later.
    pub fn image_complete(&mut self, core: &Core, uuid: &str, whole: Whole) {
        let Some(image) = self.images.get_mut(uuid) else { return };
        image.state = ImageState::Complete;
        image.sha256 = Some(whole.sha256);
        image.md5 = Some(whole.md5);
        image.guest_tools = whole.guest_tools.or(image.guest_tools);
        let at = core.clock.elapsed() + core.drawn("latency.md5", core.options.latencies.md5);
        self.plan(at, Effect::ImageListed { image: uuid.into() });
    }

    pub(super) fn image_listed(&mut self, uuid: &str) {
        if let Some(image) = self.images.get_mut(uuid) {
            image.state = ImageState::Listed;
        }
    }

    pub(super) fn image_expired(&mut self, core: &Core, uuid: &str, activity: u64) {
        let idle = self.images.get(uuid).is_some_and(|image| !image.is_complete() && image.activity == activity);
        if idle {
            self.remove_image(core, uuid);
        }
    }

    /// Removes an image with its content; its space is free again.
    pub fn remove_image(&mut self, core: &Core, uuid: &str) -> Option<Image> {
        let image = self.images.remove(uuid)?;
        self.free_bytes = self.free_bytes.saturating_add(image.reserved);
        core.store.forget(uuid);
        Some(image)
    }

    /// VMs that mount an image.
    #[must_use]
    pub fn mounted_by(&self, uuid: &str) -> usize {
        let mounts = |vm: &&super::Vm| vm.disks.iter().any(|disk| disk.image_uuid.as_deref() == Some(uuid));
        self.vms.values().filter(mounts).count()
    }

    /// Whether `chunk` is the last one of an upload.
    #[must_use]
    pub fn is_last_chunk(&self, image: &str, chunk: u64) -> bool {
        self.images.get(image).is_some_and(|image| image.chunks() == chunk.saturating_add(1))
    }

    /// Images as the list shows them under the modes of now.
    #[must_use]
    pub fn listed_images(&self, core: &Core) -> Vec<&Image> {
        let hidden = core.modes().unfinished == Unfinished::Hidden;
        self.images.values().filter(|image| image.is_complete() || !hidden).collect()
    }

    /// Adds images that nobody uploaded.
    pub(crate) fn plant_images(&mut self, planted: &PlantedImage, now: i64) {
        for n in 0..planted.count {
            let number = self.images.len();
            let uuid = named_uuid(&format!("image {} {number}", planted.name));
            let path = if planted.no_path { String::new() } else { self.next_path() };
            let image = Image {
                zbs_volume_id: named_uuid(&format!("zbs {uuid}")),
                name: if planted.count > 1 { format!("{}-{n}", planted.name) } else { planted.name.clone() },
                description: "planted".into(),
                path,
                size: planted.size,
                chunk_size: 8 << 20,
                time: planted.time.unwrap_or(now),
                state: ImageState::Listed,
                received: BTreeMap::new(),
                resent: BTreeMap::new(),
                md5: planted.md5.clone(),
                sha256: None,
                guest_tools: Some(planted.guest_tools),
                reserved: 0,
                damaged: BTreeSet::new(),
                foreign: true,
                repeat: None,
                activity: 0,
                receiving: 0,
                most_at_once: 0,
                uuid: uuid.clone(),
            };
            self.images.insert(uuid, image);
        }
    }

    fn watch_expiry(&mut self, core: &Core, uuid: &str) {
        let ttl = core.modes().volume_ttl_s;
        if ttl > 0
            && let Some(activity) = self.images.get(uuid).map(|image| image.activity)
        {
            let at = core.clock.elapsed() + Duration::from_secs(ttl);
            self.plan(at, Effect::ImageExpired { image: uuid.into(), activity });
        }
    }

    fn replicas(&self) -> u64 {
        self.policies.first().map_or(1, |policy| policy.replica_num.max(1))
    }
}
