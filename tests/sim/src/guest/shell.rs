//! Runs one command of an SSH channel as a real process in the guest's private tree.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};

use super::line::Line;
use super::machine::Machine;
use super::processes::{self, MARKER};
use super::ssh::{entry, strike};
use crate::fault::{Action, Answer, Call, Cut, Fired, When};
use crate::transcript::{Entry, REDACTED};

/// What every login shell prints on standard error (`cloudtower.md` 1.3).
pub const NOISE: &str = "/etc/profile.d/system-info.sh: line 7: bc: command not found\n";
/// Gives a command a terminal; from the `bsdutils` that every Debian has.
const SCRIPT: &str = "/usr/bin/script";

/// A command to run.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) text: String,
    pub(super) account: String,
    pub(super) terminal: Option<Terminal>,
}

/// A terminal that the client asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    pub(super) echo: bool,
    pub(super) post_processing: bool,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Exit(u32),
    Signal(i32),
    /// The client or the connection went away.
    Lost,
}

/// Whether commands can be given a terminal on this machine.
pub(super) fn has_terminals() -> bool {
    Path::new(SCRIPT).exists()
}

/// Runs a command and answers on its channel.
pub(super) async fn run(machine: Arc<Machine>, line: Line, handle: Handle, channel: Channel<Msg>, command: Command) {
    let mut call = Call::ssh(&command.text);
    call.address = Some(line.local.ip());
    let fired = machine.core.faults.strike(&call);
    let mut spoken = Spoken::new(&machine, &line, &command.text, &fired);
    let id = channel.id();
    let outcome = match before(&machine, &line, &fired).await {
        Some(answer) => {
            let text = answer_text(&answer);
            // A client that is gone is noticed below as well.
            let _ = channel.data_bytes(text.into_bytes()).await;
            Outcome::Exit(u32::from(answer.status))
        }
        None => execute(&machine, &line, channel, &command, cut_at(&fired)).await,
    };
    let outcome = after(&machine, &line, &fired, outcome).await;
    match outcome {
        Outcome::Exit(status) => {
            spoken.entry.status = Some(status);
            let _ = handle.exit_status_request(id, status).await;
        }
        Outcome::Signal(number) => {
            spoken.entry.notes.push(format!("ended by signal {number}"));
            let signal = if number == 9 { Sig::KILL } else { Sig::TERM };
            let _ = handle.exit_signal_request(id, signal, false, String::new(), String::new()).await;
        }
        Outcome::Lost => return,
    }
    // Closing fails only when the connection is gone, which needs no closing.
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

/// Faults that strike before the effect; an answer means that there is none.
async fn before(machine: &Machine, line: &Line, fired: &[Fired]) -> Option<Answer> {
    let mut answer = None;
    for fault in fired.iter().filter(|fault| fault.when == When::Before) {
        strike(machine, line, &fault.action).await;
        match &fault.action {
            Action::Answer(given) => answer = Some(given.clone()),
            Action::Close(_) | Action::Reset(_) | Action::Hang => std::future::pending().await,
            _ => {}
        }
    }
    answer
}

async fn after(machine: &Machine, line: &Line, fired: &[Fired], outcome: Outcome) -> Outcome {
    let mut outcome = outcome;
    for fault in fired.iter().filter(|fault| fault.when == When::After) {
        strike(machine, line, &fault.action).await;
        match &fault.action {
            Action::Answer(given) => outcome = Outcome::Exit(u32::from(given.status)),
            Action::Close(_) | Action::Reset(_) | Action::Hang => std::future::pending().await,
            _ => {}
        }
    }
    outcome
}

/// The byte of the output at which a fault cuts the connection, and whether with RST.
fn cut_at(fired: &[Fired]) -> Option<(u64, bool)> {
    fired.iter().find_map(|fault| match &fault.action {
        Action::Close(Cut { response_bytes, .. }) if fault.when == When::During => {
            Some((response_bytes.unwrap_or(0), false))
        }
        Action::Reset(Cut { response_bytes, .. }) if fault.when == When::During => {
            Some((response_bytes.unwrap_or(0), true))
        }
        _ => None,
    })
}

fn answer_text(answer: &Answer) -> String {
    match &answer.body {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn execute(
    machine: &Machine,
    line: &Line,
    channel: Channel<Msg>,
    command: &Command,
    cut: Option<(u64, bool)>,
) -> Outcome {
    let (mut input, output) = channel.split();
    if machine.core.modes().guest.noise {
        let noise = if command.terminal.is_some() {
            output.data(NOISE.as_bytes()).await
        } else {
            output.extended_data(1, NOISE.as_bytes()).await
        };
        if noise.is_err() {
            return Outcome::Lost;
        }
    }
    let mut child = match machine.start(|| spawn(machine, command)) {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(%error, "a command of a guest could not be started");
            return Outcome::Exit(126);
        }
    };
    let group = child.id();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let meter = Meter { line: line.clone(), cut, sent: AtomicU64::new(0) };
    let working = async {
        tokio::join!(copy(stdout, output.make_writer(), &meter), copy(stderr, output.make_writer_ext(Some(1)), &meter));
        wait(&mut child).await
    };
    tokio::select! {
        outcome = working => outcome,
        () = feed(&mut input, stdin, group) => {
            // What runs in the foreground dies with its channel; `nohup` and `setsid` are there to survive it.
            if let Some(group) = group {
                let hang_up = move || processes::signal("HUP", &[-i64::from(group)]);
                let _ = tokio::task::spawn_blocking(hang_up).await;
            }
            Outcome::Lost
        }
    }
}

async fn wait(child: &mut Child) -> Outcome {
    match child.wait().await {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Outcome::Exit(code.unsigned_abs()),
            (None, signal) => Outcome::Signal(signal.unwrap_or(15)),
        },
        Err(_) => Outcome::Exit(255),
    }
}

fn spawn(machine: &Machine, command: &Command) -> std::io::Result<Child> {
    let root = machine.root.path();
    let home = root.join("home").join(&command.account);
    let text = machine.root.rewritten(&command.text);
    let mut process = match command.terminal {
        None => {
            let mut process = tokio::process::Command::new("/bin/sh");
            process.arg("-c").arg(text);
            process
        }
        Some(terminal) => {
            let echo = if terminal.echo { "" } else { "stty -echo; " };
            let post = if terminal.post_processing { "" } else { "stty -opost; " };
            let mut process = tokio::process::Command::new(SCRIPT);
            process.args(["-q", "-e", "-f", "-c", &format!("{echo}{post}{text}"), "/dev/null"]);
            process
        }
    };
    process
        .env_clear()
        .env(MARKER, root)
        .env("PATH", format!("{}/bin:/usr/bin:/bin", root.display()))
        .env("HOME", &home)
        .env("USER", &command.account)
        .env("LOGNAME", &command.account)
        .env("SHELL", "/bin/sh")
        .env("LANG", "C.UTF-8")
        .env("TMPDIR", root.join("tmp"))
        .current_dir(&home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Passes the client's bytes and signals on; returns when the client is gone.
async fn feed(input: &mut ChannelReadHalf, mut stdin: Option<ChildStdin>, group: Option<u32>) {
    while let Some(message) = input.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let failed = match &mut stdin {
                    Some(open) => open.write_all(&data).await.is_err() || open.flush().await.is_err(),
                    None => false,
                };
                // A command that does not read its input is no reason to end it.
                if failed {
                    stdin = None;
                }
            }
            ChannelMsg::Eof => stdin = None,
            ChannelMsg::Signal { signal } => {
                let name = match signal {
                    Sig::KILL => "KILL",
                    Sig::INT => "INT",
                    Sig::HUP => "HUP",
                    _ => "TERM",
                };
                if let Some(group) = group {
                    let _ = tokio::task::spawn_blocking(move || processes::signal(name, &[-i64::from(group)])).await;
                }
            }
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

struct Meter {
    line: Line,
    cut: Option<(u64, bool)>,
    sent: AtomicU64,
}

impl Meter {
    /// How much of `bytes` may still be sent; less than all means that the connection is to be cut.
    fn allowed(&self, bytes: usize) -> usize {
        let before = self.sent.fetch_add(bytes as u64, Ordering::SeqCst);
        match self.cut {
            Some((at, _)) => usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX).min(bytes),
            None => bytes,
        }
    }

    async fn break_off(&self) {
        // What was allowed should arrive before the end.
        tokio::time::sleep(Duration::from_millis(20)).await;
        match self.cut {
            Some((_, true)) => self.line.reset(),
            _ => self.line.close(),
        }
        std::future::pending().await
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin, meter: &Meter) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let allowed = meter.allowed(read);
        // A client that does not take the output any more is noticed by the reader of its input.
        if to.write_all(&buffer[..allowed]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        if allowed < read {
            return meter.break_off().await;
        }
    }
}

/// The transcript entry of a command; recorded when dropped, so that a command whose client went away is recorded, too.
struct Spoken<'a> {
    machine: &'a Machine,
    started: Duration,
    entry: Entry,
}

impl<'a> Spoken<'a> {
    fn new(machine: &'a Machine, line: &Line, command: &str, fired: &[Fired]) -> Self {
        let mut entry = entry(machine, line, &redacted(machine, command));
        entry.faults = fired.iter().map(|fault| fault.id.clone()).collect();
        Spoken { machine, started: machine.core.clock.elapsed(), entry }
    }
}

impl Drop for Spoken<'_> {
    fn drop(&mut self) {
        let latency = self.machine.core.clock.elapsed().saturating_sub(self.started);
        self.entry.latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        if self.entry.status.is_none() && self.entry.notes.is_empty() {
            self.entry.notes.push("no answer".into());
        }
        self.machine.core.transcript.record(self.entry.clone());
    }
}

/// The command without the passwords that the simulator knows.
fn redacted(machine: &Machine, command: &str) -> String {
    machine.secrets().iter().fold(command.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
}
