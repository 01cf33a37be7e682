//! Every way to fail: its message and its exit code. Scripts depend on the numbers; they never change their meaning.

use std::{fmt::Write as _, io};

use crate::{
    language::Said,
    render::{paint::Paint, reason, text},
};

/// What the process says to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, warnings or not.
    Done = 0,
    /// A defect of ours.
    Internal = 1,
    /// The command line, the profile or the job id is wrong.
    Usage = 2,
    /// The workbook is rejected or cannot be read; an audit log does not verify.
    Rejected = 3,
    /// The job failed; what it had made is removed, or kept by policy.
    Failed = 4,
    /// The job failed or was cancelled and something is left over.
    Leftovers = 5,
    /// The controller cannot be reached.
    Unreachable = 6,
    /// The controller refuses: identity, role, or the state of things. Or a deployment would be refused at its site.
    Refused = 7,
    /// The job waits for an operator.
    NeedsOperator = 8,
    /// The job was cancelled, nothing is left over.
    Cancelled = 130,
}

/// Why a command did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// To be told on stderr.
    Story(Box<Story>),
    /// Everything is told already.
    Told(Exit),
}

/// What was attempted, on what, why it failed, what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Story {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What was attempted, on what.
    pub(crate) message: Said,
    /// Why, outermost first.
    pub(crate) causes: Vec<Said>,
    /// What to do, one sentence each.
    pub(crate) remedies: Vec<Said>,
    /// The command that explains it, when it has a code.
    pub(crate) more: Option<String>,
}

impl Failure {
    /// A failure without causes or remedies yet.
    pub(crate) fn new(exit: Exit, message: impl Into<Said>) -> Self {
        let (message, causes, remedies) = (message.into(), Vec::new(), Vec::new());
        Self::Story(Box::new(Story { exit, message, causes, remedies, more: None }))
    }

    /// The command line, the profile or the job id is wrong.
    pub(crate) fn usage(message: impl Into<Said>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// With one more cause.
    pub(crate) fn because(mut self, cause: impl Into<Said>) -> Self {
        if let Self::Story(story) = &mut self {
            story.causes.push(cause.into());
        }
        self
    }

    /// With one more thing to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<Said>) -> Self {
        if let Self::Story(story) = &mut self {
            story.remedies.push(remedy.into());
        }
        self
    }

    /// With the command that explains this code, when there is a page.
    pub(crate) fn explained(mut self, code: &str) -> Self {
        if let Self::Story(story) = &mut self {
            story.more = reason::command(code);
        }
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Story(story) => story.exit,
            Self::Told(exit) => *exit,
        }
    }

    /// What and why in one line, for where there is no room for more.
    pub(crate) fn sentence(&self) -> Said {
        let Self::Story(story) = self else { return Said::default() };
        Said::of(|| {
            let parts = std::iter::once(&story.message).chain(&story.causes).map(Said::text);
            let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
            text::clean(&parts.join(word!(": ", "："))).into_owned()
        })
    }

    /// The text for stderr; empty when everything is told.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let Self::Story(story) = self else { return String::new() };
        let (mark, message) = (paint.bad(word!("error:", "错误：")), text::clean(story.message.text()));
        let mut out = say!("{mark} {message}\n", "{mark}{message}\n");
        let rows = |told: &[Said], name: &str, out: &mut String| {
            // What a text says in one language only is no row in the other.
            for told in told.iter().map(Said::text).filter(|told| !told.is_empty()) {
                let _ = writeln!(out, "  {}{}", text::fill(name, 9), text::clean(told));
            }
        };
        rows(&story.causes, word!("because:", "起因："), &mut out);
        rows(&story.remedies, word!("to do:", "处理："), &mut out);
        if let Some(more) = &story.more {
            let _ = writeln!(out, "  {}{more}", text::fill(word!("more:", "更多："), 9));
        }
        out
    }
}

/// Writing a result: a reader that has gone away (`ctl jobs | head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Told(Exit::Done);
        }
        Self::new(Exit::Internal, said!("cannot write the result to standard output", "无法将结果写到标准输出"))
            .because(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Lang, language::within};

    #[test]
    fn a_story_says_what_why_and_what_to_do() {
        let failure =
            Failure::usage("cannot read\u{1b}[31m x").because("no such file").remedy("check the path").remedy("or not");
        assert_eq!(
            failure.text(Paint::PLAIN),
            "error: cannot read x\n  because: no such file\n  to do:   check the path\n  to do:   or not\n"
        );
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(failure.sentence().text(), "cannot read x: no such file");
    }

    #[test]
    fn a_story_is_told_in_chinese_too() {
        let failure = Failure::usage(said!("cannot read x", "无法读取 x")).because("no such file");
        let failure = failure.remedy(said!("check the path", "请检查路径")).remedy(Said::both("", "仅中文"));
        assert!(!failure.text(Paint::PLAIN).contains("仅"));
        within(Lang::Zh, || {
            let told = "错误：无法读取 x\n  起因：   no such file\n  处理：   请检查路径\n  处理：   仅中文\n";
            assert_eq!(failure.text(Paint::PLAIN), told);
            assert_eq!(failure.sentence().text(), "无法读取 x：no such file");
        });
        let failure = failure.because(Said::both("", "仅中文"));
        assert_eq!(failure.sentence().english(), "cannot read x: no such file");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(), Exit::Done);
        assert_eq!(Failure::from(io::Error::other("disk full")).exit(), Exit::Internal);
    }
}
