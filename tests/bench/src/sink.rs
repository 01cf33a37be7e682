//! An HTTPS server that takes uploads and throws them away, as cheaply as it can: what the benchmark's clients are
//! measured against. It answers the few calls of Fisheye that an upload makes, in a process of its own, so that its CPU is
//! not the client's.
//!
//! It is not the simulator: that is a product, with a whole world, faults and modes, and costs several times as much for
//! each byte. This one has no faults but being late, narrow (`bandwidth`) or single-minded (`serial`), and it keeps
//! nothing but which chunks came, and their digests when asked for.

mod counters;
mod images;
mod pace;
mod part;
mod service;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use uuid::Uuid;

pub use counters::{Counters, Stats};
pub use part::{Bad, Part};
pub(crate) use service::hex;

use images::Images;
use pace::Pace;

/// Connections at a time; more are dropped at once.
const MOST_CONNECTIONS: usize = 256;
/// For a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// What is read from a connection at once: rustls by itself asks the kernel for 4 KiB at a time.
const READ_AHEAD: usize = 64 << 10;
/// Most bytes of decrypted body that wait in one connection.
const BODY_AHEAD: usize = 256 << 10;

/// How a sink behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens, port 0 for any.
    pub listen: SocketAddr,
    /// Where it answers without TLS: the counters, and what the benchmark prepares for curl.
    pub control: SocketAddr,
    /// Bytes of a chunk, above 0.
    pub chunk_size: u64,
    /// How long each answer to a chunk takes.
    pub latency: Duration,
    /// Refuse a chunk while another one is in flight.
    pub serial: bool,
    /// Bytes in a second over all connections, above 0; `None` for no limit.
    pub bandwidth: Option<f64>,
    /// Keep the SHA-256 of each chunk.
    pub verify: bool,
    /// What a complete image shows as its MD5.
    pub md5: Option<String>,
    /// Where the certificate is written, as PEM.
    pub certificate: Option<PathBuf>,
}

/// Where a running sink is; printed as one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// With TLS.
    pub url: String,
    /// Without.
    pub control: SocketAddr,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub fingerprint: String,
}

/// A sink's state, shared by its connections.
#[derive(Debug)]
struct Sink {
    options: Options,
    images: Images,
    counters: Counters,
    pace: Option<Pace>,
    token: String,
}

/// Opens the ports, tells `ready` where, and serves until it is dropped.
///
/// # Errors
/// A port is taken, or the certificate cannot be made or written.
pub async fn serve(options: Options, ready: impl FnOnce(&Address) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let bind = async |at: SocketAddr| TcpListener::bind(at).await.with_context(|| format!("listening on {at}"));
    let (listener, control) = (bind(options.listen).await?, bind(options.control).await?);
    let at = listener.local_addr().context("asking a listener for its port")?;
    let (config, certificate) = identity(at.ip())?;
    if let Some(file) = &options.certificate {
        std::fs::write(file, &certificate.pem).with_context(|| format!("writing {}", file.display()))?;
    }
    ready(&Address {
        url: format!("https://{at}"),
        control: control.local_addr().context("asking a listener for its port")?,
        fingerprint: certificate.fingerprint,
    })?;
    let sink = Arc::new(Sink {
        images: Images::new(options.chunk_size, options.md5.clone()),
        counters: Counters::default(),
        pace: options.bandwidth.map(Pace::new),
        token: Uuid::now_v7().simple().to_string(),
        options,
    });
    tokio::join!(accept(&listener, Some(TlsAcceptor::from(config)), &sink), accept(&control, None, &sink));
    Ok(())
}

impl Sink {
    async fn pace(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.wait(bytes).await;
        }
    }
}

async fn accept(listener: &TcpListener, tls: Option<TlsAcceptor>, sink: &Arc<Sink>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                if connections.len() < MOST_CONNECTIONS {
                    connections.spawn(connection(tcp, tls.clone(), sink.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection to its end. How it ends is the client's affair, and is seen in the counters.
async fn connection(tcp: TcpStream, tls: Option<TlsAcceptor>, sink: Arc<Sink>) {
    // Small answers must not wait for an acknowledgement; without it they merely come late.
    let _ = tcp.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.max_buf_size(BODY_AHEAD);
    let Some(tls) = tls else {
        let _ = http.serve_connection(TokioIo::new(tcp), service_fn(|request| service::plain(&sink, request))).await;
        return;
    };
    let stream = BufReader::with_capacity(READ_AHEAD, tcp);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await else { return };
    let suite = stream.get_ref().1.negotiated_cipher_suite();
    sink.counters.connected(suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default());
    let _ = http.serve_connection(TokioIo::new(stream), service_fn(|request| service::counted(&sink, request))).await;
}

/// What a client must know about the certificate.
struct Certificate {
    pem: String,
    fingerprint: String,
}

fn identity(address: IpAddr) -> anyhow::Result<(Arc<ServerConfig>, Certificate)> {
    let key = KeyPair::generate().context("making a key")?;
    let mut params = CertificateParams::new(Vec::new()).context("describing a certificate")?;
    params.distinguished_name.push(DnType::CommonName, "gantry benchmark sink");
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    let certificate = params.self_signed(&key).context("signing a certificate")?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .context("using the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let fingerprint = service::hex(&Sha256::digest(certificate.der()));
    Ok((Arc::new(config), Certificate { pem: certificate.pem(), fingerprint }))
}
