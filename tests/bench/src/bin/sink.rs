//! `sink`: takes uploads over TLS and throws them away, for measuring. See `gantry_bench::sink`.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use gantry_bench::sink::{Options, serve};
use tokio::signal::unix::{SignalKind, signal};

/// An HTTPS server that takes uploads as Fisheye does and throws them away. Prints where it is as one line of JSON, and
/// serves until Ctrl-C.
#[derive(Parser)]
#[command(
    name = "sink",
    after_help = "Examples:\n  sink --listen 127.0.0.1:18443 --certificate ca.pem\n  sink --latency-ms 20 --serial\n\nCounters: GET /stats on the control port or over TLS. POST /reset zeroes them and removes all images."
)]
struct Args {
    /// Where to listen; port 0 is any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to answer without TLS; anybody who reaches it may remove everything.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Bytes of a chunk.
    #[arg(long, default_value_t = 8 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    chunk_size: u64,
    /// Milliseconds that each answer to a chunk takes.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Refuse a chunk with 409 while another one is in flight.
    #[arg(long)]
    serial: bool,
    /// Most MiB in a second, over all connections together.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    bandwidth: Option<u32>,
    /// Keep the SHA-256 of each chunk: GET /digests gives those of the newest image.
    #[arg(long)]
    verify: bool,
    /// MD5 that complete images are listed with.
    #[arg(long, value_name = "HEX")]
    md5: Option<String>,
    /// Write the certificate into this file, as PEM.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// End when stdin ends, and so with whoever has started it.
    #[arg(long)]
    until_stdin_ends: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        listen: args.listen,
        control: args.control,
        chunk_size: args.chunk_size,
        latency: Duration::from_millis(args.latency_ms),
        serial: args.serial,
        bandwidth: args.bandwidth.map(|mib| f64::from(mib) * f64::from(1 << 20)),
        verify: args.verify,
        md5: args.md5,
        certificate: args.certificate,
    };
    let serving = serve(options, |address| {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(address)?)?;
        Ok(out.flush()?)
    });
    let outcome = tokio::select! {
        outcome = serving => outcome,
        outcome = told_to_end(args.until_stdin_ends) => outcome.map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told_to_end(with_stdin: bool) -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    if with_stdin {
        // A thread of its own, which nobody waits for: a runtime would not end before a read of stdin does.
        std::thread::spawn(move || {
            let mut rest = [0; 64];
            while matches!(io::stdin().read(&mut rest), Ok(1..)) {}
            drop(ended);
        });
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {}, _ = end => {} }
    } else {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    }
    Ok(())
}
