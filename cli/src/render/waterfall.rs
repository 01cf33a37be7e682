//! The trace of a job as a waterfall: a line for each span, indented below its parent, with a bar where its time lies.

use std::collections::BTreeMap;

use super::{
    paint::Paint,
    text::{clean, column, cut, width},
    units,
};
use crate::trace::{Span, Tree};

/// Columns where there is no terminal.
const COLUMNS: usize = 140;
/// The narrowest name, and the narrowest bar.
const NAME_LEAST: usize = 24;
const BAR_LEAST: usize = 4;
/// Start and duration.
const TIMES: usize = 11 + 11;
/// So many calls of the same name below one span are told on one line.
const MANY: usize = 4;
/// Deeper ones stand as deep as this.
const DEPTH_MAX: usize = 24;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Every span has a line.
    pub(crate) all: bool,
    /// Only what failed, and what is above it.
    pub(crate) failed: bool,
}

/// The waterfall of one trace.
pub(crate) fn draw(tree: &Tree, view: View, paint: Paint, columns: usize) -> String {
    let columns = if columns > 1000 { COLUMNS } else { columns };
    let begin = tree.spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = tree.spans.iter().map(|span| span.end).max().unwrap_or(0).max(begin + 1);
    let name = (columns / 2).clamp(NAME_LEAST, 64);
    let bar = columns.saturating_sub(name + TIMES + 2).max(BAR_LEAST);
    let wanted = if view.failed { ways_to_failures(tree) } else { vec![true; tree.spans.len()] };
    let sheet = Sheet { tree, view, paint, columns, begin, end, name, bar, wanted };
    let failed = tree.spans.iter().filter(|span| span.failed).count();
    let (count, took) = (tree.spans.len(), units::duration((end - begin) as f64 / 1e9));
    let mut out = paint.head(&say!("trace {id}", "追踪 {id}"; id = tree.trace_id));
    out.push_str(&say!("  {took}, {count} spans", "  {took}，{count} 个 span"));
    if failed > 0 {
        out.push_str(&paint.bad(&say!(", {failed} failed", "，{failed} 个失败")));
    }
    out.push('\n');
    let (begins, takes) = (word!("begins", "开始"), word!("takes", "用时"));
    out.push_str(&paint.dim(&format!("{}{}{}", column("", name), right(begins), right(takes))));
    out.push('\n');
    // A span above that is not told yet: the process has ended, or the job goes on.
    let mut stack: Vec<(Line, usize)> = sheet.lines(&tree.roots).into_iter().rev().map(|line| (line, 0)).collect();
    while let Some((line, depth)) = stack.pop() {
        sheet.line(&mut out, &line, depth);
        if let Line::One(number) = line {
            let below = sheet.lines(&tree.children[number]);
            stack.extend(below.into_iter().rev().map(|line| (line, depth + 1)));
        }
    }
    out
}

/// One line of the waterfall.
enum Line {
    One(usize),
    /// Several of one name.
    Many(Vec<usize>),
}

struct Sheet<'a> {
    tree: &'a Tree,
    view: View,
    paint: Paint,
    columns: usize,
    begin: u64,
    end: u64,
    name: usize,
    bar: usize,
    wanted: Vec<bool>,
}

impl Sheet<'_> {
    /// The lines of siblings. Calls that went well and have nothing below them are told together where they are many.
    fn lines(&self, siblings: &[usize]) -> Vec<Line> {
        let siblings: Vec<usize> = siblings.iter().copied().filter(|number| self.wanted[*number]).collect();
        if self.view.all {
            return siblings.into_iter().map(Line::One).collect();
        }
        let mut alike: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for number in &siblings {
            if self.is_plain(*number) {
                alike.entry(self.tree.spans[*number].name.as_str()).or_default().push(*number);
            }
        }
        alike.retain(|_, numbers| numbers.len() >= MANY);
        let mut lines = Vec::new();
        for number in siblings {
            let name = self.tree.spans[number].name.as_str();
            match alike.get(name) {
                Some(numbers) if !self.is_plain(number) || numbers.is_empty() => lines.push(Line::One(number)),
                Some(numbers) if numbers[0] == number => lines.push(Line::Many(numbers.clone())),
                Some(_) => {}
                None => lines.push(Line::One(number)),
            }
        }
        lines
    }

    fn is_plain(&self, number: usize) -> bool {
        let span = &self.tree.spans[number];
        !span.failed && span.events.is_empty() && self.tree.children[number].is_empty()
    }

    fn line(&self, out: &mut String, line: &Line, depth: usize) {
        let indent = "  ".repeat(depth.min(DEPTH_MAX));
        let (span, name, from, to, takes) = match line {
            Line::One(number) => {
                let span = &self.tree.spans[*number];
                (span, clean(&span.name).into_owned(), span.start, span.end, span.seconds())
            }
            Line::Many(numbers) => {
                let spans = || numbers.iter().map(|number| &self.tree.spans[*number]);
                let first = &self.tree.spans[numbers[0]];
                let (from, to) = (first.start, spans().map(|span| span.end).max().unwrap_or(first.end));
                let name = format!("{} x{}", clean(&first.name), numbers.len());
                (first, name, from, to, spans().map(Span::seconds).sum())
            }
        };
        let name = column(&format!("{indent}{name}"), self.name);
        let name = if span.failed { self.paint.bad(&name) } else { name };
        let begins = units::duration(from.saturating_sub(self.begin) as f64 / 1e9);
        let bar = self.bar(from, to, matches!(line, Line::Many(_)));
        let bar = if span.failed { self.paint.bad(&bar) } else { self.paint.busy(&bar) };
        out.push_str(format!("{name}{begins:>11}{:>11}  {bar}", took(takes)).trim_end());
        out.push('\n');
        if let Line::One(number) = line {
            self.events(out, &self.tree.spans[*number], depth + 1);
        }
    }

    fn events(&self, out: &mut String, span: &Span, depth: usize) {
        let indent = "  ".repeat(depth.min(DEPTH_MAX));
        let mut tell = |at: u64, text: &str| {
            let at = units::duration(at.saturating_sub(self.begin) as f64 / 1e9);
            let room = self.columns.saturating_sub(width(&indent) + 4 + at.len());
            out.push_str(&format!("{indent}{} {at} {}\n", self.paint.warn("!"), cut(&clean(text), room)));
        };
        for event in &span.events {
            let code = event.attributes.get("error.type").or_else(|| event.attributes.get("note"));
            let code = code.map(|code| format!(" [{code}]")).unwrap_or_default();
            tell(event.at, &format!("{}{code}", event.name));
        }
        if span.failed && span.events.is_empty() {
            let why = span.attributes.get("error").map(String::as_str).unwrap_or_default();
            let code = span.code().map(|code| format!("[{code}]")).unwrap_or_default();
            if !why.is_empty() || !code.is_empty() {
                tell(span.end, format!("{why} {code}").trim());
            }
        }
    }

    fn bar(&self, from: u64, to: u64, many: bool) -> String {
        let total = (self.end - self.begin) as f64;
        let place =
            |at: u64| (at.saturating_sub(self.begin) as f64 / total * self.bar as f64).clamp(0.0, self.bar as f64);
        let first = (place(from) as usize).min(self.bar - 1);
        let last = (place(to).round() as usize).clamp(first + 1, self.bar);
        let (thin, fill) = (place(to) - place(from) < 0.5, if many { "░" } else { "█" });
        format!("{}{}", " ".repeat(first), if thin { "▏".to_owned() } else { fill.repeat(last - first) })
    }
}

/// At the right of a column of times; a Chinese character takes two.
fn right(text: &str) -> String {
    format!("{}{text}", " ".repeat((TIMES / 2).saturating_sub(width(text))))
}

/// Calls are short.
fn took(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{:.0} ms", seconds * 1000.0) } else { units::duration(seconds) }
}

/// Which spans failed, or have one below them that did.
fn ways_to_failures(tree: &Tree) -> Vec<bool> {
    let mut wanted = vec![false; tree.spans.len()];
    let mut parents = vec![None; tree.spans.len()];
    for (parent, children) in tree.children.iter().enumerate() {
        children.iter().for_each(|child| parents[*child] = Some(parent));
    }
    for (number, span) in tree.spans.iter().enumerate() {
        let mut at = Some(number).filter(|_| span.failed || !span.events.is_empty());
        while let Some(here) = at.filter(|here| !wanted[*here]) {
            wanted[here] = true;
            at = parents[here];
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Moment, tests::made, trees};

    fn job() -> Tree {
        let mut spans = vec![
            made("1", "", "/gantry.v1.JobService/SubmitJob", 0, 50),
            made("2", "1", "job", 100, 60_100),
            made("3", "2", "step upload-iso", 100, 30_100),
            made("9", "2", "step install", 30_100, 60_100),
        ];
        spans.extend((0..6).map(|n| made(&format!("c{n}"), "3", "POST chunk", 200 + n * 100, 290 + n * 100)));
        let mut bad = made("b", "3", "POST chunk", 900, 990);
        bad.failed = true;
        bad.attributes.insert("error.type".into(), "broken".into());
        spans.push(bad);
        let attributes = [("error.type".to_owned(), "installer_failed".to_owned())].into();
        spans[3].events.push(Moment { at: 50_000_000_000, name: "attempt failed: exit 3".into(), attributes });
        spans[3].failed = true;
        trees(spans).remove(0)
    }

    #[test]
    fn the_tree_is_drawn_with_times_and_bars_and_many_calls_take_one_line() {
        let text = draw(&job(), View { all: false, failed: false }, Paint::PLAIN, 100);
        let expected = "\
trace 0af7  1m 00s, 11 spans, 2 failed
                                                       begins      takes
/gantry.v1.JobService/SubmitJob                         0.0 s      50 ms  ▏
  job                                                   0.1 s     1m 00s  ██████████████████████████
    step upload-iso                                     0.1 s       30 s  █████████████
      POST chunk x6                                     0.2 s     540 ms  ▏
      POST chunk                                        0.9 s      90 ms  ▏
        ! 1.0 s [broken]
    step install                                         30 s       30 s               █████████████
      ! 50 s attempt failed: exit 3 [installer_failed]
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn only_what_failed_and_what_is_above_it() {
        let text = draw(&job(), View { all: false, failed: true }, Paint::PLAIN, 100);
        let names: Vec<&str> = text.lines().skip(2).map(|line| line.trim_start().split("  ").next().unwrap()).collect();
        let expected = [
            "/gantry.v1.JobService/SubmitJob",
            "job",
            "step upload-iso",
            "POST chunk",
            "! 1.0 s [broken]",
            "step install",
            "! 50 s attempt failed: exit 3 [installer_failed]",
        ];
        assert_eq!(names, expected, "\n{text}");
    }

    #[test]
    fn every_line_keeps_to_the_terminal() {
        for columns in [60, 80, 120, 10_000] {
            let text = draw(&job(), View { all: true, failed: false }, Paint::PLAIN, columns);
            let most = if columns > 1000 { COLUMNS } else { columns };
            assert!(text.lines().all(|line| width(line) <= most), "{columns}\n{text}");
            assert_eq!(text.matches("POST chunk").count(), 7);
        }
    }

    #[test]
    fn a_deep_tree_and_an_empty_one_are_drawn() {
        let deep: Vec<Span> =
            (0..50_000_u64).map(|n| made(&n.to_string(), &n.wrapping_sub(1).to_string(), "x", n, n + 1)).collect();
        let tree = trees(deep).remove(0);
        assert_eq!(draw(&tree, View { all: true, failed: false }, Paint::PLAIN, 80).lines().count(), 50_002);
        let empty = Tree { trace_id: "0".into(), spans: Vec::new(), roots: Vec::new(), children: Vec::new() };
        assert_eq!(draw(&empty, View { all: true, failed: true }, Paint::PLAIN, 80).lines().count(), 2);
    }
}
