//! Finds the words that stand in the place of a code in a source file. It knows Rust as far as tokens go: strings,
//! comments, identifiers and brackets; everything behind `#[cfg(test)]` is left out.

use std::collections::BTreeMap;

/// Where a code stands in the sources of a directory. Everywhere: `code: "x"`, `failure.code = "x"`, `let (code, ..) = ..`,
/// `for (code, ..) in ..`, and the bodies of functions called `code` or `story` that give static text.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Functions whose first argument is a code.
    pub first: &'static [&'static str],
    /// Functions whose second argument is a code.
    pub second: &'static [&'static str],
    /// Methods that take a level and then a code; codes of the levels Info and Debug need no page.
    pub noted: &'static [&'static str],
    /// Every text constant is a code.
    pub constants: bool,
}

impl Places {
    pub(super) const EVERYWHERE: Self = Self { first: &[], second: &[], noted: &[], constants: false };
}

/// What was found.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Code { word: String, line: usize },
    Puzzle { what: String, line: usize },
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Word(String),
    Text(String),
    Sign(char),
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    line: usize,
}

impl Token {
    fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(this) if this == word)
    }

    fn word(&self) -> Option<&str> {
        if let Kind::Word(word) = &self.kind { Some(word) } else { None }
    }
}

/// All codes of a file.
pub(super) fn codes(source: &str, places: &Places) -> Vec<Found> {
    let source = source.split("#[cfg(test)]\nmod").next().unwrap_or_default();
    let tokens = tokens(source);
    let scan = Scan { constants: constants(&tokens), tokens: &tokens, places };
    (0..tokens.len()).flat_map(|at| scan.at(at)).collect()
}

struct Scan<'a> {
    tokens: &'a [Token],
    /// Text constants of this file.
    constants: BTreeMap<String, String>,
    places: &'a Places,
}

impl Scan<'_> {
    fn at(&self, at: usize) -> Vec<Found> {
        let mut found = Vec::new();
        let token = &self.tokens[at];
        let Some(word) = token.word() else { return found };
        let defined = at > 0 && self.tokens[at - 1].is_word("fn");
        if self.sign(at + 1, '(') && !defined {
            let args = self.arguments(at + 1);
            if self.is_called(at, self.places.first) {
                found.extend(self.argument(args.first()));
            }
            if self.is_called(at, self.places.second) {
                found.extend(self.argument(args.get(1)));
            }
            // A method of another type that has one argument only is not meant.
            if self.places.noted.contains(&word) && args.len() > 2 && !self.is_quiet(args[0]) {
                found.extend(self.argument(args.get(1)));
            }
        }
        match word {
            "code" if self.sign(at + 1, ':') && !self.sign(at + 2, ':') => {
                found.extend(self.values(at + 2, self.end(at + 2, &[',', ';'])));
            }
            "code" if self.sign(at + 1, '=') && !self.sign(at + 2, '=') && !self.sign(at + 2, '>') => {
                found.extend(self.values(at + 2, self.end(at + 2, &[';'])));
            }
            // `let (code, ..) = ..;` and `for (code, ..) in [..] {`
            "code" if at > 1 && self.tokens[at - 1].is('(') && self.sign(at + 1, ',') => {
                if self.tokens[at - 2].is_word("let") {
                    found.extend(self.values(at + 1, self.end(self.close(at - 1) + 1, &[';'])));
                } else if self.tokens[at - 2].is_word("for") {
                    found.extend(self.values(at + 1, self.end(self.close(at - 1) + 1, &['{'])));
                }
            }
            "code" | "story" if defined => {
                let open = (at..self.tokens.len()).find(|at| self.sign(*at, '{')).unwrap_or(at);
                let gives_text = self.tokens[at..open].iter().any(|token| token.is_word("static"));
                if gives_text {
                    found.extend(self.values(open, self.close(open)));
                }
            }
            "const" if self.places.constants => {
                if let Some(text) =
                    self.tokens.get(at + 1).and_then(Token::word).and_then(|name| self.constants.get(name))
                {
                    found.push(Found::Code { word: text.clone(), line: token.line });
                }
            }
            _ => {}
        }
        found
    }

    /// A name with its path or object: `Finding::error`, `act.reject`; a bare name is not one of a method.
    fn is_called(&self, at: usize, names: &[&str]) -> bool {
        let Some(word) = self.tokens[at].word() else { return false };
        let before = |back: usize| at.checked_sub(back).map(|at| &self.tokens[at]);
        let method = before(1).is_some_and(|token| token.is('.'));
        names.iter().any(|name| match name.rsplit_once("::").or_else(|| name.rsplit_once('.')) {
            None => *name == word && !method,
            Some((path, last)) => {
                let back = if name.contains("::") { 3 } else { 2 };
                last == word && before(back).is_some_and(|token| token.is_word(path))
            }
        })
    }

    fn sign(&self, at: usize, sign: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(sign))
    }

    /// The code of an argument: a text, a constant, or what was called a code where it was made.
    fn argument(&self, range: Option<&(usize, usize)>) -> Vec<Found> {
        let Some(&(from, to)) = range else { return Vec::new() };
        let tokens = &self.tokens[from..to];
        match tokens {
            [one] => match (&one.kind, one.word().and_then(|name| self.constants.get(name))) {
                (Kind::Text(text), _) | (_, Some(text)) => {
                    return vec![Found::Code { word: text.clone(), line: one.line }];
                }
                _ => {}
            },
            _ if tokens.iter().any(|token| matches!(token.kind, Kind::Text(_))) => {
                return self.puzzle(tokens);
            }
            _ => {}
        }
        // It was found where it was made: as `code`, or as that of a failure, a finding, a fault.
        if tokens.iter().any(|token| token.is_word("code")) { Vec::new() } else { self.puzzle(tokens) }
    }

    fn puzzle(&self, tokens: &[Token]) -> Vec<Found> {
        let what = tokens.iter().map(|token| format!("{:?}", token.kind)).collect::<Vec<_>>().join(" ");
        vec![Found::Puzzle { what, line: tokens.first().map_or(0, |token| token.line) }]
    }

    /// The texts and constants that an expression can become: not those inside of a call's brackets. Of a tuple the first.
    fn values(&self, from: usize, to: usize) -> Vec<Found> {
        let mut found = Vec::new();
        let mut at = from;
        while at < to {
            let token = &self.tokens[at];
            let before = at.checked_sub(1).map(|at| &self.tokens[at]);
            let called =
                token.is('(') && before.is_some_and(|token| token.word().is_some_and(|word| !is_keyword(word)));
            let macro_or_index = (token.is('(') || token.is('[')) && before.is_some_and(|token| token.is('!'));
            if called || macro_or_index {
                at = self.close(at) + 1;
                continue;
            }
            let stands = before.is_some_and(|token| ['(', '{', '>', '=', ':'].iter().any(|sign| token.is(*sign)));
            let text = match &token.kind {
                Kind::Text(text) => Some(text),
                Kind::Word(word) => self.constants.get(word),
                Kind::Sign(_) => None,
            };
            if let Some(text) = text.filter(|text| stands && is_code(text)) {
                found.push(Found::Code { word: text.clone(), line: token.line });
            }
            at += 1;
        }
        found
    }

    fn is_quiet(&self, (from, to): (usize, usize)) -> bool {
        let last = self.tokens[from..to].last().and_then(Token::word);
        self.tokens[from].is_word("Level") && matches!(last, Some("Info" | "Debug"))
    }

    /// From behind an opening bracket: the arguments, as ranges of tokens.
    fn arguments(&self, open: usize) -> Vec<(usize, usize)> {
        let close = self.close(open);
        let (mut all, mut from) = (Vec::new(), open + 1);
        while from < close {
            let to = self.end(from, &[',']).min(close);
            all.push((from, to));
            from = to + 1;
        }
        all
    }

    /// Where an expression ends: at one of the signs outside of brackets, or where its surroundings close.
    fn end(&self, from: usize, signs: &[char]) -> usize {
        let mut at = from;
        while at < self.tokens.len() {
            let token = &self.tokens[at];
            if signs.iter().any(|sign| token.is(*sign)) || [')', ']', '}'].iter().any(|sign| token.is(*sign)) {
                return at;
            }
            at = if ['(', '[', '{'].iter().any(|sign| token.is(*sign)) { self.close(at) + 1 } else { at + 1 };
        }
        self.tokens.len()
    }

    /// The bracket that closes this one.
    fn close(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.kind {
                Kind::Sign('(' | '[' | '{') => depth += 1,
                Kind::Sign(')' | ']' | '}') => {
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }
}

fn is_keyword(word: &str) -> bool {
    ["else", "in", "return", "match", "if", "for", "let"].contains(&word)
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// `const NAME: &str = "text";`
fn constants(tokens: &[Token]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (at, _) in tokens.iter().enumerate().filter(|(_, token)| token.is_word("const")) {
        let name = tokens.get(at + 1).and_then(Token::word);
        let rest = tokens.iter().skip(at + 2).take_while(|token| token.line <= tokens[at].line + 1 && !token.is(';'));
        let texts: Vec<&String> =
            rest.filter_map(|token| if let Kind::Text(text) = &token.kind { Some(text) } else { None }).collect();
        if let (Some(name), [text]) = (name, texts.as_slice()) {
            all.insert(name.to_owned(), (*text).clone());
        }
    }
    all
}

fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut all, mut at, mut line) = (Vec::new(), 0, 1);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while at < chars.len() {
        let here = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or_default();
        let begun = line;
        if here == '\n' {
            line += 1;
            at += 1;
        } else if here == '/' && next == '/' {
            at = (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len());
        } else if here == '"' {
            let mut text = String::new();
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                if chars[at] == '\\' {
                    at += 1;
                }
                line += usize::from(chars.get(at) == Some(&'\n'));
                text.extend(chars.get(at));
                at += 1;
            }
            at += 1;
            all.push(Token { kind: Kind::Text(text), line: begun });
        } else if here == 'r' && (next == '"' || next == '#') {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if chars.get(at + 1 + hashes) != Some(&'"') {
                // A raw identifier.
                at += 2;
                continue;
            }
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let from = at + 2 + hashes;
            let to = (from..chars.len()).find(|at| chars[*at..].starts_with(&end)).unwrap_or(chars.len());
            line += chars[from..to].iter().filter(|c| **c == '\n').count();
            all.push(Token { kind: Kind::Text(chars[from..to].iter().collect()), line: begun });
            at = to + end.len();
        } else if here == '\'' {
            // A letter in quotes, or a lifetime.
            at += match (next, chars.get(at + 2)) {
                ('\\', _) => (at + 3..chars.len()).find(|at| chars[*at] == '\'').map_or(1, |end| end + 1 - at),
                (_, Some('\'')) => 3,
                _ => 1,
            };
        } else if is_word(here) {
            let to = (at..chars.len()).find(|at| !is_word(chars[*at])).unwrap_or(chars.len());
            all.push(Token { kind: Kind::Word(chars[at..to].iter().collect()), line });
            at = to;
        } else {
            if !here.is_whitespace() {
                all.push(Token { kind: Kind::Sign(here), line });
            }
            at += 1;
        }
    }
    all
}

const PLACES: Places = Places {
    first: &["story", "Verdict::Wrong", "act.reject"],
    second: &["Finding::new"],
    noted: &["note"],
    constants: false,
};

fn found(source: &str) -> Vec<String> {
    codes(source, &PLACES)
        .into_iter()
        .map(|found| match found {
            Found::Code { word, .. } => word,
            Found::Puzzle { .. } => "?".to_owned(),
        })
        .collect()
}

#[test]
fn codes_are_found_where_they_stand() {
    for (source, expected) in [
        (r#"story("a_b", "text", "remedy")"#, &["a_b"][..]),
        ("super::story(\n    \"a_b\",\n    format!(\"x\"),\n)", &["a_b"]),
        (r#"fn story(code: &str) -> Failure { Failure { code: code.to_owned() } }"#, &[]),
        (r#"self.story(cx, facts, story(code, message))"#, &[]),
        (r#"const GONE: &str = "a_b"; fn f() { story(GONE, "x") }"#, &["a_b"]),
        (r#"story(chosen, "x")"#, &["?"]),
        (r#"story(if x { "a" } else { "b" }, "x")"#, &["?"]),
        (r#"cx.note(Level::Warning, "a_b", message, extra([]))"#, &["a_b"]),
        (r#"cx.note(Level::Info, "a_b", message, extra([]))"#, &[]),
        (r#"cx.note(level, "a_b", message, extra([("c", 1)]))"#, &["a_b"]),
        (r#"self.seen.note(number)"#, &[]),
        (r#"Failure { code: "a_b".to_owned(), message: "x".to_owned() }"#, &["a_b"]),
        (r#"Failure { code: if c.is_empty() { "a_b".to_owned() } else { c }, message }"#, &["a_b"]),
        (r#"Self { code: text(value, "error_code"), message: 1 }"#, &[]),
        (r#"failure.code = "a_b".to_owned();"#, &["a_b"]),
        (r#"if failure.code == "a_b" {}"#, &[]),
        (
            r#"let (code, message) = match x { A => ("a_b", "m"), B => { let m = 1; other(m); ("c_d", m) } };"#,
            &["a_b", "c_d"],
        ),
        (r#"let (code, message) = match x { A => ("a_b", "m"), B => { ("c_d", m) } };"#, &["a_b", "c_d"]),
        (r#"let code = match e { A => "a_b", _ => "c_d", };"#, &["a_b", "c_d"]),
        (r#"let (code, x) = (GONE.to_owned(), 1); const GONE: &str = "a_b";"#, &["a_b"]),
        (r#"for (code, what) in [("a_b", "w"), ("c_d", "w")] { "e_f" }"#, &["a_b", "c_d"]),
        (r#"fn code(&self) -> &'static str { match self { A => "a_b", B | C => { "c_d" } } }"#, &["a_b", "c_d"]),
        (r#"fn story(&self) -> (&'static str, &'static str) { match self { A => ("a_b", "x") } }"#, &["a_b"]),
        (r#"Finding::new(severity, "a_b", rule)"#, &["a_b"]),
        (r#"Verdict::Wrong("a_b", format!("x"))"#, &["a_b"]),
        (r#"act.reject(NO, "x"); const NO: &str = "a_b";"#, &["a_b"]),
        ("// story(\"a_b\")\nlet s = r#\"story(\"c_d\")\"#; let c = '\"'; let d = '\\''; story(\"e_f\", 1)", &["e_f"]),
        ("fn a() {}\n#[cfg(test)]\nmod tests { story(\"a_b\", 1) }", &[]),
    ] {
        assert_eq!(found(source), expected, "{source}");
    }
}
