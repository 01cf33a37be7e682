//! Directory records, numbers and names of ISO 9660, Rock Ridge and Joliet (ECMA-119, IEEE P1282).

/// One entry of a directory: where its content lies and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Identifier in the primary tree, version included (`KS.CFG;1`); one byte 0 or 1 for `.` and `..`.
    pub(super) short: Vec<u8>,
    /// The true name, for Rock Ridge and Joliet; empty for `.` and `..`.
    pub(super) name: String,
    pub(super) sector: u64,
    pub(super) bytes: u64,
    pub(super) directory: bool,
}

/// What goes into the system use area of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemUse {
    None,
    RockRidge,
    /// As `RockRidge`, with the two entries that only the root's `.` carries.
    RockRidgeRoot,
}

impl Entry {
    /// The record in the primary tree.
    pub(super) fn primary(&self, system_use: SystemUse) -> Vec<u8> {
        let mut extra = Vec::new();
        if system_use == SystemUse::RockRidgeRoot {
            extra.extend_from_slice(b"SP\x07\x01\xBE\xEF\x00");
        }
        if system_use != SystemUse::None {
            extra.extend(self.posix_attributes());
            if !self.name.is_empty() {
                extra.extend_from_slice(&[b'N', b'M', 5 + self.name.len() as u8, 1, 0]);
                extra.extend_from_slice(self.name.as_bytes());
            }
        }
        if system_use == SystemUse::RockRidgeRoot {
            extra.extend_from_slice(b"ER\x12\x01\x0A\x00\x00\x01RRIP_1991A");
        }
        self.record(&self.short, &extra)
    }

    /// The record in the Joliet tree.
    pub(super) fn joliet(&self) -> Vec<u8> {
        if self.name.is_empty() {
            return self.record(&self.short, &[]);
        }
        let versioned = if self.directory { self.name.clone() } else { format!("{};1", self.name) };
        self.record(&ucs2(&versioned), &[])
    }

    fn record(&self, identifier: &[u8], system_use: &[u8]) -> Vec<u8> {
        let mut record = vec![0, 0];
        record.extend(both_endian_32(self.sector as u32));
        record.extend(both_endian_32(self.bytes as u32));
        record.extend_from_slice(&[125, 8, 20, 12, 0, 0, 0]); // 2025-08-20 12:00 UTC
        record.push(if self.directory { 2 } else { 0 });
        record.extend_from_slice(&[0, 0]);
        record.extend(both_endian_16(1));
        record.push(identifier.len() as u8);
        record.extend_from_slice(identifier);
        if identifier.len().is_multiple_of(2) {
            record.push(0);
        }
        record.extend_from_slice(system_use);
        if record.len() % 2 == 1 {
            record.push(0);
        }
        record[0] = record.len() as u8;
        record
    }

    fn posix_attributes(&self) -> Vec<u8> {
        let mode: u32 = if self.directory { 0o040_755 } else { 0o100_755 };
        let mut px = vec![b'P', b'X', 36, 1];
        for value in [mode, if self.directory { 2 } else { 1 }, 0, 0] {
            px.extend(both_endian_32(value));
        }
        px
    }
}

/// Lays records out: none crosses a sector's end.
pub(super) fn directory(records: impl IntoIterator<Item = Vec<u8>>, sector: usize) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for record in records {
        let left = sector - out.len() % sector;
        if record.len() > left {
            out.resize(out.len() + left, 0);
        }
        out.extend(record);
    }
    out.resize(out.len().next_multiple_of(sector), 0);
    out
}

/// A path table of the root and of one directory below it.
pub(super) fn path_table(root_sector: u64, below: &[u8], below_sector: u64, big_endian: bool) -> Vec<u8> {
    let mut table = Vec::new();
    for (identifier, sector) in [(&[0_u8][..], root_sector as u32), (below, below_sector as u32)] {
        table.extend_from_slice(&[identifier.len() as u8, 0]);
        if big_endian {
            table.extend(sector.to_be_bytes());
            table.extend(1_u16.to_be_bytes());
        } else {
            table.extend(sector.to_le_bytes());
            table.extend(1_u16.to_le_bytes());
        }
        table.extend_from_slice(identifier);
        if identifier.len() % 2 == 1 {
            table.push(0);
        }
    }
    table
}

pub(super) fn both_endian_32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

pub(super) fn both_endian_16(value: u16) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

pub(super) fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}
