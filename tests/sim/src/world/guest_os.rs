//! The guest of a VM as the cluster sees it: power, boot phases, the agent, the address.

use std::time::Duration;

use super::{Effect, GuestEvent, Nic, Phase, Power, Vm, World};
use crate::core::Core;
use crate::modes::GuestTools;

/// How long after the agent first ran it stops in mode `agent_flaps`, and for how long.
const FLAP: Duration = Duration::from_secs(30);

impl Vm {
    /// The agent runs.
    #[must_use]
    pub fn agent_runs(&self) -> bool {
        self.phase == Phase::AgentRunning
    }
}

impl World {
    /// Powers a VM on; nothing when it runs.
    pub(super) fn power_on(&mut self, core: &Core, at: Duration, uuid: &str) {
        let Some(vm) = self.vms.get(uuid).filter(|vm| vm.power != Power::Running) else { return };
        let node = vm.node_ip.or_else(|| self.roomiest_node(vm.memory));
        if let Some(vm) = self.vms.get_mut(uuid) {
            vm.power = Power::Running;
            vm.node_ip = node;
            vm.last_start_time = Some(core.clock.at(at).as_second());
        }
        self.boot(core, at, uuid);
    }

    /// Powers a VM off; nothing when it is off.
    pub(super) fn power_off(&mut self, core: &Core, at: Duration, uuid: &str) {
        let Some(vm) = self.vms.get_mut(uuid).filter(|vm| vm.power != Power::Stopped) else { return };
        vm.power = Power::Stopped;
        vm.phase = Phase::Off;
        vm.boot += 1;
        vm.last_shutdown_time = Some(core.clock.at(at).as_second());
        self.tell_guest(GuestEvent::PoweredOff { vm_uuid: uuid.into() });
    }

    /// Restarts the guest of a running VM.
    pub(super) fn reboot(&mut self, core: &Core, at: Duration, uuid: &str) {
        if self.vms.get(uuid).is_some_and(|vm| vm.power == Power::Running) {
            self.tell_guest(GuestEvent::AgentRebooted { vm_uuid: uuid.into() });
            self.boot(core, at, uuid);
        }
    }

    fn boot(&mut self, core: &Core, at: Duration, uuid: &str) {
        let Some(vm) = self.vms.get_mut(uuid) else { return };
        vm.boot += 1;
        vm.phase = Phase::Bios;
        let (boot, installed) = (vm.boot, vm.installed);
        let next = if installed {
            Phase::ToolsInstall
        } else if self.medium(uuid) {
            Phase::InstallingOs
        } else {
            Phase::NoBoot
        };
        let after = Duration::from_secs(core.options.guest_times.bios_s);
        self.plan(at + after, Effect::GuestPhase { vm: uuid.into(), boot, phase: next });
    }

    /// A VM's guest enters a phase that was planned in one of its boots.
    pub(super) fn guest_phase(&mut self, core: &Core, at: Duration, uuid: &str, boot: u64, phase: Phase) {
        let tools = self.brings_tools(core, uuid);
        let Some(vm) = self.vms.get_mut(uuid).filter(|vm| vm.boot == boot) else { return };
        let first_time = !vm.installed;
        vm.phase = phase;
        let times = &core.options.guest_times;
        let next = match phase {
            Phase::InstallingOs if vm.power_losses > 0 => {
                vm.power_losses -= 1;
                let half = Duration::from_secs(times.installing_os_s / 2);
                self.plan(at + half, Effect::PowerLoss { vm: uuid.into(), boot });
                return;
            }
            Phase::InstallingOs => Some((times.installing_os_s, Phase::FirstBoot)),
            Phase::FirstBoot => {
                vm.installed = true;
                vm.tools = tools;
                Some((times.first_boot_s, if tools { Phase::ToolsInstall } else { Phase::NoAgent }))
            }
            Phase::ToolsInstall if first_time || vm.agent_seen.is_none() => {
                Some((times.tools_install_s, Phase::AgentRunning))
            }
            Phase::ToolsInstall if vm.tools => Some((times.agent_return_s, Phase::AgentRunning)),
            Phase::ToolsInstall => Some((times.agent_return_s, Phase::NoAgent)),
            Phase::AgentRunning => {
                self.agent_up(core, at, uuid, boot);
                None
            }
            _ => None,
        };
        if let Some((seconds, phase)) = next {
            let vm = uuid.into();
            self.plan(at + Duration::from_secs(seconds), Effect::GuestPhase { vm, boot, phase });
        }
    }

    fn agent_up(&mut self, core: &Core, at: Duration, uuid: &str, boot: u64) {
        let Some(vm) = self.vms.get_mut(uuid) else { return };
        let first = vm.agent_seen.is_none();
        vm.agent_seen = Some(core.clock.at(at).as_second());
        if first && core.modes().agent_flaps {
            let agent = |running| Effect::Agent { vm: uuid.into(), boot, running };
            self.plan(at + FLAP, agent(false));
            self.plan(at + FLAP * 2, agent(true));
        }
        // After a restart the address works again as soon as the guest is up.
        self.announce(uuid, at);
    }

    /// The agent stops or runs again, within one boot.
    pub(super) fn agent(&mut self, core: &Core, at: Duration, uuid: &str, boot: u64, running: bool) {
        let Some(vm) = self.vms.get_mut(uuid).filter(|vm| vm.boot == boot && vm.power == Power::Running) else {
            return;
        };
        vm.phase = if running { Phase::AgentRunning } else { Phase::ToolsInstall };
        vm.agent_seen = Some(core.clock.at(at).as_second());
    }

    /// The pushed NICs take effect (`fisheye.md` 7.7: the array replaces the list).
    pub(super) fn push_network(&mut self, core: &Core, at: Duration, uuid: &str, nics: &[Nic]) {
        let latencies = &core.options.latencies;
        let shows = at + core.drawn("latency.guest_address", latencies.guest_address);
        let opens = at + core.drawn("latency.ssh_open", latencies.ssh_open);
        let shows_at_all = core.modes().guest_shows_address;
        let Some(vm) = self.vms.get_mut(uuid) else { return };
        vm.nics = nics.to_vec();
        let pushed = vm.nics.first().and_then(|nic| nic.ip);
        if pushed.is_none() || pushed == vm.guest_ip {
            return;
        }
        vm.guest_ip = pushed;
        vm.shows_ip = false;
        let boot = vm.boot;
        if shows_at_all {
            self.plan(shows, Effect::GuestShowsAddress { vm: uuid.into(), boot });
        }
        self.announce(uuid, opens);
    }

    pub(super) fn guest_shows_address(&mut self, uuid: &str) {
        if let Some(vm) = self.vms.get_mut(uuid) {
            vm.shows_ip = true;
        }
    }

    /// Tells the guest side that a VM's address works.
    fn announce(&mut self, uuid: &str, ssh_opens_at: Duration) {
        let Some(vm) = self.vms.get(uuid) else { return };
        let (Some(ip), Some(nic)) = (vm.guest_ip, vm.nics.first()) else { return };
        let event = GuestEvent::AddressUp {
            vm_uuid: uuid.into(),
            ip,
            mac: nic.mac.clone(),
            vcpu: vm.vcpu,
            memory: vm.memory,
            disk: vm.system_disk(),
            ssh_opens_at,
        };
        self.tell_guest(event);
    }

    /// A CD-ROM with a complete image is in the drive.
    fn medium(&self, uuid: &str) -> bool {
        let image = |disk: &super::Disk| disk.image_uuid.as_ref().and_then(|image| self.images.get(image));
        self.vms.get(uuid).is_some_and(|vm| vm.disks.iter().filter_map(image).any(super::Image::is_complete))
    }

    fn brings_tools(&self, core: &Core, uuid: &str) -> bool {
        match core.modes().guest_tools {
            GuestTools::Present => true,
            GuestTools::Absent => false,
            GuestTools::FromIso => {
                let image = |disk: &super::Disk| disk.image_uuid.as_ref().and_then(|image| self.images.get(image));
                let disks = self.vms.get(uuid).map(|vm| vm.disks.as_slice()).unwrap_or_default();
                disks.iter().find_map(image).is_none_or(|image| image.guest_tools.unwrap_or(true))
            }
        }
    }
}
