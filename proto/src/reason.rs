//! What every stable code means: one page each, in Chinese and English, for `ctl explain` and whoever else shows codes.
//!
//! The pages are text files that are compiled in, by subject, so that they can be read and corrected as text, need no
//! network, and both languages of a code stand beside each other. They are read once, at the first question, into a sorted
//! map; what is not in order in them fails the tests, and is left out otherwise. `tests/e2e/tests/it/reasons.rs` finds the
//! codes in the sources and holds them against the pages, both ways. The form of a page:
//!
//! ```text
//! # vm_name_taken
//! see: surplus_vm
//! en: The title
//! cause: What it means, and the usual reasons
//! evidence: Which command, log, screen or cell shows it
//! remedy: The first thing to do
//! remedy: The next one
//! zh: The same again in Chinese, with its own cause, evidence and remedy
//! ```

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Serialize;

/// The files, by subject.
const FILES: [(&str, &str); 10] = [
    ("workbook.txt", include_str!("reason/workbook.txt")),
    ("values.txt", include_str!("reason/values.txt")),
    ("controller.txt", include_str!("reason/controller.txt")),
    ("cluster.txt", include_str!("reason/cluster.txt")),
    ("image.txt", include_str!("reason/image.txt")),
    ("vm.txt", include_str!("reason/vm.txt")),
    ("guest.txt", include_str!("reason/guest.txt")),
    ("tower.txt", include_str!("reason/tower.txt")),
    ("attach.txt", include_str!("reason/attach.txt")),
    ("config.txt", include_str!("reason/config.txt")),
];
/// Codes that are suggested for one that does not exist.
const NEAREST_MAX: usize = 5;
/// Letters of a code that are looked at; no code is longer.
const CODE_MAX: usize = 64;

static PAGES: LazyLock<BTreeMap<&'static str, Page>> = LazyLock::new(|| read(&FILES).0);

/// One code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The stable word.
    pub code: &'static str,
    /// Codes that are often asked for beside it.
    pub see: Vec<&'static str>,
    /// In English.
    pub en: Text,
    /// In Chinese.
    pub zh: Text,
}

/// What a page says in one language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Text {
    /// One line.
    pub title: &'static str,
    /// What it means, and the usual reasons.
    pub cause: &'static str,
    /// Where it can be seen.
    pub evidence: &'static str,
    /// What to do, one thing after the other.
    pub remedy: Vec<&'static str>,
}

/// The page of a code.
pub fn page(code: &str) -> Option<&'static Page> {
    PAGES.get(code)
}

/// All pages, by code.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    PAGES.values()
}

/// Codes that may have been meant, the likeliest first.
pub fn nearest(code: &str) -> Vec<&'static str> {
    let code: String = code.to_lowercase().replace(['-', ' '], "_").chars().take(CODE_MAX).collect();
    let limit = (code.len() / 3).max(2);
    let mut near: Vec<(usize, &'static str)> = PAGES
        .keys()
        .map(|known| {
            let parted = distance(&code, known);
            // A part of a code is as good as a slip of one letter.
            let part = code.len() > 2 && (known.contains(code.as_str()) || code.contains(known));
            (if part { parted.min(1) } else { parted }, *known)
        })
        .filter(|(parted, _)| *parted <= limit)
        .collect();
    near.sort_unstable();
    near.into_iter().take(NEAREST_MAX).map(|(_, known)| known).collect()
}

/// Letters that have to be added, left out or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (down, a) in one.bytes().enumerate() {
        let mut left = down + 1;
        let mut slant = std::mem::replace(&mut row[0], left);
        for (b, above) in other.bytes().zip(row.iter_mut().skip(1)) {
            left = (slant + usize::from(a != b)).min(left + 1).min(*above + 1);
            slant = std::mem::replace(above, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The language that the lines of a page are in.
#[derive(Clone, Copy, PartialEq)]
enum Language {
    None,
    En,
    Zh,
}

/// The pages of these files, and what is not in order in them.
fn read(files: &[(&'static str, &'static str)]) -> (BTreeMap<&'static str, Page>, Vec<String>) {
    let (mut pages, mut faults) = (BTreeMap::new(), Vec::new());
    for (file, text) in files {
        for block in blocks(text) {
            match one(block) {
                Ok(page) => {
                    if pages.insert(page.code, page).is_some() {
                        faults.push(format!("{file}: {block:.40}: there are two of this code"));
                    }
                }
                Err(why) => faults.push(format!("{file}: {block:.40}: {why}")),
            }
        }
    }
    (pages, faults)
}

/// The text from each `# ` at the beginning of a line to the next one.
fn blocks(text: &'static str) -> impl Iterator<Item = &'static str> {
    let text = text.trim_start().strip_prefix("# ").unwrap_or_default();
    text.split("\n# ").map(str::trim).filter(|block| !block.is_empty())
}

fn one(block: &'static str) -> Result<Page, String> {
    let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty());
    let code = lines.next().unwrap_or_default();
    let mut page = Page { code, ..Page::default() };
    let mut language = Language::None;
    for line in lines {
        let (key, value) = line.split_once(':').ok_or_else(|| format!("no key: {line}"))?;
        let value = value.trim();
        if value.is_empty() {
            return Err(format!("{key} is empty"));
        }
        match key {
            "en" => (page.en.title, language) = (value, Language::En),
            "zh" => (page.zh.title, language) = (value, Language::Zh),
            "see" => page.see = value.split_whitespace().collect(),
            _ => {
                let text = match language {
                    Language::En => &mut page.en,
                    Language::Zh => &mut page.zh,
                    Language::None => return Err(format!("{key} comes before its language")),
                };
                match key {
                    "cause" => text.cause = value,
                    "evidence" => text.evidence = value,
                    "remedy" => text.remedy.push(value),
                    other => return Err(format!("unknown key {other}")),
                }
            }
        }
    }
    let whole = |text: &Text| {
        !(text.title.is_empty() || text.cause.is_empty() || text.evidence.is_empty() || text.remedy.is_empty())
    };
    match (whole(&page.en), whole(&page.zh)) {
        (true, true) => Ok(page),
        (false, _) => Err("the English text has not all parts".to_owned()),
        (_, false) => Err("the Chinese text has not all parts".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# a_code\nsee: b\nen: T\ncause: C: c\nevidence: E\nremedy: R\nremedy: S\nzh: 题\ncause: 因\nevidence: 据\nremedy: 做\n";

    #[test]
    fn every_page_is_in_order() {
        let (pages, faults) = read(&FILES);
        assert_eq!(faults, Vec::<String>::new());
        assert!(pages.len() > 200, "only {} pages", pages.len());
        for page in pages.values() {
            let word = page.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            assert!(word && page.code.len() <= CODE_MAX, "{} is no code", page.code);
            for other in &page.see {
                assert!(pages.contains_key(other) && *other != page.code, "{} points to {other}", page.code);
            }
            let han = |text: &str| text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
            let (en, zh) = (&page.en, &page.zh);
            assert!(han(zh.title) && han(zh.cause) && han(zh.evidence), "{} is not in Chinese", page.code);
            // A step may be a command alone.
            assert!(zh.remedy.iter().all(|text| han(text) || text.starts_with('`')), "{} is not in Chinese", page.code);
            // English texts name cells and sheets, which are Chinese, but do not consist of them.
            assert!(!han(en.title) && en.cause.contains(' '), "{} is not in English", page.code);
            assert_eq!(en.remedy.len(), zh.remedy.len(), "{}: the steps differ in number", page.code);
            for text in [en.title, zh.title] {
                assert!(text.chars().count() <= 90, "{}: the title is too long", page.code);
            }
        }
    }

    #[test]
    fn a_page_is_read() {
        let (pages, faults) = read(&[("f", GOOD)]);
        assert!(faults.is_empty(), "{faults:?}");
        let page = &pages["a_code"];
        assert_eq!((page.see.as_slice(), page.en.cause, page.en.remedy.len()), (&["b"][..], "C: c", 2));
        assert_eq!((page.zh.title, page.zh.remedy.as_slice()), ("题", &["做"][..]));
    }

    #[test]
    fn what_is_not_in_order_is_told() {
        for bad in [
            "# a\nen: T\ncause: C\nevidence: E\nremedy: R\n",
            "# a\ncause: C\n",
            "# a\nen: T\nwhy: C\n",
            "# a\nen:\n",
            "# a\nno key\n",
        ] {
            let (pages, faults) = read(&[("f", bad)]);
            assert_eq!((pages.len(), faults.len()), (0, 1), "{bad}");
        }
        assert_eq!(read(&[("f", GOOD), ("g", GOOD)]).1.len(), 1, "two of one code");
        assert!(read(&[("f", ""), ("g", "# "), ("h", "no page at all")]).0.is_empty());
    }

    #[test]
    fn a_slip_or_a_part_finds_the_code() {
        assert_eq!(nearest("vm_name_takn")[0], "vm_name_taken");
        assert_eq!(nearest("VM-Name-Taken")[0], "vm_name_taken");
        assert!(nearest("certificate_changed").contains(&"tower_certificate_changed"));
        assert!(nearest("").is_empty() && nearest(&"x".repeat(100_000)).is_empty());
        assert!(nearest("证书").is_empty());
    }

    #[test]
    fn the_distance_is_that_of_letters() {
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("abc", "abc")), (3, 3, 0));
        assert_eq!((distance("abc", "abd"), distance("abc", "ac"), distance("kitten", "sitting")), (1, 1, 3));
    }
}
