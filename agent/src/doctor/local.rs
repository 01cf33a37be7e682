//! What is on this machine: the identity, the disk, the ISO files. Everything here blocks and only reads.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use gantry_proto::{JoinFile, error::causes};
use jiff::Timestamp;
use rustix::fs::{Access, access, statvfs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{Finding, Looked, chain};
use crate::{
    config::Settings,
    identity::{Identity, IdentityError},
    iso::{IsoName, list},
};

/// What is read in one go, bytes.
const PIECE: usize = 1 << 20;
/// ISO files that are named in the line, at most.
const NAMED: usize = 5;
/// Entries of the ISO directory that are looked at, at most.
const MOST_FILES: usize = 1_000;
const DAY_S: i64 = 86_400;

/// What to do when the agent does not know who it is, or is not believed.
pub(super) fn new_identity(site: Option<&str>) -> String {
    format!("make a new token with `ctl agent token --site {}` and run `agent join TOKEN`", site.unwrap_or("SITE"))
}

pub(super) fn identity(settings: &Settings) -> Looked<JoinFile> {
    match Identity::peek(settings) {
        Ok((agent, join)) => {
            let seen = format!("agent {agent} of site {}, controller {}", join.site, join.controller);
            (Finding::ok(seen), Some(join))
        }
        Err(error) => {
            let remedy = match &error {
                IdentityError::Open { path, .. } => format!("run `chmod 600 {path}`"),
                IdentityError::Io { path, source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    format!("run the doctor as the agent's user, who must be able to read {path}")
                }
                _ => new_identity(None),
            };
            (Finding::fail(causes(&error).join(": "), remedy), None)
        }
    }
}

/// How long the agent's own certificate still holds.
pub(super) fn certificate(join: &JoinFile, warn_days: u32) -> Finding {
    let remedy = || new_identity(Some(&join.site));
    let certificate = CertificateDer::from_pem_slice(join.cert_pem.as_bytes()).ok();
    let Some(validity) = certificate.as_ref().and_then(chain::validity) else {
        return Finding::fail("the agent's own certificate cannot be read", remedy());
    };
    let now = Timestamp::now();
    let (from, to) = (validity.from.strftime("%Y-%m-%d %H:%M UTC"), validity.to.strftime("%Y-%m-%d %H:%M UTC"));
    if now < validity.from {
        let seen = format!(
            "the agent's own certificate holds from {from} only; this machine's clock says {}",
            now.strftime("%Y-%m-%d %H:%M UTC")
        );
        return Finding::fail(seen, "set this machine's clock, by NTP where there is one");
    }
    if now > validity.to {
        let remedy = "start the agent: it asks to come back by itself; then an admin compares the key with its log and runs \
                      `ctl agent approve`";
        return Finding::fail(format!("the agent's own certificate ended on {to}"), remedy);
    }
    let days = (validity.to.as_second() - now.as_second()) / DAY_S;
    let seen = format!("the agent's own certificate holds until {to}, {days} more days");
    if days < i64::from(warn_days) {
        return Finding::warn(
            seen,
            "start the agent: it renews its certificate by itself while it is in contact; see its log",
        );
    }
    Finding::ok(seen)
}

/// Free space below `data_dir`, and whether the agent may write there.
pub(super) fn disk(settings: &Settings) -> Looked<()> {
    let dir = &settings.data_dir;
    (disk_of(dir, settings.doctor.free_bytes), None)
}

fn disk_of(dir: &Path, wanted: u64) -> Finding {
    let name = dir.display();
    let (there, exists) = match dir.ancestors().find(|dir| dir.exists()) {
        Some(there) => (there, there == dir),
        None => return Finding::fail(format!("{name}: no part of it exists"), "correct data_dir"),
    };
    if !there.is_dir() {
        return Finding::fail(
            format!("{} is not a directory", there.display()),
            "correct data_dir, or move the file away",
        );
    }
    if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let seen = format!("{} cannot be written to: {error}", there.display());
        return Finding::fail(seen, "give the directory to the agent's user, or run the doctor as that user");
    }
    let volume = match statvfs(there) {
        Ok(volume) => volume,
        Err(error) => {
            let seen = format!("the free space of {} cannot be told: {error}", there.display());
            return Finding::fail(seen, "see what the kernel's log says of this disk");
        }
    };
    let (free, inodes) = (volume.f_bavail.saturating_mul(volume.f_frsize), volume.f_favail);
    let seen = format!("{} free in {name}", size(free));
    let remedy = "free some space: journals and logs go there (jobs.keep_finished says how many are kept)";
    if free < wanted / 16 || (inodes == 0 && volume.f_files > 0) {
        return Finding::fail(seen, remedy);
    }
    if free < wanted {
        return Finding::warn(seen, remedy);
    }
    if !exists {
        let seen = format!("{seen}; the directory does not exist yet");
        return Finding::warn(seen, "nothing, before `agent join`; later: correct data_dir");
    }
    match fs::metadata(dir) {
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            let seen = format!("{seen}; others may look into it (mode {:03o})", meta.mode() & 0o777);
            Finding::warn(seen, format!("run `chmod 700 {name}`"))
        }
        _ => Finding::ok(seen),
    }
}

/// The ISO files; hands on the newest one that can be used.
pub(super) fn isos(settings: &Settings) -> Looked<PathBuf> {
    let dir = settings.iso_dir.display();
    let put =
        format!("put an ISO named cloudtower-<version>.<os>.<arch>.iso into {dir}, readable for the agent's user");
    let entries = match fs::read_dir(&settings.iso_dir) {
        Ok(entries) => entries,
        Err(error) => return (Finding::fail(format!("{dir} cannot be read: {error}"), put), None),
    };
    let names = entries.take(MOST_FILES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_iso = |name: &String| name.to_ascii_lowercase().ends_with(".iso");
    let (named, strange): (Vec<_>, Vec<_>) = names.filter(is_iso).partition(|name| IsoName::parse(name).is_some());
    let usable = list(settings);
    let shut: Vec<_> = named.iter().filter(|name| !is_readable(settings, name)).cloned().collect();
    let short: Vec<_> =
        usable.iter().filter(|iso| iso.size < settings.iso.min_bytes).map(|iso| iso.name.clone()).collect();
    let good: Vec<_> =
        usable.into_iter().filter(|iso| !short.contains(&iso.name) && !shut.contains(&iso.name)).collect();
    let told = |iso: &gantry_proto::v1::IsoFile| {
        format!("{} (version {}, {} {}, {})", iso.name, iso.version, iso.os, iso.arch, size(iso.size))
    };
    let mut seen: Vec<String> = good.iter().take(NAMED).map(told).collect();
    if good.len() > NAMED {
        seen.push(format!("and {} more", good.len() - NAMED));
    }
    let newest = good.first().map(|iso| settings.iso_dir.join(&iso.name));
    let mut wrong = Vec::new();
    let mut say = |names: &[String], what: &str| {
        if !names.is_empty() {
            wrong.push(format!("{what}: {}", names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")));
        }
    };
    say(&strange, "not named like cloudtower-<version>.<os>.<arch>.iso");
    say(&short, "shorter than iso.min_bytes");
    say(&shut, "not readable");
    if newest.is_none() {
        let seen = if wrong.is_empty() { format!("no ISO lies in {dir}") } else { wrong.join("; ") };
        return (Finding::fail(seen, put), None);
    }
    if wrong.is_empty() {
        return (Finding::ok(seen.join("; ")), newest);
    }
    seen.extend(wrong);
    (Finding::warn(seen.join("; "), format!("rename, replace or remove these files in {dir}")), newest)
}

fn is_readable(settings: &Settings, name: &str) -> bool {
    access(settings.iso_dir.join(name), Access::READ_OK).is_ok()
}

/// How fast the newest ISO comes from the disk: what its upload to a cluster can at best reach.
pub(super) fn reading(settings: &Settings, file: &Path, limit: Duration) -> Looked<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let began = Instant::now();
    let read = match read_for(file, settings.doctor.read_bytes, limit) {
        Ok(read) => read,
        Err(error) => {
            let seen = format!("{name} cannot be read: {error}");
            return (Finding::fail(seen, "copy the file anew, and see what the kernel's log says of this disk"), None);
        }
    };
    let seconds = began.elapsed().as_secs_f64().max(1e-6);
    let rate = read as f64 / seconds;
    let seen = format!(
        "{} of {name} read from the disk in {seconds:.2} s, {:.0} MiB/s (what is cached is faster)",
        size(read),
        rate / f64::from(1 << 20)
    );
    let slow = rate < settings.doctor.slow_bytes_per_s as f64;
    let finding = if slow {
        Finding::warn(seen, "put the ISO on a local disk: its upload is no faster than this")
    } else {
        Finding::ok(seen)
    };
    (finding, None)
}

fn read_for(file: &Path, most: u64, limit: Duration) -> std::io::Result<u64> {
    let (mut file, mut piece, began, mut read) = (File::open(file)?, vec![0; PIECE], Instant::now(), 0);
    while read < most && began.elapsed() < limit {
        match file.read(&mut piece)? {
            0 => break,
            n => read += n as u64,
        }
    }
    Ok(read)
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b >= f64::from(1 << 30) => format!("{:.1} GiB", b / f64::from(1 << 30)),
        b if b >= f64::from(1 << 20) => format!("{:.1} MiB", b / f64::from(1 << 20)),
        b => format!("{b} bytes"),
    }
}
