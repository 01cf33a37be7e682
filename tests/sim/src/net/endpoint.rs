//! Listening: a site served on one address, over TLS or plain, until cancelled.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::wire::{Wire, WireStream};
use super::{Identity, stage};
use crate::core::Core;
use crate::fault::Face;

/// Connections of one listener at a time; more are dropped at once.
const MAX_CONNECTIONS: usize = 512;
/// Wall time for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// Wall time between tries to open a port again.
const REBIND_PAUSE: Duration = Duration::from_millis(50);
/// Tries to find a port that is free on all addresses.
const PORT_TRIES: usize = 64;

/// What is served on a listener.
#[derive(Clone, Debug)]
pub struct Site {
    /// For faults and transcript.
    pub face: Face,
    /// TLS with this identity; plain HTTP without.
    pub identity: Option<Arc<Identity>>,
    /// The answers. Requests carry `Arc<Wire>`, [`super::Marks`] and [`super::Notes`] as extensions.
    pub router: Router,
}

/// Serves `site` on `listener` until `cancel`, through the stage (faults, transcript). While the address is switched
/// down the port is closed. All connections end with it.
///
/// # Errors
/// The listener has no address.
pub async fn serve(core: Core, listener: TcpListener, site: Site, cancel: CancellationToken) -> anyhow::Result<()> {
    let address = listener.local_addr().context("asking a listener for its address")?;
    let router = stage::on_stage(site.router.clone(), core.clone(), site.face);
    let mut switch = core.switchboard.watch(address.ip());
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut up = CancellationToken::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            changed = switch.changed() => {
                if changed.is_err() { break }
                if *switch.borrow_and_update() {
                    up = CancellationToken::new();
                    listener = rebind(address, &cancel).await;
                } else {
                    listener = None;
                    up.cancel();
                }
            }
            accepted = accept(listener.as_ref()) => {
                let Ok((tcp, peer)) = accepted else { continue };
                if connections.len() < MAX_CONNECTIONS {
                    let wire = Arc::new(Wire::new(address, peer, core.options.bandwidth.per_connection));
                    let (site, router, down) = (site.identity.clone(), router.clone(), up.clone());
                    connections.spawn(connection(tcp, wire, site, router, down));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
    Ok(())
}

/// Opens one port on all addresses; 0 = whichever is free on all.
///
/// # Errors
/// The port is taken on one of them, or no common port was found.
pub async fn bind(addresses: &[IpAddr], port: u16) -> anyhow::Result<Vec<TcpListener>> {
    let mut last = None;
    for _ in 0..if port == 0 { PORT_TRIES } else { 1 } {
        match bind_all(addresses, port).await {
            Ok(listeners) => return Ok(listeners),
            Err(error) => last = Some(error),
        }
    }
    let story = match port {
        0 => format!("finding a port free on all of {addresses:?}"),
        _ => format!("listening on port {port} of all of {addresses:?}"),
    };
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no address given")).context(story))
}

/// Chooses a port (0 = any free one) and keeps others from choosing it for as long as the socket lives; connections
/// to `address` itself are refused.
///
/// # Errors
/// The port is taken.
pub fn reserve(address: IpAddr, port: u16) -> anyhow::Result<(u16, TcpSocket)> {
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.context("making a socket")?;
    socket.bind(SocketAddr::new(address, port)).with_context(|| format!("reserving port {port} of {address}"))?;
    Ok((socket.local_addr().context("asking a socket for its port")?.port(), socket))
}

async fn bind_all(addresses: &[IpAddr], port: u16) -> anyhow::Result<Vec<TcpListener>> {
    let (mut listeners, mut port) = (Vec::new(), port);
    for &address in addresses {
        let at = SocketAddr::new(address, port);
        let listener = TcpListener::bind(at).await.with_context(|| format!("listening on {at}"))?;
        port = listener.local_addr().context("asking a listener for its port")?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn rebind(address: SocketAddr, cancel: &CancellationToken) -> Option<TcpListener> {
    while !cancel.is_cancelled() {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(error) => tracing::warn!(%address, %error, "cannot open the port again yet"),
        }
        tokio::time::sleep(REBIND_PAUSE).await;
    }
    None
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn connection(
    tcp: TcpStream,
    wire: Arc<Wire>,
    identity: Option<Arc<Identity>>,
    router: Router,
    down: CancellationToken,
) {
    // Small answers must not wait for an acknowledgement; without it they merely come late.
    let _ = tcp.set_nodelay(true);
    let stream = WireStream::new(tcp, wire.clone());
    let serving = async {
        match identity {
            None => http(stream, wire.clone(), router).await,
            Some(identity) => {
                let handshake = TlsAcceptor::from(identity.config()).accept(stream);
                if let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                    http(tls, wire.clone(), router).await;
                }
            }
        }
    };
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = wire.ended() => {}
        () = down.cancelled() => wire.reset(),
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + Send, wire: Arc<Wire>, router: Router) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (router, mut request) = (router.clone(), request.map(Body::new));
        request.extensions_mut().insert(wire.clone());
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended early");
    }
}
