//! Where the programs of a guest ask the simulator: each question comes as a line on a pipe, each answer goes back on a
//! pipe of its own, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::installer;
use super::machine::Machine;
use super::processes::alive;

/// Wall pause between tries to reach a program that is about to open its pipe.
const OPEN_PAUSE: Duration = Duration::from_millis(2);
/// Wall time after which a program that does not open its pipe is given up.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Wall time between two looks whether a waiting program still lives.
const LOOK: Duration = Duration::from_millis(50);
/// Answers at a time; more programs of one guest wait.
const MAX_ANSWERS: usize = 256;

/// Answers questions until `cancel`.
///
/// # Errors
/// The pipe cannot be opened.
pub(super) async fn serve(machine: Arc<Machine>, cancel: CancellationToken) -> anyhow::Result<()> {
    // Also opened for writing, so that it never ends when the last program closes it.
    let requests = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(machine.root.requests())
        .context("opening the pipe on which a guest asks")?;
    let mut lines = BufReader::new(requests).lines();
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            line = lines.next_line(), if answers.len() < MAX_ANSWERS => match line {
                Ok(Some(line)) => { answers.spawn(answer(machine.clone(), line)); }
                Ok(None) => break,
                Err(error) => { tracing::warn!(%error, "a guest's question cannot be read"); }
            },
            Some(_) = answers.join_next() => {}
        }
    }
    answers.shutdown().await;
    Ok(())
}

async fn answer(machine: Arc<Machine>, line: String) {
    let mut words = line.split_whitespace();
    let Some(pid) = words.next().and_then(|pid| pid.parse().ok()) else { return };
    let Some(answer) = Answer::open(&machine, pid).await else { return };
    let verb = words.next().unwrap_or("");
    let words: Vec<&str> = words.collect();
    match verb {
        "sleep" => sleep(&machine, answer, words.first().copied().unwrap_or("0")).await,
        "preinstall" => installer::preinstall(&machine, answer).await,
        "certificate" => certificate(&machine, answer, words.first().copied().unwrap_or_default()).await,
        "installer" => installer::run(&machine, answer, &words).await,
        _ => answer.finish(127).await,
    }
}

async fn sleep(machine: &Machine, answer: Answer, text: &str) {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        Some((at, 's')) => (&text[..at], 1.0),
        _ => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    let Some(duration) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        return answer.finish(1).await;
    };
    if answer.wait_until(machine, machine.core.clock.elapsed() + duration).await {
        answer.finish(0).await;
    }
}

/// What `openssl s_client` says to the service of this guest.
async fn certificate(machine: &Machine, mut answer: Answer, address: &str) {
    let port = address.rsplit_once(':').and_then(|(host, port)| Some((host.parse().ok()?, port.parse::<u16>().ok()?)));
    let shown = port.and_then(|(host, _)| machine.tower_certificate(host));
    let Some(der) = shown else {
        return answer.finish(1).await;
    };
    let text = format!("CONNECTED(00000003)\n---\nServer certificate\n{}---\n", pem(&der));
    if answer.print(text.as_bytes()).await {
        answer.finish(0).await;
    }
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: String = text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// The way back to one program. Dropped without [`Answer::finish`], the program sees status 137.
#[derive(Debug)]
pub(super) struct Answer {
    /// The program that asked.
    pub(super) pid: u32,
    pipe: pipe::Sender,
    status_file: std::path::PathBuf,
}

impl Answer {
    async fn open(machine: &Machine, pid: u32) -> Option<Self> {
        let path = machine.root.answer(pid);
        let mut status_file = path.clone().into_os_string();
        status_file.push(".rc");
        let deadline = tokio::time::Instant::now() + OPEN_LIMIT;
        while tokio::time::Instant::now() < deadline && alive(pid) {
            match pipe::OpenOptions::new().open_sender(&path) {
                Ok(pipe) => return Some(Answer { pid, pipe, status_file: status_file.into() }),
                Err(_) => tokio::time::sleep(OPEN_PAUSE).await,
            }
        }
        None
    }

    /// Prints on the program's standard output; false when it is gone.
    pub(super) async fn print(&mut self, text: &[u8]) -> bool {
        alive(self.pid) && self.pipe.write_all(text).await.is_ok()
    }

    /// Waits until a virtual moment; false when the program died meanwhile.
    pub(super) async fn wait_until(&self, machine: &Machine, moment: Duration) -> bool {
        let sleeping = machine.core.clock.sleep_until(moment);
        tokio::pin!(sleeping);
        loop {
            tokio::select! {
                () = &mut sleeping => return alive(self.pid),
                () = tokio::time::sleep(LOOK) => if !alive(self.pid) { return false },
            }
        }
    }

    /// Waits until the program dies.
    pub(super) async fn wait_for_death(&self) {
        while alive(self.pid) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the answer: the program exits with this status.
    pub(super) async fn finish(self, status: u32) {
        if let Err(error) = tokio::fs::write(&self.status_file, format!("{status}\n")).await {
            tracing::warn!(%error, "the exit status of a guest's program cannot be told");
        }
    }
}
