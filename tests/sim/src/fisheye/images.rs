//! Images: list, delete, and the upload volume (`fisheye.md` 4 and 5).

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{envelope, known_only};
use crate::core::Core;
use crate::modes::{ImageList, InitialToUpload, Md5, Unfinished};
use crate::net::Notes;
use crate::rng::named_uuid;
use crate::world::{Image, ImageState, MAX_CHUNKS};

type QueryMap = Query<BTreeMap<String, String>>;

/// `GET /api/v2/images`.
pub(super) async fn list(
    State(core): State<Core>,
    Extension(notes): Extension<Notes>,
    Query(query): QueryMap,
) -> Response {
    if let Err(refusal) = known_only(&core, &notes, query.keys(), &["name", "count", "skip_page"]) {
        return refusal;
    }
    let data = {
        let world = core.world();
        let images = world.listed_images(&core);
        let entries: Vec<_> = images.iter().map(|image| entry(&core, image, world.mounted_by(&image.uuid))).collect();
        shaped(core.modes().image_list, entries)
    };
    core.clock.latency(core.drawn("latency.read", core.options.latencies.read)).await;
    envelope::ok(&core, data)
}

/// `DELETE /api/v2/images/{uuid}`; answers with an envelope, and by seed with an empty body.
pub(super) async fn remove(State(core): State<Core>, Path(uuid): Path<String>) -> Response {
    let response = {
        let mut world = core.world();
        let mounted = world.mounted_by(&uuid);
        if !world.images.contains_key(&uuid) {
            envelope::not_found(&core, "image")
        } else if mounted > 0 && !core.modes().delete_mounted_image {
            let msg = format!("the image is in use by {mounted} VMs");
            envelope::refused(&core, StatusCode::CONFLICT, "IMAGE_IN_USE", &msg)
        } else {
            world.remove_image(&core, &uuid);
            if core.chance.chance("delete-image-body", 0.5) {
                envelope::ok(&core, json!({}))
            } else {
                Response::default()
            }
        }
    };
    core.clock.latency(core.drawn("latency.delete_image", core.options.latencies.delete_image)).await;
    response
}

/// `POST /api/v2/images/upload/volume`: everything is in the query (`fisheye.md` 5).
pub(super) async fn create_volume(
    State(core): State<Core>,
    Extension(notes): Extension<Notes>,
    Query(query): QueryMap,
    body: Bytes,
) -> Response {
    let known = ["name", "size", "device", "task_id", "description"];
    let response = known_only(&core, &notes, query.keys(), &known).and_then(|()| allocate(&core, &query, &body));
    core.clock.latency(core.drawn("latency.create_volume", core.options.latencies.create_volume)).await;
    response.unwrap_or_else(|refusal| refusal)
}

fn allocate(core: &Core, query: &BTreeMap<String, String>, body: &[u8]) -> Result<Response, Response> {
    let modes = core.modes();
    if !body.is_empty() && serde_json::from_slice::<Value>(body).is_ok() {
        return Err(envelope::form_error(core, "body", "parameters belong into the query"));
    }
    let required = |name: &str| {
        let value = query.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| envelope::form_error(core, name, "this field is required"))
    };
    let (name, device) = (required("name")?, required("device")?);
    required("task_id")?;
    let size = required("size")?.parse::<u64>().ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| envelope::form_error(core, "size", "must be above 0"))?;
    if size.div_ceil(core.options.chunk_size.max(1)) > MAX_CHUNKS {
        return Err(envelope::form_error(core, "size", "too many chunks"));
    }
    if modes.strict && device != "nfs" {
        return Err(envelope::form_error(core, "device", "must be nfs"));
    }
    let mut world = core.world();
    if modes.unique_image_names && world.images.values().any(|image| image.name == *name) {
        let msg = format!("an image named {name} exists");
        return Err(envelope::refused(core, StatusCode::CONFLICT, "IMAGE_DUPLICATED_NAME", &msg));
    }
    let description = query.get("description").map_or("", String::as_str);
    let image = world.allocate_image(core, name, description, size).map_err(|missing| {
        let msg = format!("No space left: {missing} bytes are missing");
        envelope::refused(core, StatusCode::INSUFFICIENT_STORAGE, "ZBS_NO_SPACE", &msg)
    })?;
    let mut data = json!({
        "image_uuid": image.uuid, "zbs_volume_id": image.zbs_volume_id,
        "image_path": image.path, "chunk_size": image.chunk_size,
    });
    if modes.no_image_path
        && let Value::Object(map) = &mut data
    {
        map.remove("image_path");
    }
    if let Some(first) = initial_to_upload(modes.initial_to_upload, image.chunks()) {
        data["to_upload"] = first;
    }
    let body = json!({"data": data, "ec": "EOK", "error": null});
    Ok(axum::response::IntoResponse::into_response(axum::Json(body)))
}

fn initial_to_upload(mode: InitialToUpload, chunks: u64) -> Option<Value> {
    match mode {
        InitialToUpload::All => Some((0..chunks).collect::<Vec<_>>().into()),
        InitialToUpload::Subset => Some((0..chunks).step_by(2).collect::<Vec<_>>().into()),
        InitialToUpload::Unsorted => Some((0..chunks).rev().collect::<Vec<_>>().into()),
        InitialToUpload::Absent => None,
        InitialToUpload::Null => Some(Value::Null),
    }
}

fn entry(core: &Core, image: &Image, vms: usize) -> Value {
    let modes = core.modes();
    let md5 = match image.state {
        ImageState::Listed if modes.md5 == Md5::Present => json!(image.md5),
        ImageState::Allocated | ImageState::Receiving if modes.unfinished == Unfinished::ListedWithPartialMd5 => {
            json!(named_uuid(&format!("{} {}", image.uuid, image.activity)).replace('-', ""))
        }
        _ => Value::Null,
    };
    let mut entry = json!({
        "uuid": image.uuid, "name": image.name, "file_name": image.uuid, "description": image.description,
        "path": image.path, "size": image.size, "md5": md5, "type": "ISO_IMAGE", "os": null,
        "resource_state": "in-use", "time": image.time, "zbs_volume_id": image.zbs_volume_id,
        "vms_count": vms, "vm_snapshots_count": 0, "vm_templates_count": 0,
    });
    if let Value::Object(map) = &mut entry {
        // An unfinished volume has no such key in the mode that says so; a finished one only in mode `absent`.
        if md5_key_absent(image, modes.md5, modes.unfinished) {
            map.shift_remove("md5");
        }
    }
    entry
}

fn md5_key_absent(image: &Image, md5: Md5, unfinished: Unfinished) -> bool {
    match image.state {
        ImageState::Allocated | ImageState::Receiving => unfinished == Unfinished::ListedWithoutMd5,
        ImageState::Complete => false,
        ImageState::Listed => md5 == Md5::Absent,
    }
}

fn shaped(shape: ImageList, entries: Vec<Value>) -> Value {
    let total = entries.len();
    match shape {
        ImageList::Images => json!({ "images": entries }),
        ImageList::Entities => json!({"entities": entries, "total_entities": total}),
        ImageList::Items => json!({ "items": entries }),
        ImageList::List => json!({ "list": entries }),
        ImageList::Records => json!({ "records": entries }),
        ImageList::Results => json!({ "results": entries }),
        ImageList::Array => json!(entries),
        ImageList::Null if entries.is_empty() => Value::Null,
        ImageList::Null => json!({ "images": entries }),
    }
}
