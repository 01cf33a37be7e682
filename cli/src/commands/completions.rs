//! `ctl completions`: from the same declaration as the parser.

use clap_complete::Shell;

use super::Cx;
use crate::{exit::Failure, help};

/// Prints them.
pub(crate) fn run(cx: &Cx, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "ctl", &mut script);
    cx.out.text(&String::from_utf8_lossy(&script))
}
