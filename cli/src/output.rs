//! Where text goes: results to stdout, everything else to stderr. The only place that writes to either.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use serde::Serialize;

use crate::{
    args::{Format, Global},
    exit::{Exit, Failure},
    render::paint::Paint,
};

/// Columns of what is no terminal.
const UNBROKEN: usize = 10_000;

/// Stdout, stderr and what they can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// The form that was asked for.
    pub(crate) format: Format,
    /// Colour of results.
    pub(crate) paint: Paint,
    /// Colour of everything else.
    pub(crate) paint_err: Paint,
    /// Whether stderr is a terminal on which lines can be drawn again.
    pub(crate) screen: bool,
    /// Whether results are seen on a terminal.
    pub(crate) stdout_is_terminal: bool,
}

impl Output {
    /// Looks at the terminal, `--no-color`, `NO_COLOR` and `TERM`.
    pub(crate) fn new(global: &Global) -> Self {
        let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let plain = global.no_color || dumb || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            // A page is for people, too.
            format: global.output.format().unwrap_or(Format::Table),
            paint: Paint::new(out && !plain),
            paint_err: Paint::new(err && !plain),
            screen: err && !dumb,
            stdout_is_terminal: out,
        }
    }

    /// Columns of the terminal on stdout. Where there is none, lines are not broken: other tools read them.
    pub(crate) fn columns(self) -> usize {
        match console::Term::stdout().size_checked() {
            Some((_, columns)) if columns > 0 => usize::from(columns),
            _ => UNBROKEN,
        }
    }

    /// A result in text; a line end is added when it is missing.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    /// A result as one JSON document: indented, or on one line with ndjson.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.text(&self.document(value)?)
    }

    /// The text of such a document.
    pub(crate) fn document(self, value: &impl Serialize) -> Result<String, Failure> {
        let text = match self.format {
            Format::Ndjson => serde_json::to_string(value),
            Format::Table | Format::Json => serde_json::to_string_pretty(value),
        };
        text.map_err(|error| {
            Failure::new(Exit::Internal, said!("cannot write the result as JSON", "无法将结果写成 JSON"))
                .because(error.to_string())
        })
    }

    /// Something beside the result, on stderr. Nobody to read it is no reason to stop.
    pub(crate) fn note(self, text: &str) {
        note(text);
    }
}

/// The same, before it is known what stderr can take.
pub(crate) fn note(text: &str) {
    let mut err = io::stderr().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(end.as_bytes()));
}
