//! Finds the workspace's binaries beside the running executable, and builds them first, so that a lab never runs old ones.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// The directory with `controller`, `agent`, `ctl` and `simulator`.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Builds the workspace's binaries with the cargo that started us, into the target directory that holds the running
    /// executable, and finds them there. Blocking: a build may take minutes.
    pub fn build() -> anyhow::Result<Self> {
        let dir = profile_dir()?;
        let target = dir.parent().context("the executable lies outside of a target directory")?;
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What a cargo that runs us says of our own package would make build scripts run again, and everything be built anew.
        let about_us = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|begin| name.starts_with(begin))
                || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&name)
        };
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(about_us)) {
            cargo.env_remove(name);
        }
        let status = cargo
            .args(["build", "--quiet", "--workspace", "--bins", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(target)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("starting cargo to build the binaries")?;
        if !status.success() {
            bail!("cargo could not build the workspace's binaries: {status}");
        }
        let binaries = Self { dir };
        for name in ["controller", "agent", "ctl", "simulator"] {
            let path = binaries.path(name);
            if !path.is_file() {
                bail!("{} was not built", path.display());
            }
        }
        Ok(binaries)
    }

    /// Full path of a binary.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// `target/debug`, where the executable lies itself (a binary) or in `deps` (a test).
fn profile_dir() -> anyhow::Result<PathBuf> {
    let exe = env::current_exe().context("finding the running executable")?;
    let dir = exe.parent().context("the executable has no directory")?;
    let dir = if dir.ends_with("deps") { dir.parent().context("deps has no parent")? } else { dir };
    Ok(dir.to_owned())
}
