//! Upload of chunks (`fisheye.md` 6): streamed, hashed, stored; and what `to_upload` says afterwards (C4).

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{MULTIPART_OVERHEAD, envelope};
use crate::core::Core;
use crate::modes::{AtOnce, ChunkOrder, Resend, ToUpload};
use crate::net::{Marks, Notes};
use crate::store::ChunkWriter;
use crate::world::{Image, ImageState};

/// The mark by which a fault damages a chunk that is then acknowledged (U9).
const CORRUPT: &str = "corrupt_chunk";
/// Entries of the list in mode `huge`.
const HUGE: u64 = 1_000_000;

/// `POST /api/v2/images/upload`.
pub(super) async fn upload(
    State(core): State<Core>,
    Extension(notes): Extension<Notes>,
    Extension(marks): Extension<Marks>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let response = match take(&core, &notes, &marks, &query, &headers, body).await {
        Ok(response) | Err(response) => response,
    };
    let slow = core.chance.chance("latency.chunk.slow", 0.01);
    let range = if slow { [1000, 3000] } else { core.options.latencies.chunk };
    core.clock.latency(core.drawn("latency.chunk", range)).await;
    response
}

/// What a chunk call is about, once it is known to make sense.
struct Target {
    image: String,
    chunk: u64,
    expected: u64,
    chunk_size: u64,
    before: Option<String>,
}

/// A chunk that is being received, as long as it lives.
struct Receiving<'a> {
    core: &'a Core,
    image: &'a str,
}

impl<'a> Receiving<'a> {
    fn begin(core: &'a Core, image: &'a str) -> Result<Self, Response> {
        let one_only = core.modes().chunks_at_once == AtOnce::One;
        let mut world = core.world();
        let found = world.images.get_mut(image).ok_or_else(|| envelope::not_found(core, "image"))?;
        if one_only && found.receiving > 0 {
            return Err(envelope::refused(core, StatusCode::CONFLICT, "REST_UNKNOWN_ERROR", "the volume is busy"));
        }
        found.receiving += 1;
        found.most_at_once = found.most_at_once.max(found.receiving);
        Ok(Self { core, image })
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        if let Some(image) = self.core.world().images.get_mut(self.image) {
            image.receiving = image.receiving.saturating_sub(1);
        }
    }
}

async fn take(
    core: &Core,
    notes: &Notes,
    marks: &Marks,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let target = target(core, query)?;
    let _receiving = Receiving::begin(core, &target.image)?;
    let boundary = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = boundary.and_then(|value| multer::parse_boundary(value).ok());
    let boundary = boundary.ok_or_else(|| envelope::form_error(core, "file", "the body is not multipart/form-data"))?;
    let content = core.store.content(&target.image, target.chunk_size);
    let writer = content.begin(target.chunk, target.expected).await;
    let digest = receive(core, marks, &target, boundary, body, writer).await?;
    notes.body_sha256(digest.clone());
    let (complete, size) = {
        let mut world = core.world();
        if !world.images.contains_key(&target.image) {
            return Err(envelope::not_found(core, "image"));
        }
        let was_complete = world.images.get(&target.image).is_some_and(Image::is_complete);
        if !world.chunk_stored(core, &target.image, target.chunk, digest) {
            return Err(envelope::refused(core, StatusCode::INSUFFICIENT_STORAGE, "ZBS_NO_SPACE", "No space left"));
        }
        let Some(image) = world.images.get_mut(&target.image) else {
            return Err(envelope::not_found(core, "image"));
        };
        if marks.get(CORRUPT).is_some() {
            image.damaged.insert(target.chunk);
        } else {
            image.damaged.remove(&target.chunk);
        }
        (!was_complete && image.received.len() as u64 == image.chunks(), image.size)
    };
    if complete {
        let whole = content.whole(size).await.map_err(|error| storage_error(&error))?;
        core.world().image_complete(core, &target.image, whole);
    }
    let mut world = core.world();
    let image = world.images.get_mut(&target.image).ok_or_else(|| envelope::not_found(core, "image"))?;
    let mut data = json!({"chunk_num": target.chunk});
    if let Some(list) = to_upload(core.modes().to_upload, image, target.chunk) {
        data["to_upload"] = list;
    }
    drop(world);
    Ok(envelope::ok(core, data))
}

fn target(core: &Core, query: &BTreeMap<String, String>) -> Result<Target, Response> {
    let required =
        |name: &str| query.get(name).ok_or_else(|| envelope::form_error(core, name, "this field is required"));
    let (uuid, volume) = (required("image_uuid")?, required("zbs_volume_id")?);
    let chunk: u64 = required("chunk_num")?
        .parse()
        .map_err(|_| envelope::form_error(core, "chunk_num", "must be a number from 0"))?;
    let world = core.world();
    let image = world.images.get(uuid).ok_or_else(|| envelope::not_found(core, "image"))?;
    if image.zbs_volume_id != *volume {
        return Err(envelope::form_error(core, "zbs_volume_id", "is not the volume of this image"));
    }
    if chunk >= image.chunks() {
        return Err(envelope::form_error(core, "chunk_num", "is beyond the last chunk"));
    }
    let modes = core.modes();
    if modes.chunk_order == ChunkOrder::Ascending && image.missing().first().is_some_and(|next| chunk > *next) {
        return Err(envelope::refused(core, StatusCode::CONFLICT, "REST_UNKNOWN_ERROR", "chunks must be in order"));
    }
    if image.state == ImageState::Listed && modes.resend == Resend::Error {
        return Err(envelope::refused(core, StatusCode::CONFLICT, "REST_UNKNOWN_ERROR", "the image is finished"));
    }
    if core.options.thin_volumes && !image.received.contains_key(&chunk) && world.free_bytes < image.chunk_len(chunk) {
        return Err(envelope::refused(core, StatusCode::INSUFFICIENT_STORAGE, "ZBS_NO_SPACE", "No space left"));
    }
    Ok(Target {
        image: uuid.clone(),
        chunk,
        expected: image.chunk_len(chunk),
        chunk_size: image.chunk_size,
        before: image.received.get(&chunk).cloned(),
    })
}

/// Takes exactly one part named `file` of exactly the expected length.
async fn receive(
    core: &Core,
    marks: &Marks,
    target: &Target,
    boundary: String,
    body: Body,
    mut writer: ChunkWriter,
) -> Result<String, Response> {
    let limit = target.expected.saturating_add(MULTIPART_OVERHEAD);
    let limits = multer::SizeLimit::new().whole_stream(limit);
    let constraints = multer::Constraints::new().size_limit(limits);
    let mut parts = multer::Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let broken = |error: &multer::Error| envelope::form_error(core, "file", &format!("unreadable body: {error}"));
    let mut damage = marks.get(CORRUPT).is_some();
    let mut seen = false;
    while let Some(mut part) = parts.next_field().await.map_err(|error| broken(&error))? {
        if part.name() != Some("file") || seen {
            return Err(envelope::form_error(core, "file", "exactly one part named file is expected"));
        }
        seen = true;
        while let Some(piece) = part.chunk().await.map_err(|error| broken(&error))? {
            let piece = if std::mem::take(&mut damage) { damaged(&piece) } else { piece };
            writer.write(piece).await.map_err(|error| storage_error(&error))?;
        }
    }
    if !seen || writer.len() != target.expected {
        let msg = format!("{} bytes arrived, {} were expected", writer.len(), target.expected);
        return Err(envelope::form_error(core, "file", &msg));
    }
    writer.finish(target.before.as_deref()).await.map_err(|error| storage_error(&error))
}

fn damaged(piece: &Bytes) -> Bytes {
    let mut bytes = piece.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first ^= 0xff;
    }
    bytes.into()
}

fn storage_error(error: &std::io::Error) -> Response {
    tracing::error!(%error, "the simulator's own storage failed");
    envelope::error(StatusCode::INTERNAL_SERVER_ERROR, "REST_UNKNOWN_ERROR", "storage failed", json!(""))
}

/// The list after `chunk` was stored; `None` = no such key.
fn to_upload(mode: ToUpload, image: &mut Image, chunk: u64) -> Option<Value> {
    let chunks = image.chunks();
    let missing = image.missing();
    let complete = missing.is_empty();
    Some(match mode {
        ToUpload::Absent => return None,
        ToUpload::Remaining => missing.into(),
        ToUpload::Echo => json!([chunk]),
        ToUpload::SingleThenEmpty if complete => json!([]),
        ToUpload::SingleThenEmpty => json!([chunk]),
        ToUpload::Growing if complete => json!([]),
        ToUpload::Growing => image.received.keys().copied().collect::<Vec<_>>().into(),
        ToUpload::NeverShrinks => (0..chunks).collect::<Vec<_>>().into(),
        ToUpload::RepeatOnce => repeat_once(image, chunk, missing),
        ToUpload::EmptyAfterFirst => json!([]),
        ToUpload::OutOfRange => json!([chunks, chunks + 7]),
        ToUpload::Negative => json!([-1, -5]),
        ToUpload::Strings => missing.iter().map(u64::to_string).collect::<Vec<_>>().into(),
        ToUpload::Huge => (0..HUGE).collect::<Vec<_>>().into(),
        ToUpload::Null => Value::Null,
    })
}

/// The first stored chunk counts as missing until it comes a second time.
fn repeat_once(image: &mut Image, chunk: u64, mut missing: Vec<u64>) -> Value {
    let wanted = *image.repeat.get_or_insert(chunk);
    if image.resent.get(&wanted).is_none_or(|times| *times < 2) && !missing.contains(&wanted) {
        missing.push(wanted);
        missing.sort_unstable();
    }
    missing.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(received: &[u64]) -> Image {
        let received = received.iter().map(|chunk| (*chunk, String::new())).collect();
        Image {
            uuid: "i".into(),
            zbs_volume_id: "z".into(),
            name: "n".into(),
            description: String::new(),
            path: "p".into(),
            size: 31,
            chunk_size: 10,
            time: 0,
            state: ImageState::Receiving,
            received,
            resent: BTreeMap::new(),
            md5: None,
            sha256: None,
            guest_tools: None,
            reserved: 0,
            damaged: std::collections::BTreeSet::new(),
            foreign: false,
            repeat: None,
            activity: 0,
            receiving: 0,
            most_at_once: 0,
        }
    }

    #[test]
    fn the_five_honest_readings() {
        let list = |mode, received: &[u64], chunk| to_upload(mode, &mut image(received), chunk);
        assert_eq!(list(ToUpload::Remaining, &[0, 2], 2), Some(json!([1, 3])));
        assert_eq!(list(ToUpload::Echo, &[0, 1, 2, 3], 3), Some(json!([3])));
        assert_eq!(list(ToUpload::SingleThenEmpty, &[0], 0), Some(json!([0])));
        assert_eq!(list(ToUpload::SingleThenEmpty, &[0, 1, 2, 3], 3), Some(json!([])));
        assert_eq!(list(ToUpload::Growing, &[0, 1], 1), Some(json!([0, 1])));
        assert_eq!(list(ToUpload::Growing, &[0, 1, 2, 3], 3), Some(json!([])));
        assert_eq!(list(ToUpload::Absent, &[0], 0), None);
    }

    #[test]
    fn repeat_once_asks_for_one_chunk_again() {
        let mut image = image(&[0, 1, 2, 3]);
        image.repeat = Some(0);
        assert_eq!(to_upload(ToUpload::RepeatOnce, &mut image, 3), Some(json!([0])));
        image.resent.insert(0, 2);
        assert_eq!(to_upload(ToUpload::RepeatOnce, &mut image, 0), Some(json!([])));
    }
}
