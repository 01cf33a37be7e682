//! Named changes of the world, for faults and for operators.

use std::{collections::BTreeSet, time::Duration};

use super::{Effect, JobState, Phase, Power, World};
use crate::core::Core;
use crate::fault::WorldAction;
use crate::options::PlantedVm;

impl World {
    /// Changes the world; what is meant for nobody changes nothing. Certificates are the core's business.
    pub fn act(&mut self, core: &Core, action: &WorldAction) {
        let now = core.clock.elapsed();
        match action {
            WorldAction::VipMove { down_s, lose_tokens, lose_uploads } => {
                self.vip_move(core, *down_s, *lose_tokens, *lose_uploads);
            }
            WorldAction::Down { address } => core.switchboard.set(*address, false),
            WorldAction::Up { address } => core.switchboard.set(*address, true),
            WorldAction::RevokeTokens => self.sessions.close_all(),
            WorldAction::RotateCertificate => {}
            WorldAction::DropImages { all } => self.drop_images(core, *all),
            WorldAction::FreeBytes { bytes } => {
                // Somebody else took or gave the difference.
                self.baseline.free_bytes =
                    self.baseline.free_bytes.saturating_sub(self.free_bytes).saturating_add(*bytes);
                self.free_bytes = *bytes;
            }
            WorldAction::ClusterRestart => self.cluster_restart(),
            WorldAction::PowerOff { vm } => self.each_vm(vm, |world, uuid| world.power_off(core, now, uuid)),
            WorldAction::PlantVm(planted) => self.plant(core, planted),
            WorldAction::DeleteVm { vm } => self.each_vm(vm, |world, uuid| {
                world.drop_vm(uuid, true);
                world.baseline.vms.remove(uuid);
            }),
            WorldAction::Reboot { vm } => self.each_vm(vm, |world, uuid| world.reboot(core, now, uuid)),
            WorldAction::Agent { vm, running } => self.each_vm(vm, |world, uuid| {
                let boot = world.vms.get(uuid).map_or(0, |vm| vm.boot);
                world.agent(core, now, uuid, boot, *running);
            }),
            WorldAction::GuestExpired { vm, expired } => self.each_vm(vm, |world, uuid| {
                if let Some(vm) = world.vms.get_mut(uuid) {
                    vm.expired = *expired;
                }
            }),
        }
    }

    fn plant(&mut self, core: &Core, planted: &PlantedVm) {
        let before: BTreeSet<String> = self.vms.keys().cloned().collect();
        self.plant_vms(planted, core.clock.now().as_second());
        let new = self.vms.iter().filter(|(uuid, _)| !before.contains(*uuid));
        let new: Vec<_> = new.map(|(uuid, vm)| (uuid.clone(), vm.clone())).collect();
        self.baseline.vms.extend(new);
    }

    fn vip_move(&mut self, core: &Core, down_s: u64, lose_tokens: bool, lose_uploads: bool) {
        let address = core.options.vip;
        core.switchboard.set(address, false);
        self.plan(core.clock.elapsed() + Duration::from_secs(down_s), Effect::AddressUp { address });
        if lose_tokens {
            self.sessions.close_all();
        }
        if lose_uploads {
            self.drop_images(core, false);
        }
    }

    fn drop_images(&mut self, core: &Core, all: bool) {
        let doomed = self.images.values().filter(|image| !image.foreign && (all || !image.is_complete()));
        for uuid in doomed.map(|image| image.uuid.clone()).collect::<Vec<_>>() {
            self.remove_image(core, &uuid);
        }
    }

    /// Queued jobs are lost without effect; those at work have theirs, but nobody knows their ids any more.
    fn cluster_restart(&mut self) {
        let mut lost = Vec::new();
        self.jobs.retain(|_, job| {
            let keep = job.state != JobState::Pending;
            if !keep && matches!(job.work, super::Work::Create { .. }) {
                lost.push(job.vm_uuid.clone());
            }
            keep
        });
        for job in self.jobs.values_mut() {
            job.forgotten = true;
        }
        for uuid in lost {
            self.drop_vm(&uuid, true);
        }
    }

    fn each_vm(&mut self, name: &str, mut act: impl FnMut(&mut Self, &str)) {
        let named = self.vms.values().filter(|vm| vm.name.eq_ignore_ascii_case(name));
        for uuid in named.map(|vm| vm.uuid.clone()).collect::<Vec<_>>() {
            act(self, &uuid);
        }
    }
}

impl super::Vm {
    /// Up in any way that has a guest.
    #[must_use]
    pub fn guest_is_up(&self) -> bool {
        self.power == Power::Running && matches!(self.phase, Phase::AgentRunning | Phase::NoAgent | Phase::ToolsInstall)
    }
}
