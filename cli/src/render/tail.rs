//! What has been told of a job so far, as much of it as fits: the newest lines, or those that were scrolled to. Pure.

use std::collections::VecDeque;

use gantry_proto::Level;

use super::{lines::Line, paint::Paint, terminal::Key, text, units};

/// Lines that are kept; older ones are in the log (`ctl watch JOB --from-seq`).
const KEPT: usize = 5_000;

/// The lines.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<Line>,
    /// How many lines from the newest one upwards; 0: the newest ones are followed.
    back: usize,
    /// Lines that were seen at once, last time.
    page: usize,
}

impl Tail {
    /// Another line; who has scrolled back stays where he is.
    pub(crate) fn push(&mut self, line: Line) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        if self.back > 0 {
            self.scroll(1);
        }
    }

    /// Lines that are worth another look when all is over.
    pub(crate) fn loud(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.level >= Level::Warning)
    }

    /// Moves as a key says.
    pub(crate) fn key(&mut self, key: Key) {
        let page = i64::try_from(self.page.saturating_sub(1).max(1)).unwrap_or(1);
        match key {
            Key::Lines(by) => self.scroll(i64::from(by)),
            Key::Pages(by) => self.scroll(i64::from(by) * page),
            Key::First => self.scroll(i64::MAX),
            Key::Last => self.back = 0,
            Key::Detach | Key::Other => {}
        }
    }

    fn scroll(&mut self, by: i64) {
        let most = self.lines.len().saturating_sub(self.page);
        let back = i64::try_from(self.back).unwrap_or(i64::MAX).saturating_add(by).max(0);
        self.back = usize::try_from(back).unwrap_or(usize::MAX).min(most);
    }

    /// So many rows, the newest at the end. A line that is too long is cut.
    pub(crate) fn rows(&mut self, height: usize, width: usize, paint: Paint) -> Vec<String> {
        self.page = height;
        self.scroll(0);
        let end = self.lines.len() - self.back;
        let shown = self.lines.range(end.saturating_sub(height)..end);
        let row = |line: &Line| {
            let words = format!("{} {}", units::clock(line.at), line.text);
            let words = text::cut(&words, width).into_owned();
            match line.level {
                Level::Error => paint.bad(&words),
                Level::Warning => paint.warn(&words),
                Level::Debug | Level::Info => words,
            }
        };
        shown.map(row).collect()
    }

    /// The last row: which keys there are, and where one is.
    pub(crate) fn foot(&self, width: usize, paint: Paint) -> String {
        let place = match self.back {
            0 => String::new(),
            back => say!("{back} newer lines below (End)   ", "下方还有 {back} 行较新内容（End）   "),
        };
        let keys = say!(
            "{place}q detach (the job goes on)   ↑ ↓ PgUp PgDn scroll",
            "{place}q 离开（作业继续）   ↑ ↓ PgUp PgDn 滚动"
        );
        paint.dim(&text::cut(&keys, width))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn tail(lines: usize) -> Tail {
        let mut tail = Tail::default();
        tail.rows(3, 40, Paint::new(false));
        (0..lines).for_each(|n| tail.push(line(&format!("line {n}"))));
        tail
    }

    fn line(text: &str) -> Line {
        Line { at: Timestamp::UNIX_EPOCH, level: Level::Info, text: text.to_owned() }
    }

    /// The numbers of the lines that are seen.
    fn seen(tail: &mut Tail) -> Vec<usize> {
        let rows = tail.rows(3, 40, Paint::new(false));
        rows.iter().map(|row| row.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn the_newest_lines_are_followed_until_one_scrolls() {
        let mut tail = tail(10);
        assert_eq!(seen(&mut tail), [7, 8, 9]);
        tail.key(Key::Lines(2));
        assert_eq!(seen(&mut tail), [5, 6, 7]);
        tail.push(line("line 10"));
        assert_eq!(seen(&mut tail), [5, 6, 7], "what is read stays where it is");
        tail.key(Key::Pages(1));
        assert_eq!(seen(&mut tail), [3, 4, 5]);
        tail.key(Key::First);
        assert_eq!(seen(&mut tail), [0, 1, 2]);
        tail.key(Key::Last);
        assert_eq!(seen(&mut tail), [8, 9, 10]);
    }

    #[test]
    fn there_is_no_scrolling_beyond_what_there_is() {
        let mut tail = tail(2);
        tail.key(Key::Pages(5));
        assert_eq!(seen(&mut tail), [0, 1]);
        tail.key(Key::Lines(-9));
        assert_eq!(seen(&mut tail), [0, 1]);
        let mut full = self::tail(KEPT + 7);
        full.key(Key::First);
        assert_eq!(seen(&mut full), [7, 8, 9], "older ones are gone");
        assert!(full.foot(80, Paint::new(false)).starts_with("4997 newer lines below"));
    }
}
