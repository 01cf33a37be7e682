//! Brings the ISO's bytes into an upload volume: what to send next ([`Chunks`]), how many at a time ([`Width`]), the
//! threads that read, hash and send, speed and ETA ([`Meter`]), and the loop over it ([`send`]). Knows Fisheye's chunk call
//! and no other one.

mod beside;
mod chunks;
mod crew;
mod filled;
mod meter;
mod reader;
mod send;
mod slot;
mod throttle;
mod times;
mod tuning;
mod unfinished;
mod width;

pub use chunks::{ChunkPlanError, Chunks};
pub use filled::{Broken, Filled};
pub use meter::Meter;
pub(crate) use meter::human;
pub use reader::Source;
pub use send::Upload;
pub(crate) use send::changed;
pub use times::Times;
pub use tuning::Tuning;
pub use unfinished::Unfinished;
pub use width::Width;
