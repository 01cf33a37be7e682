//! The simulator over real sockets and real files: what a client sees, in every mode, and that every fault strikes and
//! is seen. Knows the product's interface only as a client does.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside of `#[test]` functions"
)]

mod client;
mod cloudtower;
mod faults;
mod guest;
mod iso;
mod lab;
mod lookups;
mod sessions;
mod transport;
mod upload;
mod vms;
mod whole;
mod workbook;
