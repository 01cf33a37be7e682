//! The whole terminal, for as long as a job is followed: a screen of its own, and keys one by one. It is given back
//! however that ends.

use std::io::{self, IsTerminal as _, Write as _};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
        disable_raw_mode, enable_raw_mode,
    },
};
use tokio_stream::StreamExt as _;

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Leave; the job goes on.
    Detach,
    /// Through what was told, by lines: up is positive.
    Lines(i32),
    /// The same by pages.
    Pages(i32),
    /// To what was told first.
    First,
    /// To what was told last, and on with it.
    Last,
    /// The terminal has another size, or a key means nothing.
    Other,
}

/// The terminal.
pub(crate) struct Terminal {
    keys: EventStream,
}

impl Terminal {
    /// Takes it over; `None` where keys do not come from a terminal, or it cannot be had.
    pub(crate) fn take() -> Option<Self> {
        if !io::stdin().is_terminal() || enable_raw_mode().is_err() {
            return None;
        }
        // From here on it is given back by the drop.
        let taken = Self { keys: EventStream::new() };
        execute!(io::stderr(), EnterAlternateScreen, Hide).ok()?;
        Some(taken)
    }

    /// Draws the whole screen at once.
    pub(crate) fn draw(&self, rows: &[String]) -> io::Result<()> {
        let mut out = io::stderr().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        for (number, row) in (0u16..).zip(rows) {
            queue!(out, MoveTo(0, number), Print(row), Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.flush()
    }

    /// The next key. May be dropped while it waits: nothing is lost. Never comes once there are no more keys.
    pub(crate) async fn key(&mut self) -> Key {
        match self.keys.next().await {
            Some(Ok(event)) => meaning(&event),
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whatever cannot be given back is lost with the terminal.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

fn meaning(event: &Event) -> Key {
    let Event::Key(key) = event else { return Key::Other };
    if key.kind == KeyEventKind::Release {
        return Key::Other;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // The terminal no longer makes a signal of Ctrl-C.
        KeyCode::Char('c' | 'd') if control => Key::Detach,
        KeyCode::Char('q') => Key::Detach,
        KeyCode::Up | KeyCode::Char('k') => Key::Lines(1),
        KeyCode::Down | KeyCode::Char('j') => Key::Lines(-1),
        KeyCode::PageUp | KeyCode::Char('b') => Key::Pages(1),
        KeyCode::PageDown | KeyCode::Char(' ') => Key::Pages(-1),
        KeyCode::Home | KeyCode::Char('g') => Key::First,
        KeyCode::End | KeyCode::Char('G') => Key::Last,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_mean_what_they_mean_elsewhere() {
        let key = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| key(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Char('q')), Key::Detach);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Key::Detach);
        assert_eq!(plain(KeyCode::Char('c')), Key::Other);
        assert_eq!((plain(KeyCode::Up), plain(KeyCode::PageDown)), (Key::Lines(1), Key::Pages(-1)));
        assert_eq!((plain(KeyCode::Home), plain(KeyCode::End)), (Key::First, Key::Last));
        assert_eq!(meaning(&Event::Resize(80, 24)), Key::Other);
    }
}
