//! The live picture of a job on a terminal. Where keys come from a terminal, too, it has the whole screen, with what was
//! told so far below it; else it is drawn below warnings that scroll away.

use std::time::Duration;

use gantry_proto::Level;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    frame::Scene,
    lines::Teller,
    live::Live,
    paint::Paint,
    tail::Tail,
    terminal::{Key, Terminal},
};
use crate::follow::{Heard, Known};

/// Rows that what was told has at least, of a screen that is high enough.
const TAIL_LEAST: usize = 6;

/// The screen while a job is followed.
pub(crate) struct Screen {
    place: Place,
    teller: Teller,
    paint: Paint,
    again: Option<Instant>,
}

enum Place {
    Whole(Terminal, Tail),
    Below(Live),
}

impl Screen {
    /// Nothing is drawn before something is heard.
    pub(crate) fn new(paint: Paint) -> Self {
        let place = match Terminal::take() {
            Some(terminal) => Place::Whole(terminal, Tail::default()),
            None => Place::Below(Live::new(paint)),
        };
        Self { place, teller: Teller::default(), paint, again: None }
    }

    /// Takes what was heard to the screen; `told` is false for history that was not asked for.
    pub(crate) fn heard(&mut self, heard: &Heard, known: &Known, told: bool) {
        match heard {
            Heard::Broken { pause, .. } => self.again = Some(Instant::now() + *pause),
            Heard::Back(_) => self.again = None,
            _ => {}
        }
        let line = self.teller.tell(heard, known, Timestamp::now());
        match (&mut self.place, line) {
            (Place::Whole(_, tail), Some(line)) => tail.push(line),
            (Place::Below(live), Some(line))
                if told && (line.level >= Level::Warning || matches!(heard, Heard::Back(_))) =>
            {
                live.above(&line);
            }
            _ => {}
        }
        self.draw(known);
    }

    /// The next key; never comes where keys are not the screen's.
    pub(crate) async fn key(&mut self) -> Key {
        match &mut self.place {
            Place::Whole(terminal, _) => terminal.key().await,
            Place::Below(_) => std::future::pending().await,
        }
    }

    /// Moves as a key says.
    pub(crate) fn pressed(&mut self, key: Key, known: &Known) {
        if let Place::Whole(_, tail) = &mut self.place {
            tail.key(key);
        }
        self.draw(known);
    }

    /// Time has passed.
    pub(crate) fn draw(&mut self, known: &Known) {
        let broken = self.again.map(|at| at.saturating_duration_since(Instant::now()));
        let paint = self.paint;
        match &mut self.place {
            Place::Below(live) => live.draw(&frame(known, broken, Live::size(), paint)),
            Place::Whole(terminal, tail) => {
                let rows = whole(known, broken, Live::size(), paint, tail);
                // A terminal that has gone is noticed by who reads from it.
                let _ = terminal.draw(&rows);
            }
        }
    }

    /// The last picture stays, below what was loud.
    pub(crate) fn end(&mut self, known: &Known) {
        if let Place::Whole(_, tail) = &mut self.place {
            let (tail, live) = (std::mem::take(tail), Live::new(self.paint));
            // With this the terminal is given back.
            self.place = Place::Below(live);
            if let Place::Below(live) = &self.place {
                tail.loud().for_each(|line| live.above(line));
            }
        }
        if let Place::Below(live) = &self.place {
            live.end(&frame(known, None, Live::size(), self.paint));
        }
    }
}

fn frame(known: &Known, broken: Option<Duration>, size: (usize, usize), paint: Paint) -> Vec<String> {
    Scene { known, broken, now: Timestamp::now(), size, paint }.lines()
}

/// The picture, a rule, what was told, and the keys: exactly as many rows as the terminal has.
fn whole(
    known: &Known,
    broken: Option<Duration>,
    (width, height): (usize, usize),
    paint: Paint,
    tail: &mut Tail,
) -> Vec<String> {
    // The last column stays free: some terminals begin a new row there.
    let width = width.saturating_sub(1).max(1);
    let around = if height >= TAIL_LEAST * 2 { TAIL_LEAST + 2 } else { 0 };
    let mut rows = frame(known, broken, (width, height.saturating_sub(around)), paint);
    if around > 0 {
        rows.truncate(height - around);
        rows.push(paint.dim(&"─".repeat(width)));
        let room = height - rows.len() - 1;
        let told = tail.rows(room, width, paint);
        let empty = room - told.len();
        rows.extend(told);
        rows.extend(std::iter::repeat_n(String::new(), empty));
        rows.push(tail.foot(width, paint));
    }
    rows.truncate(height);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::lines::Line;

    #[test]
    fn a_screen_of_any_size_is_filled_and_no_more() {
        let mut tail = Tail::default();
        for n in 0..100 {
            tail.push(Line { at: Timestamp::UNIX_EPOCH, level: Level::Info, text: format!("told {n}") });
        }
        for size in [(80, 24), (200, 60), (40, 13), (20, 5), (1, 1), (80, 12)] {
            let rows = whole(&Known::default(), None, size, Paint::new(false), &mut tail);
            assert!(rows.len() <= size.1, "{size:?}: {}", rows.len());
            let shown = rows.iter().any(|row| row.contains("told 99"));
            assert_eq!(shown, size.1 >= 12 && size.0 > 20, "{size:?}: {rows:#?}");
        }
    }
}
