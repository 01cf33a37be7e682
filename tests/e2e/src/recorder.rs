//! A recorder between an agent and its controller: takes TLS apart with the keys that a test can read, passes every byte
//! on, and keeps what was said, so that the messages themselves can be searched. Knows frames, and no order.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use gantry_proto::JoinFile;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What a client says first over HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const FRAME_HEAD: usize = 9;
/// Bytes before a message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;
/// Bytes of one direction of one connection that are kept; a test that says more fails.
const KEPT_MAX: usize = 64 << 20;

/// The recorder.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    said: Arc<Mutex<Vec<Said>>>,
    _tasks: JoinSet<()>,
}

/// One direction of one connection.
#[derive(Clone, Debug, Default)]
struct Said {
    by_agent: bool,
    bytes: Vec<u8>,
}

/// The messages of one direction, of all connections: each as it was encoded.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// What agents said.
    pub up: Vec<Vec<u8>>,
    /// What the controller said.
    pub down: Vec<Vec<u8>>,
}

impl Recorder {
    /// Comes in between: the agent of this join file dials the recorder from its next start on.
    ///
    /// # Errors
    /// When a file cannot be used, or no port can be opened.
    pub async fn between(controller_data: &Path, join_file: &Path) -> anyhow::Result<Self> {
        let mut join: JoinFile = serde_json::from_slice(&fs::read(join_file)?).context("the join file")?;
        let target = join.controller.trim_start_matches("https://").parse().context("the controller's address")?;
        let server = TlsAcceptor::from(Arc::new(server(&controller_data.join("tls"))?));
        let client = TlsConnector::from(Arc::new(client(&join)?));
        let name = ServerName::try_from(join.server_name.clone())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        join.controller = format!("https://{address}");
        // Written over, so that it stays as private as it is.
        fs::write(join_file, serde_json::to_vec(&join)?)?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut tasks, kept) = (JoinSet::new(), said.clone());
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                let (server, client, name, kept) = (server.clone(), client.clone(), name.clone(), kept.clone());
                lines.spawn(async move {
                    // A line that breaks is what both sides see, too.
                    let _ = carry(from, target, server, client, name, kept).await;
                });
            }
        });
        Ok(Self { address, said, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every whole message so far.
    ///
    /// # Errors
    /// When something was said that is no HTTP/2, cannot be unpacked, or is too much: then nothing could be searched.
    pub fn messages(&self) -> anyhow::Result<Messages> {
        let mut messages = Messages::default();
        for said in self.said.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ensure!(said.bytes.len() < KEPT_MAX, "more was said than is kept");
            let out = if said.by_agent { &mut messages.up } else { &mut messages.down };
            for stream in streams(&said.bytes)?.into_values() {
                split(&stream, out)?;
            }
        }
        Ok(messages)
    }
}

async fn carry(
    from: TcpStream,
    target: SocketAddr,
    server: TlsAcceptor,
    client: TlsConnector,
    name: ServerName<'static>,
    kept: Arc<Mutex<Vec<Said>>>,
) -> io::Result<()> {
    let (near, far) = (server.accept(from).await?, TcpStream::connect(target).await?);
    let far = client.connect(name, far).await?;
    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let place = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend([true, false].map(|by_agent| Said { by_agent, bytes: Vec::new() }));
        kept.len() - 2
    };
    tokio::select! {
        ended = pass(near_in, far_out, &kept, place) => ended,
        ended = pass(far_in, near_out, &kept, place + 1) => ended,
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    kept: &Mutex<Vec<Said>>,
    place: usize,
) -> io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = &mut kept[place].bytes;
            let room = KEPT_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(&piece[..count.min(room)]);
        }
        to.write_all(&piece[..count]).await?;
        to.flush().await?;
    }
}

/// What was sent as data, by stream.
fn streams(said: &[u8]) -> anyhow::Result<BTreeMap<u32, Vec<u8>>> {
    let mut rest = said.strip_prefix(PREFACE).unwrap_or(said);
    let mut streams: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while let Some((head, body)) = rest.split_first_chunk::<FRAME_HEAD>() {
        let [a, b, c, kind, flags, id @ ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The last frame may be under way.
        let Some((payload, after)) = body.split_at_checked(length) else { break };
        ensure!(kind < 16, "that is no HTTP/2 frame: kind {kind}");
        if kind == 0 {
            ensure!(flags & 0x8 == 0, "a padded frame");
            streams.entry(u32::from_be_bytes(id)).or_default().extend_from_slice(payload);
        }
        rest = after;
    }
    Ok(streams)
}

/// The messages of one stream.
fn split(mut stream: &[u8], out: &mut Vec<Vec<u8>>) -> anyhow::Result<()> {
    while let Some((&[compressed, length @ ..], body)) = stream.split_first_chunk::<MESSAGE_HEAD>() {
        let Some((message, after)) = body.split_at_checked(u32::from_be_bytes(length) as usize) else { break };
        out.push(match compressed {
            0 => message.to_vec(),
            _ => unpacked(message)?,
        });
        stream = after;
    }
    Ok(())
}

/// What a message was before it was compressed: by gzip, the only way that either side offers.
fn unpacked(message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let read = GzDecoder::new(message).take(KEPT_MAX as u64).read_to_end(&mut plain);
    read.context("a compressed message that is no gzip")?;
    ensure!(plain.len() < KEPT_MAX, "more was said than is kept");
    Ok(plain)
}

fn server(tls: &Path) -> anyhow::Result<ServerConfig> {
    let chain = certificates(&fs::read(tls.join("server.pem"))?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(tls.join("server.key"))?)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn client(join: &JoinFile) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(join.ca_pem.as_bytes())? {
        roots.add(ca)?;
    }
    let key = PrivateKeyDer::from_pem_slice(join.key_pem.expose().as_bytes())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(join.cert_pem.as_bytes())?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn messages_are_put_together_from_the_frames_of_their_stream() {
        let one = [&[0, 0, 0, 0, 6][..], b"canary"].concat();
        let said = [
            PREFACE.to_vec(),
            frame(1, 1, b"head"),
            frame(0, 1, &one[..8]),
            frame(0, 3, &[0, 0, 0, 0, 0]),
            frame(0, 1, &one[8..]),
            frame(0, 5, b"half")[..10].to_vec(),
        ]
        .concat();
        let mut messages = Vec::new();
        streams(&said).unwrap().values().for_each(|stream| split(stream, &mut messages).unwrap());
        assert_eq!(messages, [b"canary".to_vec(), Vec::new()]);
        assert!(split(&[1, 0, 0, 0, 1, 7], &mut messages).is_err(), "what cannot be unpacked cannot be searched");
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"canary").unwrap();
        let packed = packed.finish().unwrap();
        let said = [&[1][..], &u32::try_from(packed.len()).unwrap().to_be_bytes(), &packed].concat();
        messages.clear();
        split(&said, &mut messages).unwrap();
        assert_eq!(messages, [b"canary".to_vec()]);
        assert!(streams(&frame(99, 1, b"")).is_err());
    }
}
