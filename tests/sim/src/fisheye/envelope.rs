//! The `/api/v2` envelope, of successes and of errors (`fisheye.md` 2).

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::core::Core;
use crate::modes::EcStatus;

/// A success.
pub(super) fn ok(core: &Core, data: Value) -> Response {
    let error = if core.modes().null_error { Value::Null } else { json!({}) };
    Json(json!({"data": data, "ec": "EOK", "error": error})).into_response()
}

/// An error of which the accompanying HTTP status is unknown: decided by mode. `natural` is the 4xx that would fit.
pub(super) fn refused(core: &Core, natural: StatusCode, ec: &str, msg: &str) -> Response {
    let chosen = match core.modes().ec_status {
        EcStatus::BySeed => core.chance.pick("ec-status", 0..3),
        EcStatus::Ok200 => 0,
        EcStatus::Client4xx => 1,
        EcStatus::Server5xx => 2,
    };
    let status = match chosen {
        0 => StatusCode::OK,
        1 => natural,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    error(status, ec, msg, json!(""))
}

/// A request that is not of the right form: 400 unless a mode says otherwise.
pub(super) fn form_error(core: &Core, field: &str, msg: &str) -> Response {
    let status = match core.modes().ec_status {
        EcStatus::Ok200 => StatusCode::OK,
        EcStatus::Server5xx => StatusCode::INTERNAL_SERVER_ERROR,
        EcStatus::BySeed | EcStatus::Client4xx => StatusCode::BAD_REQUEST,
    };
    error(status, "REST_FORM_ERROR", msg, json!({ field: [msg] }))
}

/// 404 with an envelope.
pub(super) fn not_found(_core: &Core, what: &str) -> Response {
    error(StatusCode::NOT_FOUND, "REST_NOT_FOUND", &format!("{what} not found"), json!(""))
}

/// Any error.
pub(super) fn error(status: StatusCode, ec: &str, msg: &str, detail: Value) -> Response {
    (status, Json(json!({"data": {}, "ec": ec, "error": {"detail": detail, "msg": msg}}))).into_response()
}
