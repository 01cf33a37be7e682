//! How a campaign is shown while it runs: a live picture, lines of text, or lines of JSON.

use std::collections::BTreeSet;

use gantry_proto::Level;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    args::Format,
    exit::Failure,
    follow::Heard,
    output::Output,
    render::{campaign::Scene, lines::Line, live::Live, text, units},
};

/// In a pipe the whole is told so often, seconds.
const WHOLE_EVERY: f64 = 30.0;

/// One of the three.
pub(crate) struct Show {
    out: Output,
    live: Option<Live>,
    /// When the whole was told last.
    told: Timestamp,
    /// Sites whose line to the controller is broken: it is one line, and told once.
    broken: BTreeSet<usize>,
    paused: bool,
}

impl Show {
    /// Chosen by the form of output and the terminal.
    pub(crate) fn new(out: Output) -> Self {
        let live = (out.screen && out.format != Format::Ndjson).then(|| Live::new(out.paint_err));
        Self { out, live, told: Timestamp::now(), broken: BTreeSet::new(), paused: false }
    }

    /// Something that happened.
    pub(crate) fn line(&self, level: Level, text: &str) {
        let line = Line { at: Timestamp::now(), level, text: text::clean(text).into_owned() };
        match &self.live {
            Some(live) => live.above(&line),
            None => self.out.note(&line.stamped()),
        }
    }

    /// A site stands otherwise than before.
    pub(crate) fn site(&self, scene: &Scene<'_>, index: usize) -> Result<(), Failure> {
        if self.out.format != Format::Ndjson {
            return Ok(());
        }
        let mut line = json!({ "event": "site" });
        if let (Value::Object(line), Value::Object(site)) = (&mut line, scene.site(index)) {
            line.extend(site);
        }
        self.out.json(&line)
    }

    /// What a site's job tells may be about the line that all of them share.
    pub(crate) fn heard(&mut self, index: usize, heard: &Heard) {
        let was = self.broken.is_empty();
        match heard {
            Heard::Broken { why, .. } => {
                self.broken.insert(index);
                if was {
                    let text = say!(
                        "the line to the controller broke ({why}); the jobs go on, trying again",
                        "与控制器的连接中断（{why}）；作业仍在继续，正在重试"
                    );
                    self.line(Level::Warning, &text);
                }
            }
            _ => self.well(index),
        }
    }

    /// The line of this site works.
    pub(crate) fn well(&mut self, index: usize) {
        if self.broken.remove(&index) && self.broken.is_empty() {
            self.line(Level::Info, word!("the line to the controller is back", "与控制器的连接已恢复"));
        }
    }

    /// Whether the line is broken.
    pub(crate) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Somebody has paused the campaign, or lets it go on.
    pub(crate) fn pause(&mut self, since: Option<&str>) {
        if self.paused == since.is_some() {
            return;
        }
        self.paused = since.is_some();
        match since {
            Some(_) => self.line(
                Level::Warning,
                word!(
                    "the campaign is paused: no further job begins, what runs goes on",
                    "批量部署已暂停：不再开始新作业，进行中的继续"
                ),
            ),
            None => self.line(Level::Info, word!("the campaign goes on", "批量部署已恢复")),
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, scene: &Scene<'_>) {
        match &self.live {
            Some(live) => live.draw(&scene.frame(Live::size(), self.out.paint_err)),
            None if units::between(self.told, scene.now) >= WHOLE_EVERY => {
                self.told = scene.now;
                self.line(Level::Info, &scene.line());
            }
            None => {}
        }
    }

    /// Nothing more happens: the table that follows tells more than the picture.
    pub(crate) fn end(&self) {
        if let Some(live) = &self.live {
            live.clear();
        }
    }
}
