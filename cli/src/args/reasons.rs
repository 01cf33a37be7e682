//! What can be typed behind `ctl explain` and `ctl bundle`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Job;

/// See [`super::Command::Explain`].
pub(super) const EXPLAIN_HELP: &str = "\
Codes stand in `ctl show`, at the end of `ctl watch`, in the problems of `ctl plan check`, in events and in the audit \
log. Needs no controller. Without CODE all codes are listed. JSON is in English unless --lang says otherwise. The exit code is 2 when there is no such code; the nearest ones are named then.

Examples:
  ctl explain vm_name_taken
  ctl explain not_in_subnet --lang zh
  ctl explain
  ctl explain installer_failed -o json | jq -r '.remedy[]'";

/// See [`super::Command::Bundle`].
pub(super) const BUNDLE_HELP: &str = "\
The archive has the job, all of its events, the spans and log records of controller and agent that belong to it (with the \
agent's settings that are not the defaults), its plan, result, resources, times, the report as a page and as JSON, the \
agents of its site, the audit log's records where your role may read them, the versions and your own connection \
settings. The report is Chinese, or English with --lang en. manifest.json names each part, what is missing and why, and what is not part of it, such as the log files on \
the bastion. It holds no password, token or key: everything goes once more through the rules that keep them out. Only \
its owner may read the file. A part that cannot be had does not stop the others.

Examples:
  ctl bundle 3f2a1b0c
  ctl bundle 3f2a1b0c --out case-4711.zip
  ctl bundle 3f2a1b0c --out case-4711.zip --force -o json | jq .parts";

/// See [`super::Command::Explain`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// The code; all of them are listed without one
    pub(crate) code: Option<String>,
}

/// See [`super::Command::Bundle`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Bundle {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Write the archive to this file [default: gantry-JOB.zip in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace the file when it is there already
    #[arg(long)]
    pub(crate) force: bool,
}
