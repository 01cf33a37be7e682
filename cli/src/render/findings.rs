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
            let name = problem.sheet.as_deref();
            let name = name.unwrap_or(if problem.rule == "SET" { "--set" } else { word!("the file", "文件") });
            let _ = writeln!(out, "\n{}", paint.head(&text::clean(name)));
        }
        finding(&mut out, problem, paint, columns);
    }
    // The code is the last word of a finding's first line.
    if let Some(first) = problems.iter().find(|problem| problem.severity == Severity::Error)
        && let Some(command) = reason::command(&first.code)
    {
        let _ = writeln!(out, "\n{}", say!("more: {command}, and so for each code", "更多：{command}，其他代码同理"));
    }
    out
}

fn head(file: &str, verdict: Verdict, problems: &[Problem], paint: Paint) -> String {
    let says = match verdict {
        Verdict::Ok => paint.good(word!("can be deployed", "可以部署")),
        Verdict::Invalid => paint.bad(word!("cannot be deployed", "暂不能部署")),
        Verdict::Unreadable => paint.bad(word!("cannot be read as a planning workbook", "无法读取为规划表")),
    };
    let counts = [Severity::Error, Severity::Warning, Severity::Notice]
        .map(|severity| (severity, problems.iter().filter(|p| p.severity == severity).count()));
    let counted = |(severity, n): (Severity, usize)| {
        let (noun, s) = (word(severity), words::s(n));
        say!("{n} {noun}{s}", "{n} 个{noun}")
    };
    let counts: Vec<_> = counts.into_iter().filter(|(_, n)| *n > 0).map(counted).collect();
    let counts = counts.join(word!(", ", "，"));
    let counts = if counts.is_empty() { counts } else { say!(" ({counts})", "（{counts}）") };
    format!("{} {says}{counts}\n", text::clean(file))
}

fn finding(out: &mut String, problem: &Problem, paint: Paint, columns: usize) {
    let word = text::fill(word(problem.severity), 9);
    let painted = match problem.severity {
        Severity::Error => paint.bad(&word),
        Severity::Warning => paint.warn(&word),
        Severity::Notice => paint.dim(&word),
    };
    let mut line = format!("  {painted}");
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
        let name = if name.is_empty() { String::new() } else { format!("{name}{}", word!(": ", "：")) };
        let room = columns.saturating_sub(11).max(20);
        for line in text::wrap(&text::clean(&format!("{name}{value}")), room) {
            let _ = writeln!(out, "           {line}");
        }
    };
    let page = reason::translated(&problem.code);
    if let Some(page) = page {
        more("", page.title);
        more(word!("because", "起因"), page.cause);
    }
    more(if page.is_some() { word!("what was said", "原文") } else { "" }, &problem.message);
    if !problem.related.is_empty() {
        more(word!("see also", "参见"), &problem.related.join(", "));
    }
    if let Some(page) = page {
        page.remedy.iter().for_each(|step| more(word!("to do", "处理建议"), step));
    } else if !problem.remedy.is_empty() {
        more(word!("to do", "处理建议"), &problem.remedy);
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => word!("error", "错误"),
        Severity::Warning => word!("warning", "警告"),
        Severity::Notice => word!("notice", "提示"),
    }
}
