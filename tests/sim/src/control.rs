//! The control API: faults, time, inspection, assertions. Plain HTTP, on its own address, never on the product's.
//! Its requests are not part of the transcript and no fault strikes them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::fault::{Face, Fault, WorldAction};
use crate::guest;
use crate::invariants;
use crate::options::{PlantedImage, PlantedVm};
use crate::transcript::Entry;
use crate::world::World;

/// Entries of one transcript answer when `limit` is not given.
const TRANSCRIPT_PAGE: usize = 10_000;

/// Serves the control API until `cancel`.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, core: Core, cancel: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/health", get(|| async { Json(json!({"ok": true})) }))
        .route("/faults", get(faults).post(arm).delete(disarm_all))
        .route("/faults/{id}", delete(disarm))
        .route("/clock", get(clock).post(set_clock))
        .route("/world", get(world).post(change_world))
        .route("/modes", get(modes).post(set_modes))
        .route("/transcript", get(transcript).post(note))
        .route("/invariants", get(check))
        .route("/guest/installed", axum::routing::post(installed))
        .route("/reset", axum::routing::post(reset))
        .with_state(core);
    // Keep-alive connections of a harness would hold a graceful end up, so the end is not graceful.
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served.context("serving the control API"),
        () = cancel.cancelled() => Ok(()),
    }
}

async fn faults(State(core): State<Core>) -> Response {
    Json(core.faults.list()).into_response()
}

async fn arm(State(core): State<Core>, Json(fault): Json<Fault>) -> Response {
    let id = fault.id.clone();
    if core.faults.arm(fault) {
        (StatusCode::CREATED, Json(json!({ "id": id }))).into_response()
    } else {
        refusal(StatusCode::TOO_MANY_REQUESTS, "too many faults are armed")
    }
}

async fn disarm(State(core): State<Core>, Path(id): Path<String>) -> Response {
    if core.faults.clear(&id) { done() } else { refusal(StatusCode::NOT_FOUND, "no such fault") }
}

async fn disarm_all(State(core): State<Core>) -> Response {
    core.faults.clear_all();
    done()
}

/// `POST /clock`: any of these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockOrder {
    advance_s: Option<f64>,
    time_scale: Option<f64>,
    manual: Option<bool>,
}

async fn clock(State(core): State<Core>) -> Response {
    let clock = &core.clock;
    Json(json!({
        "now": clock.now(), "elapsed_s": clock.elapsed().as_secs_f64(),
        "time_scale": clock.scale(), "manual": clock.is_manual(),
    }))
    .into_response()
}

async fn set_clock(State(core): State<Core>, Json(order): Json<ClockOrder>) -> Response {
    if let Some(manual) = order.manual {
        core.clock.set_manual(manual);
    }
    if let Some(scale) = order.time_scale {
        core.clock.set_scale(scale);
    }
    if let Some(seconds) = order.advance_s {
        match Duration::try_from_secs_f64(seconds) {
            Ok(by) => core.clock.advance(by),
            Err(_) => return refusal(StatusCode::BAD_REQUEST, "advance_s is not a duration"),
        }
    }
    clock(State(core)).await
}

async fn world(State(core): State<Core>) -> Response {
    let world = core.world();
    let value = serde_json::to_value(&*world);
    drop(world);
    match value {
        Ok(value) => Json(value).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// `POST /world`: one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WorldOrder {
    /// A named action.
    Action(WorldAction),
    /// JSON pointers into `GET /world` with new values.
    Set(BTreeMap<String, Value>),
    /// A whole world as `GET /world` gave it.
    Load(Value),
    /// A foreign VM appears.
    PlantVm(PlantedVm),
    /// A foreign image appears.
    PlantImage(PlantedImage),
    /// What is foreign now is what must not change.
    Remember {},
}

async fn change_world(State(core): State<Core>, Json(order): Json<WorldOrder>) -> Response {
    let now = core.clock.now().as_second();
    let outcome = match order {
        WorldOrder::Action(action) => core.change_world(&action),
        WorldOrder::Set(values) => set_values(&core, &values),
        WorldOrder::Load(value) => load(&core, value),
        WorldOrder::PlantVm(vm) => {
            core.world().plant_vms(&vm, now);
            Ok(())
        }
        WorldOrder::PlantImage(image) => {
            core.world().plant_images(&image, now);
            Ok(())
        }
        WorldOrder::Remember {} => {
            core.world().remember();
            Ok(())
        }
    };
    outcome.map_or_else(|error| refusal(StatusCode::BAD_REQUEST, &format!("{error:#}")), |()| done())
}

fn set_values(core: &Core, values: &BTreeMap<String, Value>) -> anyhow::Result<()> {
    let mut world = core.world();
    let mut whole = serde_json::to_value(&*world)?;
    for (pointer, value) in values {
        *whole.pointer_mut(pointer).with_context(|| format!("the world has nothing at {pointer}"))? = value.clone();
    }
    let changed: World = serde_json::from_value(whole).context("the changed world makes no sense")?;
    world.replace(changed);
    Ok(())
}

fn load(core: &Core, value: Value) -> anyhow::Result<()> {
    let loaded: World = serde_json::from_value(value).context("this is no saved world")?;
    core.world().replace(loaded);
    Ok(())
}

async fn modes(State(core): State<Core>) -> Response {
    Json(&*core.modes()).into_response()
}

async fn set_modes(State(core): State<Core>, Json(patch): Json<Value>) -> Response {
    match core.patch_modes(&patch) {
        Ok(()) => modes(State(core)).await,
        Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    }
}

/// `GET /transcript`: which entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    after: Option<u64>,
    limit: Option<usize>,
    method: Option<String>,
    path: Option<String>,
    face: Option<Face>,
    fault: Option<String>,
}

async fn transcript(State(core): State<Core>, Query(wanted): Query<Wanted>) -> Response {
    let fits = |entry: &Entry| {
        wanted.after.is_none_or(|seq| entry.seq > seq)
            && wanted.method.as_ref().is_none_or(|method| *method == entry.method)
            && wanted.path.as_ref().is_none_or(|path| *path == entry.path)
            && wanted.face.is_none_or(|face| face == entry.face)
            && wanted.fault.as_ref().is_none_or(|fault| entry.faults.contains(fault))
    };
    let mut entries = core.transcript.filter(fits);
    entries.truncate(wanted.limit.unwrap_or(TRANSCRIPT_PAGE));
    Json(json!({"entries": entries, "dropped": core.transcript.dropped()})).into_response()
}

/// `POST /transcript`: a remark of the harness; `result` has a meaning (see `invariants`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remark {
    note: String,
}

async fn note(State(core): State<Core>, Json(remark): Json<Remark>) -> Response {
    let seq = core.transcript.record(Entry::new(Face::Fisheye, core.clock.now(), "NOTE", &remark.note));
    Json(json!({ "seq": seq })).into_response()
}

async fn check(State(core): State<Core>) -> Response {
    let violations = invariants::violations(&core);
    Json(json!({"ok": violations.is_empty(), "violations": violations})).into_response()
}

/// `POST /guest/installed`: the installer of a guest that somebody else plays has succeeded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Installed {
    vm_uuid: Option<String>,
}

async fn installed(State(core): State<Core>, Json(order): Json<Installed>) -> Response {
    match guest::guest_installed(&core, order.vm_uuid.as_deref()) {
        Ok(()) => done(),
        Err(error) => refusal(StatusCode::CONFLICT, &format!("{error:#}")),
    }
}

async fn reset(State(core): State<Core>) -> Response {
    core.reset();
    done()
}

fn done() -> Response {
    Json(json!({"ok": true})).into_response()
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"ok": false, "error": why}))).into_response()
}
