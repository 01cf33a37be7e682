//! The real processes of a guest: found by the marker in their environment, so that none outlives its machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The environment variable that marks every process of a guest.
pub(super) const MARKER: &str = "GUEST_ROOT";
/// Rounds of "look and kill" before giving up on processes that keep starting new ones.
const KILL_ROUNDS: u32 = 200;
/// Looks in a row that must find nothing: a process shows no environment in the moment it becomes another program.
const CLEAN_LOOKS: u32 = 3;
/// Wall pause between two rounds.
const KILL_PAUSE: Duration = Duration::from_millis(10);
/// Wall time to give to one guest's processes.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Process ids of the guest whose tree is `root`, in no order.
pub(super) fn of_guest(root: &Path) -> Vec<u32> {
    let marker = format!("{MARKER}={}", root.display());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|line| line == marker.as_bytes()))
        })
        .collect()
}

/// Whether a process exists and is more than a zombie.
pub(super) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

/// Kills every process of the guest and returns when none is left. Blocks: call it off the runtime.
pub(super) fn kill_all(root: &Path) {
    let start = Instant::now();
    let mut clean = 0;
    for _ in 0..KILL_ROUNDS {
        let left = of_guest(root);
        clean = if left.is_empty() { clean + 1 } else { 0 };
        if clean == CLEAN_LOOKS {
            return;
        }
        signal("KILL", &left.iter().map(|pid| i64::from(*pid)).collect::<Vec<_>>());
        if start.elapsed() > KILL_LIMIT {
            break;
        }
        std::thread::sleep(KILL_PAUSE);
    }
    tracing::warn!(root = %root.display(), "processes of a guest could not be ended");
}

/// Sends a signal to processes, or to whole groups given as negative numbers. Those that are gone are passed over.
pub(super) fn signal(name: &str, targets: &[i64]) {
    if targets.is_empty() {
        return;
    }
    let targets: Vec<String> = targets.iter().map(i64::to_string).collect();
    let sent = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("for t in {}; do kill -{name} \"$t\" 2>/dev/null; done", targets.join(" ")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Err(error) = sent {
        tracing::warn!(%error, name, "cannot send a signal to processes of a guest");
    }
}
