//! How a job is shown while it runs: a live screen, lines of text, or lines of JSON.

use jiff::Timestamp;

use crate::{
    args::Format,
    exit::Failure,
    follow::{Heard, Known},
    output::Output,
    render::{
        json,
        lines::{Line, Teller},
        screen::Screen,
        terminal::Key,
    },
};

/// One of the three.
pub(crate) struct Show {
    out: Output,
    from: u64,
    how: How,
}

enum How {
    Screen(Screen),
    Lines(Teller),
    Ndjson(Teller),
}

impl Show {
    /// Chosen by the form of output and the terminal; events before number `from` are not told.
    pub(crate) fn new(out: Output, from: u64) -> Self {
        let how = match out.format {
            Format::Ndjson => How::Ndjson(Teller::default()),
            Format::Table | Format::Json if out.screen => How::Screen(Screen::new(out.paint_err)),
            Format::Table | Format::Json => How::Lines(Teller::default()),
        };
        Self { out, from, how }
    }

    /// Something was heard; `known` has taken it in.
    pub(crate) fn heard(&mut self, heard: &Heard, known: &Known) -> Result<(), Failure> {
        let told = !matches!(heard, Heard::Event(event) if event.seq < self.from);
        match &mut self.how {
            How::Screen(screen) => screen.heard(heard, known, told),
            How::Lines(teller) => {
                let line = teller.tell(heard, known, Timestamp::now()).filter(|_| told);
                line.iter().map(Line::stamped).for_each(|line| self.out.note(&line));
            }
            How::Ndjson(teller) => match heard {
                Heard::Event(event) => self.out.json(&json::event_line(event))?,
                Heard::Sample(sample) => self.out.json(&json::sample_line(sample))?,
                Heard::Job(job) => self.out.json(&json::job_line(job))?,
                Heard::Broken { .. } | Heard::Back(_) => {
                    let line = teller.tell(heard, known, Timestamp::now());
                    line.iter().map(Line::stamped).for_each(|line| self.out.note(&line));
                }
                Heard::End => {}
            },
        }
        Ok(())
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, known: &Known) {
        if let How::Screen(screen) = &mut self.how {
            screen.draw(known);
        }
    }

    /// The next key that is pressed; never comes where nothing listens to keys.
    pub(crate) async fn key(&mut self) -> Key {
        match &mut self.how {
            How::Screen(screen) => screen.key().await,
            How::Lines(_) | How::Ndjson(_) => std::future::pending().await,
        }
    }

    /// Does what a key says.
    pub(crate) fn pressed(&mut self, key: Key, known: &Known) {
        if let How::Screen(screen) = &mut self.how {
            screen.pressed(key, known);
        }
    }

    /// Nothing more will be heard.
    pub(crate) fn end(&mut self, known: &Known) {
        if let How::Screen(screen) = &mut self.how {
            screen.end(known);
        }
    }
}
