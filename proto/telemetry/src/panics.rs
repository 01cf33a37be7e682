//! What a panic says goes through the redactor, like every other line: its words may hold a part of what was at hand.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write as _},
    panic::{self, PanicHookInfo},
    thread,
};

use gantry_proto::Redactor;

/// From now on every panic of the process is told on stderr without the values that `redactor` knows.
pub(crate) fn redact(redactor: &Redactor) {
    let redactor = redactor.clone();
    panic::set_hook(Box::new(move |info| {
        // Not by way of the log: the panic may have come from there.
        let _ = writeln!(io::stderr().lock(), "{}", told(info, &redactor));
    }));
}

fn told(info: &PanicHookInfo<'_>, redactor: &Redactor) -> String {
    let words = info.payload_as_str().unwrap_or("it says nothing");
    let (thread, place) = (thread::current(), info.location().map(ToString::to_string).unwrap_or_default());
    let mut text = format!("thread '{}' panicked at {place}: {words}", thread.name().unwrap_or("unnamed"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{trace}"));
    }
    redactor.try_text(&text).unwrap_or_else(|| format!("a thread panicked at {place}; its words are held back"))
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::{Command, Output},
    };

    use gantry_proto::{REDACTED, Secret};

    use super::*;

    /// Set for the copy of the test that panics.
    const INSIDE: &str = "GANTRY_TEST_PANICS";
    const NAME: &str = "panics::tests::a_panic_is_told_without_what_must_not_be_seen";
    const SECRET: &str = "canary \"pass/word\" 9";

    fn known() -> Result<(), &'static str> {
        Err(SECRET)
    }

    /// A process of its own: a hook is the whole process's.
    fn inside() -> Output {
        let mut copy = Command::new(env::current_exe().unwrap());
        copy.args(["--exact", NAME, "--nocapture", "--test-threads", "1"]).env(INSIDE, "1").env("RUST_BACKTRACE", "1");
        copy.output().unwrap()
    }

    #[test]
    fn a_panic_is_told_without_what_must_not_be_seen() {
        if env::var_os(INSIDE).is_some() {
            let redactor = Redactor::new();
            redactor.register(&Secret::new(SECRET));
            let settings = crate::Settings::default();
            let _telemetry = crate::init(crate::Telling {
                service: "test",
                version: "1",
                settings: &settings,
                redactor: &redactor,
                intake: None,
            })
            .unwrap();
            let panicking = thread::Builder::new().name("a worker".into()).spawn(|| {
                let _ = panic::catch_unwind(|| panic!("it was {SECRET}, in full"));
                known().unwrap();
            });
            panicking.unwrap().join().unwrap_err();
            return;
        }
        let output = inside();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(&format!("it was {REDACTED}, in full")), "{said}");
        assert!(said.contains("thread 'a worker' panicked at") && said.contains("panics.rs"), "{said}");
        assert_eq!(said.matches(REDACTED).count(), 2, "{said}");
        assert!(!said.contains("canary") && !said.contains("pass/word"), "{said}");
    }
}
