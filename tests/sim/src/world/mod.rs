//! The state of the outside world that all faces share. Time is given to it: everything that is due happens when the
//! world is next looked at, or when the director wakes. It never waits and never does I/O on the network.

mod action;
mod cluster;
mod guest_event;
mod guest_os;
mod image;
mod job;
mod schedule;
mod session;
mod vm;
mod volume;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use cluster::{NodeState, PolicyState, VdsState, VlanState};
pub use guest_event::{GUEST_EVENTS, GuestEvent, GuestEvents};
pub use image::{Image, ImageState, MAX_CHUNKS};
pub use job::{Job, JobError, JobState, NODE_RESERVE, Work};
pub use schedule::{Effect, Schedule};
pub use session::Sessions;
pub use vm::{Disk, Nic, Phase, Power, Vm};
pub use volume::{Volume, new_mac};

use crate::cloudtower::Tower;
use crate::core::Core;
use crate::guest::GuestRecord;
use crate::options::SimOptions;
use crate::rng::named_uuid;

/// Everything that exists.
#[derive(Debug, Serialize, Deserialize)]
pub struct World {
    /// Who is logged in.
    pub sessions: Sessions,
    /// Images and upload volumes by uuid.
    pub images: BTreeMap<String, Image>,
    /// VMs by uuid.
    pub vms: BTreeMap<String, Vm>,
    /// VM volumes by uuid.
    pub volumes: BTreeMap<String, Volume>,
    /// Jobs by id.
    pub jobs: BTreeMap<String, Job>,
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
    /// Free bytes of the cluster, before replication.
    pub free_bytes: u64,
    /// Objects that existed before the run, as they were.
    pub baseline: Baseline,
    datastore: String,
    last_lun: u64,
    schedule: Schedule,
    outbox: VecDeque<GuestEvent>,
    #[serde(skip)]
    wake: Arc<Notify>,
}

/// What must not change (invariant 4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Foreign VMs by uuid.
    pub vms: BTreeMap<String, Vm>,
    /// Foreign images by uuid.
    pub images: BTreeMap<String, Image>,
    /// Free bytes.
    pub free_bytes: u64,
}

impl World {
    /// The world at the start of a scenario.
    #[must_use]
    pub fn new(options: &SimOptions, now: Timestamp) -> Self {
        let mut world = Self {
            sessions: Sessions::default(),
            images: BTreeMap::new(),
            vms: BTreeMap::new(),
            volumes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            guests: BTreeMap::new(),
            towers: BTreeMap::new(),
            nodes: cluster::nodes(options),
            vds: cluster::switches(options),
            policies: cluster::policies(options),
            free_bytes: options.free_bytes,
            baseline: Baseline::default(),
            datastore: named_uuid(&format!("datastore {}", options.seed)),
            last_lun: 64,
            schedule: Schedule::default(),
            outbox: VecDeque::new(),
            wake: Arc::default(),
        };
        for image in &options.images {
            world.plant_images(image, now.as_second());
        }
        for vm in &options.vms {
            world.plant_vms(vm, now.as_second());
        }
        world.remember();
        world
    }

    /// Takes what is foreign now as the state that must not change.
    pub fn remember(&mut self) {
        let foreign_vms = self.vms.iter().filter(|(_, vm)| vm.foreign);
        let foreign_images = self.images.iter().filter(|(_, image)| image.foreign);
        self.baseline = Baseline {
            vms: foreign_vms.map(|(uuid, vm)| (uuid.clone(), vm.clone())).collect(),
            images: foreign_images.map(|(uuid, image)| (uuid.clone(), image.clone())).collect(),
            free_bytes: self.free_bytes,
        };
    }

    /// Does everything that is due by now, at the moment it was due.
    pub fn settle(&mut self, core: &Core) {
        while let Some((at, effect)) = self.schedule.due(core.clock.elapsed()) {
            self.happen(core, at, effect);
        }
    }

    /// Puts a message for the guest side into the outbox; the director delivers it.
    pub fn tell_guest(&mut self, event: GuestEvent) {
        self.outbox.push_back(event);
        self.wake.notify_one();
    }

    /// Replaces everything, keeping the director's attention.
    pub fn replace(&mut self, fresh: Self) {
        let wake = self.wake.clone();
        *self = Self { wake, ..fresh };
        self.wake.notify_one();
    }

    /// What the director needs: messages to deliver, and when to look again.
    pub(crate) fn turn(&mut self) -> (Vec<GuestEvent>, Option<Duration>, Arc<Notify>) {
        (self.outbox.drain(..).collect(), self.schedule.next_at(), self.wake.clone())
    }

    fn plan(&mut self, at: Duration, effect: Effect) {
        self.schedule.put(at, effect);
        self.wake.notify_one();
    }

    fn happen(&mut self, core: &Core, at: Duration, effect: Effect) {
        match effect {
            Effect::JobBegins { job } => self.job_begins(core, at, &job),
            Effect::JobEnds { job } => self.job_ends(core, at, &job),
            Effect::JobForgotten { job } => {
                self.jobs.remove(&job);
            }
            Effect::VmShows { vm } => self.show_vm(&vm),
            Effect::GuestPhase { vm, boot, phase } => self.guest_phase(core, at, &vm, boot, phase),
            Effect::PowerLoss { vm, boot } => {
                if self.vms.get(&vm).is_some_and(|vm| vm.boot == boot) {
                    self.power_off(core, at, &vm);
                }
            }
            Effect::Agent { vm, boot, running } => self.agent(core, at, &vm, boot, running),
            Effect::GuestShowsAddress { vm, boot: _ } => self.guest_shows_address(&vm),
            Effect::ImageListed { image } => self.image_listed(&image),
            Effect::ImageExpired { image, activity } => self.image_expired(core, &image, activity),
            Effect::AddressUp { address } => core.switchboard.set(address, true),
        }
    }

    /// The iSCSI URL of the next LUN.
    fn next_path(&mut self) -> String {
        self.last_lun += 1;
        format!("iscsi://iqn.2016-02.com.smartx:system:{}/{}", self.datastore_name(), self.last_lun)
    }

    /// The datastore's name.
    #[must_use]
    pub fn datastore_name(&self) -> String {
        format!("zbs-iscsi-datastore-{}", self.datastore)
    }

    fn show_vm(&mut self, uuid: &str) {
        if let Some(vm) = self.vms.get_mut(uuid) {
            vm.visible = true;
        }
    }
}
