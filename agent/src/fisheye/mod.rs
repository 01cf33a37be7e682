//! The cluster's management interface as `fisheye.md` describes it. Knows the calls, the session and what can go wrong;
//! knows no step and no job of ours (a [`Job`] here is one of Fisheye's).

mod api;
mod backoff;
mod call;
mod chunk;
mod client;
mod envelope;
mod error;
mod jobs;
mod session;
mod types;
mod wire;

pub(crate) use backoff::backoff;
pub use call::{Call, Repeat};
pub use chunk::{ChunkAddress, ChunkOutcome, ChunkRequest, Stale};
pub use client::Client;
pub use error::{Error, ErrorKind, Refusal};
pub use jobs::{JobEnd, JobFailure, JobState, JobWatch};
pub use types::{
    ChunkAck, Created, HostInfo, Image, Job, Policy, Vds, Vlan, Vm, VmNic, Volume, VolumeInfo, same_image_name,
};
pub use wire::{Line, Patience, Wire, WireError};
