//! What is wrong with a workbook, grouped by sheet: severity, cell, label, value, message, remedy.

use std::fmt::Write as _;

use gantry_proto::{Problem, Severity, Verdict};

use super::{paint::Paint, reason, text, words};

/// All findings, with a verdict at the top.
pub(crate) fn text(file: &str, verdict: Verdict, problems: &[Problem], paint: Paint, columns: usize) -> String {
    let mut out = head(file, verdict, problems, paint);
    let mut sheet = None;
    for problem in problems {
        if sheet != Some(&problem.sheet) {
            sheet = Some(&problem.sheet);
            let name = problem.sheet.as_deref().unwrap_or(if problem.rule == "SET" { "--set" } else { "the file" });
            let _ = writeln!(out, "\n{}", paint.head(&text::clean(name)));
        }
        finding(&mut out, problem, paint, columns);
    }
    // The code is the last word of a finding's first line.
    if let Some(first) = problems.iter().find(|problem| problem.severity == Severity::Error)
        && let Some(command) = reason::command(&first.code)
    {
        let _ = writeln!(out, "\nmore: {command}, and so for each code");
    }
    out
}

fn head(file: &str, verdict: Verdict, problems: &[Problem], paint: Paint) -> String {
    let says = match verdict {
        Verdict::Ok => paint.good("can be deployed"),
        Verdict::Invalid => paint.bad("cannot be deployed"),
        Verdict::Unreadable => paint.bad("cannot be read as a planning workbook"),
    };
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Notice, "notice")];
    let counts = counts.map(|(severity, noun)| (problems.iter().filter(|p| p.severity == severity).count(), noun));
    let counts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, noun)| words::count(*n, noun)).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
    format!("{} {says}{counts}\n", text::clean(file))
}

fn finding(out: &mut String, problem: &Problem, paint: Paint, columns: usize) {
    let (word, painted) = match problem.severity {
        Severity::Error => ("error", paint.bad("error")),
        Severity::Warning => ("warning", paint.warn("warning")),
        Severity::Notice => ("notice", paint.dim("notice")),
    };
    let mut line = format!("  {painted}{}", " ".repeat(9 - word.len()));
    if let Some(cell) = &problem.cell {
        let _ = write!(line, "{}  ", paint.head(&text::column(&text::clean(cell), 4)));
    }
    if !problem.label.is_empty() {
        let _ = write!(line, "{}  ", text::clean(&problem.label));
    }
    if let Some(value) = &problem.value {
        let _ = write!(line, "\"{}\"  ", text::clean(value));
    }
    let code = paint.dim(&format!("{} {}", problem.rule, problem.code));
    let _ = writeln!(out, "{line}{code}");
    let mut more = |name: &str, value: &str| {
        let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
        let room = columns.saturating_sub(11).max(20);
        for line in text::wrap(&text::clean(&format!("{name}{value}")), room) {
            let _ = writeln!(out, "           {line}");
        }
    };
    more("", &problem.message);
    if !problem.related.is_empty() {
        more("see also", &problem.related.join(", "));
    }
    if !problem.remedy.is_empty() {
        more("to do", &problem.remedy);
    }
}
