//! The one way to CloudTower: every request goes through [`Client::exchange`].

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gantry_proto::{Plan, Redactor, Secret, Secrets, redact::Held};
use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONNECTION},
};
use serde_json::Value;
use tracing::Instrument as _;

use super::{Call, Error, ErrorKind, Refusal};
use crate::{
    config::Settings,
    http::{self as wire, Answer, Limits},
    tls::Pins,
};

/// Part of a refusal's message that is kept, characters.
const MESSAGE_MAX: usize = 500;

/// CloudTower in the new VM.
pub struct Client {
    address: String,
    base: String,
    http: reqwest::Client,
    pins: Arc<Pins>,
    redactor: Redactor,
    request_timeout: Duration,
    max_response: usize,
    planned_password: Mutex<Option<Secret>>,
    token: Mutex<Option<Arc<Token>>>,
    /// Nothing is sent that could change anything.
    only_looks: bool,
}

/// A token; the redactor knows it as long as any call still carries it.
struct Token {
    text: Secret,
    _held: Held,
}

/// What is sent.
pub(super) struct Request<'a> {
    /// Path and query.
    pub(super) path: String,
    pub(super) body: Option<&'a Value>,
    /// For the whole exchange.
    pub(super) limit: Duration,
    /// The largest answer, bytes.
    pub(super) most: usize,
}

/// Whether a call carries the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    Anonymous,
    Token,
}

impl Client {
    /// Makes the client; opens no connection.
    pub fn new(plan: &Plan, secrets: &Secrets, settings: &Settings, redactor: &Redactor) -> Self {
        let given = &settings.cloudtower;
        let pins = Pins::new(given.certificate, given.fingerprint.as_deref());
        let limits = Limits { connect: Duration::from_millis(given.connect_timeout_ms), unacknowledged: None };
        Self {
            address: plan.cloudtower.ip.to_string(),
            base: base_url(plan.cloudtower.ip, given.port),
            http: wire::client(&pins, limits),
            pins,
            redactor: redactor.clone(),
            request_timeout: Duration::from_millis(given.request_timeout_ms),
            max_response: given.max_response_bytes,
            planned_password: Mutex::new(Some(secrets.root_password.clone())),
            token: Mutex::new(None),
            only_looks: false,
        }
    }

    /// The same, that sends nothing but reads and logins.
    pub fn only_looking(self) -> Self {
        Self { only_looks: true, ..self }
    }

    /// Why a call is not sent: who only looks does not make it.
    fn not_sent(&self, call: Call) -> Option<Error> {
        (self.only_looks && !call.only_looks()).then_some(Error { call, kind: ErrorKind::OnlyLooks })
    }

    /// CloudTower's URL for people and later stages (C20).
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Its address, as the key of its certificate.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its certificate.
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// Forgets token and password: nothing can log in afterwards (R73).
    pub fn wipe(&self) {
        lock(&self.token).take();
        lock(&self.planned_password).take();
    }

    pub(super) fn planned_password(&self) -> Option<Secret> {
        lock(&self.planned_password).clone()
    }

    pub(super) fn set_token(&self, token: Option<Secret>) {
        let token = token.map(|text| Arc::new(Token { _held: self.redactor.hold(vec![text.clone()]), text }));
        *lock(&self.token) = token;
    }

    /// Sends a call that needs the token, and gives its JSON: see [`Client::authorized`].
    pub(super) async fn post_authorized(&self, call: Call, body: &Value) -> Result<Value, Error> {
        let answer = self.authorized(call, &self.usual(call, Some(body))).await?;
        self.json(call, &answer)
    }

    /// Sends a call and gives its JSON.
    pub(super) async fn post(&self, call: Call, body: &Value, auth: Auth) -> Result<Value, Error> {
        let answer = self.exchange(call, &self.usual(call, Some(body)), auth).await?;
        self.json(call, &answer)
    }

    /// The JSON of a success.
    pub(super) fn json(&self, call: Call, answer: &Answer) -> Result<Value, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|_| Error { call, kind: ErrorKind::Shape("the body is not JSON".to_owned()) })
    }

    /// A request with the usual limits, to the call's own path.
    pub(super) fn usual<'a>(&self, call: Call, body: Option<&'a Value>) -> Request<'a> {
        let path = if call.base == GRAPHQL { GRAPHQL.to_owned() } else { format!("{}/{}", call.base, call.name) };
        Request { path, body, limit: self.request_timeout, most: self.max_response }
    }

    /// Sends a call that needs the token: logs in when there is none, and once more when it has expired (W9).
    pub(super) async fn authorized(&self, call: Call, request: &Request<'_>) -> Result<Answer, Error> {
        if let Some(error) = self.not_sent(call) {
            return Err(error);
        }
        if lock(&self.token).is_none() {
            self.login().await?;
        }
        match self.exchange(call, request, Auth::Token).await {
            Err(error) if error.is_auth() => {
                tracing::info!(%call, "CloudTower's token is not taken any more, logging in again");
                self.login().await?;
                self.exchange(call, request, Auth::Token).await
            }
            result => result,
        }
    }

    /// Sends a request and gives the answer, if it is a success.
    async fn exchange(&self, call: Call, request: &Request<'_>, auth: Auth) -> Result<Answer, Error> {
        if let Some(error) = self.not_sent(call) {
            return Err(error);
        }
        let span = tracing::info_span!(
            "cloudtower call",
            otel.name = %call,
            otel.kind = "client",
            call = %call,
            http.response.status_code = tracing::field::Empty,
            error = tracing::field::Empty,
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty
        );
        // Held until the call has been told: an answer may repeat the token.
        let token = lock(&self.token).clone().filter(|_| auth == Auth::Token);
        let began = Instant::now();
        let sent = match (auth, &token) {
            (Auth::Token, None) => Err(ErrorKind::NotLoggedIn),
            (_, token) => self.send(call, request, token.as_deref()).instrument(span.clone()).await,
        };
        span.in_scope(|| self.tell(call, request.body, &sent, began.elapsed()));
        let result = sent.and_then(|answer| {
            span.record("http.response.status_code", answer.status.as_u16());
            self.succeeded(answer)
        });
        result.map_err(|kind| {
            span.record("otel.status_code", "ERROR").record("error.type", kind.word());
            span.record("error", tracing::field::display(&kind));
            Error { call, kind }
        })
    }

    /// One debug line for each call (R70).
    fn tell(&self, call: Call, body: Option<&Value>, outcome: &Result<Answer, ErrorKind>, took: Duration) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let ms = took.as_millis() as u64;
        let sent = body.map(|body| wire::summary(&self.redactor, body.clone())).unwrap_or_default();
        match outcome {
            Ok(answer) => {
                let got = wire::answer_summary(&self.redactor, &answer.body);
                let (status, bytes) = (answer.status.as_u16(), answer.body.len());
                tracing::debug!(%call, status, ms, bytes, sent, got, "cloudtower call");
            }
            Err(kind) => {
                let error = gantry_proto::error::causes(kind).join(": ");
                let error = self.redactor.text(&error);
                tracing::debug!(%call, ms, sent, %error, "cloudtower call failed");
            }
        }
    }

    async fn send(&self, call: Call, asked: &Request<'_>, token: Option<&Token>) -> Result<Answer, ErrorKind> {
        let request = self.http.request(call.method(), format!("{}{}", self.base, asked.path)).timeout(asked.limit);
        // Each call shakes hands anew: a connection that is kept would hide that the certificate has been replaced.
        let mut request = request.header(CONNECTION, "close");
        if let Some(body) = asked.body {
            request = request.json(body);
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, header(&token.text)?);
        }
        let response = request.send().await.map_err(|error| self.broken(error))?;
        wire::read(response, asked.most).await.map_err(ErrorKind::Unread)
    }

    fn broken(&self, error: reqwest::Error) -> ErrorKind {
        let error = error.without_url();
        match self.pins.take_refusal() {
            Some(refused) => ErrorKind::Certificate(refused),
            None if error.is_connect() => ErrorKind::Unreachable(error),
            None if error.is_timeout() => ErrorKind::TimedOut(error),
            None => ErrorKind::Broken(error),
        }
    }

    /// A success, or the words of a refusal.
    fn succeeded(&self, answer: Answer) -> Result<Answer, ErrorKind> {
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        Err(json.and_then(|json| self.refused(status, &json)).unwrap_or(ErrorKind::Status(status)))
    }

    /// What an error body says: that of REST, or the `errors` of GraphQL.
    pub(super) fn refused(&self, status: StatusCode, json: &Value) -> Option<ErrorKind> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let errors = json.get("errors").and_then(Value::as_array).filter(|errors| !errors.is_empty());
        let (code, message) = match errors {
            Some(errors) => {
                let code = text(&errors[0], "code")
                    .or_else(|| errors[0].pointer("/extensions/code").and_then(Value::as_str).map(str::to_owned));
                let messages: Vec<String> = errors.iter().filter_map(|error| text(error, "message")).collect();
                (code, messages.join("; "))
            }
            None => (text(json, "code"), text(json, "message")?),
        };
        let message = self.redactor.text(&message).chars().take(MESSAGE_MAX).collect();
        let code = code.map(|code| self.redactor.text(&code).chars().take(MESSAGE_MAX).collect());
        Some(ErrorKind::Refused(Refusal { status, code, message }))
    }
}

/// Path of GraphQL.
pub(super) const GRAPHQL: &str = "/api";
/// Path of REST.
pub(super) const REST: &str = "/v2/api";

fn base_url(ip: Ipv4Addr, port: u16) -> String {
    if port == 443 { format!("https://{ip}") } else { format!("https://{ip}:{port}") }
}

/// The token as it is, without `Bearer` (`cloudtower.md` 5.1).
fn header(token: &Secret) -> Result<HeaderValue, ErrorKind> {
    let mut value = HeaderValue::from_str(token.expose())
        .map_err(|_| ErrorKind::Shape("the token cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
