//! On what a run was made: a figure without its machine says nothing.

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context as _, bail};
use serde::Serialize;

/// Programs that are needed and never installed from here.
const NEEDED: [(&str, &str); 2] = [("curl", "--version"), ("openssl", "version")];
/// What the shell loop needs besides.
const NEEDED_SILENT: [&str; 2] = ["sh", "dd"];

/// The machine, its load, and the programs.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Memory, GiB.
    pub memory_gib: f64,
    /// Kernel release.
    pub kernel: String,
    /// Load average over the last minute, at the beginning.
    pub load: f64,
    /// Name and version of each needed program, with its TLS library.
    pub programs: Vec<String>,
    /// The agent's own word.
    pub agent: String,
    /// Which profile the agent and the sink were built in.
    pub profile: String,
}

impl Machine {
    /// Looks at everything.
    ///
    /// # Errors
    /// A program is missing; the message says which.
    pub fn look(agent: &Path, profile: &str) -> anyhow::Result<Self> {
        let mut programs = Vec::new();
        for (name, argument) in NEEDED {
            let line = first_line(Path::new(name), argument).with_context(|| format!("{name} is needed"))?;
            programs.push(short(&line));
        }
        for name in NEEDED_SILENT {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            if !std::env::split_paths(&paths).any(|dir| dir.join(name).is_file()) {
                bail!("{name} is needed, and is not in PATH");
            }
        }
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib: f64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        Ok(Self {
            cpu,
            cores: thread::available_parallelism().map_or(0, Into::into),
            memory_gib: kib / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load: load(),
            programs,
            agent: first_line(agent, "--version").with_context(|| format!("asking {} who it is", agent.display()))?,
            profile: profile.to_owned(),
        })
    }
}

/// Of a version's line the name, the number, and the TLS library.
fn short(line: &str) -> String {
    let words = line.split(' ').enumerate();
    let kept = words.filter(|(index, word)| *index < 2 || word.contains("SSL/") || word.contains("TLS/"));
    kept.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

/// Load average over the last minute; 0 where the kernel does not tell.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn first_line(program: &Path, argument: &str) -> anyhow::Result<String> {
    let out = Command::new(program).arg(argument).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_version_only_what_tells_something_is_kept() {
        let curl = "curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1 OpenSSL/3.0.19 zlib/1.2.13";
        assert_eq!(short(curl), "curl 7.88.1 OpenSSL/3.0.19");
        assert_eq!(short("OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19)"), "OpenSSL 3.0.19");
        assert_eq!(short(""), "");
    }

    #[test]
    fn a_missing_program_is_named() {
        assert!(
            Machine::look(Path::new("/no/such/agent"), "debug").unwrap_err().to_string().contains("/no/such/agent")
        );
    }
}
