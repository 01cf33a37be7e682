//! Commands: started in a process group of their own, measured, and never left behind.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::usage::Usage;

/// How long one command may run.
const LIMIT: Duration = Duration::from_secs(1800);
/// Most bytes of a command's words that are told.
const TOLD: usize = 2_000;
/// What would lead a client elsewhere than to the sink, or make it tell more than it does by itself.
const UNSET: [&str; 11] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "RUST_LOG",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "SSLKEYLOGFILE",
];

/// A command line.
#[derive(Clone, Debug)]
pub struct Program {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Where it runs.
    pub dir: PathBuf,
}

/// A command that has succeeded.
#[derive(Clone, Debug)]
pub struct Done {
    pub usage: Usage,
    /// What it has printed.
    pub stdout: String,
}

/// A running command with its children. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// `None` once it has ended and was waited for.
    group: Option<Pid>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    /// In the directory `dir`.
    pub fn new<S: Into<OsString>>(program: &Path, args: impl IntoIterator<Item = S>, dir: &Path) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { program: program.to_owned(), args, dir: dir.to_owned() }
    }

    /// Starts it; its words go into files in `scratch`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, scratch: &Path) -> anyhow::Result<Running> {
        let (stdout, stderr) = (scratch.join("stdout"), scratch.join("stderr"));
        let file = |path: &Path| File::create(path).with_context(|| format!("making {}", path.display()));
        let mut command = Command::new(&self.program);
        for name in UNSET {
            command.env_remove(name);
        }
        let child = command
            .args(&self.args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file(&stdout)?)
            .stderr(file(&stderr)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        Ok(Running { child, group, stdout, stderr })
    }

    /// Runs it to its end under `measure`.
    ///
    /// # Errors
    /// It fails, or takes too long; the message has its last words.
    pub async fn measured(&self, measure: &Path, scratch: &Path) -> anyhow::Result<Done> {
        let file = scratch.join("usage");
        let args = [file.clone().into(), self.program.clone().into()].into_iter().chain(self.args.iter().cloned());
        let mut running = Self::new(measure, args, &self.dir).spawn(scratch)?;
        let status = running.wait().await?;
        if !status.success() {
            bail!("{} failed ({status}): {}", self.program.display(), running.last_words());
        }
        let usage = fs::read(&file).context("reading what a command has used")?;
        let usage = serde_json::from_slice(&usage).context("reading what a command has used")?;
        Ok(Done { usage, stdout: running.stdout()? })
    }
}

impl Running {
    /// Its process id; `None` once it was waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let status = timeout(LIMIT, self.child.wait()).await.context("a command takes too long")??;
        // What it has left behind is not ours to find by a number that may be another's by now.
        self.group = None;
        Ok(status)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?.inspect(|_| self.group = None))
    }

    /// `kill -9`, as the power would do it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.strike();
        self.wait().await.map(drop)
    }

    /// What it has printed.
    ///
    /// # Errors
    /// It is no text.
    pub fn stdout(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.stdout).context("reading what a command has printed")
    }

    /// The end of what it has printed to stderr, or else to stdout.
    pub fn last_words(&self) -> String {
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).trim().to_owned();
        let told = Some(text(&self.stderr)).filter(|told| !told.is_empty()).unwrap_or_else(|| text(&self.stdout));
        let mut from = told.len().saturating_sub(TOLD);
        while !told.is_char_boundary(from) {
            from += 1;
        }
        told[from..].to_owned()
    }

    fn strike(&self) {
        if let Some(group) = self.group {
            // One that has just ended needs no signal.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.strike();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    fn sh(script: &str, dir: &Path) -> Program {
        Program::new(Path::new("sh"), ["-c", script], dir)
    }

    #[tokio::test]
    async fn a_failure_has_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let program = sh("echo out; echo it is broken >&2; exit 3", dir.path());
        let mut running = program.spawn(dir.path()).unwrap();
        assert_eq!(running.wait().await.unwrap().code(), Some(3));
        assert_eq!((running.last_words().as_str(), running.stdout().unwrap().as_str()), ("it is broken", "out\n"));
    }

    #[tokio::test]
    async fn what_is_dropped_dies_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // The child holds the pipe open for writing; its end is the end of the pipe.
        let running = sh("(echo here; exec sleep 1000) >fifo & wait", dir.path()).spawn(dir.path()).unwrap();
        let mut pipe = BufReader::new(File::open(&fifo).unwrap());
        let mut line = String::new();
        pipe.read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        drop(running);
        assert_eq!(pipe.read_line(&mut line).unwrap(), 0);
    }
}
