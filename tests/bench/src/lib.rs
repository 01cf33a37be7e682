//! The upload benchmark (`cargo bench-upload`): the agent's `iso push` against curl and against a plain shell loop, each a
//! process of its own, in turn, over TLS to a sink on loopback. Speaks to the agent by its command line alone.
//!
//! What counts is CPU first and the wall clock second: client and sink share the machine's cores, so wall seconds of two
//! runs differ more than CPU seconds do, and ratios within a round least of all.

pub mod bars;
pub mod clients;
pub mod command;
pub mod control;
pub mod figures;
pub mod kills;
pub mod machine;
pub mod material;
pub mod memory;
pub mod proof;
pub mod report;
pub mod rig;
pub mod sink;
pub mod speed;
pub mod usage;
