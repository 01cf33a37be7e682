//! The rig itself, with a stand-in for the agent: that it measures what it says, and counts nothing that is not whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod rig;
mod sink;
