//! One way out to Fisheye: endpoints with fail-over, headers, token, limits, tracing. The endpoints of the interface
//! are in `api.rs`; what to do about a failure is the caller's.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_proto::{Plan, Redactor, Secret, Secrets, plan::UploadParams};
use gantry_telemetry::ATTEMPT;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::Value;
use tokio_retry::RetryIf;
use tracing::{Instrument as _, Span};

use super::{
    backoff::backoff,
    call::Call,
    chunk, envelope,
    error::{Error, ErrorKind},
    session::{Session, Token},
};
use crate::{
    config::{CertificatePolicy, Fisheye, Settings, Timing},
    http::{self as outgoing, Answer, Limits, ReadError},
    tls::{self, Pins, SightError},
};

/// The client of one cluster's Fisheye. Keeps the session in memory; opens no connection before the first call.
pub struct Client {
    pub(super) http: reqwest::Client,
    pub(super) session: Session,
    pub(super) settings: Fisheye,
    pub(super) timing: Timing,
    pub(super) redactor: Redactor,
    /// Query parameters of the image calls, from the plan.
    pub(super) upload: UploadParams,
    pins: Arc<Pins>,
    chunk_tls: Arc<rustls::ClientConfig>,
    endpoints: Vec<String>,
    current: AtomicUsize,
    /// Server's clock minus ours, seconds, as last seen.
    skew: Mutex<Option<i64>>,
    /// Nothing is sent that could change anything.
    only_looks: bool,
}

/// A request, ready to be sent any number of times.
pub(super) struct Request<'a> {
    pub call: Call,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub payload: Payload<'a>,
}

/// The body of a request.
pub(super) enum Payload<'a> {
    None,
    /// No body, and the length says so.
    Empty,
    Json(&'a Value),
}

/// One sending to one endpoint that failed.
enum Missed {
    /// No connection: nothing was sent, the next endpoint may take it.
    NotSent(String),
    Failed(ErrorKind),
}

/// What the span of a call says when it did not succeed.
pub(super) fn failed(span: &Span, why: &'static str) {
    span.record("otel.status_code", "ERROR").record("error.type", why);
}

impl Client {
    /// Makes the client; opens no connection. Endpoints: VIP first, then the hosts in workbook order, never the
    /// CloudTower address (C13).
    pub fn new(plan: &Plan, secrets: &Secrets, settings: &Settings, redactor: &Redactor) -> Self {
        let mut endpoints: Vec<String> = Vec::new();
        for address in plan.cluster.vip.into_iter().chain(plan.hosts.iter().map(|host| host.mgmt_ip)) {
            if address != plan.cloudtower.ip && !endpoints.contains(&address.to_string()) {
                endpoints.push(address.to_string());
            }
        }
        let user = (plan.cluster.admin_user.as_str(), secrets.fisheye_password.clone());
        Self::of(endpoints, user, plan.deployment.upload.clone(), settings, redactor)
    }

    /// The same for these endpoints, and this user and password.
    pub fn of(
        endpoints: Vec<String>,
        (user, password): (&str, Secret),
        upload: UploadParams,
        settings: &Settings,
        redactor: &Redactor,
    ) -> Self {
        let fisheye = settings.fisheye.clone();
        let pins = Pins::new(fisheye.certificate, fisheye.fingerprint.as_deref());
        let limits = Limits {
            connect: Duration::from_millis(fisheye.connect_timeout_ms),
            unacknowledged: Some(Duration::from_millis(fisheye.stall_timeout_ms)),
        };
        Self {
            http: outgoing::client(&pins, limits),
            session: Session::new(user, password, redactor.clone()),
            settings: fisheye,
            timing: settings.timing.clone(),
            redactor: redactor.clone(),
            upload,
            chunk_tls: chunk::tls(&pins),
            pins,
            endpoints,
            current: AtomicUsize::new(0),
            skew: Mutex::default(),
            only_looks: false,
        }
    }

    /// The same, that sends nothing but reads and what belongs to its own session.
    pub fn only_looking(self) -> Self {
        Self { only_looks: true, ..self }
    }

    /// Why a call is not sent: who only looks does not make it.
    pub(super) fn not_sent(&self, call: Call) -> Option<Error> {
        (self.only_looks && !call.only_looks()).then(|| self.error(call, ErrorKind::OnlyLooks))
    }

    /// The addresses that are asked, in order.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The endpoint in use, as a URL.
    pub fn base_url(&self) -> String {
        self.url_of(&self.current_endpoint())
    }

    /// Whether only the settings' fingerprints are taken.
    pub fn is_pinned(&self) -> bool {
        self.pins.policy() == CertificatePolicy::Pinned
    }

    /// Certificates seen first, by address, for `facts.fisheye_pins`.
    pub fn pins(&self) -> BTreeMap<String, String> {
        self.pins.seen()
    }

    /// Enforces what the job has recorded before.
    pub fn trust(&self, pins: &BTreeMap<String, String>) {
        pins.iter().for_each(|(address, fingerprint)| self.pins.trust(address, fingerprint));
    }

    /// Looks at the certificate of one address, so that it is known before the VIP moves there. Nothing is sent.
    pub async fn sight(&self, address: &str, within: Duration) -> Result<(), SightError> {
        if self.settings.scheme != "https" {
            return Ok(());
        }
        tls::sight(&self.pins, address, self.settings.port, within).await
    }

    /// The server's clock minus ours, seconds, as its last answer told.
    pub fn clock_skew(&self) -> Option<i64> {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs in unless there is a session.
    pub async fn login(&self) -> Result<(), Error> {
        self.token(None).await.map(drop)
    }

    /// Ends the session, best effort (F2).
    pub async fn logout(&self) -> Result<(), Error> {
        let Some(token) = self.session.lock().await.clear() else { return Ok(()) };
        let request = Request::plain(Call::LOGOUT, Call::LOGOUT.route.to_owned());
        self.deliver(&request, Some(&token), 1).await.map(drop)
    }

    /// Sends a request that may be repeated blindly, until it succeeds, it cannot succeed, or the attempts are used up.
    pub(super) async fn repeat<T>(
        &self,
        request: &Request<'_>,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, Error> {
        let attempt = AtomicUsize::new(0);
        let hint: Mutex<Option<Duration>> = Mutex::default();
        let delays = self.read_delays().map(|delay| {
            let asked = hint.lock().unwrap_or_else(PoisonError::into_inner).take();
            asked.unwrap_or(delay)
        });
        let again = |error: &Error| {
            *hint.lock().unwrap_or_else(PoisonError::into_inner) =
                error.kind.refusal().and_then(|refusal| refusal.asked_wait());
            if error.is_transient() {
                let why = error.kind.word();
                tracing::info!(target: ATTEMPT, call = %request.call, error.type = why, "a call is made again");
            }
            error.is_transient()
        };
        let act = || async {
            let attempt = attempt.fetch_add(1, Ordering::Relaxed) + 1;
            self.send(request, &decode, attempt).await
        };
        RetryIf::start(delays, act, again).await
    }

    /// Sends a request once.
    pub(super) async fn once<T>(
        &self,
        request: &Request<'_>,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, Error> {
        self.send(request, &decode, 1).await
    }

    /// Waits between attempts at reads: doubling, with jitter.
    fn read_delays(&self) -> impl Iterator<Item = Duration> + use<> {
        let retries = self.timing.read_attempts.saturating_sub(1) as usize;
        backoff(self.timing.scaled(self.timing.read_retry_first_s), self.timing.scaled(self.timing.read_retry_cap_s))
            .take(retries)
    }

    /// One attempt: a token refused once is replaced and the same request sent again (3.3).
    async fn send<T>(
        &self,
        request: &Request<'_>,
        decode: &impl Fn(Value) -> Result<T, String>,
        attempt: usize,
    ) -> Result<T, Error> {
        if let Some(error) = self.not_sent(request.call) {
            return Err(error);
        }
        let mut token = self.token(None).await?;
        for replay in [false, true] {
            let answer = self.deliver(request, Some(&token), attempt).await?;
            if answer.status != http::StatusCode::UNAUTHORIZED {
                let opened = envelope::open(&answer, request.call.method == "DELETE", &self.redactor);
                let decoded = opened.and_then(|data| decode(data).map_err(ErrorKind::Shape));
                return decoded.map_err(|kind| self.error(request.call, kind));
            }
            if !replay {
                token = self.token(Some(&token)).await?;
            }
        }
        Err(self.error(request.call, ErrorKind::Credentials))
    }

    /// The session's token; logs in when there is none or only the stale one. One login at a time.
    pub(super) async fn token(&self, stale: Option<&Token>) -> Result<Token, Error> {
        let mut state = self.session.lock().await;
        if let Some(token) = state.fresher_than(stale) {
            return Ok(token);
        }
        if let Some(kind) = self.session.rejection() {
            return Err(self.error(Call::LOGIN, kind));
        }
        let body = self.session.login_body();
        let request =
            Request { payload: Payload::Json(&body), ..Request::plain(Call::LOGIN, Call::LOGIN.route.into()) };
        let attempt = AtomicUsize::new(0);
        let act = || async {
            let answer = self.deliver(&request, None, attempt.fetch_add(1, Ordering::Relaxed) + 1).await?;
            let refusal = |kind| match envelope::login_verdict(&kind) {
                envelope::LoginVerdict::Rejected => self.session.reject(None),
                envelope::LoginVerdict::Locked(refusal) => self.session.reject(Some(refusal)),
                envelope::LoginVerdict::Other => kind,
            };
            envelope::whole(&answer, &self.redactor).map_err(|kind| self.error(Call::LOGIN, refusal(kind)))
        };
        let answer = RetryIf::start(self.read_delays(), act, Error::is_transient).await?;
        self.session.take(&mut state, &answer).map_err(|kind| self.error(Call::LOGIN, kind))
    }

    /// Sends to the current endpoint; goes on to the next one as long as nothing could be sent.
    async fn deliver(&self, request: &Request<'_>, token: Option<&Token>, attempt: usize) -> Result<Answer, Error> {
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            let index = self.current.load(Ordering::Relaxed);
            let endpoint = self.endpoint(index);
            match self.ask(&endpoint, request, token, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(Missed::NotSent(reason)) => {
                    reasons.push(format!("{endpoint}: {reason}"));
                    self.go_on_from(index);
                }
                Err(Missed::Failed(kind)) => {
                    // The next call had better ask somebody else than an address that does not answer.
                    if matches!(kind, ErrorKind::TimedOut(_)) {
                        self.go_on_from(index);
                    }
                    return Err(Error { call: request.call, endpoint, kind });
                }
            }
        }
        let endpoint = self.endpoints.first().cloned().unwrap_or_default();
        Err(Error { call: request.call, endpoint, kind: ErrorKind::Unreachable(reasons) })
    }

    /// One request to one endpoint, in a span of its own.
    async fn ask(
        &self,
        endpoint: &str,
        request: &Request<'_>,
        token: Option<&Token>,
        attempt: usize,
    ) -> Result<Answer, Missed> {
        let span = self.call_span(request.call, endpoint, attempt);
        let begin = Instant::now();
        let outcome = self.exchange(endpoint, request, token).instrument(span.clone()).await;
        span.in_scope(|| self.tell(&span, request, &outcome, begin.elapsed()));
        outcome
    }

    pub(super) fn call_span(&self, call: Call, endpoint: &str, attempt: usize) -> Span {
        tracing::info_span!(
            "fisheye",
            otel.name = format!("{} {}", call.method, call.route),
            otel.kind = "client",
            http.request.method = call.method,
            url.template = call.route,
            server.address = endpoint,
            http.response.status_code = tracing::field::Empty,
            ec = tracing::field::Empty,
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
            attempt,
        )
    }

    async fn exchange(&self, endpoint: &str, request: &Request<'_>, token: Option<&Token>) -> Result<Answer, Missed> {
        let url = format!("{}{}", self.url_of(endpoint), request.path);
        let method = http::Method::from_bytes(request.call.method.as_bytes()).unwrap_or_default();
        let mut builder = self.http.request(method, url).header(header::HOST, self.host_of(endpoint));
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        if let Some(token) = token {
            builder = builder.headers(token_headers(token)?);
        }
        let builder = match &request.payload {
            Payload::None => builder,
            Payload::Empty => builder.header(header::CONTENT_LENGTH, 0),
            Payload::Json(value) => builder.json(value),
        };
        let limit = Duration::from_millis(self.settings.request_timeout_ms);
        let work = self.converse(builder.timeout(limit));
        work.await.map_err(|missed| match missed {
            Missed::Failed(ErrorKind::TimedOut(_)) => Missed::Failed(ErrorKind::TimedOut(limit)),
            other => other,
        })
    }

    async fn converse(&self, builder: RequestBuilder) -> Result<Answer, Missed> {
        let response = builder.send().await.map_err(|error| self.missed(error))?;
        let answer = outgoing::read(response, self.settings.max_response_bytes).await.map_err(|error| match error {
            ReadError::TooLarge(most) => Missed::Failed(ErrorKind::TooLarge(most)),
            ReadError::Broken(error) => self.missed(error),
        })?;
        self.note_date(&answer.headers);
        Ok(answer)
    }

    /// What a failed exchange means.
    fn missed(&self, error: reqwest::Error) -> Missed {
        if let Some(refused) = self.pins.take_refusal() {
            return Missed::Failed(ErrorKind::Certificate(refused));
        }
        if error.is_connect() {
            let reason = gantry_proto::error::causes(&error.without_url()).pop().unwrap_or_default();
            return Missed::NotSent(reason);
        }
        if error.is_timeout() {
            return Missed::Failed(ErrorKind::TimedOut(Duration::ZERO));
        }
        Missed::Failed(ErrorKind::Broken(Box::new(error.without_url())))
    }

    /// One debug line for each call (R70), and the span's outcome.
    fn tell(&self, span: &Span, request: &Request<'_>, outcome: &Result<Answer, Missed>, took: Duration) {
        let ms = took.as_millis() as u64;
        let (method, path, query) = (request.call.method, &request.path, &request.query);
        match outcome {
            Ok(answer) => {
                let ec = if answer.body.len() > outgoing::SUMMARY_BYTES {
                    String::new()
                } else {
                    envelope::ec(&answer.body)
                };
                span.record("http.response.status_code", answer.status.as_u16());
                span.record("ec", ec.as_str());
                if !answer.status.is_success() {
                    failed(span, "refused");
                }
                if tracing::enabled!(tracing::Level::DEBUG) {
                    let sent = match &request.payload {
                        Payload::Json(value) => outgoing::summary(&self.redactor, (*value).clone()),
                        Payload::None | Payload::Empty => String::new(),
                    };
                    let got = outgoing::answer_summary(&self.redactor, &answer.body);
                    let (status, bytes) = (answer.status.as_u16(), answer.body.len());
                    tracing::debug!(method, path, ?query, status, ec, ms, bytes, sent, got, "fisheye call");
                }
            }
            Err(Missed::NotSent(reason)) => {
                failed(span, "unreachable");
                tracing::debug!(method, path, ?query, ms, reason, "fisheye not reached");
            }
            Err(Missed::Failed(kind)) => {
                failed(span, kind.word());
                tracing::debug!(method, path, ?query, ms, error = %kind, "fisheye call failed")
            }
        }
    }

    pub(super) fn error(&self, call: Call, kind: ErrorKind) -> Error {
        Error { call, endpoint: self.current_endpoint(), kind }
    }

    fn current_endpoint(&self) -> String {
        self.current().1
    }

    /// The endpoint in use, and the number to give to [`Client::go_on_from`].
    pub(super) fn current(&self) -> (usize, String) {
        let index = self.current.load(Ordering::Relaxed);
        (index, self.endpoint(index))
    }

    pub(super) fn chunk_tls(&self) -> Arc<rustls::ClientConfig> {
        self.chunk_tls.clone()
    }

    /// The certificate that was refused last.
    pub(super) fn take_refusal(&self) -> Option<tls::Refused> {
        self.pins.take_refusal()
    }

    /// `index` counts on and on; the endpoints are gone through in a circle.
    fn endpoint(&self, index: usize) -> String {
        self.endpoints.get(index % self.endpoints.len().max(1)).cloned().unwrap_or_default()
    }

    /// Moves on, unless another call has done so already.
    pub(super) fn go_on_from(&self, index: usize) {
        let next = index.wrapping_add(1);
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn url_of(&self, endpoint: &str) -> String {
        match (self.settings.scheme.as_str(), self.settings.port) {
            ("https", 443) | ("http", 80) => format!("{}://{endpoint}", self.settings.scheme),
            (scheme, port) => format!("{scheme}://{endpoint}:{port}"),
        }
    }

    /// The `Host` header: the URL's host, with the port only when it is neither 80 nor 443 (`fisheye.md` 1.1).
    pub(super) fn host_of(&self, endpoint: &str) -> String {
        match self.settings.port {
            80 | 443 => endpoint.to_owned(),
            port => format!("{endpoint}:{port}"),
        }
    }

    pub(super) fn note_date(&self, headers: &HeaderMap) {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
            let skew = date.timestamp().as_second().saturating_sub(Timestamp::now().as_second());
            *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
        }
    }
}

impl Request<'_> {
    /// Without query and body.
    pub(super) fn plain(call: Call, path: String) -> Self {
        Self { call, path, query: Vec::new(), payload: Payload::None }
    }
}

/// Both token headers, on every call (3.2).
fn token_headers(token: &Token) -> Result<HeaderMap, Missed> {
    let odd = |_| Missed::Failed(ErrorKind::Shape("the token cannot be sent in a header".to_owned()));
    let mut value = HeaderValue::from_str(token.text.expose()).map_err(odd)?;
    value.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert("x-smartx-token", value.clone());
    headers.insert("grpc-metadata-token", value);
    Ok(headers)
}
