//! The life of one service: closed, 502, 503, ready; and the door every request comes through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::state::Tower;
use super::{graphql, inspector, rest};
use crate::core::Core;
use crate::fault::Face;
use crate::net::{self, Identity, Site};

/// Largest request body.
const MAX_BODY: usize = 1 << 20;
/// Wall time between tries to open a port that is still taken.
const REBIND_PAUSE: Duration = Duration::from_millis(50);

/// One service as its handlers see it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) core: Core,
    pub(super) vm: String,
    opens: Duration,
}

/// Opens the service of a VM on `address` at the virtual moment `opens` and serves it until `cancel`.
pub async fn serve(core: Core, vm: String, address: IpAddr, opens: Duration, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => return,
        () = core.clock.sleep_until(opens) => {}
    }
    let service = Service { core, vm, opens };
    if let Err(error) = service.run(address, cancel).await {
        tracing::warn!(%address, error = format!("{error:#}"), "a CloudTower service ended");
    }
}

impl Service {
    async fn run(self, address: IpAddr, cancel: CancellationToken) -> anyhow::Result<()> {
        let now = self.core.clock.now();
        {
            let (options, chance) = (self.core.options.clone(), self.core.chance.clone());
            let mut world = self.core.world();
            let signed = world.guests.get(&self.vm).and_then(|guest| guest.installed_at).unwrap_or(now);
            let tower =
                world.towers.entry(self.vm.clone()).or_insert_with(|| Tower::new(&options.tower, &chance, signed));
            tower.address = Some(address);
            tower.opened_at.get_or_insert(now);
        }
        let identity = Arc::new(Identity::self_signed("cloudtower", &[])?);
        self.with(|tower| tower.certificate = Some(identity.certificate()));
        let ports = &self.core.options.ports;
        let secure = listen(address, ports.tower, &cancel).await.context("opening the HTTPS port of CloudTower")?;
        let plain = listen(address, ports.tower_http, &cancel).await.context("opening the HTTP port of CloudTower")?;
        let (https_port, core) = (secure.local_addr()?.port(), self.core.clone());
        let rotation = self.rotate_once(identity.clone());
        let site = Site { face: Face::Tower, identity: Some(identity), router: self.router() };
        let redirect = Site { face: Face::Tower, identity: None, router: redirecting(https_port) };
        let (served, redirected, ()) = tokio::join!(
            net::serve(core.clone(), secure, site, cancel.clone()),
            net::serve(core, plain, redirect, cancel.clone()),
            async {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = rotation => {}
                }
            }
        );
        served.and(redirected)
    }

    fn router(&self) -> Router {
        Router::new().fallback(door).with_state(self.clone())
    }

    /// Replaces the certificate when the 502 end, in that mode.
    async fn rotate_once(&self, identity: Arc<Identity>) {
        if self.core.modes().tower.certificate_changes {
            self.core.clock.sleep_until(self.opens + Duration::from_secs(self.core.options.tower.bad_gateway_s)).await;
            if let Err(error) = identity.rotate() {
                tracing::warn!(%error, "the certificate of CloudTower could not be replaced");
            }
            self.with(|tower| tower.certificate = Some(identity.certificate()));
        }
    }

    /// The answer of a service that is not ready yet.
    fn not_ready(&self) -> Option<Response> {
        let options = &self.core.options.tower;
        let gateway = self.opens + Duration::from_secs(options.bad_gateway_s);
        let ready = gateway + Duration::from_secs(options.unavailable_s);
        match self.core.clock.elapsed() {
            now if now < gateway => Some(html(StatusCode::BAD_GATEWAY, "502 Bad Gateway")),
            now if now < ready => {
                let body = json!({"code": "ServiceUnavailable", "message": "service is starting", "status": 503});
                Some((StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response())
            }
            _ => None,
        }
    }

    /// Looks at or changes the tower's state.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Tower) -> T) -> T {
        act(self.core.world().towers.entry(self.vm.clone()).or_default())
    }

    /// Whether the request carries a valid token, and how the service calls what is wrong.
    pub(super) fn authorized(&self, headers: &HeaderMap) -> Result<(), Denial> {
        let Some(token) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
            return Err(Denial { code: "AuthenticationFailed", message: "authorization header is required" });
        };
        let (lifetime, now) = (self.core.options.tower.token_lifetime_s, self.core.clock.elapsed());
        if !token.starts_with("Bearer ") && self.with(|tower| tower.admits(token, lifetime, now)) {
            return Ok(());
        }
        Err(Denial { code: "AuthenticationFailed", message: "token is invalid or expired" })
    }

    /// The HTTP status of a denial.
    pub(super) fn denial_status(&self) -> StatusCode {
        StatusCode::from_u16(self.core.modes().tower.expired_token_status).unwrap_or(StatusCode::UNAUTHORIZED)
    }
}

/// Why a call is not admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

/// The error body of the REST interface (`cloudtower.md` 5.1).
pub(super) fn error_body(status: StatusCode, code: &str, message: &str, path: &str) -> Response {
    let body = json!({
        "code": code, "message": message, "operationName": path.rsplit('/').next().unwrap_or(""), "path": path,
        "props": null, "stack": "", "status": status.as_u16(),
    });
    (status, axum::Json(body)).into_response()
}

/// A JSON answer.
pub(super) fn ok(body: Value) -> Response {
    axum::Json(body).into_response()
}

async fn door(State(service): State<Service>, request: Request) -> Response {
    if let Some(answer) = service.not_ready() {
        return answer;
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body: Bytes = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(_) => return error_body(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge", "request too large", &path),
    };
    if path == "/" && parts.method == Method::GET {
        return html(StatusCode::OK, "CloudTower");
    }
    if path.starts_with("/api/inspector/") {
        return match service.authorized(&parts.headers) {
            Ok(()) => inspector::answer(&service, &parts.method, &parts.uri, &body).await,
            Err(denial) => error_body(service.denial_status(), denial.code, denial.message, &path),
        };
    }
    if parts.method != Method::POST {
        return error_body(StatusCode::NOT_FOUND, "NotFound", "cannot find this path", &path);
    }
    if path == "/api" {
        return graphql::answer(&service, &parts.headers, &body).await;
    }
    match path.strip_prefix("/v2/api/") {
        Some(name) => rest::answer(&service, name, &parts.headers, &body).await,
        None => error_body(StatusCode::NOT_FOUND, "NotFound", "cannot find this path", &path),
    }
}

fn html(status: StatusCode, title: &str) -> Response {
    let page = format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n");
    (status, [(CONTENT_TYPE, "text/html")], page).into_response()
}

/// Port 80: everything is sent to HTTPS, nothing has an effect.
fn redirecting(port: u16) -> Router {
    Router::new().fallback(move |request: Request| async move {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("");
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let target = format!("https://{name}:{port}{}", request.uri());
        (StatusCode::MOVED_PERMANENTLY, [(LOCATION, target)]).into_response()
    })
}

async fn listen(address: IpAddr, port: u16, cancel: &CancellationToken) -> anyhow::Result<tokio::net::TcpListener> {
    loop {
        match tokio::net::TcpListener::bind((address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if cancel.is_cancelled() => return Err(error.into()),
            Err(error) => tracing::warn!(%address, port, %error, "CloudTower cannot open its port yet"),
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(REBIND_PAUSE) => {}
        }
    }
}
