//! What a deployment would do, step by step, and how much of it in all.

use std::fmt::Write as _;

use gantry_proto::{
    Problem,
    v1::{DiffKind, DiffLine, SiteDiff},
};
use serde_json::{Value, json};

use super::{paint::Paint, text};

/// What was looked at, and what was found.
pub(crate) struct Seen<'a> {
    pub(crate) file: &'a str,
    pub(crate) site: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) problems: &'a [Problem],
    pub(crate) diff: &'a SiteDiff,
}

/// Every kind with its word for programs and the one of the sum.
const KINDS: [(DiffKind, &str, &str); 6] = [
    (DiffKind::Create, "create", "to create"),
    (DiffKind::Change, "change", "to change"),
    (DiffKind::Keep, "keep", "to keep"),
    (DiffKind::Refuse, "refuse", "refused"),
    (DiffKind::Unknown, "unknown", "not known"),
    (DiffKind::Notice, "notice", "to note"),
];
/// Columns of the longest word and a space.
const WORD: usize = 9;
/// Before each line.
const INDENT: &str = "  ";

/// For people: the lines under their steps, then the sums.
pub(crate) fn text(seen: &Seen<'_>, paint: Paint, columns: usize) -> String {
    let mut out = format!(
        "{} at site {}, as agent {} sees it; nothing was changed\n",
        text::clean(seen.file),
        text::clean(seen.site),
        text::clean(seen.agent)
    );
    let mut step = None;
    for line in &seen.diff.lines {
        if step != Some(&line.step) {
            step = Some(&line.step);
            let _ = writeln!(out, "\n{}", paint.head(&text::clean(title(seen.diff, &line.step))));
        }
        one(&mut out, line, paint, columns);
    }
    let _ = writeln!(out, "\n{}", sums(seen.diff));
    out
}

/// For programs.
pub(crate) fn document(seen: &Seen<'_>) -> Value {
    let steps = seen.diff.steps.iter().map(|step| json!({ "id": step.id, "title": step.title }));
    let counts = KINDS.iter().map(|(kind, word, _)| ((*word).to_owned(), json!(count(seen.diff, *kind))));
    json!({
        "site": seen.site,
        "agent": seen.agent,
        "problems": seen.problems,
        "steps": steps.collect::<Vec<_>>(),
        "lines": seen.diff.lines.iter().map(line).collect::<Vec<_>>(),
        "left_out": seen.diff.left_out,
        "counts": counts.collect::<serde_json::Map<_, _>>(),
    })
}

/// One line for programs.
pub(crate) fn line(line: &DiffLine) -> Value {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "step": line.step,
        "kind": word(line.kind()),
        "call": given(&line.call),
        "subject": given(&line.subject),
        "message": line.message,
        "remedy": given(&line.remedy),
        "code": given(&line.code),
    })
}

fn one(out: &mut String, line: &DiffLine, paint: Paint, columns: usize) {
    let word = text::column(word(line.kind()), WORD);
    let painted = match line.kind() {
        DiffKind::Create => paint.good(&word),
        DiffKind::Change | DiffKind::Unknown => paint.warn(&word),
        DiffKind::Refuse => paint.bad(&word),
        DiffKind::Keep | DiffKind::Notice | DiffKind::Unspecified => paint.dim(&word),
    };
    let mut told = line.message.clone();
    if !line.subject.is_empty() && !line.message.contains(&line.subject) {
        told = format!("{}: {told}", line.subject);
    }
    if !line.call.is_empty() {
        told = format!("{told} [{}]", line.call);
    }
    let room = columns.saturating_sub(INDENT.len() + WORD).max(WORD);
    let mut before = painted;
    for part in text::wrap(&text::clean(&told), room) {
        let _ = writeln!(out, "{INDENT}{before}{part}");
        before = " ".repeat(WORD);
    }
    if !line.remedy.is_empty() {
        for part in text::wrap(&text::clean(&format!("to do: {}", line.remedy)), room) {
            let _ = writeln!(out, "{INDENT}{before}{part}");
        }
    }
}

/// Kinds that nobody counts on are left out where there are none.
fn sums(diff: &SiteDiff) -> String {
    let usual = [DiffKind::Create, DiffKind::Keep, DiffKind::Refuse];
    let told = |(kind, _, words): &(DiffKind, &str, &str)| {
        let count = count(diff, *kind);
        (count > 0 || usual.contains(kind)).then(|| format!("{count} {words}"))
    };
    let mut sums: Vec<String> = KINDS.iter().filter_map(told).collect();
    if diff.left_out > 0 {
        sums.push(format!("{} more that did not fit", diff.left_out));
    }
    sums.join(", ")
}

fn count(diff: &SiteDiff, kind: DiffKind) -> usize {
    diff.lines.iter().filter(|line| line.kind() == kind).count()
}

/// A kind of a newer controller has no word here.
fn word(kind: DiffKind) -> &'static str {
    KINDS.iter().find(|(known, ..)| *known == kind).map_or("other", |(_, word, _)| word)
}

fn title<'a>(diff: &'a SiteDiff, step: &'a str) -> &'a str {
    diff.steps.iter().find(|row| row.id == step).map_or(step, |row| &row.title)
}
