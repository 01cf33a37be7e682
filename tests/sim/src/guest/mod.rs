//! The inside of the VM: its SSH server, the commands run over it, its installer. Knows CloudTower only as something that
//! opens when the installer is done.
//!
//! Commands run as real processes of the computer, in a private directory tree for each VM, with the paths in their text
//! rewritten: a convenience, not a prison. That is why SSH opens on loopback addresses only.

mod desk;
mod house;
mod installer;
mod line;
mod log;
mod machine;
mod processes;
mod rewrite;
mod root;
mod shell;
mod ssh;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::world::{GuestEvent, GuestEvents};

use house::House;

pub use log::{CHECKS, SUCCESS, SuccessLine};
pub use shell::NOISE;

/// Settings of the guest side. Times are virtual.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Accounts that may log in over SSH.
    pub accounts: Vec<Account>,
    /// Milliseconds an SSH handshake takes, `[low, high]`.
    pub handshake_ms: [u64; 2],
    /// Seconds preinstall.sh takes.
    pub preinstall_s: u64,
    /// Seconds from the installer's start to its success line.
    pub installer_s: u64,
    /// Seconds from the installer's start to its first line; absent = drawn from 0 to 150.
    pub first_line_s: Option<u64>,
    /// Lines the installer prints before it succeeds.
    pub log_lines: u32,
    /// Lines after the success line; absent = drawn from 0 to 200.
    pub lines_after_success: Option<u32>,
    /// A secret that the installer prints in clear (G13).
    pub log_secret: Option<String>,
    /// The machine the installer demands.
    pub profile: Profile,
    /// Where the private trees of guests are made; the system's directory for temporary files when absent.
    pub directory: Option<PathBuf>,
}

/// One SSH account; it may use `sudo`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Password, for SSH and for `sudo`.
    pub password: String,
}

/// The smallest machine that passes `checkVmSpec` (`cloudtower.md` 9).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Virtual CPUs.
    pub vcpu: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
}

/// Switchable behaviours of the guest side. Those of the machine (`sudo`, `nohup`, `resolv_conf`) are fixed when the
/// machine gets its first address, those of its port (`ssh_refused_s`, `ssh_filtered`) at each of its starts; the others
/// act at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {
    /// Every shell prints the noise line on standard error.
    pub noise: bool,
    /// `sudo` asks for the password (G9).
    pub sudo_needs_password: bool,
    /// `nohup` creates `nohup.out` even without a terminal.
    pub nohup_out: bool,
    /// `/etc/resolv.conf` of a fresh machine.
    pub resolv_conf: ResolvConf,
    /// SSH refuses connections this many virtual seconds longer (G1).
    pub ssh_refused_s: u64,
    /// The SSH port answers nothing at all (G2).
    pub ssh_filtered: bool,
    /// What a new connection hears (G3).
    pub banner: Banner,
    /// The host key (G5).
    pub host_key: HostKey,
    /// Every connection is reset after this many virtual seconds; 0 = never (G7).
    pub drop_every_s: u64,
    /// preinstall.sh (G10).
    pub preinstall: PreinstallMode,
    /// How an installation ends.
    pub installer: InstallerMode,
    /// A check of the installer that fails (G16), one of [`CHECKS`].
    pub failing_check: Option<String>,
    /// It fails in this many runs, then passes.
    pub failing_check_times: u32,
    /// How the success line is written (G15).
    pub success_line: SuccessLine,
    /// Exit status of a successful installer (G20).
    pub exit_after_success: u32,
    /// The installer's log does not exist for this many virtual seconds (G11).
    pub log_missing_s: u64,
    /// The installer's log is cut to nothing in the middle (G12).
    pub log_truncated: bool,
    /// A second `deploy` is refused, but kills the first.
    pub second_deploy_harms: bool,
    /// The certificate of CloudTower as a program inside the machine sees it.
    pub tower_certificate: TowerCertificate,
}

/// CloudTower's certificate, seen from inside the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TowerCertificate {
    /// The one that everybody sees.
    #[default]
    Shown,
    /// Another one: somebody answers in CloudTower's place outside.
    Another,
    /// None: it cannot be found out.
    Unreadable,
}

/// `/etc/resolv.conf` of a fresh machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvConf {
    /// It does not exist.
    #[default]
    Missing,
    /// It names some server.
    Present,
    /// It does not exist, and is emptied by NetworkManager 60 s after the address came.
    RewrittenByNetworkManager,
}

/// What a new SSH connection hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Banner {
    /// The server's name at once.
    #[default]
    Normal,
    /// Nothing.
    None,
    /// The server's name after 25 virtual seconds.
    Late,
    /// The server's name, then the end.
    CloseAfter,
}

/// The host key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKey {
    /// One for each machine.
    #[default]
    Stable,
    /// Another one at each connection.
    ChangesEachTime,
}

/// What preinstall.sh does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreinstallMode {
    /// Exits 0.
    #[default]
    Succeeds,
    /// Exits 1.
    Fails,
    /// Never ends.
    Hangs,
}

/// How an installation ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallerMode {
    /// With the success line.
    #[default]
    Succeeds,
    /// A failure text in the middle, exit 1.
    Fails,
    /// Killed in the middle without a word: exit 137.
    Killed,
    /// It lives on without a further word.
    Silent,
}

/// How far the installation of a machine has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was done yet.
    #[default]
    Absent,
    /// preinstall.sh succeeded.
    Prepared,
    /// The installer runs.
    Installing,
    /// The installer printed its success line.
    Installed,
    /// The installer ended without it.
    Failed,
}

/// What is known of the inside of one VM.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestRecord {
    /// Fingerprint of the SSH host key.
    pub host_key: Option<String>,
    /// Successful logins.
    pub logins: u32,
    /// Refused logins.
    pub refused_logins: u32,
    /// Runs of preinstall.sh.
    pub preinstalls: u32,
    /// Runs of the installer that really began.
    pub deploys: u32,
    /// Runs of the installer that ended with a failed check, after which another run is right.
    pub failed_checks: u32,
    /// Runs of the installer that were refused.
    pub refused_deploys: u32,
    /// How far the installation has come.
    pub stage: Stage,
    /// `/etc/resolv.conf` as the installer found it; absent when the file was missing.
    pub installed_dns: Option<String>,
    /// When the success line was printed.
    pub installed_at: Option<Timestamp>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accounts: vec![Account { name: "cloudtower".into(), password: "HC!r0cks".into() }],
            handshake_ms: [100, 1500],
            preinstall_s: 40,
            installer_s: 20 * 60,
            first_line_s: None,
            log_lines: 2000,
            lines_after_success: None,
            log_secret: None,
            profile: Profile::default(),
            directory: None,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self { vcpu: 8, memory: 19 << 30, disk: 400 << 30 }
    }
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            noise: true,
            sudo_needs_password: false,
            nohup_out: false,
            resolv_conf: ResolvConf::default(),
            ssh_refused_s: 0,
            ssh_filtered: false,
            banner: Banner::default(),
            host_key: HostKey::default(),
            drop_every_s: 0,
            preinstall: PreinstallMode::default(),
            installer: InstallerMode::default(),
            failing_check: None,
            failing_check_times: 1,
            success_line: SuccessLine::default(),
            exit_after_success: 0,
            log_missing_s: 0,
            log_truncated: false,
            second_deploy_harms: false,
            tower_certificate: TowerCertificate::default(),
        }
    }
}

/// Serves the guests until `cancel`: takes the cluster's events. When it returns, no process and no file of any guest is
/// left.
///
/// # Errors
/// None at present; a guest that cannot be furnished is reported and stays dark.
pub async fn run(core: Core, mut events: GuestEvents, cancel: CancellationToken) -> anyhow::Result<()> {
    let mut house = House::new(core);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            event = events.recv() => match event {
                Some(event) => house.handle(event).await,
                None => break,
            },
        }
    }
    house.close().await;
    Ok(())
}

/// The installer of a guest that somebody else plays (`external_guest`) has succeeded now: CloudTower opens. Without a
/// uuid it is the one VM that has an address.
///
/// # Errors
/// There is no such VM, it has no address, or several might be meant.
pub fn guest_installed(core: &Core, vm_uuid: Option<&str>) -> anyhow::Result<()> {
    let now = core.clock.now();
    let mut world = core.world();
    let with_address = world.vms.values().filter(|vm| vm.guest_ip.is_some()).map(|vm| vm.uuid.clone());
    let meant: Vec<String> = with_address.filter(|uuid| vm_uuid.is_none_or(|wanted| wanted == uuid)).collect();
    let [uuid] = meant.as_slice() else {
        anyhow::bail!("{} VMs with an address might be meant; name one of them", meant.len());
    };
    let guest = world.guests.entry(uuid.clone()).or_default();
    guest.deploys += 1;
    guest.stage = Stage::Installed;
    guest.installed_at = Some(now);
    world.tell_guest(GuestEvent::Installed { vm_uuid: uuid.clone() });
    Ok(())
}

/// Broken invariants of the guest side, in words.
#[must_use]
pub fn violations(core: &Core) -> Vec<String> {
    let world = core.world();
    let mut found = Vec::new();
    for (vm, guest) in &world.guests {
        let allowed = 1 + guest.failed_checks;
        if guest.deploys > allowed {
            found.push(format!("the installer ran {} times on VM {vm}", guest.deploys));
        }
        if guest.refused_deploys > 0 {
            found.push(format!("a second installer was started on VM {vm} while one ran, or before preinstall.sh"));
        }
    }
    found
}
