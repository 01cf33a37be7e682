//! The string literals of a source file, and whether they stand in a text of two languages: as much of Rust as that needs.

use std::collections::BTreeSet;

/// Where a literal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first one of `word!`, `say!` or `said!`.
    English,
    /// The second one.
    Chinese,
    /// In an attribute, a log line or an assertion.
    Apart,
    /// Anywhere else.
    Bare,
}

/// A literal.
#[derive(Debug)]
pub(super) struct Literal {
    pub(super) place: Place,
    pub(super) line: usize,
    pub(super) text: String,
}

/// What is open around a place, and how many literals were seen in it.
struct Open {
    name: String,
    seen: usize,
}

/// All literals up to the tests of the file.
pub(super) fn literals(source: &str) -> Vec<Literal> {
    let source = source.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut line) = (0, 1);
    let (mut all, mut open, mut before) = (Vec::new(), Vec::<Open>::new(), String::new());
    while let Some(c) = chars.get(at).copied() {
        let rest = &chars[at..];
        if rest.starts_with(&['/', '/']) {
            at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            continue;
        }
        if let Some(length) = character(rest) {
            at += length;
            before.clear();
            continue;
        }
        if let Some((text, length)) = string(rest, before.ends_with('r')) {
            all.push(Literal { place: place(&mut open), line, text });
            line += rest[..length].iter().filter(|c| **c == '\n').count();
            at += length;
            before.clear();
            continue;
        }
        match c {
            '(' | '[' | '{' => open.push(Open { name: std::mem::take(&mut before), seen: 0 }),
            ')' | ']' | '}' => drop((open.pop(), before.clear())),
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            c if c.is_alphanumeric() || matches!(c, '_' | '!' | ':' | '#') => before.push(c),
            _ => before.clear(),
        }
        if c.is_whitespace() || c == ',' || c == ';' {
            before.clear();
        }
        at += 1;
    }
    all
}

fn place(open: &mut [Open]) -> Place {
    let apart = |name: &str| name.starts_with('#') || name.starts_with("tracing::") || name.starts_with("assert");
    if open.iter().any(|around| apart(&around.name)) {
        return Place::Apart;
    }
    let Some(around) = open.iter_mut().rev().find(|around| matches!(&*around.name, "word!" | "say!" | "said!")) else {
        return Place::Bare;
    };
    around.seen += 1;
    match around.seen {
        1 => Place::English,
        2 => Place::Chinese,
        _ => Place::Bare,
    }
}

/// The length of a character literal; a lifetime is none.
fn character(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', ..] => rest.iter().skip(2).skip(1).position(|c| *c == '\'').map(|more| more + 4),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

/// A string literal at this place, as it is meant, and its length.
fn string(rest: &[char], raw: bool) -> Option<(String, usize)> {
    if rest.first() != Some(&'"') {
        return None;
    }
    let (mut text, mut at) = (String::new(), 1);
    while let Some(c) = rest.get(at) {
        match (c, rest.get(at + 1)) {
            ('"', _) => return Some((text, at + 1)),
            ('\\', Some('\n')) if !raw => {
                at += 2;
                at += rest[at..].iter().take_while(|c| c.is_whitespace()).count();
                continue;
            }
            ('\\', Some('n')) if !raw => text.push(' '),
            ('\\', Some(escaped)) if !raw => text.push(*escaped),
            (c, _) => {
                text.push(*c);
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    None
}

/// English words of a text; values in it, options and paths are none.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut bare = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    let trimmed = |word: &str| word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '-').to_owned();
    let word =
        |word: &String| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '\'');
    bare.split_whitespace().map(trimmed).filter(word).collect()
}

/// Whether people would read it: two English words or more.
pub(super) fn is_english(text: &str) -> bool {
    words(text).iter().filter(|word| word.len() > 1).count() > 1
}

/// The names of the values in a text. The end of a counted noun is English alone.
pub(super) fn values(text: &str) -> BTreeSet<String> {
    let inner = text.split('{').skip(1).filter_map(|part| part.split('}').next());
    inner.map(|name| name.split(':').next().unwrap_or_default().to_owned()).filter(|name| name != "s").collect()
}

#[test]
fn literals_are_found_where_they_stand() {
    let source = r#"
        //! "a comment is none"
        #[doc = "an attribute says nothing"]
        fn f<'a>(x: &'a str) { say!("{n} job{s} left", "剩余 {n} 个作业"; n = 'x'); call("two words here", '"'); }
    "#;
    let all = literals(source);
    let places: Vec<_> = all.iter().map(|one| (one.place, one.line)).collect();
    assert_eq!(places, [(Place::Apart, 3), (Place::English, 4), (Place::Chinese, 4), (Place::Bare, 4)]);
    assert_eq!(values(&all[1].text), values(&all[2].text));
    assert!(is_english(&all[3].text) && !is_english("--lang {words in it} ctl"));
}
