//! The private directory tree of one guest: everything its commands see under the paths of the real machine.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::rewrite;

/// Programs in `<root>/bin`, first in the guest's `PATH`.
const STUBS: &[(&str, &str)] = &[
    ("sudo", include_str!("stubs/sudo.sh")),
    ("sh", include_str!("stubs/sh.sh")),
    ("bash", include_str!("stubs/sh.sh")),
    ("ip", include_str!("stubs/ip.sh")),
    ("pgrep", include_str!("stubs/pgrep.sh")),
    ("ps", include_str!("stubs/ps.sh")),
    ("id", include_str!("stubs/id.sh")),
    ("whoami", include_str!("stubs/whoami.sh")),
    ("uname", include_str!("stubs/uname.sh")),
    ("hostname", include_str!("stubs/hostname.sh")),
    ("sleep", include_str!("stubs/sleep.sh")),
    ("systemd-run", include_str!("stubs/systemd-run.sh")),
    ("openssl", include_str!("stubs/openssl.sh")),
    ("systemctl", include_str!("stubs/systemctl.sh")),
];
const NOHUP: (&str, &str) = ("nohup", include_str!("stubs/nohup.sh"));
const LIBRARY: &str = include_str!("stubs/lib.sh");
/// Where the CloudTower payload lies (`cloudtower.md` 1.1).
const PAYLOAD: &str = "usr/share/smartx/tower";

/// What the tree is made for.
#[derive(Clone, Debug)]
pub(super) struct Furnishing<'a> {
    pub(super) mac: &'a str,
    /// Account names and passwords.
    pub(super) accounts: &'a [(String, String)],
    pub(super) sudo_needs_password: bool,
    /// `nohup` writes `nohup.out` even without a terminal.
    pub(super) nohup_out: bool,
    /// `/etc/resolv.conf` exists from the start, with this content.
    pub(super) resolv_conf: Option<&'a str>,
}

/// The tree; its owner removes it.
#[derive(Debug)]
pub(super) struct PrivateRoot {
    path: PathBuf,
    stubs: Vec<&'static str>,
}

impl PrivateRoot {
    /// Makes the tree at `path`, which must not exist.
    pub(super) fn create(path: PathBuf, furnishing: &Furnishing<'_>) -> io::Result<Self> {
        let mut programs: Vec<(&'static str, &'static str)> = STUBS.to_vec();
        if furnishing.nohup_out {
            programs.push(NOHUP);
        }
        let root = PrivateRoot { path, stubs: programs.iter().map(|(name, _)| *name).collect() };
        for directory in [
            "bin",
            "etc",
            "home",
            "root",
            "tmp",
            "opt",
            "run",
            "srv",
            "mnt",
            "boot",
            "usr/local/bin",
            "var/log",
            "var/tmp",
            ".sim/answers",
            ".sim/scripts",
            ".sim/units",
            "sys/class/net/lo",
            "sys/class/net/ens4",
        ] {
            fs::create_dir_all(root.path.join(directory))?;
        }
        fs::set_permissions(&root.path, Permissions::from_mode(0o700))?;
        for (name, text) in programs {
            root.program(&format!("bin/{name}"), text)?;
        }
        root.payload()?;
        root.system_files(furnishing)?;
        root.control_files(furnishing)?;
        Ok(root)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the guest, by its path there without the leading slash.
    pub(super) fn file(&self, guest_path: &str) -> PathBuf {
        self.path.join(guest_path.trim_start_matches('/'))
    }

    /// A command line as it must be run on the host.
    pub(super) fn rewritten(&self, command: &str) -> String {
        rewrite::command(command, &self.path, &self.stubs)
    }

    /// Makes the address that `ip addr` shows known.
    pub(super) fn set_address(&self, address: &str) -> io::Result<()> {
        fs::write(self.file(".sim/address"), format!("{address}\n"))
    }

    fn payload(&self) -> io::Result<()> {
        fs::create_dir_all(self.path.join(PAYLOAD).join("installer/binary"))?;
        self.program(&format!("{PAYLOAD}/preinstall.sh"), include_str!("stubs/preinstall.sh"))?;
        self.program(&format!("{PAYLOAD}/installer/binary/installer"), include_str!("stubs/installer.sh"))
    }

    fn system_files(&self, furnishing: &Furnishing<'_>) -> io::Result<()> {
        let write = |name: &str, text: &str| fs::write(self.file(name), text);
        write(
            "etc/os-release",
            "NAME=\"openEuler\"\nVERSION=\"20.03 (LTS-SP3)\"\nID=\"openEuler\"\nVERSION_ID=\"20.03\"\n",
        )?;
        write("etc/hostname", "localhost.localdomain\n")?;
        write("etc/hosts", "127.0.0.1 localhost localhost.localdomain\n")?;
        write("var/log/smartx-init.log", "svt-init: guest tools installed\n")?;
        write("sys/class/net/lo/address", "00:00:00:00:00:00\n")?;
        write("sys/class/net/ens4/address", &format!("{}\n", furnishing.mac))?;
        if let Some(text) = furnishing.resolv_conf {
            write("etc/resolv.conf", text)?;
        }
        for (account, _) in furnishing.accounts {
            fs::create_dir_all(self.path.join("home").join(account))?;
        }
        Ok(())
    }

    fn control_files(&self, furnishing: &Furnishing<'_>) -> io::Result<()> {
        fs::write(self.file(".sim/lib.sh"), LIBRARY)?;
        fs::write(self.file(".sim/rewrite.sed"), rewrite::sed_script(&self.path, &self.stubs))?;
        for (account, password) in furnishing.accounts {
            fs::write(self.file(&format!(".sim/password.{account}")), format!("{password}\n"))?;
        }
        if furnishing.sudo_needs_password {
            fs::write(self.file(".sim/sudo_needs_password"), "")?;
        }
        let made = Command::new("mkfifo").arg(self.requests()).status()?;
        if made.success() { Ok(()) } else { Err(io::Error::other("mkfifo failed")) }
    }

    /// The pipe on which stubs ask the simulator.
    pub(super) fn requests(&self) -> PathBuf {
        self.file(".sim/requests")
    }

    /// The pipe on which the stub with this process id waits for its answer.
    pub(super) fn answer(&self, pid: u32) -> PathBuf {
        self.file(&format!(".sim/answers/{pid}"))
    }

    fn program(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.path.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    }
}
