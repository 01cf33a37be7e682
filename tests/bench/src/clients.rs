//! What is measured: the agent, curl in several ways, and a shell loop. Each is a command line against one sink.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    command::Program,
    control::{SinkProcess, Volume},
    material::{Iso, Material, chunk_name},
};

/// How curl may be called in parallel; 1 is [`Client::Curl`] without `--parallel`.
pub const PARALLEL: [u32; 5] = [1, 2, 4, 8, 16];

/// The loop as a script would write it: each chunk cut out by `dd` and sent by a curl of its own.
const LOOP: &str = r#"chunk=0
while [ "$chunk" -lt "$5" ]; do
    dd if="$1" bs=8M skip="$chunk" count=1 2>/dev/null |
        curl -q -sS -f -o /dev/null --cacert "$2" -H "x-smartx-token: $3" -F "file=@-;filename=iso" "$4&chunk_num=$chunk" || exit 1
    chunk=$((chunk + 1))
done"#;
/// Equal work: the file's digest, then curl.
const DIGEST_THEN_CURL: &str = r#"openssl dgst -sha256 "$1" && exec curl -q -K "$2""#;

/// Chunks that the agent sends at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// As many as it finds good.
    Auto,
    Fixed(u32),
}

/// One who uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// One curl process, this many chunks at a time. Hashes nothing.
    Curl(u32),
    /// `openssl dgst -sha256`, then the same.
    DigestThenCurl(u32),
    /// A curl process for each chunk, one after the other. Hashes nothing.
    Loop,
    /// `agent iso push`. Hashes each chunk.
    Agent(InFlight),
}

/// The agent, and where its things are.
#[derive(Clone, Debug)]
pub struct Agent {
    pub program: PathBuf,
    pub password_file: PathBuf,
    /// Whether it has `iso push`; otherwise why not.
    pub push: Result<(), String>,
    /// Whether it has `iso scan`.
    pub scan: bool,
}

impl Client {
    /// As tables and `--only` call it.
    pub fn name(self) -> String {
        match self {
            Self::Curl(1) => "curl-seq".to_owned(),
            Self::Curl(n) => format!("curl-par{n}"),
            Self::DigestThenCurl(n) => format!("dgst+curl-par{n}"),
            Self::Loop => "loop".to_owned(),
            Self::Agent(InFlight::Auto) => "agent-auto".to_owned(),
            Self::Agent(InFlight::Fixed(n)) => format!("agent-{n}"),
        }
    }

    /// How many chunks it is to have in flight; `None` when that is its own choice.
    pub fn in_flight(self) -> Option<u32> {
        match self {
            Self::Curl(n) | Self::DigestThenCurl(n) | Self::Agent(InFlight::Fixed(n)) => Some(n),
            Self::Loop => Some(1),
            Self::Agent(InFlight::Auto) => None,
        }
    }

    /// Whether it is ours.
    pub fn is_agent(self) -> bool {
        matches!(self, Self::Agent(_))
    }
}

/// The command line of a client that is not ours, for one upload of `material`. Its files go into `scratch`.
///
/// # Errors
/// The sink makes no volume, or a file cannot be written.
pub async fn foreign(
    client: Client,
    sink: &SinkProcess,
    material: &Material,
    scratch: &Path,
) -> anyhow::Result<Program> {
    let iso = &material.iso;
    let volume = sink.volume(crate::material::ISO_NAME, iso.size).await?;
    let count = material.digests.len();
    let script = |script: &str, rest: Vec<String>| {
        let args = ["-c".to_owned(), script.to_owned(), "sh".to_owned(), iso.path.display().to_string()];
        Program::new(Path::new("sh"), args.into_iter().chain(rest), &material.chunks)
    };
    let config = |parallel| -> anyhow::Result<String> {
        let file = scratch.join("curl.config");
        fs::write(&file, curl_config(sink, &volume, count, parallel)).context("writing curl's configuration")?;
        Ok(file.display().to_string())
    };
    Ok(match client {
        Client::Curl(n) => Program::new(Path::new("curl"), ["-q", "-K", &config(n)?], &material.chunks),
        Client::DigestThenCurl(n) => script(DIGEST_THEN_CURL, vec![config(n)?]),
        Client::Loop | Client::Agent(_) => {
            let certificate = sink.certificate.display().to_string();
            script(LOOP, vec![certificate, volume.token.clone(), url(sink, &volume), count.to_string()])
        }
    })
}

impl Agent {
    /// Asks a program what it can do.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ask(program: &Path, password_file: &Path) -> anyhow::Result<Self> {
        let knows = |command: &str| {
            let out = std::process::Command::new(program).args(["iso", command, "--help"]).output();
            out.map(|out| out.status.success()).with_context(|| format!("starting {}", program.display()))
        };
        let push = if knows("push")? { Ok(()) } else { Err("this agent has no `iso push`".to_owned()) };
        let scan = knows("scan")?;
        Ok(Self { program: program.to_owned(), password_file: password_file.to_owned(), push, scan })
    }

    /// `iso push` of `iso` to `sink`.
    ///
    /// # Errors
    /// It has no such command.
    pub fn push(&self, in_flight: InFlight, sink: &SinkProcess, iso: &Iso, state: &Path) -> anyhow::Result<Program> {
        self.push.clone().map_err(anyhow::Error::msg)?;
        let in_flight = match in_flight {
            InFlight::Auto => "auto".to_owned(),
            InFlight::Fixed(n) => n.to_string(),
        };
        let path = |path: &Path| path.as_os_str().to_owned();
        let args = [
            "iso".into(),
            "push".into(),
            "--fisheye".into(),
            sink.address.url.clone().into(),
            "--user".into(),
            "root".into(),
            "--password-file".into(),
            path(&self.password_file),
            "--iso".into(),
            path(&iso.path),
            "--fingerprint".into(),
            sink.address.fingerprint.clone().into(),
            "--in-flight".into(),
            in_flight.into(),
            "--state".into(),
            path(state),
            "-o".into(),
            "json".into(),
        ];
        Ok(Program::new(&self.program, args, state))
    }

    /// `iso scan` of `iso`, so that its digests are known.
    pub fn scan(&self, iso: &Iso, state: &Path) -> Program {
        let args =
            ["iso".into(), "scan".into(), iso.path.clone().into(), "--state".into(), state.as_os_str().to_owned()];
        Program::new(&self.program, args, state)
    }
}

/// Where a chunk goes, but for its number.
fn url(sink: &SinkProcess, volume: &Volume) -> String {
    let Volume { image_uuid, zbs_volume_id, .. } = volume;
    format!("{}/api/v2/images/upload?zbs_volume_id={zbs_volume_id}&image_uuid={image_uuid}", sink.address.url)
}

/// One transfer for each chunk, in the directory of the chunks.
fn curl_config(sink: &SinkProcess, volume: &Volume, count: usize, parallel: u32) -> String {
    let mut text = String::new();
    if parallel > 1 {
        let _ = writeln!(text, "parallel\nparallel-max = {parallel}"); // A String takes everything.
    }
    let url = url(sink, volume);
    for chunk in 0..count {
        if chunk > 0 {
            text.push_str("next\n");
        }
        let _ = write!(
            text,
            "url = \"{url}&chunk_num={chunk}\"\nform = \"file=@{};type=application/octet-stream\"\n\
             cacert = {}\nheader = \"x-smartx-token: {}\"\nheader = \"Expect:\"\noutput = \"/dev/null\"\n\
             silent\nshow-error\nfail\n",
            chunk_name(chunk),
            quoted(&sink.certificate.display().to_string()),
            volume.token,
        );
    }
    text
}

/// A value in a configuration of curl.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
