//! One TCP connection to a guest's SSH port, which can be cut at any moment.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The handle to a connection.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The address connected to.
    pub(super) local: SocketAddr,
    /// The client's address.
    pub(super) peer: SocketAddr,
    cut: CancellationToken,
    reset: Arc<AtomicBool>,
}

impl Line {
    pub(super) fn new(local: SocketAddr, peer: SocketAddr) -> Self {
        Line { local, peer, cut: CancellationToken::new(), reset: Arc::default() }
    }

    /// Ends the connection without a word.
    pub(super) fn close(&self) {
        self.cut.cancel();
    }

    /// Ends the connection with RST.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        self.cut.cancel();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.cut.is_cancelled()
    }

    pub(super) async fn ended(&self) {
        self.cut.cancelled().await;
    }

    /// The connection's bytes; they end with the line.
    pub(super) fn stream(&self, tcp: TcpStream) -> LineStream {
        LineStream { tcp, ended: Box::pin(self.cut.clone().cancelled_owned()), line: self.clone() }
    }
}

#[derive(Debug)]
pub(super) struct LineStream {
    tcp: TcpStream,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    line: Line,
}

impl LineStream {
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(cx)
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        if self.line.reset.load(Ordering::SeqCst) {
            // Without it the peer sees an ordinary end: less of a fault, nothing worse.
            let _ = self.tcp.set_zero_linger();
        }
        self.line.cut.cancel();
    }
}

impl AsyncRead for LineStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
