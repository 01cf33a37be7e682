//! Runs one command and writes what it has used. A process of its own and a small one: the kernel counts used resources
//! over all children, and the memory of whoever starts a command counts as that command's least.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    process::{Command, ExitCode},
    time::Instant,
};

use gantry_bench::usage::Usage;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

fn main() -> ExitCode {
    match run(env::args_os().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody to tell is no reason to end otherwise.
            let _ = writeln!(io::stderr(), "measure: {error}");
            ExitCode::from(125)
        }
    }
}

/// `measure FILE PROGRAM [ARGUMENT...]`
fn run(arguments: Vec<OsString>) -> io::Result<ExitCode> {
    let [file, program, rest @ ..] = arguments.as_slice() else {
        return Err(io::Error::other("usage: measure FILE PROGRAM [ARGUMENT...]"));
    };
    let begin = Instant::now();
    let status = Command::new(program).args(rest).status()?;
    let wall_s = begin.elapsed().as_secs_f64();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let usage = Usage {
        wall_s,
        user_s: used.user_time().num_microseconds() as f64 / 1e6,
        system_s: used.system_time().num_microseconds() as f64 / 1e6,
        // The kernel tells KiB.
        peak_bytes: u64::try_from(used.max_rss()).unwrap_or_default() << 10,
        exit: status.code(),
    };
    fs::write(file, serde_json::to_vec(&usage)?)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
}
