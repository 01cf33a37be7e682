//! The first sectors of an ISO 9660 volume, just enough to be one: a primary descriptor, its end, and a root directory that
//! holds the guest tools' script, empty.

/// Bytes of a sector.
const SECTOR: usize = 2048;
/// Sectors that are written: 16 of the system area, two descriptors, the root directory.
const SECTORS: usize = 19;
/// Where the root directory lies.
const ROOT: u32 = 18;
/// The script that marks an ISO with guest tools (`cloudtower.md` 1.1).
const TOOLS: &[u8] = b"SMTX_VM_TOOLS_INSTALL.SH;1";
/// Bit of a directory in a record's flags.
const DIRECTORY: u8 = 2;

/// Bytes of what [`write`] fills.
pub(super) const LENGTH: usize = SECTORS * SECTOR;

/// Makes the beginning of `file` that of a volume of `size` bytes. `file` must have [`LENGTH`] bytes at least.
pub(super) fn write(file: &mut [u8], size: u64) {
    file[..LENGTH].fill(0);
    let descriptor = &mut file[16 * SECTOR..][..SECTOR];
    descriptor[..7].copy_from_slice(b"\x01CD001\x01");
    descriptor[8..72].fill(b' ');
    descriptor[40..52].copy_from_slice(b"GANTRY_BENCH");
    let blocks = u32::try_from(size.div_ceil(SECTOR as u64)).unwrap_or(u32::MAX);
    both32(&mut descriptor[80..88], blocks);
    both16(&mut descriptor[120..124], 1);
    both16(&mut descriptor[124..128], 1);
    both16(&mut descriptor[128..132], SECTOR as u16);
    record(&mut descriptor[156..], ROOT, SECTOR as u32, DIRECTORY, &[0]);
    descriptor[881] = 1;
    file[17 * SECTOR..][..7].copy_from_slice(b"\xffCD001\x01");
    let directory = &mut file[ROOT as usize * SECTOR..][..SECTOR];
    let own = record(directory, ROOT, SECTOR as u32, DIRECTORY, &[0]);
    let parent = record(&mut directory[own..], ROOT, SECTOR as u32, DIRECTORY, &[1]);
    record(&mut directory[own + parent..], 0, 0, 0, TOOLS);
}

/// Writes a directory record; its length.
fn record(at: &mut [u8], block: u32, bytes: u32, flags: u8, name: &[u8]) -> usize {
    let length = 33 + name.len() + (name.len() + 1) % 2;
    at[0] = length as u8;
    both32(&mut at[2..10], block);
    both32(&mut at[10..18], bytes);
    at[25] = flags;
    both16(&mut at[28..32], 1);
    at[32] = name.len() as u8;
    at[33..33 + name.len()].copy_from_slice(name);
    length
}

/// A number in both byte orders, as the standard has it.
fn both32(at: &mut [u8], number: u32) {
    at[..4].copy_from_slice(&number.to_le_bytes());
    at[4..8].copy_from_slice(&number.to_be_bytes());
}

fn both16(at: &mut [u8], number: u16) {
    at[..2].copy_from_slice(&number.to_le_bytes());
    at[2..4].copy_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_signature_the_size_and_the_tools() {
        let mut file = vec![7; LENGTH + 5];
        write(&mut file, 10 * SECTOR as u64 + 1);
        assert_eq!(&file[32769..32774], b"CD001");
        assert_eq!(file[32768 + 80..32768 + 84], 11_u32.to_le_bytes());
        assert_eq!(file[32768 + 158..32768 + 162], ROOT.to_le_bytes());
        assert!(file.windows(TOOLS.len()).any(|window| window == TOOLS));
        assert_eq!(file[LENGTH..], [7; 5]);
    }
}
