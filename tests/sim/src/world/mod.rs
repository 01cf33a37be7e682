//! The state of the outside world that all faces share. Time is given to it: everything that is due happens when the
//! world is next looked at, or when the director wakes. It never waits and never does I/O on the network.

mod cluster;
mod guest_event;
mod schedule;
mod vm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use cluster::{NodeState, PolicyState, VdsState, VlanState};
pub use guest_event::{GUEST_EVENTS, GuestEvent, GuestEvents};
pub use schedule::{Effect, Schedule};
pub use vm::{Disk, Nic, Phase, Power, Vm};

use crate::cloudtower::Tower;
use crate::core::Core;
use crate::guest::GuestRecord;
use crate::options::SimOptions;
use crate::rng::Chance;

/// Everything that exists.
#[derive(Debug, Serialize, Deserialize)]
pub struct World {
    /// VMs by uuid.
    pub vms: BTreeMap<String, Vm>,
    /// The inside of VMs by uuid.
    pub guests: BTreeMap<String, GuestRecord>,
    /// CloudTower services by the uuid of their VM.
    pub towers: BTreeMap<String, Tower>,
    /// Nodes, in workbook order.
    pub nodes: Vec<NodeState>,
    /// Virtual switches.
    pub vds: Vec<VdsState>,
    /// Storage policies.
    pub policies: Vec<PolicyState>,
    schedule: Schedule,
    outbox: VecDeque<GuestEvent>,
    #[serde(skip)]
    wake: Arc<Notify>,
}

impl World {
    /// The world at the start of a scenario.
    ///
    /// # Errors
    /// The spool directory cannot be made.
    pub fn new(options: &SimOptions, _chance: &Chance, _now: Timestamp) -> anyhow::Result<Self> {
        Ok(Self {
            vms: BTreeMap::new(),
            guests: BTreeMap::new(),
            towers: BTreeMap::new(),
            nodes: cluster::nodes(options),
            vds: cluster::switches(options),
            policies: cluster::policies(options),
            schedule: Schedule::default(),
            outbox: VecDeque::new(),
            wake: Arc::default(),
        })
    }

    /// Does everything that is due by now.
    pub fn settle(&mut self, core: &Core) {
        while let Some((_, effect)) = self.schedule.due(core.clock.elapsed()) {
            tracing::debug!(?effect, "due");
        }
    }

    /// Puts a message for the guest side into the outbox; the director delivers it.
    pub fn tell_guest(&mut self, event: GuestEvent) {
        self.outbox.push_back(event);
        self.wake.notify_one();
    }

    /// Whether `chunk` is the last one of an upload.
    #[must_use]
    pub fn is_last_chunk(&self, _image: &str, _chunk: u64) -> bool {
        false
    }

    pub(crate) fn replace(&mut self, fresh: Self) {
        let wake = self.wake.clone();
        *self = Self { wake, ..fresh };
        self.wake.notify_one();
    }

    /// What the director needs: messages to deliver, and when to look again.
    pub(crate) fn turn(&mut self) -> (Vec<GuestEvent>, Option<Duration>, Arc<Notify>) {
        (self.outbox.drain(..).collect(), self.schedule.next_at(), self.wake.clone())
    }
}
