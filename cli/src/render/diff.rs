//! What a deployment would do, step by step, and how much of it in all.

use std::fmt::Write as _;

use gantry_proto::{
    Problem,
    v1::{DiffKind, DiffLine, SiteDiff},
};
use serde_json::{Value, json};

use super::{paint::Paint, reason, text, words};

/// What was looked at, and what was found.
pub(crate) struct Seen<'a> {
    pub(crate) file: &'a str,
    pub(crate) site: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) problems: &'a [Problem],
    pub(crate) diff: &'a SiteDiff,
}

/// Every kind with its word for programs.
const KINDS: [(DiffKind, &str); 6] = [
    (DiffKind::Create, "create"),
    (DiffKind::Change, "change"),
    (DiffKind::Keep, "keep"),
    (DiffKind::Refuse, "refuse"),
    (DiffKind::Unknown, "unknown"),
    (DiffKind::Notice, "notice"),
];
/// Columns of the longest word and a space.
const WORD: usize = 9;
/// Before each line.
const INDENT: &str = "  ";

/// For people: the lines under their steps, then the sums.
pub(crate) fn text(seen: &Seen<'_>, paint: Paint, columns: usize) -> String {
    let (file, site, agent) = (text::clean(seen.file), text::clean(seen.site), text::clean(seen.agent));
    let mut out = say!(
        "{file} at site {site}, as agent {agent} sees it; nothing was changed\n",
        "{file}，站点 {site}，由代理 {agent} 查看；未作任何更改\n"
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
    let counts = KINDS.iter().map(|(kind, word)| ((*word).to_owned(), json!(count(seen.diff, *kind))));
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
    let word = text::column(shown(line.kind()), WORD);
    let painted = match line.kind() {
        DiffKind::Create => paint.good(&word),
        DiffKind::Change | DiffKind::Unknown => paint.warn(&word),
        DiffKind::Refuse => paint.bad(&word),
        DiffKind::Keep | DiffKind::Notice | DiffKind::Unspecified => paint.dim(&word),
    };
    let mut told = line.message.clone();
    if !line.subject.is_empty() && !line.message.contains(&line.subject) {
        told = format!("{}{}{told}", line.subject, word!(": ", "："));
    }
    if !line.call.is_empty() {
        told = format!("{told} [{}]", line.call);
    }
    let page = reason::translated(&line.code);
    if let Some(page) = page {
        told = format!("{}（{told}）", page.title);
    }
    let room = columns.saturating_sub(INDENT.len() + WORD).max(WORD);
    let mut before = painted;
    for part in text::wrap(&text::clean(&told), room) {
        let _ = writeln!(out, "{INDENT}{before}{part}");
        before = " ".repeat(WORD);
    }
    let remedies = page.map_or_else(|| vec![line.remedy.as_str()], |page| page.remedy.clone());
    for remedy in remedies.into_iter().filter(|remedy| !remedy.is_empty()) {
        for part in text::wrap(&text::clean(&say!("to do: {remedy}", "处理建议：{remedy}")), room) {
            let _ = writeln!(out, "{INDENT}{before}{part}");
        }
    }
}

/// Kinds that nobody counts on are left out where there are none.
fn sums(diff: &SiteDiff) -> String {
    let usual = [DiffKind::Create, DiffKind::Keep, DiffKind::Refuse];
    let told = |(kind, _): &(DiffKind, &str)| {
        let count = count(diff, *kind);
        (count > 0 || usual.contains(kind)).then(|| summed(*kind, count))
    };
    let mut sums: Vec<String> = KINDS.iter().filter_map(told).collect();
    if diff.left_out > 0 {
        sums.push(say!("{n} more that did not fit", "另有 {n} 项未列出"; n = diff.left_out));
    }
    sums.join(word!(", ", "，"))
}

fn count(diff: &SiteDiff, kind: DiffKind) -> usize {
    diff.lines.iter().filter(|line| line.kind() == kind).count()
}

/// A kind of a newer controller has no word here.
fn word(kind: DiffKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("other", |(_, word)| word)
}

/// The same, for people.
fn shown(kind: DiffKind) -> &'static str {
    match kind {
        DiffKind::Create => word!("create", "创建"),
        DiffKind::Change => word!("change", "修改"),
        DiffKind::Keep => word!("keep", "保持"),
        DiffKind::Refuse => word!("refuse", "拒绝"),
        DiffKind::Unknown => word!("unknown", "未知"),
        DiffKind::Notice => word!("notice", "提示"),
        DiffKind::Unspecified => word!("other", "其他"),
    }
}

fn summed(kind: DiffKind, n: usize) -> String {
    match kind {
        DiffKind::Create => say!("{n} to create", "创建 {n} 项"),
        DiffKind::Change => say!("{n} to change", "修改 {n} 项"),
        DiffKind::Keep => say!("{n} to keep", "保持 {n} 项"),
        DiffKind::Refuse => say!("{n} refused", "拒绝 {n} 项"),
        DiffKind::Unknown => say!("{n} not known", "未知 {n} 项"),
        DiffKind::Notice => say!("{n} to note", "提示 {n} 项"),
        DiffKind::Unspecified => say!("{n} other", "其他 {n} 项"),
    }
}

fn title<'a>(diff: &'a SiteDiff, step: &'a str) -> &'a str {
    diff.steps
        .iter()
        .find(|row| row.id == step)
        .map_or_else(|| words::step_of_id(step), |row| words::titled(step, &row.title))
}
