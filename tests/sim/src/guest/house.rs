//! All machines of a simulation: follows the cluster's events, opens and closes what belongs to them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Hardware, Machine};
use crate::cloudtower;
use crate::core::Core;
use crate::world::GuestEvent;

/// The MAC of the host that answers at the VM's address in mode `address_conflict` (V19).
const FOREIGN_MAC: &str = "02:00:5e:00:53:01";

/// The machines, by the uuid of their VM.
#[derive(Debug)]
pub(super) struct House {
    core: Core,
    machines: HashMap<String, Arc<Machine>>,
    /// Guests that somebody else plays: only their CloudTower is ours.
    external: HashMap<String, External>,
    towers: TaskTracker,
}

#[derive(Debug)]
struct External {
    address: IpAddr,
    power: CancellationToken,
    installed: bool,
}

impl House {
    pub(super) fn new(core: Core) -> Self {
        House { core, machines: HashMap::new(), external: HashMap::new(), towers: TaskTracker::new() }
    }

    /// Follows one event.
    pub(super) async fn handle(&mut self, event: GuestEvent) {
        match event {
            GuestEvent::AddressUp { vm_uuid, ip, mac, vcpu, memory, disk, ssh_opens_at } => {
                if self.core.options.external_guest {
                    return self.external_up(vm_uuid, ip);
                }
                self.evict(&vm_uuid, ip).await;
                let foreign = self.core.modes().address_conflict;
                let mac = if foreign { FOREIGN_MAC.to_owned() } else { mac };
                let hardware = Hardware { uuid: vm_uuid.clone(), mac, vcpu, memory, disk };
                if let Some(machine) = self.machine(vm_uuid, hardware).await {
                    machine.network_up(ip, ssh_opens_at).await;
                }
            }
            GuestEvent::Installed { vm_uuid } => {
                if let Some(guest) = self.external.get_mut(&vm_uuid) {
                    guest.installed = true;
                    open(&self.core, &self.towers, &vm_uuid, guest);
                }
            }
            GuestEvent::AgentRebooted { vm_uuid } | GuestEvent::PoweredOff { vm_uuid } => {
                if let Some(machine) = self.machines.get(&vm_uuid) {
                    machine.power_off().await;
                }
                if let Some(guest) = self.external.get(&vm_uuid) {
                    guest.power.cancel();
                }
            }
            GuestEvent::Deleted { vm_uuid } => {
                if let Some(machine) = self.machines.remove(&vm_uuid) {
                    machine.destroy().await;
                }
                if let Some(guest) = self.external.remove(&vm_uuid) {
                    guest.power.cancel();
                }
            }
        }
    }

    /// Ends every machine.
    pub(super) async fn close(&mut self) {
        for (_, guest) in self.external.drain() {
            guest.power.cancel();
        }
        for (_, machine) in self.machines.drain() {
            machine.destroy().await;
        }
        self.towers.close();
        self.towers.wait().await;
    }

    /// Ends a machine that holds this address although its VM is gone: the world was replaced.
    async fn evict(&mut self, newcomer: &str, address: IpAddr) {
        let gone = {
            let world = self.core.world();
            let holds = |uuid: &&String| *uuid != newcomer && !world.vms.contains_key(*uuid);
            let mut machines = self.machines.iter().filter(|(_, machine)| machine.address() == Some(address));
            machines.find(|(uuid, _)| holds(uuid)).map(|(uuid, _)| uuid.clone())
        };
        if let Some(machine) = gone.and_then(|uuid| self.machines.remove(&uuid)) {
            machine.destroy().await;
        }
    }

    async fn machine(&mut self, uuid: String, hardware: Hardware) -> Option<Arc<Machine>> {
        if let Some(machine) = self.machines.get(&uuid) {
            return Some(machine.clone());
        }
        let core = self.core.clone();
        match tokio::task::spawn_blocking(move || Machine::create(&core, hardware)).await {
            Ok(Ok(machine)) => {
                self.machines.insert(uuid, machine.clone());
                Some(machine)
            }
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), vm = uuid, "a guest cannot be furnished");
                None
            }
            Err(error) => {
                tracing::error!(%error, vm = uuid, "a guest cannot be furnished");
                None
            }
        }
    }

    fn external_up(&mut self, uuid: String, address: IpAddr) {
        let installed = self.external.get(&uuid).is_some_and(|guest| guest.installed);
        let guest = External { address, power: CancellationToken::new(), installed };
        if installed {
            open(&self.core, &self.towers, &uuid, &guest);
        }
        if let Some(before) = self.external.insert(uuid, guest) {
            before.power.cancel();
        }
    }
}

fn open(core: &Core, towers: &TaskTracker, uuid: &str, guest: &External) {
    let opens = cloudtower::opening(core, core.clock.elapsed());
    towers.spawn(cloudtower::serve(core.clone(), uuid.to_owned(), guest.address, opens, guest.power.clone()));
}
