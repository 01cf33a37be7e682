//! A real OpenSSH server plays the VM, in network, mount and process namespaces that the test makes itself: its own
//! account, its own `/etc`, stub scripts, an interface with the MAC that the simulator announces. The host's `/etc` must
//! be the same afterwards. Needs root, for the namespaces.

use std::{
    env,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use gantry_e2e::{Lab, LabOptions};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::{quick, result, vms};

/// Set for the copy of this test that runs inside the namespaces.
const INSIDE: &str = "GANTRY_TEST_INSIDE_NAMESPACES";
const NAME: &str = "openssh::a_real_openssh_server_plays_the_vm";
const MAC: &str = "52:54:00:6a:6e:21";
const ACCOUNT: &str = "cloudtower";
const SSHD: &str = "/usr/sbin/sshd";
/// Where the stub scripts lie: settings of the agent, never of a plan.
const TOWER: &str = "/home/cloudtower/tower";

#[test]
fn a_real_openssh_server_plays_the_vm() -> anyhow::Result<()> {
    if env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new()?.block_on(inside());
    }
    if !is_root()? {
        // Everywhere else in the tests a plain user will do; namespaces with accounts of their own need root.
        #[expect(clippy::print_stderr, reason = "a test that does not run says so")]
        {
            eprintln!("skipped: {NAME} needs root to make its namespaces");
        }
        return Ok(());
    }
    ensure!(Path::new(SSHD).exists(), "{SSHD} is missing: run `tests/run`, which installs it");
    let before = digest_of_etc()?;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "--kill-child"])
        .arg(env::current_exe()?)
        .args(["--exact", NAME, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .context("starting unshare")?;
    assert_eq!(digest_of_etc()?, before, "the host's /etc was changed");
    ensure!(status.success(), "the run inside the namespaces failed: {status}");
    Ok(())
}

async fn inside() -> anyhow::Result<()> {
    let vm = tempfile::Builder::new().prefix("gantry-vm-").tempdir()?;
    furnish(vm.path())?;
    let options = quick();
    let password = match gantry_sim::workbook::Workbook::valid().cell("集群管理信息!I3") {
        Some(gantry_sim::workbook::Cell::Text(text)) => text.clone(),
        other => anyhow::bail!("the workbook's SSH password is {other:?}"),
    };
    account(&password)?;
    let mut options = LabOptions {
        agent: json!({"guest": {
            "preinstall": format!("{TOWER}/preinstall.sh"), "installer_dir": format!("{TOWER}/installer"),
            "installer": "./deploy.sh", "work_dir": "/home/cloudtower",
        }}),
        ..options
    };
    gantry_e2e::lab::merge(&mut options.scenario, &json!({"external_guest": true, "guest_mac": MAC}));
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;

    let address = when_the_vm_has_its_address(&lab).await?;
    let port = lab.addresses()["ssh_port"].as_u64().context("no ssh_port")?;
    let mut sshd = start_sshd(vm.path(), &address, port)?;
    when_the_installer_has_run(&lab).await?;
    lab.control()?.post("/guest/installed", &json!({})).await?;
    let code = lab.watch(&job).await?;
    sshd.kill()?;
    assert_eq!(code, 0, "{}\n{}", lab.logs(), fs::read_to_string(vm.path().join("sshd.log")).unwrap_or_default());

    let dns = fs::read_to_string("/etc/resolv.conf")?;
    assert!(dns.lines().all(|line| line.starts_with("nameserver 127.30.40.")) && !dns.is_empty(), "{dns}");
    let runs = fs::read_to_string("/home/cloudtower/runs")?;
    assert_eq!(runs, "preinstall\ninstaller\n", "each script ran once, in order");
    assert_eq!(result(&lab, &job).await?["status"], "SERVICE_READY");
    assert_eq!(vms(&lab).await?.len(), 1);
    lab.stop().await
}

/// An `/etc`, a `/home`, a `/run` and an interface of our own.
fn furnish(dir: &Path) -> anyhow::Result<()> {
    let etc = dir.join("etc");
    sh(&format!(
        "set -e
         ip link set lo up
         ip link add ens4 type veth peer name peer0
         ip link set ens4 address {MAC}
         cp -a /etc {etc}
         mount --bind {etc} /etc
         mount -t tmpfs tmpfs /home
         mount -t tmpfs tmpfs /run
         mount -t sysfs sysfs /sys
         mkdir -p /run/sshd
         rm -f /etc/resolv.conf",
        etc = etc.display()
    ))
}

fn account(password: &str) -> anyhow::Result<()> {
    sh(&format!(
        "set -e
         useradd -m -d /home/{ACCOUNT} -s /bin/sh {ACCOUNT}
         echo '{ACCOUNT} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{ACCOUNT}
         mkdir -p {TOWER}/installer
         printf '#!/bin/sh\\necho preinstall >> /home/{ACCOUNT}/runs\\n' > {TOWER}/preinstall.sh
         printf '#!/bin/sh\\n[ \"$1\" = deploy ] || exit 2\\ngrep -q nameserver /etc/resolv.conf || exit 3\\necho installer >> /home/{ACCOUNT}/runs\\necho checkDiskSpace ok\\necho Install Operation Center Successfully\\ntouch /home/{ACCOUNT}/installed\\n' > {TOWER}/installer/deploy.sh
         chmod 755 {TOWER}/preinstall.sh {TOWER}/installer/deploy.sh"
    ))?;
    let mut passwd = Command::new("chpasswd").stdin(Stdio::piped()).spawn().context("starting chpasswd")?;
    let mut stdin = passwd.stdin.take().context("chpasswd has no stdin")?;
    std::io::Write::write_all(&mut stdin, format!("{ACCOUNT}:{password}\n").as_bytes())?;
    drop(stdin);
    ensure!(passwd.wait()?.success(), "chpasswd failed");
    Ok(())
}

fn start_sshd(dir: &Path, address: &str, port: u64) -> anyhow::Result<std::process::Child> {
    let key = dir.join("host_key");
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", key.display()))?;
    let config = dir.join("sshd_config");
    fs::write(
        &config,
        format!(
            "Port {port}\nListenAddress {address}\nHostKey {}\nPidFile none\nUsePAM no\nPasswordAuthentication yes\n",
            key.display()
        ),
    )?;
    let log = File::create(dir.join("sshd.log"))?;
    let mut sshd = Command::new(SSHD);
    sshd.args(["-D", "-e", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    sshd.spawn().context("starting sshd")
}

async fn when_the_vm_has_its_address(lab: &Lab) -> anyhow::Result<String> {
    for _ in 0..1200 {
        let address = vms(lab).await?.iter().find_map(|vm| Some(vm.get("guest_ip")?.as_str()?.to_owned()));
        if let Some(address) = address {
            return Ok(address);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the VM got no address\n{}", lab.logs())
}

async fn when_the_installer_has_run(lab: &Lab) -> anyhow::Result<()> {
    for _ in 0..1200 {
        if Path::new("/home/cloudtower/installed").exists() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the installer did not run\n{}", lab.logs())
}

fn sh(script: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn is_root() -> anyhow::Result<bool> {
    Ok(Command::new("id").arg("-u").output()?.stdout.starts_with(b"0\n"))
}

/// Names, modes, owners and contents of everything below `/etc`.
fn digest_of_etc() -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut files = Vec::new();
    collect(Path::new("/etc"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let meta = fs::symlink_metadata(&path)?;
        hash.update(format!("{} {} {} {}\n", path.display(), meta.mode(), meta.uid(), meta.gid()));
        if meta.is_file() {
            let mut content = Vec::new();
            File::open(&path)?.read_to_end(&mut content)?;
            hash.update(&content);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files.push(entry.path());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}
