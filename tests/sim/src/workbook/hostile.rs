//! Files that are no honest workbooks: each attacks a reader in one way (`workbook.md` 9 and 12).

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Workbook, package};

/// One kind of bad file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// No bytes at all.
    Empty,
    /// A text file with the wrong ending.
    NotAZip,
    /// The head of an OLE file: an old .xls, or a workbook protected by a password.
    Encrypted,
    /// A good workbook cut off in the middle.
    CutOff,
    /// A zip that holds no workbook.
    NoWorkbook,
    /// A zip whose sheet part is not XML.
    BrokenXml,
    /// A valid plan with one further value in cell XFD1048576 of `集群管理信息`: a dense reader asks for 549 GB.
    StrayFarCell,
    /// A valid plan with this many further rows in `集群管理信息`.
    HugeSheet { rows: u32 },
    /// A valid plan whose shared strings inflate to this many bytes of text.
    Bomb { bytes: u64 },
    /// A valid plan whose zip directory claims this size for the shared strings, whatever they really are.
    DeclaredBomb { bytes: u32 },
}

impl Hostile {
    /// The file.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Hostile::Empty => Vec::new(),
            Hostile::NotAZip => b"cluster;ip\nplan;192.0.2.1\n".repeat(20),
            Hostile::Encrypted => [&[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1][..], &[0; 4088]].concat(),
            Hostile::CutOff => {
                let mut bytes = Workbook::valid().bytes();
                bytes.truncate(bytes.len() / 2);
                bytes
            }
            Hostile::NoWorkbook => package::zip_of(&[("readme.txt".to_owned(), b"no workbook here".to_vec())]),
            Hostile::BrokenXml => {
                let mut parts = package::parts(&Workbook::valid());
                for (_, content) in parts.iter_mut().filter(|(name, _)| name.starts_with("xl/worksheets/sheet")) {
                    content.truncate(content.len() / 3);
                    content.extend_from_slice(b"<<<&&& \xff\xfe");
                }
                package::zip_of(&parts)
            }
            Hostile::StrayFarCell => Workbook::valid().set("集群管理信息!XFD1048576", "x").bytes(),
            Hostile::HugeSheet { rows } => huge_sheet(rows),
            Hostile::Bomb { bytes } => bomb(bytes),
            Hostile::DeclaredBomb { bytes } => declared_bomb(bytes),
        }
    }
}

fn huge_sheet(rows: u32) -> Vec<u8> {
    let mut workbook = Workbook::valid();
    let sheet = workbook.sheet_mut("集群管理信息");
    sheet.styled_rows = sheet.styled_rows.max(30).saturating_add(rows);
    workbook.bytes()
}

#[expect(clippy::expect_used, reason = "writing a zip into memory fails for no reason a caller could handle")]
fn bomb(bytes: u64) -> Vec<u8> {
    let workbook = Workbook::valid().saved(super::Saving::Spreadsheet);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .large_file(bytes > u32::MAX.into());
    let block = [b'A'; 64 * 1024];
    for (name, content) in package::parts(&workbook) {
        zip.start_file(name.as_str(), options).expect("a new part");
        if name != SHARED_STRINGS {
            zip.write_all(&content).expect("memory");
            continue;
        }
        let cut = content.len() - "</sst>".len();
        zip.write_all(&content[..cut]).expect("memory");
        zip.write_all(b"<si><t>").expect("memory");
        let mut left = bytes;
        while left > 0 {
            let now = left.min(block.len() as u64) as usize;
            zip.write_all(&block[..now]).expect("memory");
            left -= now as u64;
        }
        zip.write_all(b"</t></si></sst>").expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

/// Overwrites the uncompressed size in the central directory entry (offset 24) and the local header (offset 22).
fn declared_bomb(bytes: u32) -> Vec<u8> {
    let mut file = Workbook::valid().saved(super::Saving::Spreadsheet).bytes();
    for (signature, size_at, name_at) in [(b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)] {
        let entry = (0..file.len().saturating_sub(name_at)).find(|at| {
            file[*at..].starts_with(signature) && file[at + name_at..].starts_with(SHARED_STRINGS.as_bytes())
        });
        if let Some(entry) = entry {
            file[entry + size_at..entry + size_at + 4].copy_from_slice(&bytes.to_le_bytes());
        }
    }
    file
}

const SHARED_STRINGS: &str = "xl/sharedStrings.xml";
