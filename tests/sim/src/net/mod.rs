//! The wire under both HTTPS faces: certificates, listeners, connections that can be cut, and the stage on which faults
//! are applied and the transcript is written. Knows nothing of what the faces say.

mod body;
mod endpoint;
mod pacer;
mod stage;
mod switchboard;
mod tls;
mod wire;

pub use endpoint::{Site, bind, reserve, serve};
pub use pacer::Pacer;
pub use stage::{Marks, Notes};
pub use switchboard::Switchboard;
pub use tls::Identity;
pub use wire::Wire;
