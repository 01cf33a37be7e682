//! The simulator over real sockets and real files.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside of `#[test]` functions"
)]

mod cloudtower;
mod guest;
mod iso;
mod lab;
mod whole;
mod workbook;
