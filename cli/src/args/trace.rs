//! What can be typed behind `ctl trace`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Job;

/// See [`super::Command::Trace`].
pub(super) const TRACE_HELP: &str = "\
The controller keeps the spans of its own calls and of the agent's steps, HTTP calls and SSH commands; no collector is \
needed. What an agent out of contact has not handed over yet is not there yet, and the spans that are open come when \
they end. Calls of one name that went well are told on one line (xN, with the sum of their times) unless --all is given; \
`!` is an attempt that failed, or a warning.

Examples:
  ctl trace 3f2a1b0c
  ctl trace 3f2a1b0c --failed
  ctl trace 3f2a1b0c --all | less -S
  ctl trace 3f2a1b0c --otlp trace.otlp      for a viewer: an OTLP ExportTraceServiceRequest, protobuf
  ctl trace 3f2a1b0c -o json | jq '.spans[] | select(.failed) | .name'";

/// See [`super::Command::Trace`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub(crate) job: Job,
    /// A line for every span
    #[arg(long)]
    pub(crate) all: bool,
    /// Only what failed, and what is above it
    #[arg(long)]
    pub(crate) failed: bool,
    /// Write the spans to this file, as OTLP
    #[arg(long, value_name = "FILE")]
    pub(crate) otlp: Option<PathBuf>,
    /// Replace the file when it is there already
    #[arg(long, requires = "otlp")]
    pub(crate) force: bool,
}
