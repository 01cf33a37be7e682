//! `agent iso scan`: hashes one ISO file into the inventory of an agent.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Failure, Form, Place, bar, interruptible, print, remarks, warn};
use crate::{
    doctor::size,
    iso::{self, Digests, Found, HashError, Inventory},
};

pub(super) const HELP: &str = "\
The name must be cloudtower-<version>.<os>.<arch>.iso, and the file an ISO 9660 volume; it may lie anywhere. What the \
inventory knows already is told without reading. It may run beside the agent, best as the agent's user.

Exit code 0: the inventory has it; 1: it could not be read or kept; 2: it is no such file; 130: interrupted.

Examples:
  agent iso scan /var/lib/gantry-agent/iso/cloudtower-v4.6.2.oe2003.x86_64.iso
  agent iso scan cloudtower-v4.6.2.oe2003.x86_64.iso --state /var/lib/gantry-agent -o json";

/// Its arguments.
#[derive(Debug, Args)]
pub struct Scan {
    /// The ISO file.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Form of the result on stdout.
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
}

/// A file and its hashes.
struct Scanned {
    found: Found,
    digests: Digests,
    warnings: Vec<String>,
    guest_tools: Option<bool>,
    /// How long it was read; `None` when it was known.
    seconds: Option<f64>,
}

impl Scan {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let settings = self.place.load()?;
        let found = iso::find(&self.file)?;
        let looked = iso::contents(&found);
        let warnings = remarks(found.identity.size, &looked, &settings);
        let contents = looked.map_err(|error| Failure::Volume(found.path.clone(), error))?;
        warnings.iter().for_each(|message| warn(message));
        let inventory = Inventory::new(&settings);
        let (digests, seconds) = match inventory.full(&found) {
            Some(digests) => (digests, None),
            None => {
                let (digests, seconds) = fill(&inventory, &found).await?;
                (digests, Some(seconds))
            }
        };
        let scanned = Scanned { found, digests, warnings, guest_tools: contents.guest_tools, seconds };
        Ok(print(&match self.output {
            Form::Text => scanned.text(),
            Form::Json => scanned.json(),
        })?)
    }
}

/// Reads the file, and says how long that took.
async fn fill(inventory: &Inventory, found: &Found) -> Result<(Digests, f64), Failure> {
    let (read, cancel, begun) = (Arc::new(AtomicU64::new(0)), CancellationToken::new(), Instant::now());
    let work = inventory.fill(found, read.clone(), &cancel);
    let filled = bar::watch(found.identity.size, &read, interruptible(&cancel, work)).await?;
    let digests = filled.map_err(|error| match error {
        HashError::Cancelled => Failure::Interrupted,
        error => Failure::Hash(found.path.clone(), error),
    })?;
    Ok((digests, begun.elapsed().as_secs_f64()))
}

impl Scanned {
    fn text(&self) -> String {
        let (name, bytes) = (&self.found.name, self.found.identity.size);
        let chunks = self.digests.chunks.as_ref();
        let chunks = chunks.map_or_else(
            || "none: there would be too many of this size (iso.chunk_bytes)".to_owned(),
            |chunks| format!("{} of {} bytes", chunks.sha256.len(), chunks.size),
        );
        let read = self.seconds.map_or_else(
            || "nothing: the inventory has it already".to_owned(),
            |seconds| format!("in {seconds:.1} s, {:.0} MiB/s", bytes as f64 / f64::from(1 << 20) / seconds.max(1e-3)),
        );
        format!(
            "file     {}\nversion  {} ({} {})\nsize     {bytes} bytes ({})\nsha256   {}\nmd5      {}\nchunks   {chunks}\n\
             read     {read}\n",
            self.found.path.display(),
            name.version,
            name.os,
            name.arch,
            size(bytes),
            self.digests.sha256,
            self.digests.md5,
        )
    }

    fn json(&self) -> String {
        let chunks = self.digests.chunks.as_ref();
        let document = json!({
            "file": self.found.path.display().to_string(),
            "name": self.found.file_name,
            "version": self.found.name.version,
            "os": self.found.name.os,
            "arch": self.found.name.arch,
            "size": self.found.identity.size,
            "sha256": self.digests.sha256,
            "md5": self.digests.md5,
            "chunk_bytes": chunks.map(|chunks| chunks.size),
            "chunks": chunks.map(|chunks| chunks.sha256.len()),
            "guest_tools": self.guest_tools,
            "known": self.seconds.is_none(),
            "seconds": self.seconds.unwrap_or_default(),
            "warnings": self.warnings,
        });
        format!("{document:#}\n")
    }
}
