//! Every stable code has a page (`gantry_proto::reason`), and every page a code. The codes are found in the sources, by
//! the places in which a code stands; a place in which something else stands than the scanner understands fails, too.

mod scan;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use gantry_proto::{Code, reason};

use self::scan::{Found, Places};

/// Where codes are made: the sources, and the places in them.
const SOURCES: [(&str, Places); 6] = [
    (
        "agent/src",
        Places {
            first: &["story", "story_of", "command_failed", "Verdict::Wrong"],
            noted: &["note"],
            ..Places::EVERYWHERE
        },
    ),
    (
        "controller/plan/src",
        Places {
            first: &["Finding::error", "Finding::warning", "Finding::notice", "Reject::new"],
            second: &["Finding::new"],
            ..Places::EVERYWHERE
        },
    ),
    ("controller/src", Places { first: &["act.reject"], ..Places::EVERYWHERE }),
    ("cli/src/campaign", Places { first: &["problem"], ..Places::EVERYWHERE }),
    ("cli/src/workbook.rs", Places::EVERYWHERE),
    ("proto/src/order.rs", Places { constants: true, ..Places::EVERYWHERE }),
];
/// Fewer codes than this in all, and the scanner is blind.
const LEAST: usize = 220;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn rust_files(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_file() {
        files.push(place.to_owned());
        return;
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() || (path.extension().is_some_and(|extension| extension == "rs") && !is_test) {
            rust_files(&path, files);
        }
    }
}

/// All codes with the first place of each, and what the scanner did not understand.
fn codes() -> (BTreeMap<String, String>, Vec<String>) {
    let (mut codes, mut puzzles) = (BTreeMap::new(), Vec::new());
    for code in Code::all() {
        codes.insert(code.word().to_owned(), "proto/src/error.rs".to_owned());
    }
    for (place, places) in &SOURCES {
        let mut files = Vec::new();
        rust_files(&root().join(place), &mut files);
        assert!(!files.is_empty(), "{place} has no sources");
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            for found in scan::codes(&text, places) {
                match found {
                    Found::Code { word, line } => drop(codes.entry(word).or_insert(format!("{name}:{line}"))),
                    Found::Puzzle { what, line } => puzzles.push(format!("{name}:{line}: {what}")),
                }
            }
        }
    }
    (codes, puzzles)
}

#[test]
fn every_code_can_be_explained() {
    let (codes, puzzles) = codes();
    assert!(
        puzzles.is_empty(),
        "which code stands here? Write the word itself, or a constant:\n{}",
        puzzles.join("\n")
    );
    assert!(codes.len() >= LEAST, "only {} codes were found", codes.len());
    let missing: Vec<_> = codes.iter().filter(|(code, _)| reason::page(code).is_none()).collect();
    assert!(missing.is_empty(), "codes without a page in proto/src/reason/: {missing:#?}");
}

#[test]
fn every_page_explains_a_code_that_exists() {
    let (codes, _) = codes();
    let stale: BTreeSet<_> = reason::pages().map(|page| page.code).filter(|code| !codes.contains_key(*code)).collect();
    assert!(stale.is_empty(), "pages in proto/src/reason/ whose code nobody makes: {stale:#?}");
}

/// What the pages tell to type has to be there to be typed.
#[test]
fn the_pages_name_settings_and_commands_that_exist() {
    let settings = ["deploy/config/agent.toml", "deploy/config/controller.toml"];
    let settings = settings.map(|path| fs::read_to_string(root().join(path)).unwrap()).concat();
    let verbs = fs::read_to_string(root().join("cli/src/lib.rs")).unwrap();
    for page in reason::pages() {
        for text in [&page.en, &page.zh] {
            let parts = [text.cause, text.evidence].into_iter().chain(text.remedy.iter().copied());
            let whole = parts.collect::<Vec<_>>().join("\n");
            for quoted in whole.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.strip_prefix("ctl ")) {
                let verb: String = quoted.chars().take_while(char::is_ascii_alphabetic).collect();
                assert!(verbs.contains(&format!("\"ctl {verb}")), "{}: there is no ctl {verb}", page.code);
            }
            let timing = whole.split("timing.").skip(1);
            for rest in timing {
                let key: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                assert!(settings.contains(&format!("{key} =")), "{}: there is no timing.{key}", page.code);
            }
        }
    }
}
