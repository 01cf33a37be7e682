//! What a code means, for people and as JSON.

use gantry_proto::reason::{self, Page, Text};
use serde_json::{Value, json};

use super::{paint::Paint, table, text};
use crate::args::Lang;

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

fn of(page: &Page, lang: Lang) -> &Text {
    match lang {
        Lang::Zh => &page.zh,
        Lang::En => &page.en,
    }
}

/// The whole page.
pub(crate) fn page(page: &Page, lang: Lang, paint: Paint, columns: usize) -> String {
    let (words, told) = (words(lang), of(page, lang));
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
    let rows = reason::pages().map(|page| vec![page.code.to_owned(), of(page, lang).title.to_owned()]);
    table::table(&[words(lang).code, words(lang).title], rows, columns)
}

/// One code of the list.
pub(crate) fn row(page: &Page, lang: Lang) -> Value {
    json!({ "code": page.code, "title": of(page, lang).title })
}

/// A page as a document.
pub(crate) fn document(page: &Page, lang: Lang) -> Value {
    let told = of(page, lang);
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
