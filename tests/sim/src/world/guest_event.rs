//! What the cluster tells the guest side.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// The receiving end of the bounded channel from the cluster to the guest side.
pub type GuestEvents = mpsc::Receiver<GuestEvent>;

/// Messages that may wait in the channel; the cluster's director waits when it is full.
pub const GUEST_EVENTS: usize = 256;

/// Something happened to a VM that its guest notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestEvent {
    /// The guest has (another) address; sent again after a reboot of a VM that has one.
    AddressUp {
        /// The VM.
        vm_uuid: String,
        /// Its address.
        ip: IpAddr,
        /// The MAC of its first NIC.
        mac: String,
        /// Its CPUs.
        vcpu: u32,
        /// Its memory in bytes.
        memory: u64,
        /// Its system disk in bytes.
        disk: u64,
        /// SSH answers from this moment on (virtual time since the start, for [`crate::clock::Clock::sleep_until`]).
        ssh_opens_at: Duration,
    },
    /// A guest that somebody else plays (`external_guest`) has been installed.
    Installed {
        /// The VM.
        vm_uuid: String,
    },
    /// The guest restarted: everything that ran inside is gone, the disk is kept. An `AddressUp` follows.
    AgentRebooted {
        /// The VM.
        vm_uuid: String,
    },
    /// The VM lost power.
    PoweredOff {
        /// The VM.
        vm_uuid: String,
    },
    /// The VM is gone with everything in it.
    Deleted {
        /// The VM.
        vm_uuid: String,
    },
}
