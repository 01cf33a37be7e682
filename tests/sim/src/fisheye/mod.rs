//! The cluster's REST interface.

use axum::Router;

use crate::core::Core;

/// All routes.
#[must_use]
pub fn router(_core: &Core) -> Router {
    Router::new()
}
