//! The calls of `fisheye.md` that an upload makes, and the benchmark's own: `GET /stats`, `GET /digests`, `POST /reset`.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use url::form_urlencoded;

use super::{
    Sink,
    counters::{Counters, Flight},
    images::Place,
    part::{Bad, Part},
};

/// Bytes of a body that is no chunk.
const BODY_MAX: usize = 64 << 10;
/// Bytes of multipart around a refused chunk that are read to their end.
const AROUND_MAX: u64 = 8 << 10;
/// Head of a call that is logged in.
const TOKEN: &str = "x-smartx-token";

/// Bytes that are read of a chunk that belongs nowhere.
const UNWANTED_MAX: u64 = 256 << 20;

type Answer = (StatusCode, Value);
type Query = BTreeMap<String, String>;

/// Answers a call that came over TLS.
pub(super) async fn counted(sink: &Sink, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Counters::tick(&sink.counters.requests);
    plain(sink, request).await
}

/// Answers a call.
pub(super) async fn plain(sink: &Sink, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, value) = answer(sink, request).await;
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn answer(sink: &Sink, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let query: Query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    match (parts.method.as_str(), path) {
        ("POST", "/api/v2/images/upload") if !is_known(sink, &parts.headers) => {
            drain(sink, body, UNWANTED_MAX).await;
            stranger()
        }
        ("POST", "/api/v2/images/upload") => chunk(sink, &query, &parts, body).await.unwrap_or_else(|refused| refused),
        (method, _) => match body_of(body).await {
            Some(_) if method == "GET" && path == "/stats" => (StatusCode::OK, json!(sink.counters.stats())),
            Some(_) if method == "GET" && path == "/digests" => (StatusCode::OK, json!(sink.images.digests())),
            Some(_) if method == "POST" && path == "/reset" => {
                sink.images.clear();
                sink.counters.reset();
                (StatusCode::OK, json!({}))
            }
            Some(_) if path == "/api/v3/sessions" => session(sink, &parts.method),
            Some(_) if !is_known(sink, &parts.headers) => stranger(),
            Some(_) => images(sink, &parts, &query),
            None => refusal(StatusCode::PAYLOAD_TOO_LARGE, "REST_FORM_ERROR", "the body is too long or broken"),
        },
    }
}

/// The body of a call that is no chunk; `None` when it is too long or cut short.
async fn body_of(body: Incoming) -> Option<Bytes> {
    http_body_util::Limited::new(body, BODY_MAX).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

/// Everybody may log in: nothing is kept here that anybody could want.
fn session(sink: &Sink, method: &Method) -> Answer {
    if *method == Method::DELETE {
        return (StatusCode::OK, json!({}));
    }
    let at = |year: u32| format!("{year}-01-01T00:00:00.000000000Z");
    let times = json!({"create_time": at(2026), "expire_time": at(2099), "update_time": at(2026)});
    let mut answer = json!({"user_id": "root", "token": sink.token});
    if let (Some(answer), Value::Object(times)) = (answer.as_object_mut(), times) {
        answer.extend(times);
    }
    (StatusCode::OK, answer)
}

fn is_known(sink: &Sink, headers: &HeaderMap) -> bool {
    headers.get(TOKEN).is_some_and(|token| token.as_bytes() == sink.token.as_bytes())
}

fn images(sink: &Sink, parts: &Parts, query: &Query) -> Answer {
    match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/api/v2/images") => success(sink.images.list()),
        ("POST", "/api/v2/images/upload/volume") => {
            let text = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
            match sink.images.create(text("name"), text("size").parse().unwrap_or_default()) {
                Ok(data) => success(data),
                Err(why) => refusal(StatusCode::BAD_REQUEST, "REST_FORM_ERROR", why),
            }
        }
        ("DELETE", path) => match path.strip_prefix("/api/v2/images/") {
            Some(image) if sink.images.remove(image) => success(json!({})),
            _ => refusal(StatusCode::NOT_FOUND, "REST_NOT_FOUND", "there is no such image"),
        },
        _ => refusal(StatusCode::NOT_FOUND, "REST_NOT_FOUND", "there is no such call"),
    }
}

/// Takes a chunk. What is thrown away is counted by [`Flight`], also when the client goes away in the middle.
async fn chunk(sink: &Sink, query: &Query, parts: &Parts, mut body: Incoming) -> Result<Answer, Answer> {
    let text = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
    let place = sink.images.place(text("image_uuid"), text("zbs_volume_id"), text("chunk_num"));
    let Some(place) = place else {
        drain(sink, body, UNWANTED_MAX).await;
        return Err(refusal(StatusCode::NOT_FOUND, "REST_NOT_FOUND", "no such image or chunk"));
    };
    let Some(mut flight) = sink.counters.take_off(sink.options.serial) else {
        Counters::tick(&sink.counters.refused);
        drain(sink, body, place.length + AROUND_MAX).await;
        return Err(refusal(StatusCode::CONFLICT, "REST_UNKNOWN_ERROR", "another chunk is being uploaded"));
    };
    let digest = match receive(sink, &mut flight, &place, &parts.headers, &mut body).await {
        Ok(digest) => digest,
        Err(bad) => {
            drain(sink, body, place.length + AROUND_MAX).await;
            return Err(refusal(StatusCode::BAD_REQUEST, "REST_FORM_ERROR", &bad.to_string()));
        }
    };
    if !sink.options.latency.is_zero() {
        sleep(sink.options.latency).await;
    }
    let stored = sink.images.store(&place, digest);
    let (first, data) =
        stored.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "REST_NOT_FOUND", "the image was removed"))?;
    flight.settle(first);
    Ok(success(data))
}

/// Reads a chunk to its end; its digest, or nothing when digests are not wanted.
async fn receive(
    sink: &Sink,
    flight: &mut Flight<'_>,
    place: &Place,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<String, Bad> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let declared = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()).ok_or(Bad::Length)?;
    let mut part = Part::new(text(header::CONTENT_TYPE).unwrap_or_default(), declared, place.length)?;
    let mut hasher = sink.options.verify.then(Sha256::new);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Bad::Length)?.into_data() else { continue };
        let file = part.push(&piece)?;
        flight.took(file.len());
        if let Some(hasher) = &mut hasher {
            hasher.update(file);
        }
        sink.pace(file.len()).await;
    }
    part.finish()?;
    Ok(hasher.map(|hasher| hex(&hasher.finalize())).unwrap_or_default())
}

/// Reads a chunk that is not wanted, so that its sender hears the answer instead of a cut connection.
async fn drain(sink: &Sink, mut body: Incoming, most: u64) {
    let mut left = most;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        sink.counters.wasted(length as u64);
        sink.pace(length).await;
        left = left.saturating_sub(length as u64);
        if left == 0 {
            return;
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // A String takes everything.
        text
    })
}

fn stranger() -> Answer {
    refusal(StatusCode::UNAUTHORIZED, "REST_UNAUTHORIZED", "no valid session")
}

fn success(data: Value) -> Answer {
    (StatusCode::OK, json!({"data": data, "ec": "EOK", "error": {}}))
}

fn refusal(status: StatusCode, ec: &str, why: &str) -> Answer {
    (status, json!({"data": {}, "ec": ec, "error": {"msg": why, "detail": ""}}))
}
