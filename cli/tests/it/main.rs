//! `ctl` as its users meet it: the real binary, against a controller of the test's own over real TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod access;
mod again;
mod audit;
mod bundle;
mod campaign;
mod decide;
mod deploy;
mod diff;
mod fake;
mod fake_access;
mod fake_many;
mod help;
mod language;
mod line;
mod local;
mod log;
mod refusals;
mod relocate;
mod report;
mod run;
mod show;
mod watch;
mod write_back;
