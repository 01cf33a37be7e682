//! Reads the installer's log as it comes, in pieces cut anywhere, and finds the verdict (`cloudtower.md` 2.5). Pure.

use std::{collections::VecDeque, time::Duration};

use super::Status;

/// The text that means success.
pub const SUCCESS: &str = "Install Operation Center Successfully";
/// The installer's checks, as the product guide names them.
pub const CHECKS: [&str; 8] = [
    "checkDiskSpace",
    "checkPkgArchDist",
    "checkVmSpec",
    "checkIOWait",
    "checkConflictingProcess",
    "checkPackageVersion",
    "checkCAPPDirectoryUsage",
    "checkMagicPatch",
];
/// Last lines that are kept for a failure.
pub const TAIL_LINES: usize = 50;
/// Longest line that is kept, bytes; the rest of a longer one is only searched.
const LINE_BYTES: usize = 4096;
/// Words on a line about a check that did not pass; they win over [`GOOD`].
const BAD: [&str; 12] = [
    "fail",
    "error",
    "not pass",
    "unpass",
    "invalid",
    "insufficient",
    "not met",
    "below",
    "denied",
    "未通过",
    "失败",
    "不满足",
];
/// Words on a line about a check that passed.
const GOOD: [&str; 5] = ["pass", "ok", "succe", "通过", "成功"];

/// The log so far. Memory is bounded whatever the log holds.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    strip: Strip,
    matched: usize,
    success: bool,
    line: Vec<u8>,
    tail: VecDeque<String>,
}

/// What the log and the process say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Running,
    /// Success is told, the process has not ended yet.
    Finishing,
    /// Success; the exit status belongs to it, when it is known.
    Succeeded { rc: Option<i64> },
    /// The process ended without success. `failed_checks` are those named on its last lines as not passed.
    Failed { rc: Option<i64>, failed_checks: Vec<String> },
    /// The time is up.
    TooLate,
}

impl Reader {
    /// Takes the next piece in.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(byte) = self.strip.next(*byte) {
                self.search(byte);
                self.keep(byte);
            }
        }
    }

    /// Whether the success text has come, wherever.
    pub fn success(&self) -> bool {
        self.success
    }

    /// The last line that says anything, also an unfinished one, without colours.
    pub fn last_line(&self) -> String {
        let open = shown(&self.line);
        if open.is_empty() { self.tail.back().cloned().unwrap_or_default() } else { open }
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        let open = Some(shown(&self.line)).filter(|line| !line.is_empty());
        let lines: Vec<String> = self.tail.iter().cloned().chain(open).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec()
    }

    /// Checks named on the last lines, those that passed as well.
    pub fn named_checks(&self) -> Vec<String> {
        self.checks(|_| true)
    }

    /// Checks named on the last lines that say of them that they did not pass, or do not say that they passed.
    pub fn failed_checks(&self) -> Vec<String> {
        self.checks(|line| {
            let line = line.to_lowercase();
            BAD.iter().any(|word| line.contains(word)) || !GOOD.iter().any(|word| line.contains(word))
        })
    }

    /// The verdict. `status` must have been asked before the end of the log was read, so that a process that is gone
    /// has nothing more to say.
    pub fn verdict(&self, status: &Status, elapsed: Duration, limit: Duration) -> Verdict {
        match (self.success, status.has_ended()) {
            (true, true) => Verdict::Succeeded { rc: status.rc },
            (true, false) if !status.is_known() => Verdict::Succeeded { rc: None },
            (true, false) => Verdict::Finishing,
            (false, true) => Verdict::Failed { rc: status.rc, failed_checks: self.failed_checks() },
            (false, false) if elapsed >= limit => Verdict::TooLate,
            (false, false) => Verdict::Running,
        }
    }

    fn checks(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let tail = self.tail();
        let named = |check: &&str| tail.iter().any(|line| line.contains(*check) && wanted(line));
        CHECKS.iter().filter(|check| named(check)).map(|check| (*check).to_owned()).collect()
    }

    /// No border of the success text is longer than nothing: a mismatch begins anew, with this byte.
    fn search(&mut self, byte: u8) {
        let text = SUCCESS.as_bytes();
        if self.success || byte == b'\r' {
            return;
        }
        if text[self.matched] == byte {
            self.matched += 1;
        } else {
            self.matched = usize::from(text[0] == byte);
        }
        if self.matched == text.len() {
            self.success = true;
            self.matched = 0;
        }
    }

    fn keep(&mut self, byte: u8) {
        if byte == b'\n' {
            let line = shown(&self.line);
            self.line.clear();
            if !line.is_empty() {
                if self.tail.len() == TAIL_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(line);
            }
        } else if byte == b'\r' && self.line.len() >= LINE_BYTES {
            // Progress that rewrites its line: only the newest writing counts, so make room for it.
            self.line.clear();
        } else if self.line.len() < LINE_BYTES {
            self.line.push(byte);
        }
    }
}

/// A line as a terminal would show it in the end: what comes after the last `\r` that is followed by anything.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let last = text.rsplit('\r').map(str::trim_end).find(|part| !part.is_empty()).unwrap_or_default();
    last.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Takes terminal sequences (colours, cursor, titles) out of a stream, cut anywhere.
#[derive(Clone, Copy, Debug, Default)]
enum Strip {
    #[default]
    Text,
    Escape,
    /// `ESC [` up to a letter.
    Control,
    /// `ESC ]` up to BEL or `ESC \`.
    Title,
    TitleEscape,
}

impl Strip {
    /// The byte, when it is text. A line end always is: no sequence can swallow the rest of the log.
    fn next(&mut self, byte: u8) -> Option<u8> {
        let (state, text) = match (*self, byte) {
            (Self::Text, 0x1b) => (Self::Escape, None),
            (Self::Text, byte) => (Self::Text, Some(byte)),
            (_, b'\n') => (Self::Text, Some(byte)),
            (Self::Escape, b'[') => (Self::Control, None),
            (Self::Escape, b']') => (Self::Title, None),
            (Self::Escape, 0x20..=0x2f) => (Self::Escape, None),
            (Self::Escape, _) => (Self::Text, None),
            (Self::Control, 0x20..=0x3f) => (Self::Control, None),
            (Self::Control, 0x40..=0x7e) => (Self::Text, None),
            // Not a sequence after all.
            (Self::Control, byte) => (Self::Text, Some(byte)),
            (Self::Title, 0x07) => (Self::Text, None),
            (Self::Title, 0x1b) => (Self::TitleEscape, None),
            (Self::TitleEscape, b'\\') => (Self::Text, None),
            (Self::Title | Self::TitleEscape, _) => (Self::Title, None),
        };
        *self = state;
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Reader {
        let mut reader = Reader::default();
        pieces.iter().for_each(|piece| reader.push(piece));
        reader
    }

    fn ended(rc: Option<i64>) -> Status {
        Status { pid: Some(1), rc, ..Status::default() }
    }

    const ALIVE: Status = Status { pid: Some(1), alive: true, rc: None, out: None, nohup: None };
    const LIMIT: Duration = Duration::from_secs(2400);

    #[test]
    fn the_success_text_has_no_border_so_that_a_plain_search_finds_it() {
        let text = SUCCESS.as_bytes();
        assert!((1..text.len()).all(|n| text[..n] != text[text.len() - n..]));
    }

    #[test]
    fn success_is_found_with_colours_and_carriage_returns_inside() {
        for log in [
            "x\nInstall Operation Center Successfully\n",
            "finishing  99%\rfinishing 100%\rInstall Operation Center Successfully\r\n",
            "\x1b[1mInstall \x1b[32mOperation Center\x1b[0m Success\x1b[0mfully\x1b[0m\n",
            "\x1b]0;title\x07Install Operation\x1b(B Center\r Successfully",
            "InInstall InstInstall Operation Center Successfully and 200 more",
        ] {
            assert!(read(&[log.as_bytes()]).success(), "{log:?}");
        }
        for log in ["Install Operation Center\nSuccessfully", "Install Operation Center Failed", ""] {
            assert!(!read(&[log.as_bytes()]).success(), "{log:?}");
        }
    }

    #[test]
    fn a_broken_sequence_cannot_swallow_the_log() {
        assert!(read(&[b"\x1b[31;\nInstall Operation Center Successfully\n"]).success());
        assert!(read(&[b"\x1b]never ends\nInstall Operation Center Successfully\n"]).success());
    }

    #[test]
    fn verdicts() {
        let good = read(&[b"...\nInstall Operation Center Successfully\nmore\n"]);
        let bad = read(&[b"[precheck] checkDiskSpace passed\n[precheck] checkVmSpec FAILED: requirement not met\n"]);
        let none = read(&[b"step 1\n"]);
        let quick = Duration::from_secs(1);
        assert_eq!(good.verdict(&ALIVE, quick, LIMIT), Verdict::Finishing);
        assert_eq!(good.verdict(&ended(Some(0)), quick, LIMIT), Verdict::Succeeded { rc: Some(0) });
        assert_eq!(good.verdict(&ended(Some(3)), quick, LIMIT), Verdict::Succeeded { rc: Some(3) }, "G20");
        assert_eq!(good.verdict(&ended(None), quick, LIMIT), Verdict::Succeeded { rc: None }, "G19");
        assert_eq!(
            bad.verdict(&ended(Some(1)), quick, LIMIT),
            Verdict::Failed { rc: Some(1), failed_checks: vec!["checkVmSpec".to_owned()] }
        );
        assert_eq!(bad.verdict(&ALIVE, quick, LIMIT), Verdict::Running, "a name alone is no failure");
        assert_eq!(
            none.verdict(&ended(None), quick, LIMIT),
            Verdict::Failed { rc: None, failed_checks: Vec::new() },
            "G17, G23"
        );
        assert_eq!(none.verdict(&ended(Some(0)), quick, LIMIT), Verdict::Failed { rc: Some(0), failed_checks: vec![] });
        assert_eq!(none.verdict(&ALIVE, LIMIT, LIMIT), Verdict::TooLate, "G18");
        assert_eq!(good.verdict(&ALIVE, LIMIT, LIMIT), Verdict::Finishing, "success wins over the clock");
    }

    #[test]
    fn checks_that_passed_are_named_but_did_not_fail() {
        let reader = read(&[b"checkDiskSpace: ok\ncheckIOWait 42ms\ncheckPackageVersion not passed\n"]);
        assert_eq!(reader.named_checks(), ["checkDiskSpace", "checkIOWait", "checkPackageVersion"]);
        assert_eq!(reader.failed_checks(), ["checkIOWait", "checkPackageVersion"]);
    }

    #[test]
    fn the_tail_is_short_and_the_last_line_is_what_a_terminal_shows() {
        let log: String = (0..200).map(|n| format!("line {n}\n")).collect();
        let reader = read(&[log.as_bytes(), b"\x1b[33mloading  10%\rloading 100%\r\x1b[0m"]);
        assert_eq!(reader.last_line(), "loading 100%");
        let tail = reader.tail();
        assert_eq!((tail.len(), tail[0].as_str(), tail[49].as_str()), (50, "line 151", "loading 100%"));
        assert_eq!(read(&[b"one\n\n\n"]).last_line(), "one");
    }

    #[test]
    fn a_line_of_any_length_takes_bounded_memory() {
        let mut reader = Reader::default();
        for _ in 0..1000 {
            reader.push(&[b'x'; 1000]);
        }
        reader.push(b"Install Operation Center Successfully");
        assert!(reader.success() && reader.line.len() <= LINE_BYTES);
    }

    proptest! {
        #[test]
        fn where_the_log_is_cut_does_not_matter(
            before in "[ -~\r\n\u{1b}]{0,40}", inside in prop::sample::select(vec!["", "\r", "\u{1b}[0m", "\u{1b}[1;32m"]),
            at in 0..SUCCESS.len(), after in "[ -~\r\n]{0,40}", cuts in proptest::collection::vec(0usize..200, 0..12),
        ) {
            // A sequence that is still open would take the text's first letters for its own.
            let log = format!("{before}\n{}{inside}{}{after}", &SUCCESS[..at], &SUCCESS[at..]);
            let bytes = log.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut reader = Reader::default();
            cuts.windows(2).for_each(|pair| reader.push(&bytes[pair[0]..pair[1]]));
            let whole = read(&[bytes]);
            prop_assert!(reader.success());
            prop_assert_eq!(reader.tail(), whole.tail());
            prop_assert_eq!(reader.last_line(), whole.last_line());
        }

        #[test]
        fn no_bytes_make_it_stumble(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let reader = read(&[&bytes]);
            reader.tail();
            reader.failed_checks();
            prop_assert!(reader.tail.iter().all(|line| line.len() <= LINE_BYTES * 3));
        }
    }
}
