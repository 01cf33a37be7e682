//! What is done with an input, one module a target. The fuzzer calls it on a nightly night, and a test of the end-to-end
//! package, which includes this file by its path, on every input of `corpus/`: see [`TARGETS`].
//!
//! An input is a finding when it panics, overflows, hangs, takes too much memory, or breaks what a module asserts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a panic is how a finding is told, and this file is a crate and a module"
)]

mod cloudtower;
mod event;
mod fisheye;
mod input;
mod iso;
mod journal;
mod order;
pub mod seeds;
mod server;
mod session;
mod stage;
mod texts;
mod workbook;

/// What a target does with an input.
pub type Body = fn(&[u8]);

/// Every target: its name, which is also that of its binary and of its directory in `corpus/`, and what it does.
pub const TARGETS: &[(&str, Body)] = &[
    ("order", order::run),
    ("event", event::run),
    ("session", session::run),
    ("workbook", workbook::run),
    ("fisheye", fisheye::run),
    ("cloudtower", cloudtower::run),
    ("journal", journal::run),
    ("texts", texts::run),
    ("iso", iso::run),
];

/// How many orders of an input of the target `order` are not refused.
pub fn orders_carried_out(input: &[u8]) -> usize {
    order::carried_out(input)
}

/// Does with an input what the target of this name does.
pub fn run(target: &str, input: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("the name of a target");
    body(input);
}
