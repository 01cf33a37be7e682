//! The volume descriptors and directories of an ISO file. The input is what comes after the first sixteen sectors, which
//! an ISO 9660 volume leaves to others.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    sync::LazyLock,
};

use gantry_agent::iso::{Found, Identity, IsoName, contents};
use tempfile::TempDir;

use super::stage::{dir, fresh};

/// Sixteen sectors.
const RESERVED: u64 = 32 << 10;

static PLACE: LazyLock<TempDir> = LazyLock::new(dir);

pub(crate) fn run(input: &[u8]) {
    let path = fresh(&PLACE);
    let file = File::create(&path).unwrap();
    file.write_all_at(input, RESERVED).unwrap();
    let name = IsoName { version: "4.6.0".to_owned(), os: "oe".to_owned(), arch: "x86_64".to_owned() };
    let identity = Identity::at(&path).unwrap();
    let found = Found { path: path.clone(), file_name: "cloudtower-4.6.0.oe.x86_64.iso".to_owned(), name, identity };
    let _not_a_volume = contents(&found);
    fs::remove_file(path).unwrap();
}
