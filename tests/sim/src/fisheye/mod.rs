//! The cluster's REST interface (`fisheye.md`): routes, the gate before them, and the shapes of answers.
#![expect(clippy::result_large_err, reason = "the error of a handler's part is the answer itself")]

mod chunks;
mod envelope;
mod images;
mod jobs;
mod lookups;
mod sessions;
mod vm_form;
mod vm_json;
mod vms;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use http::StatusCode;

use crate::core::Core;
use crate::net::{Notes, Wire};

/// Largest upload request beside the chunk itself.
const MULTIPART_OVERHEAD: u64 = 64 << 10;

/// All routes.
pub fn router(core: &Core) -> Router {
    Router::new()
        .route("/api/v3/sessions", post(sessions::login).delete(sessions::logout))
        .route("/api/v2/images", get(images::list))
        .route("/api/v2/images/{uuid}", delete(images::remove))
        .route("/api/v2/images/upload/volume", post(images::create_volume))
        .route("/api/v2/images/upload", post(chunks::upload))
        .route("/api/v2/storage_policies", get(lookups::policies))
        .route("/api/v2/network/vds", get(lookups::switches))
        .route("/api/v2/network/vds/{uuid}", get(lookups::switch))
        .route("/api/v2/network/vds/{uuid}/vlans", get(lookups::vlans))
        .route("/api/v2/network/vm_vlans/search", get(lookups::all_vlans))
        .route("/api/v2/management/hosts", get(lookups::hosts))
        .route("/api/v2/vms", get(vms::list).post(vms::create))
        .route("/api/v2/vms/{uuid}", get(vms::detail).put(vms::update).delete(vms::remove))
        .route("/api/v2/vms/{uuid}/start", post(vms::start))
        .route("/api/v2/vms/{uuid}/stop", post(vms::stop))
        .route("/api/v2/vms/{uuid}/reboot", post(vms::reboot))
        .route("/api/v2/volumes", get(vms::volumes))
        .route("/api/v2/jobs/{id}", get(jobs::detail))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(from_fn_with_state(core.clone(), gate))
        .with_state(core.clone())
}

/// Before every route: the `Host` header (`fisheye.md` 1.1) and the token (3.2).
async fn gate(State(core): State<Core>, request: Request, next: Next) -> Response {
    if let Err(refusal) = host_fits(&core, &request) {
        return refusal;
    }
    let path = request.uri().path();
    if path == "/api/v3/sessions" {
        return next.run(request).await;
    }
    let header = if path.starts_with("/api/v3/") { "grpc-metadata-token" } else { "x-smartx-token" };
    let token = request.headers().get(header).and_then(|value| value.to_str().ok()).unwrap_or("");
    let now = core.clock.elapsed();
    let lifetime = Duration::from_secs(core.options.fisheye.token_lifetime_s);
    let renew = core.modes().sliding_tokens.then(|| now + lifetime);
    let valid = core.world().sessions.check(token, now, renew);
    if valid { next.run(request).await } else { sessions::unauthorized(&core) }
}

fn host_fits(core: &Core, request: &Request) -> Result<(), Response> {
    let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
    let host = match hosts.as_slice() {
        [host] if !host.is_empty() => host.to_str().unwrap_or(""),
        _ => return Err((StatusCode::BAD_REQUEST, "400 Bad Request: Host").into_response()),
    };
    let connected = request.extensions().get::<Arc<Wire>>().map(|wire| wire.local.ip());
    if core.modes().strict && host_address(host) != connected {
        return Err((StatusCode::BAD_REQUEST, "400 Bad Request: Host is another address").into_response());
    }
    Ok(())
}

/// The address of a `Host` value, with or without port.
fn host_address(host: &str) -> Option<IpAddr> {
    let plain = host.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(host);
    plain.parse().ok().or_else(|| plain.rsplit_once(':')?.0.parse().ok())
}

async fn unknown(State(core): State<Core>, request: Request) -> Response {
    envelope::not_found(&core, request.uri().path())
}

/// Remarks query parameters that nobody reads; strict mode refuses them.
fn known_only<'a>(
    core: &Core,
    notes: &Notes,
    given: impl Iterator<Item = &'a String>,
    known: &[&str],
) -> Result<(), Response> {
    let strangers: Vec<_> = given.filter(|name| !known.contains(&name.as_str())).cloned().collect();
    if strangers.is_empty() {
        return Ok(());
    }
    notes.add(format!("query parameters not read: {}", strangers.join(", ")));
    if core.modes().strict {
        let first = strangers.first().map_or("", String::as_str);
        return Err(envelope::form_error(core, first, "unknown query parameter"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port() {
        let v4 = "192.0.2.10".parse().ok();
        assert_eq!(host_address("192.0.2.10"), v4);
        assert_eq!(host_address("192.0.2.10:8443"), v4);
        assert_eq!(host_address("[::1]:8443"), "::1".parse().ok());
        assert_eq!(host_address("cluster.example"), None);
    }
}
