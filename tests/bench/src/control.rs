//! A sink as a process, and talking to it on its control port.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::sink::{Address, Stats};

/// How long a sink may take to be ready, and to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of an answer on the control port.
const ANSWER_MAX: u64 = 16 << 20;

/// How a sink is started; see `sink --help`.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    pub latency_ms: u64,
    pub serial: bool,
    /// MiB in a second.
    pub bandwidth: Option<u32>,
    pub verify: bool,
    /// Bytes.
    pub chunk_size: u64,
    pub md5: String,
}

/// A running sink. It ends when this is dropped, and by itself when whoever started it is gone.
#[derive(Debug)]
pub struct SinkProcess {
    pub address: Address,
    /// Its certificate, as PEM.
    pub certificate: PathBuf,
    child: Child,
}

/// An upload volume, and the token to fill it.
#[derive(Clone, Debug)]
pub struct Volume {
    pub image_uuid: String,
    pub zbs_volume_id: String,
    pub token: String,
}

impl SinkProcess {
    /// Starts one; `name` tells its files in `dir` from others'.
    ///
    /// # Errors
    /// It is not ready in time.
    pub async fn start(sink: &Path, dir: &Path, name: &str, manner: &Manner) -> anyhow::Result<Self> {
        let certificate = dir.join(format!("{name}.pem"));
        let mut command = Command::new(sink);
        command.arg("--until-stdin-ends").arg("--certificate").arg(&certificate);
        command.arg("--latency-ms").arg(manner.latency_ms.to_string());
        command.arg("--chunk-size").arg(manner.chunk_size.to_string()).arg("--md5").arg(&manner.md5);
        if manner.serial {
            command.arg("--serial");
        }
        if manner.verify {
            command.arg("--verify");
        }
        if let Some(bandwidth) = manner.bandwidth {
            command.arg("--bandwidth").arg(bandwidth.to_string());
        }
        // A group of its own: Ctrl-C at the terminal must not end it before its clients.
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {}", sink.display()))?;
        let stdout = child.stdout.take().context("the sink has no stdout")?;
        let mut line = String::new();
        let mut reader = BufReader::new(stdout).take(ANSWER_MAX);
        timeout(LIMIT, reader.read_line(&mut line)).await.context("the sink is not ready")??;
        let address = serde_json::from_str(&line).context("the sink ended before it was ready")?;
        Ok(Self { address, certificate, child })
    }

    /// Its counters.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        self.call("GET", "/stats", None).await
    }

    /// SHA-256 of each chunk of the newest image, as far as it is there.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn digests(&self) -> anyhow::Result<Vec<Option<String>>> {
        self.call("GET", "/digests", None).await
    }

    /// Removes all images and zeroes the counters.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn reset(&self) -> anyhow::Result<()> {
        self.call::<Value>("POST", "/reset", None).await.map(drop)
    }

    /// Makes an upload volume, for a client that cannot by itself.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn volume(&self, name: &str, size: u64) -> anyhow::Result<Volume> {
        let session: Value = self.call("POST", "/api/v3/sessions", None).await?;
        let token = session["token"].as_str().context("no token")?.to_owned();
        let path = format!("/api/v2/images/upload/volume?name={name}&size={size}");
        let volume: Value = self.call("POST", &path, Some(&token)).await?;
        let text = |key: &str| volume["data"][key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
        Ok(Volume { image_uuid: text("image_uuid")?, zbs_volume_id: text("zbs_volume_id")?, token })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the sink has ended: {status}"),
            None => Ok(()),
        }
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, path: &str, token: Option<&str>) -> anyhow::Result<T> {
        let asked = timeout(LIMIT, ask(self.address.control, method, path, token)).await;
        let body = asked.context("the sink does not answer").and_then(|asked| asked);
        body.and_then(|body| Ok(serde_json::from_slice(&body)?)).with_context(|| format!("{method} {path} at the sink"))
    }
}

/// One request on a connection of its own.
async fn ask(at: SocketAddr, method: &str, path: &str, token: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    let token = token.map(|token| format!("x-smartx-token: {token}\r\n")).unwrap_or_default();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: 0\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("{}", String::from_utf8_lossy(&answer));
    }
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").context("an answer without an end")?;
    Ok(answer.split_off(head + 4))
}
