//! Brings the ISO's bytes into an upload volume: what to send next ([`Chunks`]), reading and hashing ([`Source`]),
//! speed and ETA ([`Meter`]), and the loop over it ([`send`]). Knows Fisheye's chunk call and no other one.

mod chunks;
mod meter;
mod reader;
mod send;
mod unfinished;

pub use chunks::{ChunkPlanError, Chunks};
pub use meter::Meter;
pub use reader::{Sending, Source, WholeHash};
pub(crate) use send::changed;
pub use send::{Broken, Upload};
pub use unfinished::Unfinished;
