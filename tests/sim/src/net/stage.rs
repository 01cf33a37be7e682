//! Where every HTTP request passes: faults strike it, the transcript records it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Wire;
use super::body::{End, Intake, breaking, flood, intake};
use crate::core::Core;
use crate::fault::{Action, Answer, Call, Cut, Face, Fired, When};
use crate::rng::hex;
use crate::transcript::{Entry, MAX_KEPT_BODY, REDACTED, redact, token_digest};

/// Largest JSON request body; larger ones are refused with 413.
const MAX_REQUEST: usize = 4 << 20;
/// Largest answer a face may give.
const MAX_ANSWER: usize = 256 << 20;

/// The hints that faults give to the code of a face (`Action::Mark`); a request extension.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<Vec<(String, Value)>>);

/// What the code of a face adds to the transcript entry of its request; a request extension.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

#[derive(Clone, Debug, Default)]
struct Noted {
    notes: Vec<String>,
    body_sha256: Option<String>,
}

impl Marks {
    /// The value of a mark, if a fault set it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(mark, _)| mark == name).map(|(_, value)| value)
    }
}

impl Notes {
    /// Adds a remark.
    pub fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).notes.push(note.into());
    }

    /// Gives the digest of the content that mattered.
    pub fn body_sha256(&self, digest: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).body_sha256 = Some(digest);
    }
}

#[derive(Clone)]
struct Stage {
    core: Core,
    face: Face,
}

/// The router with the stage around all of it, the fallback too.
pub(super) fn on_stage(router: Router, core: Core, face: Face) -> Router {
    router.layer(from_fn_with_state(Stage { core, face }, pass))
}

async fn pass(State(stage): State<Stage>, request: Request, next: Next) -> Response {
    let Some(wire) = request.extensions().get::<Arc<Wire>>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut act = Act::begin(stage, &request, wire);
    let response = act.play(request, next).await;
    act.record.status = Some(u32::from(response.status().as_u16()));
    response
}

/// One request on the stage. In the transcript from its arrival on; its outcome is added when it is dropped, so that a
/// request whose client went away is complete as well.
struct Act {
    core: Core,
    wire: Arc<Wire>,
    call: Call,
    started: Duration,
    record: Entry,
    notes: Notes,
    seen: Arc<AtomicU64>,
}

impl Drop for Act {
    fn drop(&mut self) {
        let noted = self.notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.record.notes.extend(noted.notes);
        self.record.body_sha256 = noted.body_sha256.or(self.record.body_sha256.take());
        self.record.body_bytes = self.seen.load(Ordering::Relaxed);
        let latency = self.core.clock.elapsed().saturating_sub(self.started);
        self.record.latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        if self.record.status.is_none() {
            self.record.notes.push("no answer".into());
        }
        self.core.transcript.update(&self.record);
    }
}

impl Act {
    fn begin(Stage { core, face }: Stage, request: &Request, wire: Arc<Wire>) -> Self {
        let method = request.method().as_str().to_owned();
        let path = request.uri().path().to_owned();
        let query = query_of(request.uri().query().unwrap_or(""));
        let mut record = Entry::new(face, core.clock.now(), &method, &path);
        describe(&mut record, request.headers(), &query, &wire);
        let chunk = query.get("chunk_num").filter(|_| path.ends_with("/upload")).and_then(|n| n.parse().ok());
        record.chunk = chunk;
        let image = query.get("image_uuid").map_or("", String::as_str);
        let call = Call {
            last_chunk: chunk.is_some_and(|chunk| core.world().is_last_chunk(image, chunk)),
            method: Some(method),
            path: Some(path),
            chunk,
            address: Some(wire.local.ip()),
            reused: wire.count() > 0,
            ..Call::new(face)
        };
        let started = core.clock.elapsed();
        record.seq = core.transcript.record(record.clone());
        Self { core, wire, call, started, record, notes: Notes::default(), seen: Arc::default() }
    }

    async fn play(&mut self, request: Request, next: Next) -> Response {
        let (mut parts, body) = request.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
        let multipart = parts.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"multipart/"));
        // Only the operation of a CloudTower call needs its body before the faults are chosen.
        let (body, early) = if self.call.face == Face::Tower && !multipart {
            let tapped = self.tap(body, Intake::default());
            match self.buffer(tapped).await {
                Ok(bytes) => (Body::from(bytes.clone()), Some(bytes)),
                Err(refusal) => return refusal,
            }
        } else {
            (body, None)
        };
        let fired = self.core.faults.strike(&self.call);
        self.record.faults = fired.iter().map(|fault| fault.id.clone()).collect();
        parts.extensions.insert(marks(&fired));
        parts.extensions.insert(self.notes.clone());
        let body = match early {
            Some(_) => body,
            None => self.tap(body, intake_of(&fired, length)),
        };
        self.core.transcript.update(&self.record);
        if fired.iter().any(|fault| fault.when == When::Before && matches!(fault.action, Action::Hang)) {
            // Read to the end, or the connection would not notice that its client has gone.
            drain(body).await;
            self.wire.hang().await;
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        if let Some(answer) = self.before(&fired).await {
            drain(body).await;
            return self.finish(answer, &fired).await;
        }
        let body = if early.is_some() || multipart {
            body
        } else {
            match self.buffer(body).await {
                Ok(bytes) => Body::from(bytes),
                Err(refusal) => return refusal,
            }
        };
        self.core.clock.latency(Duration::from_millis(self.core.options.bandwidth.round_trip_ms)).await;
        let response = next.run(Request::from_parts(parts, body)).await;
        let response = self.after(response, &fired).await;
        self.finish(response, &fired).await
    }

    fn tap(&self, body: Body, how: Intake) -> Body {
        intake(body, how, self.core.clone(), self.wire.clone(), self.seen.clone())
    }

    /// Takes a whole body and describes it in the record.
    async fn buffer(&mut self, body: Body) -> Result<Bytes, Response> {
        let bytes = to_bytes(body, MAX_REQUEST).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE.into_response())?;
        if !bytes.is_empty() {
            self.record.body_sha256 = Some(hex(&Sha256::digest(&bytes)));
        }
        if let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) {
            self.call.operation = operation(&json);
            self.record.operation.clone_from(&self.call.operation);
            if bytes.len() <= MAX_KEPT_BODY {
                redact(&mut json);
                self.record.body = Some(json);
            }
        }
        Ok(bytes)
    }

    /// Faults that strike before the effect; an answer means that there is none.
    async fn before(&self, fired: &[Fired]) -> Option<Response> {
        let mut answer = None;
        for fault in fired.iter().filter(|fault| fault.when == When::Before) {
            match &fault.action {
                Action::Answer(given) => answer = Some(given_answer(given)),
                other => self.strike(other).await,
            }
        }
        answer
    }

    /// Faults that strike after the effect.
    async fn after(&self, mut response: Response, fired: &[Fired]) -> Response {
        for fault in fired.iter().filter(|fault| fault.when != When::Before) {
            match &fault.action {
                Action::Answer(given) => response = given_answer(given),
                Action::Close(cut) | Action::Reset(cut) if fault.when == When::During => {
                    // Cuts within a body are made by the bodies themselves.
                    let _ = cut;
                }
                other => self.strike(other).await,
            }
        }
        response
    }

    /// What works the same before and after the effect.
    async fn strike(&self, action: &Action) {
        match action {
            Action::Delay { ms } => self.core.clock.sleep(Duration::from_millis(*ms)).await,
            Action::Hang => self.wire.hang().await,
            Action::Close(Cut { response_bytes: None, .. }) => self.end(End::Close).await,
            Action::Reset(Cut { response_bytes: None, .. }) => self.end(End::Reset).await,
            Action::World(change) => {
                if let Err(error) = self.core.change_world(change) {
                    tracing::warn!(%error, "a fault could not change the world");
                }
            }
            _ => {}
        }
    }

    async fn end(&self, end: End) {
        end.apply(&self.wire);
        // The connection's task drops this request along with everything else.
        std::future::pending::<()>().await;
    }

    /// Faults that alter the answer itself.
    async fn finish(&self, response: Response, fired: &[Fired]) -> Response {
        let (mut head, body) = response.into_parts();
        let Ok(mut body) = to_bytes(body, MAX_ANSWER).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let mut cut = None;
        let mut flooded = None;
        for fault in fired {
            match &fault.action {
                Action::Edit(edit) => {
                    if let Ok(mut json) = serde_json::from_slice(&body) {
                        edit.apply(&mut json);
                        body = json.to_string().into();
                    }
                    head.status = edit.status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(head.status);
                }
                Action::Truncate { bytes } => body.truncate(usize::try_from(*bytes).unwrap_or(usize::MAX)),
                Action::Garble { bytes } => body = rubbish(*bytes),
                Action::Flood { bytes } => flooded = Some(*bytes),
                Action::HeaderBomb { count, size } => bomb(&mut head.headers, *count, *size),
                Action::Close(Cut { response_bytes: Some(at), .. }) => cut = Some((*at, End::Close)),
                Action::Reset(Cut { response_bytes: Some(at), .. }) => cut = Some((*at, End::Reset)),
                _ => {}
            }
        }
        if let Some(bytes) = flooded {
            head.headers.remove(CONTENT_LENGTH);
            return Response::from_parts(head, flood(bytes));
        }
        for pacer in [&self.wire.pacer, &*self.core.pacer] {
            pacer.pass(&self.core.clock, body.len()).await;
        }
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let body = match cut {
            Some((at, end)) => breaking(body, at, end, self.wire.clone()),
            None => Body::from(body),
        };
        Response::from_parts(head, body)
    }
}

fn describe(record: &mut Entry, headers: &HeaderMap, query: &BTreeMap<String, String>, wire: &Wire) {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    record.address = wire.local.to_string();
    record.peer = wire.peer.to_string();
    record.headers = headers.iter().map(|(name, _)| name.as_str().to_owned()).collect();
    record.host = headers.get(HOST).map(text);
    record.token = headers.get("x-smartx-token").map(|value| token_digest(&text(value)));
    record.query = query.clone();
    for (key, value) in &mut record.query {
        if key.contains("token") || key.contains("password") {
            *value = REDACTED.into();
        }
    }
}

/// Decoded query parameters; of repeated ones the last counts.
fn query_of(query: &str) -> BTreeMap<String, String> {
    let Ok(uri) = format!("/?{query}").parse::<http::Uri>() else { return BTreeMap::new() };
    axum::extract::Query::try_from_uri(&uri).map(|axum::extract::Query(map)| map).unwrap_or_default()
}

fn operation(json: &Value) -> Option<String> {
    if let Some(name) = json.get("operationName").and_then(Value::as_str) {
        return Some(name.to_owned());
    }
    // `query Name(...)` or `mutation Name {...}` without an `operationName` beside it.
    let query = json.get("query")?.as_str()?.trim_start();
    let rest = query.strip_prefix("query").or_else(|| query.strip_prefix("mutation"))?.trim_start();
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn marks(fired: &[Fired]) -> Marks {
    let mark = |fault: &Fired| match &fault.action {
        Action::Mark { name, value } => Some((name.clone(), value.clone())),
        _ => None,
    };
    Marks(Arc::new(fired.iter().filter_map(mark).collect()))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rough place"
)]
fn intake_of(fired: &[Fired], length: u64) -> Intake {
    let mut how = Intake::default();
    let place = |cut: &Cut| {
        let part = |part: f64| (length as f64 * part.clamp(0.0, 1.0)) as u64;
        cut.request_bytes.or_else(|| cut.request_part.map(part))
    };
    for fault in fired {
        match &fault.action {
            Action::Close(cut) => how.cut = place(cut).map(|at| (at, End::Close)).or(how.cut),
            Action::Reset(cut) => how.cut = place(cut).map(|at| (at, End::Reset)).or(how.cut),
            Action::Stall { request_bytes } => how.stall = Some(*request_bytes),
            Action::Throttle { bytes_per_s } => how.throttle = Some(*bytes_per_s),
            _ => {}
        }
    }
    how
}

fn given_answer(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match &answer.body {
        Value::Null => status.into_response(),
        Value::String(text) => (status, text.clone()).into_response(),
        json => (status, axum::Json(json.clone())).into_response(),
    };
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Takes the rest of a body, so that an early answer is read by the client and not overrun by a reset.
async fn drain(body: Body) {
    use futures_util::StreamExt as _;
    let mut pieces = body.into_data_stream();
    while let Some(Ok(_)) = pieces.next().await {}
}

fn rubbish(bytes: u64) -> Bytes {
    let length = usize::try_from(bytes).unwrap_or(MAX_ANSWER).min(MAX_ANSWER);
    (0..length).map(|n| [0xff, 0xfe, b'{', 0x00, 0xc3, 0x28][n % 6]).collect()
}

fn bomb(headers: &mut HeaderMap, count: u32, size: u32) {
    let value = "x".repeat(usize::try_from(size).unwrap_or(0).min(1 << 20));
    for n in 0..count.min(10_000) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(format!("x-bomb-{n}")), HeaderValue::try_from(value.as_str()))
        {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_are_found_with_and_without_a_name_field() {
        assert_eq!(operation(&json!({"operationName": "createUser"})).as_deref(), Some("createUser"));
        assert_eq!(operation(&json!({"query": "mutation login($a: X!) { x }"})).as_deref(), Some("login"));
        assert_eq!(operation(&json!({"query": "{ x }"})), None);
        assert_eq!(operation(&json!([1])), None);
    }

    #[test]
    fn queries_are_decoded() {
        let query = query_of("name=a%20b&size=3&name=c");
        assert_eq!(query.get("size").map(String::as_str), Some("3"));
        assert!(query_of("%zz=%%%").len() <= 1);
    }
}
