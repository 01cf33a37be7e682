//! Login and logout (`fisheye.md` 3).

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::envelope;
use crate::core::Core;
use crate::modes::UnauthorizedBody;

/// `POST /api/v3/sessions`.
pub(super) async fn login(State(core): State<Core>, headers: HeaderMap, body: Bytes) -> Response {
    let response = open(&core, &headers, &body);
    core.clock.latency(core.drawn("latency.login", core.options.latencies.login)).await;
    response
}

/// `DELETE /api/v3/sessions`.
pub(super) async fn logout(State(core): State<Core>, headers: HeaderMap) -> Response {
    let token = ["grpc-metadata-token", "x-smartx-token"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    let now = core.clock.elapsed();
    let mut world = core.world();
    match token {
        Some(token) if world.sessions.check(token, now, None) => {
            world.sessions.close(token);
            Json(json!({})).into_response()
        }
        _ => v3_error(StatusCode::UNAUTHORIZED, 16, "invalid token"),
    }
}

/// The answer to a call without a valid token; its body is a mode.
pub(super) fn unauthorized(core: &Core) -> Response {
    let body = match core.modes().unauthorized_body {
        UnauthorizedBody::Cycle => match core.chance.pick("unauthorized", 0..4) {
            0 => UnauthorizedBody::Empty,
            1 => UnauthorizedBody::Html,
            2 => UnauthorizedBody::Envelope,
            _ => UnauthorizedBody::V3,
        },
        chosen => chosen,
    };
    let status = StatusCode::UNAUTHORIZED;
    match body {
        UnauthorizedBody::Html => {
            let page = "<html><head><title>401 Authorization Required</title></head><body>nginx</body></html>";
            (status, Html(page)).into_response()
        }
        UnauthorizedBody::Envelope => envelope::error(status, "USER_NOT_LOGIN", "please log in", json!("")),
        UnauthorizedBody::V3 => v3_error(status, 16, "token is invalid or expired"),
        UnauthorizedBody::Empty | UnauthorizedBody::Cycle => status.into_response(),
    }
}

fn open(core: &Core, headers: &HeaderMap, body: &[u8]) -> Response {
    let modes = core.modes();
    let has_token = headers.contains_key("x-smartx-token") || headers.contains_key("grpc-metadata-token");
    if modes.reject_token_on_login && has_token {
        return unauthorized(core);
    }
    let Ok(form) = serde_json::from_slice::<Value>(body) else {
        return v3_error(StatusCode::BAD_REQUEST, 3, "the body is not JSON");
    };
    let now = core.clock.elapsed();
    let mut world = core.world();
    if modes.lock_out && world.sessions.is_locked(now) {
        return v3_error(StatusCode::FORBIDDEN, 7, "too many failed logins, try again later");
    }
    let account = &core.options.fisheye;
    let field = |name: &str| form.get(name).and_then(Value::as_str);
    let encrypted = form.get("encrypted").and_then(Value::as_bool).unwrap_or(false);
    if encrypted || field("username") != Some(&account.username) || field("password") != Some(&account.password) {
        world.sessions.failed(now);
        return v3_error(StatusCode::UNAUTHORIZED, 16, "invalid username or password");
    }
    let token = core.chance.hex::<16>("token");
    let expires = now + Duration::from_secs(account.token_lifetime_s);
    world.sessions.open(&token, expires);
    let time = |at: Duration| core.clock.at(at).to_string();
    let session = json!({
        "user_id": account.username, "token": token,
        "create_time": time(now), "expire_time": time(expires), "update_time": time(now),
    });
    Json(if modes.token_in_data { json!({ "data": session }) } else { session }).into_response()
}

fn v3_error(status: StatusCode, code: u32, message: &str) -> Response {
    (status, Json(json!({"code": code, "message": message, "details": []}))).into_response()
}
