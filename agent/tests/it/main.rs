//! The agent's parts over a real disk and real sockets, with steps made up for the purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod again;
mod bench;
mod canary;
mod cloudtower;
mod controller;
mod crash;
mod decide;
mod doctor;
mod doctor_line;
mod enroll;
mod executor;
mod fisheye;
mod guest;
mod hostile;
mod inside;
mod iso;
mod journal;
mod link;
mod lost;
mod moved;
mod program;
mod progress;
mod proxy;
mod push;
mod restart;
mod settings;
mod site;
mod steps_cluster;
mod steps_guest;
mod taken_over;
mod taken_over_steps;
mod undo;
mod upload;
mod wide;
