//! End to end: real processes against the simulated site, as an operator would use them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod again;
mod bundle;
mod campaign;
mod cancel;
mod chaos;
mod chromium;
mod collector;
mod decide;
mod deploy;
mod diff;
mod faults;
mod fuzz;
mod handover;
mod identity;
mod line;
mod metrics;
mod moving;
mod openssh;
mod proxied;
mod reasons;
mod refused;
mod secrets;
mod stages;
mod steer;
mod support;
mod telemetry;
mod tidy;
mod trace;
mod watch;
mod web;
mod web_acts;
