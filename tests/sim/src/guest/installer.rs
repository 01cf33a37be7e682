//! preinstall.sh and the installer as the machine behind them sees it: who may run, what is printed when, how it ends.

use std::path::PathBuf;
use std::time::Duration;

use super::desk::Answer;
use super::log::{self, Beat, Ending, Settings};
use super::machine::Machine;
use super::{InstallerMode, PreinstallMode, Stage, processes};

/// Runs preinstall.sh.
pub(super) async fn preinstall(machine: &Machine, mut answer: Answer) {
    let mode = machine.core.modes().guest.preinstall;
    machine.record(|guest| guest.preinstalls += 1);
    if !answer.print("preparing the system 准备环境\n".as_bytes()).await {
        return;
    }
    if mode == PreinstallMode::Hangs {
        return answer.wait_for_death().await;
    }
    let done = machine.core.clock.elapsed() + Duration::from_secs(machine.core.options.guest.preinstall_s);
    if !answer.wait_until(machine, done).await {
        return;
    }
    if mode == PreinstallMode::Fails {
        answer.print(b"preinstall: cannot load the container images: no space left on device\n").await;
        return answer.finish(1).await;
    }
    machine.record(|guest| {
        if guest.stage == Stage::Absent {
            guest.stage = Stage::Prepared;
        }
    });
    answer.print(b"preinstall finished\n").await;
    answer.finish(0).await;
}

/// Runs the installer with its arguments.
pub(super) async fn run(machine: &Machine, mut answer: Answer, words: &[&str]) {
    match words.first().copied() {
        Some("deploy") => deploy(machine, answer).await,
        Some("info") => {
            let installed = machine.guest().stage == Stage::Installed;
            let text = if installed { "version: 4.7.1\n" } else { "operation center is not installed\n" };
            answer.print(text.as_bytes()).await;
            answer.finish(u32::from(!installed)).await;
        }
        _ => {
            answer.print(b"usage: installer deploy [--vip IP] | info\n").await;
            answer.finish(2).await;
        }
    }
}

async fn deploy(machine: &Machine, mut answer: Answer) {
    if let Some(refusal) = refusal(machine) {
        machine.record(|guest| guest.refused_deploys += 1);
        if machine.core.modes().guest.second_deploy_harms
            && let Some(first) = machine.installer_pid()
        {
            kill(first).await;
        }
        answer.print(refusal.as_bytes()).await;
        return answer.finish(1).await;
    }
    machine.set_installer(Some(answer.pid));
    let dns = tokio::fs::read_to_string(machine.root.file("etc/resolv.conf")).await.ok();
    let number = machine.record(|guest| {
        guest.deploys += 1;
        guest.installed_dns = dns;
        guest.stage = Stage::Installing;
        guest.deploys
    });
    let settings = settings(machine, number);
    let beats = log::script(&settings, &machine.core.chance);
    let start = machine.core.clock.elapsed();
    let tower = log::success_at(&beats).map(|at| machine.announce_tower(start + at));
    let finished = play(machine, &mut answer, start, &settings, beats).await;
    if machine.guest().stage != Stage::Installed {
        if let Some(tower) = tower {
            tower.cancel();
        }
        machine.record(|guest| match settings.ending {
            Ending::Silent => {}
            Ending::CheckFails(_) => {
                guest.stage = Stage::Failed;
                guest.failed_checks += 1;
            }
            _ => guest.stage = Stage::Failed,
        });
    }
    end(answer, finished, &settings.ending).await;
    machine.set_installer(None);
}

/// Why the installer does not start, if so.
fn refusal(machine: &Machine) -> Option<String> {
    if let Some(pid) = machine.installer_pid().filter(|pid| processes::alive(*pid)) {
        return Some(format!("[ERROR] another deploy is running (pid {pid}), exit\n"));
    }
    (machine.guest().stage == Stage::Absent)
        .then(|| "[ERROR] environment is not prepared, run preinstall.sh first\n".to_owned())
}

fn settings(machine: &Machine, number: u32) -> Settings {
    let (modes, options) = (machine.core.modes(), &machine.core.options.guest);
    let draw = |purpose: &str, range| machine.core.chance.pick(purpose, range);
    let first_line = options.first_line_s.unwrap_or_else(|| draw("guest.installer.first", 0..151));
    let lines_after = options.lines_after_success.unwrap_or_else(|| draw("guest.installer.tail", 0..201) as u32);
    Settings {
        duration: Duration::from_secs(options.installer_s),
        first_line: Duration::from_secs(first_line).min(Duration::from_secs(options.installer_s)),
        lines: options.log_lines,
        lines_after,
        ending: ending(machine, number),
        success_line: modes.guest.success_line,
        extra_line: options.log_secret.as_ref().map(|secret| format!("[DEBUG] using credential {secret} for setup")),
    }
}

fn ending(machine: &Machine, number: u32) -> Ending {
    let modes = machine.core.modes();
    if !machine.meets_profile() {
        return Ending::CheckFails("checkVmSpec".to_owned());
    }
    if let Some(check) = &modes.guest.failing_check
        && number <= modes.guest.failing_check_times
    {
        return Ending::CheckFails(check.clone());
    }
    match modes.guest.installer {
        InstallerMode::Succeeds => Ending::Success { exit: modes.guest.exit_after_success },
        InstallerMode::Fails => Ending::Fails { exit: 1 },
        InstallerMode::Killed => Ending::Killed,
        InstallerMode::Silent => Ending::Silent,
    }
}

/// Prints everything in time; false when the program died on the way.
async fn play(machine: &Machine, answer: &mut Answer, start: Duration, settings: &Settings, beats: Vec<Beat>) -> bool {
    let mut mischief = Mischief::of(machine, answer.pid, start, settings).await;
    for beat in beats {
        while let Some(moment) = mischief.next_before(start + beat.at) {
            if !answer.wait_until(machine, moment).await {
                return false;
            }
            mischief.act().await;
        }
        if !answer.wait_until(machine, start + beat.at).await || !answer.print(&beat.text).await {
            return false;
        }
        if beat.success {
            let now = machine.core.clock.now();
            machine.record(|guest| {
                guest.stage = Stage::Installed;
                guest.installed_at = Some(now);
            });
        }
    }
    // A file that is hidden for longer than the installation comes back after it.
    if let Some(moment) = mischief.next_before(Duration::MAX) {
        machine.core.clock.sleep_until(moment).await;
        mischief.act().await;
    }
    true
}

async fn end(answer: Answer, finished: bool, ending: &Ending) {
    match ending {
        _ if !finished => {}
        Ending::Success { exit } | Ending::Fails { exit } => answer.finish(*exit).await,
        Ending::CheckFails(_) => answer.finish(1).await,
        Ending::Killed => {
            kill(answer.pid).await;
            answer.wait_for_death().await;
        }
        Ending::Silent => answer.wait_for_death().await,
    }
}

async fn kill(pid: u32) {
    let killed = tokio::task::spawn_blocking(move || processes::signal("KILL", &[i64::from(pid)])).await;
    if let Err(error) = killed {
        tracing::warn!(%error, "the installer could not be killed");
    }
}

/// What befalls the log file while the installer writes: hidden for a while, cut to nothing in the middle.
struct Mischief {
    log: Option<PathBuf>,
    todo: Vec<(Duration, Deed)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    ShowAgain,
    Truncate,
}

impl Mischief {
    async fn of(machine: &Machine, pid: u32, start: Duration, settings: &Settings) -> Self {
        let modes = machine.core.modes();
        // Standard output of the installer, when it is a file.
        let log = tokio::fs::read_link(format!("/proc/{pid}/fd/1")).await.ok();
        let log = log.filter(|path| path.starts_with(machine.root.path()));
        let mut todo = Vec::new();
        if modes.guest.log_missing_s > 0
            && let Some(log) = &log
            && tokio::fs::rename(log, hidden(log)).await.is_ok()
        {
            todo.push((start + Duration::from_secs(modes.guest.log_missing_s), Deed::ShowAgain));
        }
        if modes.guest.log_truncated {
            todo.push((start + settings.duration / 2, Deed::Truncate));
        }
        todo.sort_by_key(|(moment, _)| *moment);
        Mischief { log, todo }
    }

    /// The moment of the next deed, when it is due before `moment`.
    fn next_before(&self, moment: Duration) -> Option<Duration> {
        self.todo.first().map(|(at, _)| *at).filter(|at| *at <= moment)
    }

    async fn act(&mut self) {
        let (_, deed) = self.todo.remove(0);
        let Some(log) = &self.log else { return };
        let done = match deed {
            Deed::ShowAgain => tokio::fs::rename(hidden(log), log).await,
            Deed::Truncate => match tokio::fs::OpenOptions::new().write(true).open(log).await {
                Ok(file) => file.set_len(0).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the installer's log could not be tampered with");
        }
    }
}

fn hidden(log: &std::path::Path) -> PathBuf {
    log.with_extension("hidden")
}
