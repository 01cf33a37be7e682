//! The language in which `ctl` talks to people: what was asked for, else what the environment says. JSON, codes, logs
//! and files are the same in both.
//!
//! A text stands where it is told, in both languages side by side: `word!` for one that never changes, `say!` for one
//! with values in it, `said!` for one that is told to people and to programs. None of them compiles without Chinese.

use std::{
    cell::Cell,
    env,
    ffi::{OsStr, OsString},
    fmt,
    sync::OnceLock,
};

use crate::args::Lang;

/// Looked at in this order; the first that is set and not empty counts, as everywhere on the system.
const VARIABLES: [&str; 4] = ["GANTRY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"];

/// Of the process, as the locale is in C: every text asks for it, and a parameter would stand in each signature.
static CHOSEN: OnceLock<Lang> = OnceLock::new();

thread_local! {
    static WITHIN: Cell<Option<Lang>> = const { Cell::new(None) };
}

/// A text that never changes, in both languages.
macro_rules! word {
    ($en:literal, $zh:literal $(,)?) => {
        match $crate::language::now() {
            $crate::args::Lang::En => $en,
            $crate::args::Lang::Zh => $zh,
        }
    };
}

/// A text with values in it, in both languages: `say!("job {id} has ended", "作业 {id} 已结束")`. Values that are no
/// names of variables follow a semicolon, with names: `say!("{n} left", "剩余 {n}"; n = left.len())`.
macro_rules! say {
    ($en:literal, $zh:literal $(,)?) => {
        match $crate::language::now() {
            $crate::args::Lang::En => format!($en),
            $crate::args::Lang::Zh => format!($zh),
        }
    };
    ($en:literal, $zh:literal; $($value:tt)+) => {
        match $crate::language::now() {
            $crate::args::Lang::En => format!($en, $($value)+),
            $crate::args::Lang::Zh => format!($zh, $($value)+),
        }
    };
}

/// The same as [`Said`], for what is told to programs too.
macro_rules! said {
    ($($text:tt)+) => {
        $crate::language::Said::of(|| say!($($text)+))
    };
}

/// What was asked for with `--lang` on this command line; looked for before it is parsed, because help and what is wrong
/// with the line are told while it is.
pub(crate) fn asked(line: impl Iterator<Item = OsString>) -> Option<Lang> {
    let (mut found, mut next) = (None, false);
    for word in line.skip(1).take_while(|word| word != "--") {
        let value = match word.to_str() {
            Some(value) if next => Some(value),
            Some(word) => word.strip_prefix("--lang="),
            None => None,
        };
        found = value.and_then(|value| <Lang as clap::ValueEnum>::from_str(value, false).ok()).or(found);
        next = word == OsStr::new("--lang");
    }
    found
}

/// The language.
pub(crate) fn choose(asked: Option<Lang>) -> Lang {
    asked.unwrap_or_else(|| of(|name| env::var(name).ok()))
}

/// Every text from now on is in this language; the first who says so decides.
pub(crate) fn set(lang: Lang) {
    let _ = CHOSEN.set(lang);
}

/// The language of texts now.
pub(crate) fn now() -> Lang {
    WITHIN.get().or_else(|| CHOSEN.get().copied()).unwrap_or(Lang::En)
}

/// What `work` gives when every text in it is in this language.
pub(crate) fn within<T>(lang: Lang, work: impl FnOnce() -> T) -> T {
    let before = WITHIN.replace(Some(lang));
    let done = work();
    WITHIN.set(before);
    done
}

/// A text in both languages: people get their own, documents for programs the English one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    en: String,
    zh: String,
}

impl Said {
    /// What `text` gives in each language.
    pub(crate) fn of(text: impl Fn() -> String) -> Self {
        Self { en: within(Lang::En, &text), zh: within(Lang::Zh, &text) }
    }

    /// Two texts that belong together; an empty one is told to nobody.
    pub(crate) fn both(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }

    /// The English one, for programs.
    pub(crate) fn english(&self) -> &str {
        &self.en
    }

    /// The one for people.
    pub(crate) fn text(&self) -> &str {
        match now() {
            Lang::En => &self.en,
            Lang::Zh => &self.zh,
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

/// What somebody else has said is quoted.
impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { zh: text.clone(), en: text }
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Said {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&Said> for Said {
    fn from(said: &Said) -> Self {
        said.clone()
    }
}

/// Chinese when the environment is, English otherwise.
fn of(variable: impl Fn(&str) -> Option<String>) -> Lang {
    let value = VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let language = value.as_deref().unwrap_or_default().split(['_', '-', '.', '@']).next().unwrap_or_default();
    if language.eq_ignore_ascii_case("zh") { Lang::Zh } else { Lang::En }
}

#[cfg(test)]
impl PartialEq<&str> for Said {
    fn eq(&self, english: &&str) -> bool {
        self.en == *english
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_counts() {
        for (set, expected) in [
            (&[][..], Lang::En),
            (&[("LANG", "zh_CN.UTF-8")], Lang::Zh),
            (&[("LANG", "ZH")], Lang::Zh),
            (&[("LANG", "C.UTF-8")], Lang::En),
            (&[("LANG", "zhuang")], Lang::En),
            (&[("LC_ALL", ""), ("LANG", "zh-Hans")], Lang::Zh),
            (&[("LC_ALL", "en_GB.UTF-8"), ("LANG", "zh_CN.UTF-8")], Lang::En),
            (&[("LC_MESSAGES", "zh_TW"), ("LANG", "de_DE")], Lang::Zh),
            (&[("GANTRY_LANG", "zh"), ("LC_ALL", "en_GB.UTF-8")], Lang::Zh),
        ] {
            let look = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(of(look), expected, "{set:?}");
        }
        assert_eq!(choose(Some(Lang::Zh)), Lang::Zh);
    }

    #[test]
    fn the_option_counts_wherever_it_stands() {
        let asked = |line: &str| asked(line.split(' ').map(OsString::from));
        assert_eq!(asked("ctl --lang zh jobs"), Some(Lang::Zh));
        assert_eq!(asked("ctl report 1 --lang=en -o html"), Some(Lang::En));
        assert_eq!(asked("ctl --lang zh report 1 --lang en"), Some(Lang::En));
        assert_eq!(asked("ctl jobs"), None);
        assert_eq!(asked("ctl --lang fr jobs"), None);
        assert_eq!(asked("ctl decide 1 -- --lang zh"), None);
    }

    #[test]
    fn a_text_is_in_the_language_of_who_reads_it() {
        let (job, left) = ("3f2a", [1, 2]);
        let text = || say!("job {job}: {n} left", "作业 {job}：剩余 {n}"; n = left.len());
        assert_eq!(text(), "job 3f2a: 2 left");
        assert_eq!(within(Lang::Zh, text), "作业 3f2a：剩余 2");
        assert_eq!(within(Lang::Zh, || word!("yes", "是")), "是");
        let inner = said!("the job", "作业");
        let said = said!("no {inner}", "没有{inner}");
        assert_eq!((said.english(), said.to_string().as_str()), ("no the job", "no the job"));
        within(Lang::Zh, || assert_eq!((said.english(), said.text()), ("no the job", "没有作业")));
    }
}
