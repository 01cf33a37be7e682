//! What a code means, for people and as JSON.

use gantry_proto::{
    Failure,
    reason::{self, Page, Text},
};
use serde_json::{Value, json};

use super::{paint::Paint, table, text};
use crate::{args::Lang, language};

/// Columns of the names at the left, with the blanks around.
const LEFT: usize = 13;

/// The words around the texts of a page.
struct Words {
    code: &'static str,
    title: &'static str,
    cause: &'static str,
    evidence: &'static str,
    remedy: &'static str,
    see: &'static str,
}

const ENGLISH: Words =
    Words { code: "CODE", title: "MEANING", cause: "cause", evidence: "where", remedy: "to do", see: "see also" };
const CHINESE: Words =
    Words {
        code: "代码", title: "含义", cause: "原因", evidence: "查看位置", remedy: "处理", see: "参见"
    };

fn words(lang: Lang) -> &'static Words {
    match lang {
        Lang::Zh => &CHINESE,
        Lang::En => &ENGLISH,
    }
}

/// What the page of a code says; [`None`] when nobody here knows it.
pub(crate) fn of(code: &str, lang: Lang) -> Option<&'static Text> {
    reason::page(code).map(|page| in_language(page, lang))
}

/// What to do about a code, in Chinese: the English is part of what agents and controllers say.
pub(crate) fn steps(code: &str) -> &'static [&'static str] {
    of(code, Lang::Zh).map(|page| page.remedy.as_slice()).unwrap_or_default()
}

/// What is told to people under a code, in the language of the process: in front of what was said in English.
pub(crate) fn translated(code: &str) -> Option<&'static Text> {
    of(code, language::now()).filter(|_| language::now() != Lang::En)
}

/// Why something failed, in one line: in Chinese with the title of its code in front.
pub(crate) fn sentence(failure: &Failure) -> String {
    told(&failure.code, &failure.message)
}

/// What was said under a code, in one line: in Chinese with the title of the code in front.
pub(crate) fn told(code: &str, message: &str) -> String {
    match translated(code) {
        Some(page) => format!("{}（{message}）", page.title),
        None => message.to_owned(),
    }
}

/// What failed and why, as rows: in Chinese what the code's page says, then what was said in English.
pub(crate) fn rows(failure: &Failure, with_code: bool, row: &mut impl FnMut(&str, &str)) {
    let page = translated(&failure.code);
    if let Some(page) = page {
        row(word!("what", "原因"), page.title);
        row(word!("because", "起因"), page.cause);
    }
    let mut quoted = |name: &str, text: &str| match page {
        // One name for all that is quoted.
        Some(_) => row(if name.is_empty() { "" } else { "原文" }, text),
        None => row(name, text),
    };
    quoted(word!("what", "原因"), &failure.message);
    for cause in failure.causes.iter().filter(|cause| **cause != failure.message) {
        quoted(if page.is_some() { "" } else { word!("because", "起因") }, cause);
    }
    if page.is_some() && !failure.remedy.is_empty() {
        quoted("", &failure.remedy);
    }
    if with_code && !failure.code.is_empty() {
        row(word!("code", "错误码"), &failure.code);
    }
    match page {
        Some(page) => page.remedy.iter().zip(1..).for_each(|(step, number)| {
            row(if number == 1 { word!("to do", "处理建议") } else { "" }, &format!("{number}. {step}"));
        }),
        None if !failure.remedy.is_empty() => row(word!("to do", "处理建议"), &failure.remedy),
        None => {}
    }
}

fn in_language(page: &Page, lang: Lang) -> &Text {
    match lang {
        Lang::Zh => &page.zh,
        Lang::En => &page.en,
    }
}

/// The whole page.
pub(crate) fn page(page: &Page, lang: Lang, paint: Paint, columns: usize) -> String {
    let (words, told) = (words(lang), in_language(page, lang));
    let mut out = format!("{}  {}\n\n", paint.head(page.code), told.title);
    put(&mut out, words.cause, "", told.cause, columns);
    put(&mut out, words.evidence, "", told.evidence, columns);
    for (index, step) in told.remedy.iter().enumerate() {
        let name = if index == 0 { words.remedy } else { "" };
        put(&mut out, name, &format!("{}. ", index + 1), step, columns);
    }
    if !page.see.is_empty() {
        put(&mut out, words.see, "", &page.see.join(", "), columns);
    }
    out
}

/// All codes with their titles.
pub(crate) fn list(lang: Lang, columns: usize) -> String {
    let rows = reason::pages().map(|page| vec![page.code.to_owned(), in_language(page, lang).title.to_owned()]);
    table::table(&[words(lang).code, words(lang).title], rows, columns)
}

/// One code of the list.
pub(crate) fn row(page: &Page, lang: Lang) -> Value {
    json!({ "code": page.code, "title": in_language(page, lang).title })
}

/// A page as a document.
pub(crate) fn document(page: &Page, lang: Lang) -> Value {
    let told = in_language(page, lang);
    json!({
        "code": page.code,
        "title": told.title,
        "cause": told.cause,
        "evidence": told.evidence,
        "remedy": told.remedy,
        "see": page.see,
    })
}

/// The command that explains a code; [`None`] when nobody here knows it, as with one of a newer agent.
pub(crate) fn command(code: &str) -> Option<String> {
    reason::page(code).map(|page| format!("ctl explain {}", page.code))
}

/// A name and its text beside it, behind a mark that stands out. Chinese letters take two columns.
fn put(out: &mut String, name: &str, mark: &str, value: &str, columns: usize) {
    let room = columns.saturating_sub(LEFT + mark.len()).max(20);
    for (index, line) in text::wrap(value, room).iter().enumerate() {
        let (name, mark) = if index == 0 { (name, mark.to_owned()) } else { ("", " ".repeat(mark.len())) };
        let left = text::column(&format!("  {name}"), LEFT);
        out.push_str(format!("{left}{mark}{line}").trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_fits_a_terminal_in_both_languages() {
        for page in reason::pages() {
            for lang in [Lang::Zh, Lang::En] {
                let shown = super::page(page, lang, Paint::PLAIN, 80);
                let mut lines = shown.lines();
                assert!(lines.next().is_some_and(|head| head.starts_with(page.code)), "{shown}");
                assert!(lines.all(|line| text::width(line) <= 80), "{shown}");
                assert!(shown.contains("1. ") && !shown.contains('\t'), "{shown}");
            }
        }
        assert_eq!(command("vm_gone").as_deref(), Some("ctl explain vm_gone"));
        assert_eq!(command("from_a_newer_agent"), None);
    }
}
