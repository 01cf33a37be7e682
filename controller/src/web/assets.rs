//! The files of the pages, compiled in. A browser asks each time whether its copy is still the one: they are small, and a
//! controller of another version brings others.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse as _, Response},
};
use gantry_proto::token::sha256_hex;

use super::Web;

/// The one page.
const PAGE: &str = "index.html";

/// Name, type and text of each.
pub(super) const FILES: &[(&str, &str, &str)] = &[
    (PAGE, HTML, include_str!("../../web/index.html")),
    ("app.css", "text/css; charset=utf-8", include_str!("../../web/app.css")),
    ("icon.svg", "image/svg+xml", include_str!("../../web/icon.svg")),
    ("app.js", SCRIPT, include_str!("../../web/app.js")),
    ("call.js", SCRIPT, include_str!("../../web/call.js")),
    ("dom.js", SCRIPT, include_str!("../../web/dom.js")),
    ("words.js", SCRIPT, include_str!("../../web/words.js")),
    ("units.js", SCRIPT, include_str!("../../web/units.js")),
    ("jobs.js", SCRIPT, include_str!("../../web/jobs.js")),
    ("job.js", SCRIPT, include_str!("../../web/job.js")),
    ("acts.js", SCRIPT, include_str!("../../web/acts.js")),
    ("dialog.js", SCRIPT, include_str!("../../web/dialog.js")),
    ("findings.js", SCRIPT, include_str!("../../web/findings.js")),
    ("log.js", SCRIPT, include_str!("../../web/log.js")),
    ("chart.js", SCRIPT, include_str!("../../web/chart.js")),
    ("agents.js", SCRIPT, include_str!("../../web/agents.js")),
    ("submit.js", SCRIPT, include_str!("../../web/submit.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files and their tags.
pub(super) struct Assets(HashMap<&'static str, (&'static str, &'static str, String)>);

impl Assets {
    pub(super) fn new() -> Self {
        let tagged = |(name, kind, text): &(&'static str, &'static str, &'static str)| {
            (*name, (*kind, *text, format!("\"{}\"", sha256_hex(text.as_bytes()))))
        };
        Self(FILES.iter().map(tagged).collect())
    }

    fn answer(&self, name: &str, asked: &HeaderMap) -> Response {
        let Some((kind, text, tag)) = self.0.get(name) else {
            return (StatusCode::NOT_FOUND, "not found\n").into_response();
        };
        let known = asked.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let headers = [(CONTENT_TYPE, *kind), (CACHE_CONTROL, "no-cache"), (ETAG, tag.as_str())];
        if known { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, *text).into_response() }
    }
}

pub(super) async fn page(State(web): State<Arc<Web>>, asked: HeaderMap) -> Response {
    web.assets.answer(PAGE, &asked)
}

pub(super) async fn file(State(web): State<Arc<Web>>, Path(name): Path<String>, asked: HeaderMap) -> Response {
    web.assets.answer(&name, &asked)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(name: &str) -> &'static str {
        FILES.iter().find(|file| file.0 == name).unwrap().2
    }

    /// The rows of the dictionary: key, English, Chinese.
    fn words() -> Vec<(&'static str, &'static str, &'static str)> {
        let rows = text("words.js").lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\"],"));
        let parts = rows.filter_map(|row| {
            let (key, texts) = row.split_once("\": [\"")?;
            let (en, zh) = texts.split_once("\", \"")?;
            Some((key, en, zh))
        });
        parts.collect()
    }

    #[test]
    fn every_word_is_there_in_both_languages_once() {
        let words = words();
        let rows = text("words.js").lines().filter(|line| line.contains(": [\"")).count();
        assert!(words.len() == rows && rows > 100, "{} of {rows} rows can be read", words.len());
        let keys: BTreeSet<_> = words.iter().map(|row| row.0).collect();
        assert_eq!(keys.len(), words.len(), "a key is there twice");
        for (key, en, zh) in words {
            assert!(!en.trim().is_empty() && en.is_ascii(), "{key}: {en}");
            // Names that people do not translate are the same in both.
            assert!(en == zh || !zh.is_ascii(), "{key}: {zh}");
        }
    }

    #[test]
    fn every_word_that_is_asked_for_is_there_and_every_word_is_asked_for() {
        let keys: BTreeSet<_> = words().iter().map(|row| row.0).collect();
        let all: String = FILES.iter().filter(|file| file.0 != "words.js").map(|file| file.2).collect();
        let asked = |start: &str, end: char| {
            all.split(start)
                .skip(1)
                .filter_map(|rest| rest.split(end).next())
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
        };
        let asked: BTreeSet<String> = asked("say(\"", '"').into_iter().chain(asked("data-t=\"", '"')).collect();
        for key in &asked {
            // Families are asked for by a name that is put together.
            let family = key.ends_with('.') && keys.iter().any(|known| known.starts_with(key.as_str()));
            assert!(family || keys.contains(key.as_str()), "the pages ask for {key}, which is not in words.js");
        }
        for key in keys {
            let named = all.contains(&format!("\"{key}\""));
            assert!(named || key.contains('.'), "{key} is in words.js and nobody asks for it");
        }
    }

    #[test]
    fn data_never_becomes_markup_and_nothing_comes_from_elsewhere() {
        for (name, _, text) in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "javascript:",
                "onclick=",
                "style=\"",
            ] {
                assert!(!text.contains(word), "{name} has {word}");
            }
            let inert = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!inert.contains("http://") && !inert.contains("https://"), "{name} names another place");
        }
    }

    #[test]
    fn the_page_names_only_files_that_are_there() {
        for part in text(PAGE).split("\"/web/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(FILES.iter().any(|file| file.0 == name), "{name}");
        }
        for (name, _, text) in FILES {
            for part in text.split("from \"./").skip(1) {
                let wanted = part.split('"').next().unwrap();
                assert!(FILES.iter().any(|file| file.0 == wanted), "{name} imports {wanted}");
            }
        }
    }
}
