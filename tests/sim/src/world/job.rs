//! The cluster's jobs: queued, working, ended; what they do when they end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Effect, GuestEvent, Nic, Power, Vm, World};
use crate::core::Core;
use crate::fault::{Action, Call, Face, JobFault};
use crate::modes::{DeleteVolumes, Duplicate, RunningVmDelete, VmVisible};
use crate::transcript::Entry;

/// Bytes of a node's memory that are not for VMs.
pub const NODE_RESERVE: u64 = 24 << 30;

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// `job_id`.
    pub id: String,
    /// Such as `VM_CREATE`.
    pub description: String,
    /// How far it is.
    pub state: JobState,
    /// Epoch seconds.
    pub ctime: i64,
    /// What it does.
    pub work: Work,
    /// To which VM.
    pub vm_uuid: String,
    /// Why it failed.
    pub error: Option<JobError>,
    /// It reports no effect of its own.
    pub without_effect: bool,
    /// Its id is unknown.
    pub forgotten: bool,
    /// Time at work.
    pub busy: Duration,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Queued.
    Pending,
    /// At work.
    Processing,
    /// Success.
    Done,
    /// Failure.
    Failed,
    /// In this state for ever.
    Stuck(String),
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Makes the VM, and starts it.
    Create {
        /// Power on.
        start: bool,
    },
    /// Powers on.
    Start,
    /// Powers off.
    Stop {
        /// Without asking the guest.
        force: bool,
    },
    /// Restarts.
    Reboot,
    /// Removes.
    Delete {
        /// With its volumes.
        include_volumes: bool,
    },
    /// Replaces the NICs.
    Network {
        /// All of them, as they will be.
        nics: Vec<Nic>,
    },
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Primary code.
    pub code: String,
    /// Its text.
    pub message: String,
    /// A follower's code stands before it in the task list.
    pub follower_first: bool,
}

impl JobError {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), follower_first: false }
    }
}

impl Work {
    /// The description jobs of this kind carry.
    #[must_use]
    pub fn description(&self) -> &'static str {
        match self {
            Self::Create { .. } => "VM_CREATE",
            Self::Start => "VM_START",
            Self::Stop { .. } => "VM_STOP",
            Self::Reboot => "VM_REBOOT",
            Self::Delete { .. } => "VM_DELETE",
            Self::Network { .. } => "VM_UPDATE",
        }
    }
}

impl World {
    /// Queues a job; returns its id. Faults that match the job strike now.
    pub fn submit(&mut self, core: &Core, vm_uuid: &str, work: Work) -> String {
        let description = work.description();
        let latencies = &core.options.latencies;
        let busy = match work {
            Work::Create { .. } => core.drawn("latency.vm_create_job", latencies.vm_create_job),
            Work::Network { .. } => core.drawn("latency.network_job", latencies.network_job),
            _ => core.drawn("latency.power_job", latencies.power_job),
        };
        let mut job = Job {
            id: core.chance.uuid("job"),
            description: description.into(),
            state: JobState::Pending,
            ctime: core.clock.now().as_second(),
            work,
            vm_uuid: vm_uuid.into(),
            error: None,
            without_effect: false,
            forgotten: false,
            busy,
        };
        for fired in core.faults.strike(&Call::job(description)) {
            let mut entry = Entry::new(Face::Job, core.clock.now(), "NOTE", description);
            entry.faults.push(fired.id);
            entry.notes.push(format!("job {}", job.id));
            core.transcript.record(entry);
            match fired.action {
                Action::Job(fault) => job.struck(fault),
                Action::World(change) => self.act(core, &change),
                _ => {}
            }
        }
        let begins = core.clock.elapsed() + core.drawn("latency.job_queue", latencies.job_queue);
        let id = job.id.clone();
        if !matches!(&job.state, JobState::Stuck(state) if state == "pending") {
            self.plan(begins, Effect::JobBegins { job: id.clone() });
        }
        self.jobs.insert(id.clone(), job);
        id
    }

    pub(super) fn job_begins(&mut self, core: &Core, at: Duration, id: &str) {
        let Some(job) = self.jobs.get(id) else { return };
        if matches!(job.state, JobState::Stuck(_)) {
            return;
        }
        let (work, vm, busy) = (job.work.clone(), job.vm_uuid.clone(), job.busy);
        let error = job.error.clone().or_else(|| self.refusal(core, &work, &vm));
        if let (Work::Create { .. }, None) = (&work, &error) {
            match core.modes().vm_visible {
                VmVisible::Late => {
                    let shows = at + core.drawn("latency.vm_visible", core.options.latencies.vm_visible);
                    self.plan(shows, Effect::VmShows { vm });
                }
                VmVisible::AtOnce | VmVisible::AtDone => {}
            }
        }
        if let Some(job) = self.jobs.get_mut(id) {
            job.state = JobState::Processing;
            job.error = error;
        }
        self.plan(at + busy, Effect::JobEnds { job: id.into() });
    }

    pub(super) fn job_ends(&mut self, core: &Core, at: Duration, id: &str) {
        let Some(job) = self.jobs.get(id).cloned() else { return };
        let error = job.error.clone().or_else(|| match job.work {
            // Looked at again: the guest may have stopped meanwhile.
            Work::Network { .. } => self.refusal(core, &job.work, &job.vm_uuid),
            _ => None,
        });
        match &error {
            Some(_) if matches!(job.work, Work::Create { .. }) => self.drop_vm(&job.vm_uuid, true),
            None if !job.without_effect => self.take_effect(core, at, &job),
            None if matches!(job.work, Work::Create { .. }) => self.drop_vm(&job.vm_uuid, true),
            _ => {}
        }
        if let Some(job) = self.jobs.get_mut(id) {
            job.state = if error.is_some() { JobState::Failed } else { JobState::Done };
            job.error = error;
        }
        let ttl = core.modes().job_ttl_s;
        if ttl > 0 {
            self.plan(at + Duration::from_secs(ttl), Effect::JobForgotten { job: id.into() });
        }
    }

    /// Why work cannot be done, found when the job begins.
    fn refusal(&self, core: &Core, work: &Work, uuid: &str) -> Option<JobError> {
        let Some(vm) = self.vms.get(uuid) else { return Some(JobError::new("VM_NOT_FOUND", "the VM does not exist")) };
        let modes = core.modes();
        match work {
            Work::Create { .. } => {
                let refuse = !matches!(modes.duplicate, Duplicate::Allow);
                if refuse && self.vms.values().any(|other| other.name == vm.name && other.uuid != vm.uuid) {
                    return Some(JobError::new("VM_DUPLICATED_NAME", format!("VM name {} is in use", vm.name)));
                }
                vm.node_ip.is_none().then(|| JobError {
                    follower_first: true,
                    ..JobError::new("HostAvailableMemoryFilter", "No host has enough memory")
                })
            }
            Work::Stop { force: false } if modes.graceful_stop_fails => {
                Some(JobError::new("JOB_VM_SHUTDOWN_TIMEOUT", "the guest did not shut down"))
            }
            Work::Delete { .. } if vm.power == Power::Running => {
                let fails = modes.running_vm_delete == RunningVmDelete::JobFails;
                fails.then(|| JobError::new("VM_NOT_STOPPED", "the VM is running"))
            }
            Work::Network { nics } if nics.iter().any(|nic| nic.ip.is_some()) && !vm.agent_runs() => {
                Some(JobError::new("SVT_AGENT_NOT_RUNNING", "the guest agent is not running"))
            }
            _ => None,
        }
    }

    fn take_effect(&mut self, core: &Core, at: Duration, job: &Job) {
        let uuid = job.vm_uuid.as_str();
        match &job.work {
            Work::Create { start } => {
                self.show_vm(uuid);
                if *start {
                    self.power_on(core, at, uuid);
                }
            }
            Work::Start => self.power_on(core, at, uuid),
            Work::Stop { .. } => self.power_off(core, at, uuid),
            Work::Reboot => self.reboot(core, at, uuid),
            Work::Delete { include_volumes } => {
                let volumes = match core.modes().delete_volumes {
                    DeleteVolumes::Orphan => *include_volumes,
                    DeleteVolumes::Removed => true,
                    DeleteVolumes::AlwaysOrphan => false,
                };
                self.drop_vm(uuid, volumes);
            }
            Work::Network { nics } => self.push_network(core, at, uuid, nics),
        }
    }

    /// Removes a VM; its volumes stay as orphans unless `volumes`.
    pub(super) fn drop_vm(&mut self, uuid: &str, volumes: bool) {
        if self.vms.remove(uuid).is_none() {
            return;
        }
        for volume in self.volumes.values_mut().filter(|volume| volume.vm_uuid.as_deref() == Some(uuid)) {
            volume.vm_uuid = None;
            if volumes {
                self.free_bytes = self.free_bytes.saturating_add(volume.reserved);
                volume.size = 0;
            }
        }
        if volumes {
            self.volumes.retain(|_, volume| volume.size > 0);
        }
        self.guests.remove(uuid);
        self.towers.remove(uuid);
        self.tell_guest(GuestEvent::Deleted { vm_uuid: uuid.into() });
    }

    /// The node with the most memory left that can take `memory` more.
    #[must_use]
    pub fn roomiest_node(&self, memory: u64) -> Option<std::net::IpAddr> {
        let left = |node: &super::NodeState| {
            let here = |vm: &&Vm| vm.node_ip == Some(node.storage) && vm.power != Power::Stopped;
            let committed: u64 = self.vms.values().filter(here).map(|vm| vm.memory).sum();
            node.memory.saturating_sub(committed).saturating_sub(NODE_RESERVE)
        };
        let best = self.nodes.iter().max_by_key(|node| left(node))?;
        (left(best) >= memory).then_some(best.storage)
    }
}

impl Job {
    fn struck(&mut self, fault: JobFault) {
        match fault {
            JobFault::Fail { code, message, follower_first } => {
                self.error = Some(JobError { code, message, follower_first });
            }
            JobFault::Stuck { state } => self.state = JobState::Stuck(state),
            JobFault::Slow { seconds } => self.busy += Duration::from_secs(seconds),
            JobFault::Forgotten => self.forgotten = true,
            JobFault::NoEffect => self.without_effect = true,
        }
    }
}
