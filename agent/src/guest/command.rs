//! A command for the guest: a script of ours, and values that reach it as quoted arguments only. Pure.

use std::time::Duration;

/// Real time that a short command may take, by default.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Most that is kept of a short command's output by default, bytes.
pub(super) const COMMAND_OUTPUT: usize = 64 << 10;

/// A command that can be run with [`super::Guest::run`].
#[derive(Clone, Debug)]
pub struct Command {
    name: &'static str,
    script: &'static str,
    args: Vec<String>,
    root: bool,
    limit: Duration,
    keep: usize,
}

impl Command {
    /// A script for `sh -c`, which finds its values as `$1`, `$2`, …; `name` stands in spans and logs.
    pub fn new(name: &'static str, script: &'static str) -> Self {
        Self { name, script, args: Vec::new(), root: false, limit: COMMAND_LIMIT, keep: COMMAND_OUTPUT }
    }

    /// One more value.
    pub fn arg(mut self, value: impl Into<String>) -> Self {
        self.args.push(value.into());
        self
    }

    /// More values.
    pub fn args<T: Into<String>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(values.into_iter().map(Into::into));
        self
    }

    /// Runs it as root, by `sudo`.
    pub fn root(mut self) -> Self {
        self.root = true;
        self
    }

    /// Runs it as the account itself.
    pub fn unprivileged(mut self) -> Self {
        self.root = false;
        self
    }

    /// How long it may take, real time.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How much of its output is kept, bytes for each stream: the beginning and the end.
    pub fn keep(mut self, bytes: usize) -> Self {
        self.keep = bytes;
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the log shows of it: no script, only the name and the values.
    pub fn told(&self) -> String {
        let mut told = String::from(if self.root { "sudo " } else { "" });
        told.push_str(self.name);
        for arg in &self.args {
            told.push(' ');
            told.push_str(&quote(arg));
        }
        told
    }

    pub(super) fn needs_root(&self) -> bool {
        self.root
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn kept(&self) -> usize {
        self.keep
    }

    /// The text for the SSH server's shell, after `prefix` (empty or a `sudo`).
    pub(super) fn text(&self, prefix: &str) -> String {
        let mut text = format!("{prefix}sh -c {} {}", quote(self.script), quote(self.name));
        for arg in &self.args {
            text.push(' ');
            text.push_str(&quote(arg));
        }
        text
    }
}

/// A word that a POSIX shell takes literally, whatever it holds. A NUL cannot be in an argument and is dropped.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ',' | ':' | '@' | '%' | '+');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for c in word.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            '\0' => {}
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_words_stay_and_others_are_quoted() {
        assert_eq!(quote("/home/cloudtower"), "/home/cloudtower");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's; rm -rf /"), "'it'\\''s; rm -rf /'");
        assert_eq!(quote("$(id)`id`\n\\"), "'$(id)`id`\n\\'");
    }

    #[test]
    fn a_command_names_itself_and_quotes_its_values() {
        let command = Command::new("list", "ls -- \"$1\"").arg("/tmp/a b").root();
        assert_eq!(command.text("sudo -n "), "sudo -n sh -c 'ls -- \"$1\"' list '/tmp/a b'");
        assert_eq!(command.told(), "sudo list '/tmp/a b'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_real_shell_gives_every_word_back(words in proptest::collection::vec("[^\u{0}]{0,12}", 1..4)) {
            let command = Command::new("echo", "printf '%s\\0' \"$@\"").args(words.clone());
            let output = std::process::Command::new("/bin/sh").arg("-c").arg(command.text("")).output().unwrap();
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(output.stdout, expected);
        }
    }
}
