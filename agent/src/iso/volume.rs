//! Reads just enough of an ISO 9660 volume to answer two questions: is it one, and are the guest tools in its root
//! directory (`cloudtower.md` 1.1)? Bounded reads only: the file may hold anything.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// Bytes of a sector.
const SECTOR: u64 = 2048;
/// The first volume descriptor.
const FIRST_DESCRIPTOR: u64 = 16;
/// Volume descriptors looked at, at most.
const MOST_DESCRIPTORS: u64 = 32;
/// Bytes of a root directory looked at, at most.
const MOST_DIRECTORY: u64 = 1 << 20;
/// Continuation areas followed for one name, at most.
const MOST_CONTINUATIONS: usize = 4;
/// The file that marks an ISO with guest tools.
const TOOLS: &str = "SMTX_VM_TOOLS_INSTALL.sh";
/// How it is called where only eight characters and three are allowed.
const TOOLS_LEVEL_1: &str = "SMTX_VM_.SH";

/// What is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Whether the guest tools are in the root directory; `None` when that cannot be read.
    pub guest_tools: Option<bool>,
    /// Bytes that the volume claims beyond the file's end: above 0 the file was probably copied in part only.
    pub missing_bytes: u64,
}

/// Why it is no ISO 9660 volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("it is no ISO 9660 volume (no CD001 at byte 32769)")]
    NotIso9660,
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// A directory's place.
#[derive(Clone, Copy)]
struct Extent {
    block: u64,
    length: u64,
}

/// Looks into a file of `size` bytes.
pub(super) fn read(file: &File, size: u64) -> Result<Contents, VolumeError> {
    let mut descriptor = [0; SECTOR as usize];
    let mut primary = None;
    let mut joliet = None;
    for number in 0..MOST_DESCRIPTORS {
        let at = (FIRST_DESCRIPTOR + number) * SECTOR;
        let whole = size >= at + SECTOR;
        if whole {
            file.read_exact_at(&mut descriptor, at)?;
        }
        if !whole || &descriptor[1..6] != b"CD001" {
            break;
        }
        match descriptor[0] {
            1 if primary.is_none() => primary = Some((root(&descriptor), le32(&descriptor, 80))),
            2 if is_joliet(&descriptor) => joliet = Some(root(&descriptor)),
            255 => break,
            _ => {}
        }
    }
    let (root, blocks) = primary.ok_or(VolumeError::NotIso9660)?;
    let plain = directory(file, root, size).map(|names| names.iter().any(|name| name.is_tools()));
    let joliet = joliet.and_then(|root| directory(file, root, size));
    let joliet = joliet.map(|names| names.iter().any(|name| is_tools(&ucs2(&name.identifier))));
    let guest_tools = match (plain, joliet) {
        (None, None) => None,
        (plain, joliet) => Some(plain == Some(true) || joliet == Some(true)),
    };
    // The last sector may be cut short by tools that do not pad.
    let missing_bytes = (blocks * SECTOR).saturating_sub(size.next_multiple_of(SECTOR));
    Ok(Contents { guest_tools, missing_bytes })
}

/// A file's names as its directory record has them.
struct Names {
    identifier: Vec<u8>,
    rock_ridge: Option<Vec<u8>>,
}

impl Names {
    fn is_tools(&self) -> bool {
        let identifier = String::from_utf8_lossy(&self.identifier).into_owned();
        match &self.rock_ridge {
            Some(name) => is_tools(&String::from_utf8_lossy(name)),
            None => is_tools(&identifier) || without_version(&identifier).eq_ignore_ascii_case(TOOLS_LEVEL_1),
        }
    }
}

fn is_tools(name: &str) -> bool {
    without_version(name).eq_ignore_ascii_case(TOOLS)
}

/// `NAME.EXT;1` without the `;1`, and without the dot that stands alone at the end.
fn without_version(name: &str) -> &str {
    name.split(';').next().unwrap_or_default().trim_end_matches('.')
}

fn root(descriptor: &[u8]) -> Extent {
    Extent { block: le32(descriptor, 156 + 2), length: le32(descriptor, 156 + 10) }
}

fn is_joliet(descriptor: &[u8]) -> bool {
    matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E")
}

/// The names of all files in a directory; `None` when it does not lie within the file.
fn directory(file: &File, extent: Extent, size: u64) -> Option<Vec<Names>> {
    let (at, length) = (extent.block.checked_mul(SECTOR)?, extent.length.min(MOST_DIRECTORY));
    if length == 0 || at.checked_add(length)? > size {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    let mut skip = 0;
    let mut all = Vec::new();
    for sector in bytes.chunks(SECTOR as usize) {
        let mut rest = sector;
        while let Some(record) = rest.first().and_then(|length| rest.get(..usize::from(*length))) {
            if record.len() < 34 {
                break;
            }
            rest = &rest[record.len()..];
            let name_length = usize::from(record[32]);
            let Some(identifier) = record.get(33..33 + name_length) else { break };
            let area = record.get(33 + name_length + (name_length + 1) % 2..).unwrap_or_default();
            if identifier == [0] {
                skip = system_use_skip(area);
            }
            // Bit 1 marks a directory.
            if record[25] & 2 == 0 {
                let rock_ridge = rock_ridge_name(file, area.get(skip..).unwrap_or_default(), size);
                all.push(Names { identifier: identifier.to_vec(), rock_ridge });
            }
        }
    }
    Some(all)
}

/// Bytes to skip in each system use area, as the root's `SP` entry says.
fn system_use_skip(area: &[u8]) -> usize {
    match area {
        [b'S', b'P', 7, _, 0xbe, 0xef, skip, ..] => usize::from(*skip),
        _ => 0,
    }
}

/// The name of the `NM` entries, over continuation areas too.
fn rock_ridge_name(file: &File, area: &[u8], size: u64) -> Option<Vec<u8>> {
    let mut area = area.to_vec();
    let mut name: Option<Vec<u8>> = None;
    for _ in 0..=MOST_CONTINUATIONS {
        let mut next = None;
        let mut rest = area.as_slice();
        while let Some(entry) = rest.get(2).and_then(|length| rest.get(..usize::from(*length))) {
            if entry.len() < 4 {
                break;
            }
            match &entry[..2] {
                b"NM" if entry.len() > 5 => name.get_or_insert_default().extend_from_slice(&entry[5..]),
                b"CE" if entry.len() >= 28 => next = Some((le32(entry, 4), le32(entry, 12), le32(entry, 20))),
                _ => {}
            }
            rest = &rest[entry.len()..];
        }
        let Some((block, offset, length)) = next else { break };
        let at = (block * SECTOR).checked_add(offset)?;
        let length = length.min(SECTOR);
        if at + length > size {
            break;
        }
        area = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut area, at).ok()?;
    }
    name
}

fn ucs2(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

/// A little-endian number; 0 beyond the end.
fn le32(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, |four| u64::from(u32::from_le_bytes(four)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gantry_sim::iso::Iso;

    use super::*;

    fn look(path: &Path) -> Result<Contents, VolumeError> {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        read(&file, size)
    }

    #[test]
    fn the_tools_are_found_by_every_kind_of_name() {
        let dir = tempfile::tempdir().unwrap();
        for (rock_ridge, joliet) in [(true, false), (false, false), (false, true), (true, true)] {
            for tools in [true, false] {
                let path = dir.path().join("x.iso");
                Iso::new(200_001).rock_ridge(rock_ridge).joliet(joliet).tools(tools).write(&path).unwrap();
                let contents = look(&path).unwrap();
                let want = Contents { guest_tools: Some(tools), missing_bytes: 0 };
                assert_eq!(contents, want, "rock ridge {rock_ridge}, joliet {joliet}, tools {tools}");
            }
        }
    }

    #[test]
    fn a_file_cut_short_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.iso");
        Iso::new(400_000).write(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(200_000).unwrap();
        assert!(look(&path).unwrap().missing_bytes > 190_000);
    }

    #[test]
    fn what_is_no_volume_is_refused_and_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.iso");
        for bytes in [vec![], vec![0; 100], vec![7; 40_000], vec![b'C'; 32_769]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(look(&path), Err(VolumeError::NotIso9660)));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_volume_never_panics(at in 32_768usize..65_000, byte: u8, run in 1usize..200) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.iso");
            Iso::new(70_000).joliet(true).write(&path).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().skip(at).take(run).for_each(|b| *b = byte);
            std::fs::write(&path, bytes).unwrap();
            let _ = look(&path);
        }
    }
}
