//! One virtual machine's inside: its private tree, its host key, what runs in it while it has power.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use russh::keys::PrivateKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::root::{Furnishing, PrivateRoot};
use super::{GuestRecord, ResolvConf, Stage, TowerCertificate, desk, processes, ssh};
use crate::cloudtower;
use crate::core::Core;
use crate::net::Identity;

/// Virtual time from the network push to NetworkManager's rewriting of `/etc/resolv.conf`, in that mode.
const REWRITE_AFTER: Duration = Duration::from_secs(60);
/// Virtual time from power on of an installed machine to its CloudTower service.
const SERVICE_START: Duration = Duration::from_secs(60);

/// The hardware as the cluster made it.
#[derive(Clone, Debug)]
pub(super) struct Hardware {
    pub(super) uuid: String,
    pub(super) mac: String,
    pub(super) vcpu: u32,
    /// Bytes.
    pub(super) memory: u64,
    /// Bytes.
    pub(super) disk: u64,
}

/// A machine. It exists from its first network address to its deletion.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) core: Core,
    pub(super) root: PrivateRoot,
    pub(super) host_key: PrivateKey,
    hardware: Hardware,
    inner: Mutex<Inner>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Inner {
    /// Cancelled when power goes off; absent while it is off.
    power: Option<CancellationToken>,
    address: Option<IpAddr>,
    installer: Option<u32>,
    resolv_conf_rewritten: bool,
}

impl Machine {
    /// Furnishes a machine. Blocks on the disk for a moment.
    ///
    /// # Errors
    /// The private tree cannot be made.
    pub(super) fn create(core: &Core, hardware: Hardware) -> anyhow::Result<Arc<Self>> {
        let (modes, options) = (core.modes(), &core.options.guest);
        let accounts = accounts(core);
        let furnishing = Furnishing {
            mac: &hardware.mac,
            accounts: &accounts,
            sudo_needs_password: modes.guest.sudo_needs_password,
            nohup_out: modes.guest.nohup_out,
            resolv_conf: (modes.guest.resolv_conf == ResolvConf::Present).then_some("nameserver 192.0.2.254\n"),
        };
        let parent = options.directory.clone().unwrap_or_else(std::env::temp_dir);
        let name = format!("gantry-guest-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let root = PrivateRoot::create(parent.join(name), &furnishing).context("making the private tree of a guest")?;
        let host_key = ssh::host_key(&core.chance.bytes(&format!("guest.key.{}", hardware.uuid)));
        let machine = Machine {
            core: core.clone(),
            root,
            host_key,
            hardware,
            inner: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        let fingerprint = ssh::fingerprint(&machine.host_key);
        machine.record(|guest| guest.host_key = Some(fingerprint));
        Ok(Arc::new(machine))
    }

    /// The machine's address answers: SSH opens at a virtual moment, and CloudTower too when it is installed. Another
    /// address restarts the machine; the same address changes nothing.
    pub(super) async fn network_up(self: &Arc<Self>, address: IpAddr, ssh_opens_at: Duration) {
        if self.is_up_at(address) {
            return;
        }
        self.power_off().await;
        let power = CancellationToken::new();
        {
            let mut inner = self.inner();
            inner.power = Some(power.clone());
            inner.address = Some(address);
        }
        if let Err(error) = self.root.set_address(&address.to_string()) {
            tracing::warn!(%error, "the guest cannot note its address");
        }
        self.tasks.spawn(self.clone().answer_programs(power.clone()));
        self.tasks.spawn(self.clone().open_ssh(address, ssh_opens_at, power.clone()));
        self.tasks.spawn(self.clone().rewrite_resolv_conf(power.clone()));
        if self.guest().stage == Stage::Installed {
            let opens = self.core.clock.elapsed() + SERVICE_START;
            self.tasks.spawn(cloudtower::serve(self.core.clone(), self.hardware.uuid.clone(), address, opens, power));
        }
    }

    /// Power goes off: every process dies, every connection ends; the disk stays.
    pub(super) async fn power_off(&self) {
        {
            let mut inner = self.inner();
            if let Some(power) = inner.power.take() {
                power.cancel();
            }
            inner.address = None;
            inner.installer = None;
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        let path = self.root.path().to_owned();
        if tokio::task::spawn_blocking(move || processes::kill_all(&path)).await.is_err() {
            tracing::warn!("the processes of a guest could not be ended");
        }
        self.record(|guest| {
            if guest.stage == Stage::Installing {
                guest.stage = Stage::Failed;
            }
        });
    }

    /// Power off, and the disk goes, too.
    pub(super) async fn destroy(&self) {
        self.power_off().await;
        let path = self.root.path().to_owned();
        match tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the private tree of a guest could not be removed"),
            Err(error) => tracing::warn!(%error, "the private tree of a guest could not be removed"),
        }
    }

    /// The success line will come at this virtual moment: CloudTower opens relative to it, unless the token is cancelled.
    pub(super) fn announce_tower(&self, success: Duration) -> CancellationToken {
        let (power, address) = {
            let inner = self.inner();
            (inner.power.clone(), inner.address)
        };
        let (Some(power), Some(address)) = (power, address) else { return CancellationToken::new() };
        let tower = power.child_token();
        let opens = cloudtower::opening(&self.core, success);
        self.tasks.spawn(cloudtower::serve(
            self.core.clone(),
            self.hardware.uuid.clone(),
            address,
            opens,
            tower.clone(),
        ));
        tower
    }

    /// Starts a process, unless the power is off: after [`Machine::power_off`] none is started any more.
    pub(super) fn start<T>(&self, start: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
        let inner = self.inner();
        if inner.power.is_none() {
            return Err(std::io::Error::other("the machine is off"));
        }
        let started = start();
        drop(inner);
        started
    }

    /// Account names with their passwords.
    pub(super) fn accounts(&self) -> Vec<(String, String)> {
        accounts(&self.core)
    }

    /// Its address, while it has power.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.inner().address
    }

    /// The certificate that CloudTower at `address` shows to a program inside the machine, DER; `None`: nobody answers.
    pub(super) fn tower_certificate(&self, address: IpAddr) -> Option<Vec<u8>> {
        let tower = self.core.world().towers.get(&self.hardware.uuid)?.clone();
        let here = tower.address == Some(address) && self.address().is_some();
        match self.core.modes().guest.tower_certificate {
            TowerCertificate::Shown => tower.certificate.filter(|_| here),
            TowerCertificate::Another => Some(Identity::self_signed("cloudtower", &[]).ok()?.certificate()),
            TowerCertificate::Unreadable => None,
        }
    }

    /// Passwords that must not appear in the transcript.
    pub(super) fn secrets(&self) -> Vec<String> {
        let options = &self.core.options;
        let mut secrets: Vec<String> = self.accounts().into_iter().map(|(_, password)| password).collect();
        secrets.push(options.fisheye.password.clone());
        secrets.extend(options.tower.planted_root_password.clone());
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    /// Whether the hardware satisfies the installer.
    pub(super) fn meets_profile(&self) -> bool {
        let (hardware, wanted) = (&self.hardware, &self.core.options.guest.profile);
        hardware.vcpu >= wanted.vcpu && hardware.memory >= wanted.memory && hardware.disk >= wanted.disk
    }

    /// The process of the installer, while it runs.
    pub(super) fn installer_pid(&self) -> Option<u32> {
        self.inner().installer
    }

    pub(super) fn set_installer(&self, pid: Option<u32>) {
        self.inner().installer = pid;
    }

    /// What the world knows of this machine's inside.
    pub(super) fn guest(&self) -> GuestRecord {
        self.record(|guest| guest.clone())
    }

    /// Changes what the world knows.
    pub(super) fn record<T>(&self, change: impl FnOnce(&mut GuestRecord) -> T) -> T {
        change(self.core.world().guests.entry(self.hardware.uuid.clone()).or_default())
    }

    async fn answer_programs(self: Arc<Self>, power: CancellationToken) {
        if let Err(error) = desk::serve(self, power).await {
            tracing::warn!(%error, "the programs of a guest get no answers");
        }
    }

    async fn open_ssh(self: Arc<Self>, address: IpAddr, opens_at: Duration, power: CancellationToken) {
        // Commands are real processes of this computer: nobody else may come in.
        if !address.is_loopback() {
            return tracing::error!(%address, "SSH of simulated guests is served on loopback addresses only");
        }
        let extra = Duration::from_secs(self.core.modes().guest.ssh_refused_s);
        tokio::select! {
            () = power.cancelled() => return,
            () = self.core.clock.sleep_until(opens_at + extra) => {}
        }
        ssh::serve(self, address, power).await;
    }

    /// NetworkManager empties the file some time after the address came, in that mode (C18, G21).
    async fn rewrite_resolv_conf(self: Arc<Self>, power: CancellationToken) {
        let wanted = self.core.modes().guest.resolv_conf == ResolvConf::RewrittenByNetworkManager;
        if !wanted || std::mem::replace(&mut self.inner().resolv_conf_rewritten, true) {
            return;
        }
        tokio::select! {
            () = power.cancelled() => return,
            () = self.core.clock.sleep(REWRITE_AFTER) => {}
        }
        if let Err(error) = tokio::fs::write(self.resolv_conf(), "# Generated by NetworkManager\n").await {
            tracing::warn!(%error, "resolv.conf of a guest cannot be rewritten");
        }
    }

    fn is_up_at(&self, address: IpAddr) -> bool {
        self.address() == Some(address)
    }

    fn resolv_conf(&self) -> PathBuf {
        self.root.file("etc/resolv.conf")
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulation that is dropped without being stopped leaves no process and no file behind, either.
impl Drop for Machine {
    fn drop(&mut self) {
        let path = self.root.path();
        if path.exists() {
            processes::kill_all(path);
            if let Err(error) = std::fs::remove_dir_all(path) {
                tracing::warn!(%error, "the private tree of a guest could not be removed");
            }
        }
    }
}

fn accounts(core: &Core) -> Vec<(String, String)> {
    core.options.guest.accounts.iter().map(|account| (account.name.clone(), account.password.clone())).collect()
}
