//! The live picture of a job on a terminal: its frames, and warnings that scroll away above them.

use std::time::Duration;

use gantry_proto::Level;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{frame::Scene, lines::Teller, live::Live, paint::Paint};
use crate::follow::{Heard, Known};

/// The screen while a job is followed.
pub(crate) struct Screen {
    live: Live,
    teller: Teller,
    paint: Paint,
    again: Option<Instant>,
}

impl Screen {
    /// Nothing is drawn before something is heard.
    pub(crate) fn new(paint: Paint) -> Self {
        Self { live: Live::new(paint), teller: Teller::default(), paint, again: None }
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
            self.live.above(&line);
        }
        self.draw(known);
    }

    /// Time has passed.
    pub(crate) fn draw(&self, known: &Known) {
        let broken = self.again.map(|at| at.saturating_duration_since(Instant::now()));
        self.live.draw(&self.frame(known, broken));
    }

    /// The last frame stays.
    pub(crate) fn end(&self, known: &Known) {
        self.live.end(&self.frame(known, None));
    }

    fn frame(&self, known: &Known, broken: Option<Duration>) -> Vec<String> {
        Scene { known, broken, now: Timestamp::now(), size: Live::size(), paint: self.paint }.lines()
    }
}
