//! A child process with a log file: started, waited for until it is ready, ended in good order, and never left behind.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// How long a process may take to be ready; debug builds on a busy machine are slow.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a process may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How often the ready file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running child. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::options().create(true).append(true).open(log).context("opening the log file")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Waits until the process has written `file`, and gives its content.
    pub async fn ready(&mut self, file: &Path) -> anyhow::Result<String> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if !text.is_empty() => return Ok(text),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("reading the ready file"),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it was ready:\n{}", self.name, self.log_text());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {READY_LIMIT:?}:\n{}", self.name, self.log_text());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything it has written.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to end (SIGTERM) and waits; kills it when it does not.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.signal("TERM").await?;
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!("{} did not end within {STOP_LIMIT:?} after SIGTERM:\n{}", self.name, self.log_text())
            }
        }
    }

    /// `kill -9`, as the power would do it.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends a signal by its name, such as `STOP`.
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // The standard library has no other signal than SIGKILL.
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().await;
        status.context("calling kill").map(drop)
    }
}

/// A command that runs `program` with `args`, without the trace settings and the language of whoever runs the tests.
pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: &Path, args: I) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env_remove("RUST_LOG");
    command.env_remove("GANTRY_LANG").env("LC_ALL", "C");
    command
}
