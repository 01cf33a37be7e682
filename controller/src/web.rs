//! The web pages: what an operator does with `ctl`, in a browser, on the same port. Every call goes to the same service
//! objects as a gRPC call, behind the same table of rights and with the same records; here HTTP and JSON become messages
//! and messages become JSON, and nothing is decided.

mod acts;
mod answer;
mod api;
mod assets;
mod events;
mod guest;
mod report;
mod session;
mod words;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::time::timeout;
use tracing::Instrument as _;

pub use self::session::{Held, Sessions};
use self::{answer::Refused, assets::Assets};
use crate::{
    access::Access,
    config::{Config, ms},
    service::OperatorApi,
};

/// What every answer says of itself. Nothing comes from elsewhere, nothing is inline, and no other page may frame these.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the pages' calls have at hand.
pub(crate) struct Web {
    operators: OperatorApi,
    access: Arc<Access>,
    assets: Assets,
    workbook_bytes: usize,
    call_limit: Duration,
    heartbeat: Duration,
}

/// The pages and their calls; none when they are turned off.
pub(crate) fn routes(config: &Config, operators: OperatorApi, access: Arc<Access>) -> Router {
    if !config.web.enabled {
        return Router::new();
    }
    let web = Arc::new(Web {
        operators,
        access,
        assets: Assets::new(),
        workbook_bytes: config.limits.workbook_bytes,
        call_limit: ms(config.limits.call_ms),
        heartbeat: ms(config.web.heartbeat_ms),
    });
    Router::new()
        .route("/", get(assets::page))
        .route("/web/enter", get(assets::page))
        .route("/web/{file}", get(assets::file))
        .route("/web/api/enter", post(api::enter))
        .route("/web/api/leave", post(api::leave))
        .route("/web/api/me", get(api::me))
        .route("/web/api/jobs", get(api::jobs))
        .route("/web/api/jobs/{job}", get(api::job))
        .route("/web/api/jobs/{job}/result", get(api::result))
        .route("/web/api/jobs/{job}/events", get(events::follow))
        .route("/web/api/jobs/{job}/report", get(report::report))
        .route("/web/api/jobs/{job}/cancel", post(acts::cancel))
        .route("/web/api/jobs/{job}/pause", post(acts::pause))
        .route("/web/api/jobs/{job}/resume", post(acts::resume))
        .route("/web/api/jobs/{job}/decide", post(acts::decide))
        .route("/web/api/jobs/{job}/retry", post(acts::retry))
        .route("/web/api/jobs/{job}/move", post(acts::relocate))
        .route("/web/api/agents", get(api::agents))
        .route("/web/api/check", post(api::check))
        .route("/web/api/submit", post(api::submit))
        .layer(middleware::from_fn_with_state(web.clone(), framed))
        .with_state(web)
}

/// Around every call: its span, its time, and what its answer says of itself.
async fn framed(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let span = tracing::info_span!("web", otel.name = %request.uri().path(), otel.kind = "server", job.id = tracing::field::Empty);
    // The answer that follows a job begins at once, so this bounds only how long an answer may take to begin.
    let answered = timeout(web.call_limit, next.run(request)).instrument(span).await;
    let mut response = answered.unwrap_or_else(|_| Refused::too_slow().into_response());
    for (name, value) in HEADERS {
        // The report, a document of its own, says what may be in it.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Answers are about jobs: nothing on the way keeps them. Files say otherwise themselves.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
