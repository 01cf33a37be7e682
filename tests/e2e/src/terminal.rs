//! A program on a real pseudo-terminal, and what its user sees: an emulator reads what the program writes, keys are
//! pressed, the window gets another size. Knows nothing of the program.

use std::{
    collections::HashMap,
    num::NonZeroU16,
    os::fd::{AsFd as _, OwnedFd},
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{LocalModes, tcgetattr},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

/// How long a picture may take to come, and a program to end.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a program that has ended may have left something to read.
const LEFT: Duration = Duration::from_secs(5);
/// The end of a picture that is drawn at once (synchronized output).
const PICTURE_END: &[u8] = b"\x1b[?2026l";
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: OwnedWritePty,
    /// The same terminal once more, to be asked how it is set.
    side: OwnedFd,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<u64>,
    _reading: JoinSet<()>,
}

/// What is on the screen, and what was.
struct Seen {
    emulator: vt100::Parser,
    /// Each row that was ever there, and when it was there first.
    rows: HashMap<String, Timestamp>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.emulator.screen().contents())
    }
}

impl Terminal {
    /// Starts a program on a terminal of so many columns and rows.
    pub fn start(mut command: Command, (columns, rows): (u16, u16)) -> anyhow::Result<Self> {
        // What is seen is the same wherever this runs.
        command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env_remove("CI").kill_on_drop(true);
        let (terminal, inside) = pty_process::open()?;
        terminal.resize(Size::new(rows, columns))?;
        let child = pty_process::Command::from(command).spawn(inside)?;
        let side = terminal.as_fd().try_clone_to_owned()?;
        let (from, keys) = terminal.into_split();
        let emulator = vt100::Parser::new(size(rows)?, size(columns)?, 0);
        let seen = Arc::new(Mutex::new(Seen { emulator, rows: HashMap::new() }));
        let (change, changed) = watch::channel(0);
        let mut reading = JoinSet::new();
        reading.spawn(read(from, seen.clone(), change));
        Ok(Self { child, keys, side, seen, changed, _reading: reading })
    }

    /// Waits until the screen is as wanted.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) -> anyhow::Result<()> {
        let seen = self.seen.clone();
        let there = async {
            loop {
                if holds(lock(&seen).emulator.screen()) {
                    return Ok(());
                }
                // Whoever reads has ended: nothing more will come.
                self.changed.changed().await?;
            }
        };
        let there: Result<Result<(), watch::error::RecvError>, _> = timeout(LIMIT, there).await;
        match there {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if holds(lock(&self.seen).emulator.screen()) => Ok(()),
            Ok(Err(_)) => bail!("the program has ended, and this never came: {what}\n{}", self.text()),
            Err(_) => bail!("this did not come: {what}\n{}", self.text()),
        }
    }

    /// Waits until the screen has this text somewhere.
    pub async fn until_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.until(text, |screen| screen.contents().contains(text)).await
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        lock(&self.seen).emulator.screen().contents()
    }

    /// The same, row by row.
    pub fn rows(&self) -> Vec<String> {
        let seen = lock(&self.seen);
        let screen = seen.emulator.screen();
        screen.rows(0, screen.size().1.get()).collect()
    }

    /// Something about the screen.
    pub fn screen<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(lock(&self.seen).emulator.screen())
    }

    /// Each row that was ever on the screen, and when it was there first.
    pub fn seen_rows(&self) -> HashMap<String, Timestamp> {
        lock(&self.seen).rows.clone()
    }

    /// Presses keys, as the terminal sends them.
    pub async fn press(&mut self, keys: &[u8]) -> anyhow::Result<()> {
        self.keys.write_all(keys).await.context("pressing a key")
    }

    /// Gives the window another size; the program hears of it.
    pub fn resize(&mut self, columns: u16, rows: u16) -> anyhow::Result<()> {
        lock(&self.seen).emulator.set_size(size(rows)?, size(columns)?);
        Ok(self.keys.resize(Size::new(rows, columns))?)
    }

    /// Whether the terminal is set as a shell wants it: lines are edited, and typed characters shown.
    pub fn is_cooked(&self) -> anyhow::Result<bool> {
        let modes = tcgetattr(&self.side).context("asking how the terminal is set")?.local_modes;
        Ok(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Sends the program SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("the program has ended")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits until the program has ended and everything that it has written is on the screen.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let Ok(status) = timeout(LIMIT, self.child.wait()).await else {
            bail!("the program does not end\n{}", self.text());
        };
        let rest = async { while self.changed.changed().await.is_ok() {} };
        timeout(LEFT, rest).await.context("the terminal is still open")?;
        Ok(status?)
    }
}

async fn read(mut from: OwnedReadPty, seen: Arc<Mutex<Seen>>, change: watch::Sender<u64>) {
    let (mut piece, mut waiting) = (vec![0; PIECE], Vec::new());
    loop {
        match from.read(&mut piece).await {
            // The other side is closed.
            Ok(0) | Err(_) => return,
            Ok(n) => waiting.extend_from_slice(&piece[..n]),
        }
        let mut seen = lock(&seen);
        // Picture by picture: one that was there only for a moment counts, too.
        while let Some(at) = waiting.windows(PICTURE_END.len()).position(|window| window == PICTURE_END) {
            let picture: Vec<u8> = waiting.drain(..at + PICTURE_END.len()).collect();
            seen.take(&picture);
        }
        // A mark that is cut in two is completed by the next piece.
        let kept = (1..PICTURE_END.len()).rev().find(|n| waiting.ends_with(&PICTURE_END[..*n])).unwrap_or(0);
        let rest: Vec<u8> = waiting.drain(..waiting.len() - kept).collect();
        seen.emulator.process(&rest);
        drop(seen);
        change.send_modify(|revision| *revision += 1);
    }
}

impl Seen {
    /// A picture is whole now.
    fn take(&mut self, picture: &[u8]) {
        self.emulator.process(picture);
        let (screen, now) = (self.emulator.screen(), Timestamp::now());
        for row in screen.rows(0, screen.size().1.get()) {
            self.rows.entry(row).or_insert(now);
        }
    }
}

fn size(count: u16) -> anyhow::Result<NonZeroU16> {
    NonZeroU16::new(count).context("a terminal has at least one row and column")
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
