//! The controller over real sockets, with an agent that the tests play themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod access;
mod again;
mod agent;
mod audit;
mod decide;
mod diff;
mod enrollment;
mod gone;
mod jobs;
mod lab;
mod link;
mod moving;
mod orders;
mod settings;
mod store;
mod telemetry;
mod web;
mod web_acts;
