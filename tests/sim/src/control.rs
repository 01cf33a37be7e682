//! The control API.

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::core::Core;

/// Serves the control API until `cancel`.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, _core: Core, cancel: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new().route("/health", get(|| async { "ok" }));
    let stop = async move { cancel.cancelled().await };
    axum::serve(listener, router).with_graceful_shutdown(stop).await.context("serving the control API")
}
