//! Nothing of the command line is without Chinese, and nothing of the Chinese is without its place.

use std::collections::BTreeSet;

use super::*;

fn has_chinese(text: &str) -> bool {
    text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter))
}

/// Two English words in a row, as no command or value has them.
fn has_english(text: &str) -> bool {
    let word = |word: &str| word.len() > 1 && word.chars().all(|letter| letter.is_ascii_lowercase());
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).any(|pair| pair.iter().all(|one| word(one)))
}

/// The commands with their paths, the root first.
fn tree(command: &Command, path: &str, all: &mut Vec<(String, Command)>) {
    all.push((path.to_owned(), command.clone()));
    for inner in command.get_subcommands() {
        tree(inner, format!("{path} {}", inner.get_name()).trim_start(), all);
    }
}

fn commands() -> Vec<(String, Command)> {
    let mut all = Vec::new();
    tree(&chinese(Args::command()), "", &mut all);
    all
}

#[test]
fn every_command_and_argument_has_chinese_help() {
    let mut missing = Vec::new();
    for (path, command) in commands() {
        if page(&path).is_none_or(|page| !has_chinese(page.about)) {
            missing.push(format!("ctl {path}: what it does"));
        }
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            let told = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let values = arg.get_possible_values();
            let unsaid = values.iter().filter(|value| value.get_help().is_some() && !told.contains(value.get_name()));
            if text(&path, id).is_none() || !has_chinese(&told) || unsaid.count() > 0 {
                missing.push(format!("ctl {path}: argument {id}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "give them a text in cli/src/help/");
}

#[test]
fn what_stands_below_a_command_is_chinese_too() {
    let (mut missing, mut english) = (Vec::new(), Vec::new());
    tree(&Args::command(), "", &mut english);
    for ((path, chinese), (_, english)) in commands().iter().zip(&english) {
        let text = |command: &Command| command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let (chinese, english) = (text(chinese), text(english));
        let prose = english.split("Examples:").next().unwrap_or_default();
        let untold = !prose.trim().is_empty() && page(path).is_none_or(|page| !has_chinese(page.after));
        // A remark behind an example stands apart from it; an own list of examples has to say it in Chinese.
        let remark = |line: &str| line.trim().split("   ").skip(1).any(has_english) || line.contains("# ");
        let left = chinese.lines().any(|line| remark(line) && !has_chinese(line));
        let examples = |text: &str| text.matches("\n  ctl ").count();
        if untold || left || examples(&chinese) != examples(&english) {
            missing.push(path.clone());
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_text_has_its_place() {
    let mut used = BTreeSet::new();
    for (path, command) in commands() {
        used.insert((path.clone(), ""));
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            let own = page(&path).and_then(|page| page.args.iter().find(|(known, _)| *known == id));
            let common = page("*").and_then(|page| page.args.iter().find(|(known, _)| *known == id));
            let at = if own.is_some() { path.clone() } else { "*".to_owned() };
            used.extend(own.or(common).map(|(id, _)| (at, *id)));
        }
    }
    let mut unused = Vec::new();
    for page in PAGES.iter().copied().flatten() {
        let path = page.command.to_owned();
        if path != "*" && !used.contains(&(path.clone(), "")) {
            unused.push((path.clone(), ""));
        }
        unused.extend(page.args.iter().map(|(id, _)| (path.clone(), *id)).filter(|entry| !used.contains(entry)));
    }
    assert_eq!(unused, [], "no command or argument is called like that");
}

#[test]
fn the_chinese_command_line_is_sound() {
    chinese(Args::command()).debug_assert();
}
