//! What the targets share: a runtime of one thread, a directory in memory, a plan with its secrets.

use std::{
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use gantry_proto::{Plan, Secret, Secrets};
use gantry_sim::workbook::Workbook;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Where files in memory are, on Linux.
const MEMORY: &str = "/dev/shm";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
static PLANNED: LazyLock<(Plan, Secrets)> = LazyLock::new(|| {
    let outcome = gantry_plan::plan(&Workbook::valid().bytes(), &Default::default(), &Default::default());
    (outcome.plan.unwrap(), outcome.secrets.unwrap())
});
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Runs on the one thread that calls: nothing happens between two inputs.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// A plan that is valid, for the CloudTower `127.0.0.1` and the VIP `127.0.0.2` of a cluster without hosts.
pub(crate) fn plan() -> Plan {
    let mut plan = PLANNED.0.clone();
    plan.cloudtower.ip = "127.0.0.1".parse().unwrap();
    plan.cluster.vip = Some("127.0.0.2".parse().unwrap());
    plan.hosts.clear();
    plan
}

/// Its secrets.
pub(crate) fn secrets() -> Secrets {
    Secrets { root_password_encoded: Some(Secret::new("encoded-root-password")), ..PLANNED.1.clone() }
}

/// A directory that goes when it is dropped; in memory where that can be.
pub(crate) fn dir() -> TempDir {
    let memory = Path::new(MEMORY);
    let builder = || tempfile::Builder::new().prefix("gantry-fuzz-").to_owned();
    if memory.is_dir() { builder().tempdir_in(memory).unwrap() } else { builder().tempdir().unwrap() }
}

/// A name in it that has not been given before.
pub(crate) fn fresh(dir: &TempDir) -> PathBuf {
    dir.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
}
