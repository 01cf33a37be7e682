//! The one TLS port: accept loop, handshakes, routes, health, and an orderly end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use gantry_proto::v1;
use prometheus::{Registry, TextEncoder};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes, transport::server::Connected};
use tracing::Instrument as _;

use crate::{
    access::{ANYBODY_BODY, Access, AccessApi, Connected as Peer, EnrollmentApi, METRICS, Shows, gate},
    audit::AuditApi,
    config::{Config, Limits, ms},
    gateway::Gateway,
    metrics::metrics,
    service::OperatorApi,
    setup::ServerFiles,
    store::Store,
    web,
};

/// Connection window of HTTP/2: many small events must not stall it.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Stream window of HTTP/2.
const STREAM_WINDOW: u32 = 1 << 20;
/// A connection that does not answer a ping is closed.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes that have ended and wait to be served.
const ACCEPTED: usize = 64;
/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the store may take to answer `/healthz`.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// What a submit message may have beyond its workbook, bytes: names and overrides.
const SUBMIT_EXTRA: usize = 2 << 20;

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not the right thing.
    #[error("reading {0}")]
    Pem(&'static str, #[source] rustls_pki_types::pem::Error),
    /// The library refused.
    #[error("the TLS settings are not usable")]
    Tls(#[from] rustls::Error),
    /// The CA is not usable.
    #[error("the CA is not usable")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// TLS 1.3 only. A client certificate is checked when it is shown, and demanded by each service.
pub(crate) fn tls(files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(files.ca_pem.as_bytes());
    let ca = ca.map_err(|error| TlsError::Pem("the CA's certificate", error))?;
    roots.add(ca.clone())?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(files.cert_pem.as_bytes()).collect();
    let mut chain = chain.map_err(|error| TlsError::Pem("the server's certificate", error))?;
    // An agent that joins knows only the CA's fingerprint: it needs the certificate to that.
    chain.push(ca);
    let key = PrivateKeyDer::from_pem_slice(files.key_pem.expose().as_bytes());
    let key = key.map_err(|error| TlsError::Pem("the server's key", error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `stop`, then no longer accepts and waits for open calls.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    routes: Routes,
    limits: &Limits,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED);
    let accept = accept(listener, TlsAcceptor::from(tls), limits.clone(), accepted, stop.clone());
    let serving = tonic::transport::Server::builder()
        .accept_http1(true)
        .tcp_nodelay(true)
        .max_concurrent_streams(limits.streams_per_connection)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_LIMIT))
        .serve_with_incoming_shutdown(routes.prepare(), ReceiverStream::new(incoming), stop.cancelled_owned());
    let (served, ()) = tokio::join!(serving, accept);
    served
}

/// What `/healthz` and `/metrics` look at.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Who may see metrics.
    pub(crate) access: Arc<Access>,
    /// The metrics.
    pub(crate) metrics: Registry,
}

/// Everything that the port answers.
pub(crate) fn routes(
    config: &Config,
    gateway: Gateway,
    operators: OperatorApi,
    audit: AuditApi,
    access: Arc<Access>,
    shown: Shown,
) -> Routes {
    let submit_bytes = config.limits.workbook_bytes.saturating_add(SUBMIT_EXTRA);
    let jobs = v1::job_service_server::JobServiceServer::new(operators.clone())
        .max_decoding_message_size(submit_bytes)
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let pages = web::routes(config, operators.clone(), access.clone());
    let fleet = v1::fleet_service_server::FleetServiceServer::new(operators);
    let link = v1::agent_link_server::AgentLinkServer::new(gateway)
        .max_decoding_message_size(config.link.message_bytes)
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let enrollment = EnrollmentApi { access: access.clone() };
    let enrollment =
        v1::enrollment_service_server::EnrollmentServiceServer::new(enrollment).max_decoding_message_size(ANYBODY_BODY);
    let admins = AccessApi { access: access.clone() };
    let mut grpc = Routes::builder();
    grpc.add_service(jobs);
    grpc.add_service(fleet);
    grpc.add_service(v1::audit_service_server::AuditServiceServer::new(audit));
    grpc.add_service(v1::access_service_server::AccessServiceServer::new(admins));
    grpc.add_service(enrollment);
    grpc.add_service(link);
    // tonic's own fallback would answer every unknown page with 200 and a gRPC status.
    let grpc = grpc.routes().into_axum_router().reset_fallback();
    let grpc = grpc.layer(middleware::from_fn_with_state(access, gate));
    let grpc = grpc.layer(middleware::from_fn_with_state(ms(config.limits.call_ms), traced));
    let app = Router::new().route("/healthz", get(health)).route(METRICS, get(metrics_page)).with_state(shown);
    let app = app.merge(grpc).merge(pages).fallback(not_found);
    Routes::from(app.layer(middleware::from_fn(apart)))
}

/// Takes apart what a connection tells of itself: its peer, and whether that one is known by now.
async fn apart(mut request: Request, next: Next) -> Response {
    if let Some(Told { peer, known }) = request.extensions_mut().remove::<Told>() {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(known);
    }
    next.run(request).await
}

/// One span for each call, below the caller's. Calls that are not streams have an end.
async fn traced(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!(
        "rpc",
        otel.name = %path,
        otel.kind = "server",
        rpc.system = "grpc",
        job.id = tracing::field::Empty,
        rpc.response.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    gantry_telemetry::set_parent(&span, &gantry_telemetry::extract(request.headers()));
    let began = Instant::now();
    let response = async move {
        // The answer of a stream begins at once, so this bounds only how long an answer may take to begin.
        match timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Status::deadline_exceeded("the controller took too long; ask again").into_http(),
        }
    }
    .instrument(span.clone())
    .await;
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    span.record("rpc.response.status_code", format!("{code:?}"));
    if code != Code::Ok {
        span.record("otel.status_code", "ERROR");
    }
    metrics().answered(&path, code, began.elapsed());
    response
}

/// The metrics as Prometheus reads them. Whoever may list jobs may see them.
async fn metrics_page(State(shown): State<Shown>, request: Request) -> Response {
    let connected = request.extensions().get::<Peer>();
    let remote = connected.and_then(|connected| connected.get_ref().remote_addr());
    let leaf = connected.and_then(|connected| connected.peer_certs());
    let leaf = leaf.as_ref().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    if let Err(refusal) = shown.access.admit(METRICS, Shows::Certificate(leaf.as_deref()), remote).await {
        return (StatusCode::FORBIDDEN, format!("{refusal}\n")).into_response();
    }
    let mut text = String::new();
    match TextEncoder::new().encode_utf8(&shown.metrics.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n")).into_response()
        }
    }
}

async fn health(State(shown): State<Shown>) -> Response {
    let checked = timeout(HEALTH_LIMIT, shown.store.check()).await;
    let problem = match &checked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the store does not answer".to_owned()),
    };
    let status = if problem.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if problem.is_none() { "ok" } else { "failing" };
    let store = problem.unwrap_or_else(|| "ok".to_owned());
    (status, Json(json!({ "status": word, "version": env!("CARGO_PKG_VERSION"), "store": store }))).into_response()
}

async fn not_found(request: Request) -> Response {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/grpc") {
        return Status::unimplemented("this controller has no such service: compare versions with `ctl version`")
            .into_http();
    }
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}

/// Accepts and shakes hands, a task for each, so that a slow peer stops nobody. Ends with `stop`.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: Limits,
    accepted: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let tcp = tokio::select! {
            () = stop.cancelled() => break,
            tcp = listener.accept() => tcp,
        };
        let (tcp, remote) = match tcp {
            Ok(tcp) => tcp,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        handshakes.spawn(shake_hands(tcp, remote, place, acceptor.clone(), limits.clone(), accepted.clone()));
    }
    handshakes.shutdown().await;
}

async fn shake_hands(
    tcp: TcpStream,
    remote: SocketAddr,
    place: OwnedSemaphorePermit,
    acceptor: TlsAcceptor,
    limits: Limits,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let _ = tcp.set_nodelay(true);
    match timeout(ms(limits.handshake_ms), acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => {
            let anonymous = tls.get_ref().1.peer_certificates().is_none_or(<[_]>::is_empty);
            let until = anonymous.then(|| Box::pin(tokio::time::sleep(ms(limits.anonymous_ms))));
            // The server may have stopped; then the connection is dropped.
            let known = Known::default();
            let _ = accepted.send(Ok(Connection { tls, until, known, _place: place })).await;
        }
        Ok(Err(error)) => tracing::warn!(%remote, %error, "a TLS handshake was refused"),
        Err(_) => tracing::warn!(%remote, "a TLS handshake took too long"),
    }
}

/// Set once somebody without a certificate is known otherwise: their connection may stay.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<AtomicBool>);

impl Known {
    /// They are known.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a connection tells of itself.
#[derive(Clone)]
struct Told {
    peer: Peer,
    known: Known,
}

/// A connection that holds its place among the allowed ones; while nobody is known on it, it ends by itself.
struct Connection {
    tls: TlsStream<TcpStream>,
    until: Option<Pin<Box<Sleep>>>,
    known: Known,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Told;

    fn connect_info(&self) -> Told {
        Told { peer: self.tls.connect_info(), known: self.known.clone() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.known.0.load(Ordering::Relaxed) {
            self.until = None;
        }
        if let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a connection without a certificate is short",
            )));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
