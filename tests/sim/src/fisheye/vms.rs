//! Virtual machines: list, detail, creation, network, power, deletion (`fisheye.md` 7).

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{envelope, known_only, vm_form, vm_json};
use crate::core::Core;
use crate::modes::{CreateAnswer, Duplicate, FirstPage, ListTotal, VmVisible};
use crate::net::Notes;
use crate::world::{Vm, Work};

/// Entries of a page when `count` is not given.
const DEFAULT_COUNT: usize = 50;
/// Largest `count`; more is treated as this.
const MAX_COUNT: usize = 1000;

type QueryMap = Query<BTreeMap<String, String>>;

/// `GET /api/v2/vms`.
pub(super) async fn list(
    State(core): State<Core>,
    Extension(notes): Extension<Notes>,
    Query(query): QueryMap,
) -> Response {
    if let Err(refusal) = known_only(&core, &notes, query.keys(), &["count", "skip_page"]) {
        return refusal;
    }
    let data = {
        let world = core.world();
        let mut shown: Vec<&Vm> = world.vms.values().filter(|vm| vm.visible).collect();
        shown.sort_by(|a, b| (a.create_time, &a.uuid).cmp(&(b.create_time, &b.uuid)));
        let all = shown.iter().map(|vm| vm_json::vm(&core, &world, vm)).collect();
        paged(&core, &query, all)
    };
    core.clock.latency(core.drawn("latency.read", core.options.latencies.read)).await;
    envelope::ok(&core, data)
}

/// `GET /api/v2/vms/{uuid}`.
pub(super) async fn detail(State(core): State<Core>, Path(uuid): Path<String>) -> Response {
    let vm = {
        let world = core.world();
        world.vms.get(&uuid).filter(|vm| vm.visible).map(|vm| vm_json::vm(&core, &world, vm))
    };
    core.clock.latency(core.drawn("latency.read", core.options.latencies.read)).await;
    vm.map_or_else(|| envelope::not_found(&core, "VM"), |vm| envelope::ok(&core, vm))
}

/// `POST /api/v2/vms`.
pub(super) async fn create(State(core): State<Core>, body: Bytes) -> Response {
    let response = make(&core, &body).unwrap_or_else(|refusal| refusal);
    submitted(&core, response).await
}

/// `PUT /api/v2/vms/{uuid}`: replaces the NICs.
pub(super) async fn update(State(core): State<Core>, Path(uuid): Path<String>, body: Bytes) -> Response {
    let response = change(&core, &uuid, &body).unwrap_or_else(|refusal| refusal);
    submitted(&core, response).await
}

/// `POST /api/v2/vms/{uuid}/start`.
pub(super) async fn start(State(core): State<Core>, Path(uuid): Path<String>) -> Response {
    let response = job_on(&core, &uuid, Work::Start);
    submitted(&core, response).await
}

/// `POST /api/v2/vms/{uuid}/stop`.
pub(super) async fn stop(State(core): State<Core>, Path(uuid): Path<String>, body: Bytes) -> Response {
    let force = flag(&body, "force");
    let response = job_on(&core, &uuid, Work::Stop { force });
    submitted(&core, response).await
}

/// `POST /api/v2/vms/{uuid}/reboot`.
pub(super) async fn reboot(State(core): State<Core>, Path(uuid): Path<String>) -> Response {
    let response = job_on(&core, &uuid, Work::Reboot);
    submitted(&core, response).await
}

/// `DELETE /api/v2/vms/{uuid}` with a JSON body.
pub(super) async fn remove(State(core): State<Core>, Path(uuid): Path<String>, body: Bytes) -> Response {
    let include_volumes = flag(&body, "include_volumes");
    let response = job_on(&core, &uuid, Work::Delete { include_volumes });
    submitted(&core, response).await
}

/// `GET /api/v2/volumes`.
pub(super) async fn volumes(
    State(core): State<Core>,
    Extension(notes): Extension<Notes>,
    Query(query): QueryMap,
) -> Response {
    if let Err(refusal) = known_only(&core, &notes, query.keys(), &["count", "skip_page"]) {
        return refusal;
    }
    let data = {
        let world = core.world();
        let entry = |volume: &crate::world::Volume| {
            let mounting = volume.vm_uuid.as_ref().map(|uuid| {
                let name = world.vms.get(uuid).map_or("", |vm| vm.name.as_str());
                json!({"vm_uuid": uuid, "uuid": uuid, "vm_name": name})
            });
            json!({
                "uuid": volume.uuid, "name": volume.name, "size_in_byte": volume.size, "size": volume.size,
                "path": volume.path, "storage_policy_uuid": volume.policy_uuid, "type": "KVM_VOL",
                "mounting_vm_list": mounting.into_iter().collect::<Vec<_>>(),
            })
        };
        paged(&core, &query, world.volumes.values().map(entry).collect())
    };
    core.clock.latency(core.drawn("latency.read", core.options.latencies.read)).await;
    envelope::ok(&core, data)
}

async fn submitted(core: &Core, response: Response) -> Response {
    core.clock.latency(core.drawn("latency.submit", core.options.latencies.submit)).await;
    response
}

fn make(core: &Core, body: &[u8]) -> Result<Response, Response> {
    let form: Value =
        serde_json::from_slice(body).map_err(|_| envelope::form_error(core, "body", "the body is not JSON"))?;
    let modes = core.modes();
    let mut world = core.world();
    let wanted = vm_form::parse(core, &world, &form)?;
    let taken = world.vms.values().any(|vm| vm.name == wanted.name);
    let refuse_now = match modes.duplicate {
        Duplicate::RefuseAtCall => true,
        Duplicate::BySeed => core.chance.chance("duplicate-at-call", 0.5),
        Duplicate::RefuseInJob | Duplicate::Allow => false,
    };
    if taken && refuse_now {
        let msg = format!("VM name {} is in use", wanted.name);
        return Err(envelope::refused(core, StatusCode::CONFLICT, "VM_DUPLICATED_NAME", &msg));
    }
    let start = wanted.start;
    let mut vm = vm_form::build(core, &mut world, wanted);
    vm.visible = modes.vm_visible == VmVisible::AtOnce;
    let uuid = vm.uuid.clone();
    world.vms.insert(uuid.clone(), vm);
    let job = world.submit(core, &uuid, Work::Create { start });
    let mut data = json!({ "job_id": job });
    if modes.create_answer == CreateAnswer::JobAndVm {
        data["vm"] = json!({ "uuid": uuid });
    }
    Ok(envelope::ok(core, data))
}

fn change(core: &Core, uuid: &str, body: &[u8]) -> Result<Response, Response> {
    let form: Value =
        serde_json::from_slice(body).map_err(|_| envelope::form_error(core, "body", "the body is not JSON"))?;
    let mut world = core.world();
    let vm = world.vms.get(uuid).filter(|vm| vm.visible).ok_or_else(|| envelope::not_found(core, "VM"))?;
    let nics = form.get("nics").and_then(Value::as_array);
    let nics = nics.ok_or_else(|| envelope::form_error(core, "nics", "this field is required"))?;
    let parsed = nics.iter().map(|nic| vm_form::nic(core, &world, nic, Some(vm))).collect::<Result<Vec<_>, _>>()?;
    let needs_agent = parsed.iter().any(|nic| nic.ip.is_some()) && !vm.agent_runs();
    if needs_agent && core.chance.chance("network-refused-at-call", 0.5) {
        let msg = "the guest agent is not running";
        return Err(envelope::refused(core, StatusCode::CONFLICT, "SVT_AGENT_NOT_RUNNING", msg));
    }
    let job = world.submit(core, uuid, Work::Network { nics: parsed });
    Ok(envelope::ok(core, json!({ "job_id": job })))
}

fn job_on(core: &Core, uuid: &str, work: Work) -> Response {
    let mut world = core.world();
    if world.vms.get(uuid).is_none_or(|vm| !vm.visible) {
        return envelope::not_found(core, "VM");
    }
    let job = world.submit(core, uuid, work);
    envelope::ok(core, json!({ "job_id": job }))
}

fn flag(body: &[u8], name: &str) -> bool {
    let form: Option<Value> = serde_json::from_slice(body).ok();
    form.and_then(|form| form.get(name)?.as_bool()).unwrap_or(false)
}

/// One page: `count` entries, `skip_page` pages before it (counted from 1, or from 0 by mode).
fn paged(core: &Core, query: &BTreeMap<String, String>, all: Vec<Value>) -> Value {
    let modes = core.modes();
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let count = number("count").unwrap_or(DEFAULT_COUNT).min(MAX_COUNT);
    let page = match modes.first_page {
        FirstPage::One => number("skip_page").unwrap_or(1).saturating_sub(1),
        FirstPage::Zero => number("skip_page").unwrap_or(0),
    };
    let total = all.len();
    let entities: Vec<_> = all.into_iter().skip(page.saturating_mul(count)).take(count).collect();
    match modes.list_total {
        ListTotal::Right => json!({"entities": entities, "total_entities": total}),
        ListTotal::TooHigh => json!({"entities": entities, "total_entities": total.saturating_mul(2) + 100}),
        ListTotal::Zero => json!({"entities": entities, "total_entities": 0}),
        ListTotal::Absent => json!({ "entities": entities }),
    }
}
