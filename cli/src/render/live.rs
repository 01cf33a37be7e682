//! The place on a terminal that is drawn again and again, and the lines that scroll away above it.

use console::Term;
use gantry_proto::Level;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{lines::Line, paint::Paint, text, units};

/// Columns and rows of a terminal that does not tell.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// The place.
pub(crate) struct Live {
    /// One "bar" whose message is the whole frame: so a frame is drawn at once or not at all.
    bar: ProgressBar,
    paint: Paint,
}

impl Live {
    /// Nothing is drawn yet.
    pub(crate) fn new(paint: Paint) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar, paint }
    }

    /// Columns and rows.
    pub(crate) fn size() -> (usize, usize) {
        Term::stderr().size_checked().map_or(USUAL_SIZE, |(rows, columns)| (usize::from(columns), usize::from(rows)))
    }

    /// In place of what was drawn before.
    pub(crate) fn draw(&self, frame: &[String]) {
        self.bar.set_message(frame.join("\n"));
    }

    /// The last frame stays.
    pub(crate) fn end(&self, frame: &[String]) {
        self.bar.abandon_with_message(frame.join("\n"));
    }

    /// Nothing of it stays.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// A line above, as loud as it is.
    pub(crate) fn above(&self, line: &Line) {
        let columns = Self::size().0;
        let words = format!("{} {}", units::clock(line.at), line.text);
        let rows = text::wrap(&words, columns.saturating_sub(4));
        let rows = rows.iter().enumerate().map(|(i, row)| if i == 0 { row.clone() } else { format!("    {row}") });
        let rows = rows.collect::<Vec<_>>().join("\n");
        self.bar.println(match line.level {
            Level::Error => self.paint.bad(&rows),
            Level::Warning => self.paint.warn(&rows),
            Level::Debug | Level::Info => rows,
        });
    }
}
