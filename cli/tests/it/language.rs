//! Two languages: every text of the sources has both, programs get the same in both, and people see their own.

mod sources;

use std::{fs, path::Path};

use gantry_proto::{UndoState, v1::JobState};

use self::sources::{Literal, Place};
use crate::{
    fake::Fake,
    log,
    run::{command, ctl, finish},
};

/// Files whose English nobody has to read in Chinese, or whose Chinese stands elsewhere.
const ELSEWHERE: [(&str, &str); 9] = [
    ("args.rs", "the help, in cli/src/help/ in Chinese"),
    ("args/", "the same"),
    ("help/", "the Chinese of the help"),
    ("bundle.rs", "as commands/bundle.rs"),
    ("render/expected.rs", "a table of the planner's words with their Chinese"),
    ("report/", "the report has a table of terms in both languages"),
    ("workbook.rs", "a finding, which the page of its code tells in Chinese"),
    ("campaign/check.rs", "findings too"),
    ("commands/bundle.rs", "the manifest of an archive, for programs"),
];
/// English that is the key of something, or stands beside its Chinese without a macro.
const KEYS: [&str; 14] = [
    // Words of other libraries.
    "dns error",
    "transport error",
    "client error (Connect)",
    "tcp connect error",
    "operation was canceled",
    // States of steps: their Chinese is that of the report.
    "will retry",
    "undo failed",
    // What stands around the pages of `ctl explain`: a struct of its own has both.
    "to do",
    "see also",
    // A command.
    "  {}ctl show {}",
    // What is missing in an answer, by the name of its field.
    "verdict on a workbook",
    "head of the audit log",
    // Faults that only the audit log's check tells, in English as it does.
    "it is too long",
    "it is not text",
];
/// Chinese texts without a Chinese word: what they say is the same in both.
const SAME: [&str; 1] = ["{vm}，IP {ip}"];

fn files(directory: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

/// Every literal of the sources outside of tests, with its file.
fn literals() -> Vec<(String, Literal)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    let read = |path: std::path::PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let found = if name.ends_with("tests.rs") { Vec::new() } else { sources::literals(&text) };
        found.into_iter().map(move |literal| (name.clone(), literal))
    };
    all.into_iter().flat_map(read).collect()
}

fn has_chinese(text: &str) -> bool {
    text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter))
}

#[test]
fn no_text_goes_around_the_two_languages() {
    let mut faults = Vec::new();
    for (file, Literal { place, line, text }) in literals() {
        let elsewhere = ELSEWHERE.iter().any(|(name, _)| file.starts_with(name));
        let key = KEYS.contains(&text.as_str()) || text.starts_with("ctl ");
        if place == Place::Bare && !elsewhere && !key && sources::is_english(&text) {
            faults.push(format!("cli/src/{file}:{line}: {text}"));
        }
    }
    assert_eq!(faults, Vec::<String>::new(), "use word!, say! or said! (cli/src/language.rs)");
}

#[test]
fn both_languages_of_a_text_say_the_same() {
    let (mut faults, mut pairs) = (Vec::new(), 0);
    let all = literals();
    for pair in all.windows(2) {
        let [(file, en), (_, zh)] = pair else { continue };
        if (en.place, zh.place) != (Place::English, Place::Chinese) {
            continue;
        }
        pairs += 1;
        let words = sources::words(&en.text);
        let untold = words.iter().any(|word| word.len() > 1) && !has_chinese(&zh.text);
        let untold = untold && !SAME.contains(&zh.text.as_str());
        if untold || has_chinese(&en.text) || sources::values(&en.text) != sources::values(&zh.text) {
            faults.push(format!("cli/src/{file}:{}: {} | {}", en.line, en.text, zh.text));
        }
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(pairs > 300, "only {pairs} texts were found");
}

/// Runs it in both languages; the outcome is the same, and what programs read too.
async fn same_for_programs(fake: &Fake, args: &[&str]) {
    let english = ctl(fake.home(), args).await;
    let mut chinese = command(fake.home(), args);
    chinese.env("LANG", "zh_CN.UTF-8");
    let chinese = finish(chinese).await;
    assert!(!english.out.is_empty(), "{args:?}: {english:?}");
    assert_eq!((english.code, english.out), (chinese.code, chinese.out), "{args:?}");
}

#[tokio::test]
async fn programs_get_the_same_in_both_languages() {
    let fake = Fake::with(log::failing(UndoState::RollbackIncomplete), JobState::Failed).await;
    for args in [
        &["show", log::JOB, "-o", "json"][..],
        &["watch", log::JOB, "-o", "json"],
        &["watch", log::JOB, "-o", "ndjson"],
        &["jobs", "-o", "json"],
        &["resources", log::JOB, "-o", "json"],
        &["agents", "-o", "json"],
        &["plan", "check", "no-such-file.xlsx", "-o", "json"],
        &["plan", "fields", "-o", "json"],
        &["explain", "vm_name_taken", "-o", "json"],
    ] {
        same_for_programs(&fake, args).await;
    }
}

#[tokio::test]
async fn people_see_their_own_language() {
    let fake = Fake::with(log::failing(UndoState::RollbackIncomplete), JobState::Failed).await;
    let chinese = |args: &[&str]| {
        let mut run = command(fake.home(), args);
        run.env("GANTRY_LANG", "zh");
        finish(run)
    };
    insta::assert_snapshot!("show_failed_zh", chinese(&["show", "3f2a1b0c"]).await.all());
    insta::assert_snapshot!("lines_leftovers_zh", chinese(&["watch", "3f2a1b0c"]).await.all());
    insta::assert_snapshot!("job_unknown_zh", chinese(&["show", "ffffffff"]).await.all());
    insta::assert_snapshot!("wrong_option_zh", chinese(&["jobs", "--bogus"]).await.all());
    insta::assert_snapshot!("not_readable_zh", chinese(&["plan", "check", "no-such-file.xlsx"]).await.all());
    // The option wins over the environment, wherever it stands.
    for args in [&["--lang", "en", "show", "ffffffff"][..], &["show", "ffffffff", "--lang=en"]] {
        assert!(chinese(args).await.err.starts_with("error: "), "{args:?}");
    }
}

#[tokio::test]
async fn help_in_chinese() {
    for name in ["", "deploy", "watch", "campaign run", "audit"] {
        let mut args: Vec<_> = name.split_whitespace().collect();
        args.extend(["--help", "--lang", "zh"]);
        let ran = ctl(Path::new("/nonexistent"), &args).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}");
        insta::assert_snapshot!(format!("zh_help_{}", name.replace(' ', "_")), ran.out);
    }
}
