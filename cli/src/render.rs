//! Everything that people and programs see. All of it reads `JobView` and `v1::Job`; none of it talks to anyone.

pub(crate) mod access;
pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod campaign;
pub(crate) mod diff;
pub(crate) mod ending;
mod expected;
pub(crate) mod findings;
pub(crate) mod frame;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod live;
pub(crate) mod paint;
pub(crate) mod plan;
pub(crate) mod question;
pub(crate) mod reason;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod terminal;
pub(crate) mod text;
pub(crate) mod waterfall;
pub(crate) mod words;

pub(crate) use gantry_report::units;

#[cfg(test)]
mod tests;
