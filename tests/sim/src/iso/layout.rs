//! Where everything lies in the image, and the bytes from sector 16 up to the filling.

use super::record::{Entry, SystemUse, both_endian_16, both_endian_32, directory, path_table, ucs2};
use super::{Iso, SECTOR, TOOLS_NAME};

/// The longest content of one file: a record holds 32 bits, and some readers only 31.
const MAX_FILE: u64 = 1 << 30;
/// Payload files that one image can hold (their records fit into the root directory).
const MAX_PAYLOADS: u64 = 20;

const KS_CFG: &str = "cdrom\ntext\ntimezone Asia/Shanghai --utc\nreboot\n";
const ISOLINUX_CFG: &str =
    "default linux\ntimeout 100\nlabel linux\n  kernel vmlinuz\n  append inst.ks=cdrom:/ks.cfg\n";
const TOOLS: &str = "#!/bin/sh\n# installs the guest tools on first boot\nexit 0\n";

/// The plan of one image. Sectors count from 0.
pub(super) struct Layout<'a> {
    iso: &'a Iso,
    /// Sectors of one directory extent.
    directory_sectors: u64,
}

impl<'a> Layout<'a> {
    pub(super) fn of(iso: &'a Iso) -> Self {
        let big = iso.size > 4 * MAX_FILE;
        Layout { iso, directory_sectors: if big { 2 } else { 1 } }
    }

    /// The first sector of the filling.
    pub(super) fn payload_start(&self) -> u64 {
        self.small_files() + 3
    }

    /// Everything from sector 16 to the filling.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut image = vec![self.descriptor(false)];
        if self.iso.joliet {
            image.push(self.descriptor(true));
        }
        image.push(terminator());
        for joliet in self.trees() {
            for big_endian in [false, true] {
                let table = path_table(self.root(joliet), &isolinux_id(joliet), self.isolinux(joliet), big_endian);
                image.push(padded(table, 1));
            }
        }
        for joliet in self.trees() {
            image.push(self.root_directory(joliet));
            image.push(self.isolinux_directory(joliet));
        }
        for text in [TOOLS, KS_CFG, ISOLINUX_CFG] {
            image.push(padded(text.as_bytes().to_vec(), 1));
        }
        image.concat()
    }

    fn trees(&self) -> Vec<bool> {
        if self.iso.joliet { vec![false, true] } else { vec![false] }
    }

    fn tables(&self) -> u64 {
        16 + 1 + self.trees().len() as u64
    }

    fn root(&self, joliet: bool) -> u64 {
        let first = self.tables() + 2 * self.trees().len() as u64;
        first + if joliet { 2 * self.directory_sectors } else { 0 }
    }

    fn isolinux(&self, joliet: bool) -> u64 {
        self.root(joliet) + self.directory_sectors
    }

    fn small_files(&self) -> u64 {
        self.root(false) + 2 * self.directory_sectors * self.trees().len() as u64
    }

    fn root_directory(&self, joliet: bool) -> Vec<u8> {
        let mut entries = vec![
            self.dir(&[0], "", self.root(joliet)),
            self.dir(&[1], "", self.root(joliet)),
            self.dir(b"ISOLINUX", "isolinux", self.isolinux(joliet)),
            file("KS.CFG;1", "ks.cfg", self.small_files() + 1, KS_CFG.len() as u64),
        ];
        entries.extend(self.payloads());
        if self.iso.tools {
            entries.push(file("SMTX_VM_.SH;1", TOOLS_NAME, self.small_files(), TOOLS.len() as u64));
        }
        padded(directory(self.records(&entries, joliet), SECTOR as usize), self.directory_sectors)
    }

    fn isolinux_directory(&self, joliet: bool) -> Vec<u8> {
        let entries = [
            self.dir(&[0], "", self.isolinux(joliet)),
            self.dir(&[1], "", self.root(joliet)),
            file("ISOLINUX.CFG;1", "isolinux.cfg", self.small_files() + 2, ISOLINUX_CFG.len() as u64),
            file("KS.CFG;1", "ks.cfg", self.small_files() + 1, KS_CFG.len() as u64),
        ];
        padded(directory(self.records(&entries, joliet), SECTOR as usize), self.directory_sectors)
    }

    fn records(&self, entries: &[Entry], joliet: bool) -> Vec<Vec<u8>> {
        let mut entries = entries.to_vec();
        if joliet {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let is_root = entries.first().is_some_and(|entry| entry.sector == self.root(false));
        entries
            .iter()
            .enumerate()
            .map(|(index, entry)| match (joliet, self.iso.rock_ridge) {
                (true, _) => entry.joliet(),
                (false, false) => entry.primary(SystemUse::None),
                (false, true) if is_root && index == 0 => entry.primary(SystemUse::RockRidgeRoot),
                (false, true) => entry.primary(SystemUse::RockRidge),
            })
            .collect()
    }

    /// The filling as files of the volume; a rest shorter than a sector lies behind the volume.
    fn payloads(&self) -> Vec<Entry> {
        let mut sector = self.payload_start();
        let mut left = (self.sectors() - sector) * SECTOR;
        let mut files = Vec::new();
        while left > 0 && (files.len() as u64) < MAX_PAYLOADS {
            let now = left.min(MAX_FILE);
            let number = files.len();
            files.push(file(&format!("PAYLD{number:03}.BIN;1"), &format!("payload{number:02}.bin"), sector, now));
            sector += now / SECTOR;
            left -= now;
        }
        files
    }

    fn sectors(&self) -> u64 {
        self.iso.size / SECTOR
    }

    fn dir(&self, short: &[u8], name: &str, sector: u64) -> Entry {
        let bytes = self.directory_sectors * SECTOR;
        Entry { short: short.to_vec(), name: name.to_owned(), sector, bytes, directory: true }
    }

    /// The primary or the Joliet volume descriptor.
    fn descriptor(&self, joliet: bool) -> Vec<u8> {
        let text = |text: &str, bytes: usize| if joliet { text_ucs2(text, bytes) } else { text_ascii(text, bytes) };
        let table = self.tables() + if joliet { 2 } else { 0 };
        let table_bytes = 2 * 8 + 2 + isolinux_id(joliet).len();
        let mut out = vec![if joliet { 2 } else { 1 }];
        out.extend_from_slice(b"CD001\x01\x00");
        out.extend(text("LINUX", 32));
        out.extend(text(&self.iso.label, 32));
        out.extend([0; 8]);
        out.extend(both_endian_32(self.sectors() as u32));
        let mut escapes = [0; 32];
        if joliet {
            escapes[..3].copy_from_slice(b"%/E");
        }
        out.extend(escapes);
        for value in [1, 1, SECTOR as u16] {
            out.extend(both_endian_16(value));
        }
        out.extend(both_endian_32(table_bytes as u32));
        out.extend((table as u32).to_le_bytes());
        out.extend([0; 4]);
        out.extend((table as u32 + 1).to_be_bytes());
        out.extend([0; 4]);
        let mut root = self.dir(&[0], "", self.root(joliet)).primary(SystemUse::None);
        root.truncate(34);
        out.extend(root);
        for bytes in [128, 128, 128, 128, 37, 37, 37] {
            out.extend(text("", bytes));
        }
        for _ in 0..2 {
            out.extend_from_slice(b"2025082012000000\x00");
        }
        for _ in 0..2 {
            out.extend_from_slice(b"0000000000000000\x00");
        }
        out.push(1);
        padded(out, 1)
    }
}

fn file(short: &str, name: &str, sector: u64, bytes: u64) -> Entry {
    Entry { short: short.as_bytes().to_vec(), name: name.to_owned(), sector, bytes, directory: false }
}

fn isolinux_id(joliet: bool) -> Vec<u8> {
    if joliet { ucs2("isolinux") } else { b"ISOLINUX".to_vec() }
}

fn terminator() -> Vec<u8> {
    padded(b"\xFFCD001\x01".to_vec(), 1)
}

fn padded(mut bytes: Vec<u8>, sectors: u64) -> Vec<u8> {
    bytes.resize((sectors * SECTOR) as usize, 0);
    bytes
}

fn text_ascii(text: &str, bytes: usize) -> Vec<u8> {
    let mut out: Vec<u8> = text.bytes().take(bytes).collect();
    out.resize(bytes, b' ');
    out
}

fn text_ucs2(text: &str, bytes: usize) -> Vec<u8> {
    let mut out: Vec<u8> = ucs2(text).into_iter().take(bytes & !1).collect();
    while out.len() + 1 < bytes {
        out.extend_from_slice(&[0, b' ']);
    }
    out.resize(bytes, 0);
    out
}
