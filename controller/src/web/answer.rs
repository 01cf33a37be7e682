//! Why a call of the pages was not carried out, as HTTP says it.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use gantry_proto::Code;
use serde_json::{Value, json};
use tonic::{Code as Grpc, Status};

use crate::refusal::Refusal;

/// What most calls answer.
pub(super) type Answer = Result<Json<Value>, Refused>;

/// A refused call: a stable word for programs, a sentence for people.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: String,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// Nobody knows who asks.
    pub(super) fn nobody() -> Self {
        let message =
            "nobody knows who you are, or your session has ended: open the pages by the link that `ctl web` prints";
        Self::new(StatusCode::UNAUTHORIZED, "no_session", message)
    }

    /// Another site's page may have made the call.
    pub(super) fn foreign() -> Self {
        let message = "the call does not come from these pages: load them anew and try again";
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("what was sent is larger than {} KiB", limit >> 10);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "too_slow", "the controller took too long: ask again")
    }

    pub(super) fn unreadable(what: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", format!("{what} cannot be read"))
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let http = match status.code() {
            Grpc::InvalidArgument | Grpc::OutOfRange => StatusCode::BAD_REQUEST,
            Grpc::NotFound => StatusCode::NOT_FOUND,
            Grpc::AlreadyExists | Grpc::FailedPrecondition | Grpc::Aborted => StatusCode::CONFLICT,
            Grpc::PermissionDenied => StatusCode::FORBIDDEN,
            Grpc::Unauthenticated => StatusCode::UNAUTHORIZED,
            Grpc::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Grpc::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let code = Code::of(&status).map_or("internal", Code::word);
        Self::new(http, code, status.message())
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Status::from(refusal).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "code": self.code, "message": self.message }))).into_response()
    }
}
