//! The live picture on a terminal: draws frames in place and lets warnings scroll away above them.

use std::time::Duration;

use console::Term;
use gantry_proto::Level;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    frame::Scene,
    lines::{Line, Teller},
    paint::Paint,
    text, units,
};
use crate::follow::{Heard, Known};

/// The screen while a job is followed.
pub(crate) struct Screen {
    /// One "bar" whose message is the whole frame: so a frame is drawn at once or not at all.
    bar: ProgressBar,
    teller: Teller,
    paint: Paint,
    again: Option<Instant>,
}

impl Screen {
    /// Nothing is drawn before something is heard.
    pub(crate) fn new(paint: Paint) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar, teller: Teller::default(), paint, again: None }
    }

    /// Takes what was heard to the screen; `told` is false for history that was not asked for.
    pub(crate) fn heard(&mut self, heard: &Heard, known: &Known, told: bool) {
        match heard {
            Heard::Broken { pause, .. } => self.again = Some(Instant::now() + *pause),
            Heard::Back(_) => self.again = None,
            _ => {}
        }
        let line = self.teller.tell(heard, known, Timestamp::now());
        if let Some(line) =
            line.filter(|line| told && (line.level >= Level::Warning || matches!(heard, Heard::Back(_))))
        {
            self.bar.println(self.above(&line));
        }
        self.draw(known);
    }

    /// Time has passed.
    pub(crate) fn draw(&self, known: &Known) {
        let broken = self.again.map(|at| at.saturating_duration_since(Instant::now()));
        self.bar.set_message(self.frame(known, broken));
    }

    /// The last frame stays.
    pub(crate) fn end(&self, known: &Known) {
        self.bar.abandon_with_message(self.frame(known, None));
    }

    fn frame(&self, known: &Known, broken: Option<Duration>) -> String {
        let (rows, columns) = Term::stderr().size_checked().unwrap_or((24, 80));
        let size = (usize::from(columns), usize::from(rows));
        Scene { known, broken, now: Timestamp::now(), size, paint: self.paint }.lines().join("\n")
    }

    fn above(&self, line: &Line) -> String {
        let columns = usize::from(Term::stderr().size_checked().unwrap_or((24, 80)).1);
        let words = format!("{} {}", units::clock(line.at), line.text);
        let rows = text::wrap(&words, columns.saturating_sub(4));
        let rows = rows.iter().enumerate().map(|(i, row)| if i == 0 { row.clone() } else { format!("    {row}") });
        let rows = rows.collect::<Vec<_>>().join("\n");
        match line.level {
            Level::Error => self.paint.bad(&rows),
            Level::Warning => self.paint.warn(&rows),
            Level::Debug | Level::Info => rows,
        }
    }
}
