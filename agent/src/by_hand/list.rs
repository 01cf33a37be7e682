//! `agent iso list`: the ISO files that an agent offers, and what its directory holds besides.

use clap::Args;
use gantry_proto::error::causes;
use jiff::Timestamp;
use serde_json::json;

use super::{Failure, Form, Place, print, remarks, warn};
use crate::{
    config::Settings,
    doctor::size,
    iso::{self, Digests, Directory, Found, Inventory, LeftOut},
};

pub(super) const HELP: &str = "\
Newest first; a job that names no file takes the first one. What is left out is listed below, with the reason.

Examples:
  agent iso list --config /etc/gantry/agent.toml
  agent iso list --data /var/lib/gantry-agent -o json";

const HEADINGS: [&str; 5] = ["VERSION", "OS", "ARCH", "SIZE", "SHA256"];

/// Its arguments.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Form of the result on stdout.
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
}

/// A file that is offered.
struct Offered {
    found: Found,
    digests: Option<Digests>,
    remarks: Vec<String>,
}

impl List {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let settings = self.place.load()?;
        let dir = &settings.iso_dir;
        let Directory { found, left_out, more } = Directory::read(dir)?;
        let inventory = Inventory::new(&settings);
        let offered: Vec<_> = found.into_iter().map(|found| offered(found, &inventory, &settings)).collect();
        if offered.is_empty() {
            let missing = if dir.exists() { "" } else { ", which does not exist" };
            warn(&format!("no file named cloudtower-<version>.<os>.<arch>.iso lies in {}{missing}", dir.display()));
        }
        if more {
            warn(&format!("{} holds more files than are looked at", dir.display()));
        }
        Ok(print(&match self.output {
            Form::Text => text(&offered, &left_out),
            Form::Json => json(&settings, &offered, &left_out),
        })?)
    }
}

fn offered(found: Found, inventory: &Inventory, settings: &Settings) -> Offered {
    let remarks = remarks(found.identity.size, &iso::contents(&found), settings);
    Offered { digests: inventory.known(&found), remarks, found }
}

fn text(offered: &[Offered], left_out: &[LeftOut]) -> String {
    let row = |file: &Offered| {
        let name = &file.found.name;
        let sha256 = file.digests.as_ref().map_or("not yet", |digests| &digests.sha256);
        [name.version.clone(), name.os.clone(), name.arch.clone(), size(file.found.identity.size), sha256.to_owned()]
    };
    let rows: Vec<_> = offered.iter().map(row).collect();
    let mut text = if rows.is_empty() { String::new() } else { table(&rows) };
    let remarked = offered.iter().flat_map(|file| file.remarks.iter().map(|remark| (&file.found.file_name, remark)));
    let remarked: Vec<_> = remarked.map(|(name, remark)| format!("  {name}: {remark}\n")).collect();
    if !remarked.is_empty() {
        text += &format!("\nTo look at:\n{}", remarked.concat());
    }
    if !left_out.is_empty() {
        let lines: String = left_out.iter().map(|left| format!("  {}\n", why(left))).collect();
        text += &format!("\nLeft out:\n{lines}");
    }
    text.trim_start_matches('\n').to_owned()
}

fn table(rows: &[[String; 5]]) -> String {
    let heading = HEADINGS.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(rows);
    let mut text = String::new();
    for row in all() {
        for (column, cell) in row.iter().enumerate() {
            let width = all().map(|row| row[column].len()).max().unwrap_or_default();
            text += &format!("{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A name may hold anything, so what a terminal would obey is written out.
fn why(left: &LeftOut) -> String {
    let message: String = causes(&left.why).join(": ");
    message.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn json(settings: &Settings, offered: &[Offered], left_out: &[LeftOut]) -> String {
    let file = |file: &Offered| {
        let Offered { found, digests, remarks } = file;
        let chunks = digests.as_ref().and_then(|digests| digests.chunks.as_ref());
        json!({
            "name": found.file_name,
            "version": found.name.version,
            "os": found.name.os,
            "arch": found.name.arch,
            "size": found.identity.size,
            "modified": modified(found),
            "sha256": digests.as_ref().map(|digests| &digests.sha256),
            "md5": digests.as_ref().map(|digests| &digests.md5),
            "chunk_bytes": chunks.map(|chunks| chunks.size),
            "chunks": chunks.map(|chunks| chunks.sha256.len()),
            "remarks": remarks,
        })
    };
    let left = |left: &LeftOut| json!({"name": left.name, "why": causes(&left.why).join(": ")});
    let document = json!({
        "directory": settings.iso_dir.display().to_string(),
        "files": offered.iter().map(file).collect::<Vec<_>>(),
        "left_out": left_out.iter().map(left).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn modified(found: &Found) -> Option<String> {
    let seconds = i64::try_from(found.identity.mtime_ns.div_euclid(1_000_000_000)).ok()?;
    Timestamp::from_second(seconds).ok().map(|at| at.to_string())
}
