//! One TCP connection that can be closed or reset from within a request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Pacer;

/// Wall time after which a request that hangs on purpose is given up, whether its client is still there or not.
const HANG_LIMIT: Duration = Duration::from_secs(600);

/// The handle to the connection a request came on; a request extension (`Arc<Wire>`).
#[derive(Debug)]
pub struct Wire {
    /// The address connected to.
    pub local: SocketAddr,
    /// The client's address.
    pub peer: SocketAddr,
    /// The connection's own speed limit.
    pub(super) pacer: Pacer,
    cut: CancellationToken,
    reset: AtomicBool,
    served: AtomicU64,
}

impl Wire {
    pub(super) fn new(local: SocketAddr, peer: SocketAddr, bytes_per_s: u64) -> Self {
        Self {
            local,
            peer,
            pacer: Pacer::new(bytes_per_s),
            cut: CancellationToken::new(),
            reset: AtomicBool::new(false),
            served: AtomicU64::new(0),
        }
    }

    /// Ends the connection without a word.
    pub fn close(&self) {
        self.cut.cancel();
    }

    /// Ends the connection with RST; what was not yet sent is lost.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        self.cut.cancel();
    }

    /// Counts a request; returns how many came before it.
    pub(super) fn count(&self) -> u64 {
        self.served.fetch_add(1, Ordering::SeqCst)
    }

    /// Nothing happens until the client gives up, or the simulator does.
    pub(super) async fn hang(&self) {
        tokio::time::sleep(HANG_LIMIT).await;
        self.reset();
        // The connection's task drops the caller along with everything else.
        std::future::pending::<()>().await;
    }

    pub(super) async fn ended(&self) {
        self.cut.cancelled().await;
    }
}

/// The TCP stream of a wire. Dropped after [`Wire::reset`], it goes with RST.
#[derive(Debug)]
pub(super) struct WireStream {
    tcp: TcpStream,
    wire: Arc<Wire>,
}

impl WireStream {
    pub(super) fn new(tcp: TcpStream, wire: Arc<Wire>) -> Self {
        Self { tcp, wire }
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        if self.wire.reset.load(Ordering::SeqCst) {
            // Without it the peer sees an ordinary end: less of a fault, nothing worse.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for WireStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
