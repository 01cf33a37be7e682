//! The zip package: what kind of file it is, and every limit that its directory already answers.

use std::io::{BufReader, Cursor, Read as _, Write as _};

use zeroize::Zeroizing;
use zip::{ZipArchive, ZipWriter, read::ZipFile, result::ZipError};

use super::{
    fault::{FILE_MAX, Fault, INDEX_PART_MAX, PART_MAX, PARTS_MAX, TOTAL_MAX},
    xml::Xml,
};

const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const EMPTY_ARCHIVE: &[u8] = b"PK\x05\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
const COMPOUND_FILE: &[u8] = &[0xD0, 0xCF, 0x11, 0xE0];
/// Unpacked bytes held at a time.
const BUFFER: usize = 32 << 10;

/// An opened package whose declared sizes are within the limits.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Names of the parts as the package spells them.
    names: Vec<String>,
    /// Bytes of the file.
    size: usize,
}

/// The XML of one part.
pub(crate) type PartXml<'r, 'a> = Xml<BufReader<ZipFile<'r, Cursor<&'a [u8]>>>>;

impl<'a> Archive<'a> {
    /// Checks what can be checked before anything is unpacked. The zip crate stops a part that unpacks to more than it
    /// declared, so a false size does not get past the limits.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        check_kind(bytes)?;
        // Every entry of a directory begins so: counted before the zip crate allocates for them.
        if bytes.windows(DIRECTORY_ENTRY.len()).filter(|window| *window == DIRECTORY_ENTRY).count() > PARTS_MAX {
            return Err(Fault::TooMany { what: "parts", limit: PARTS_MAX });
        }
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|_| Fault::CutOff)?;
        if zip.has_duplicate_names() {
            return Err(Fault::damaged("the directory (two parts have the same name)"));
        }
        let mut archive = Self { names: Vec::with_capacity(zip.len()), zip, size: bytes.len() };
        archive.check_sizes()?;
        if archive.find("mimetype").is_some() && archive.find("content.xml").is_some() {
            return Err(Fault::OpenDocument);
        }
        Ok(archive)
    }

    /// The package's own spelling of a part's name; programs differ in case and in the direction of the slash.
    pub(crate) fn find(&self, part: &str) -> Option<&str> {
        let same = |name: &&String| name.replace('\\', "/").trim_start_matches('/').eq_ignore_ascii_case(part);
        self.names.iter().find(|name| *name == part).or_else(|| self.names.iter().find(same)).map(String::as_str)
    }

    /// Opens a part that has to be read to its end.
    pub(crate) fn index_part(&mut self, part: &str) -> Result<PartXml<'_, 'a>, Fault> {
        self.part(part, INDEX_PART_MAX, true)
    }

    /// Opens a part of which only the beginning is read: `limit` bytes at most.
    pub(crate) fn beginning(&mut self, part: &str, limit: u64) -> Result<PartXml<'_, 'a>, Fault> {
        self.part(part, limit, false)
    }

    /// The text of a whole part of at most `limit` bytes.
    pub(crate) fn text(&mut self, part: &str, limit: u64) -> Result<Zeroizing<String>, Fault> {
        let file = self.file(part, limit, true)?;
        // Reserved at once: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(file.size()).unwrap_or_default()));
        file.take(limit).read_to_string(&mut text).map_err(|_| Fault::damaged(part))?;
        Ok(text)
    }

    /// The package with another content of one part. All others are copied as they are packed, in their order.
    pub(crate) fn with_part(&mut self, part: &str, content: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let changed = self.names.iter().position(|name| Some(name.as_str()) == self.find(part));
        let changed = changed.ok_or_else(|| Fault::damaged(part))?;
        // Reserved at once: it holds passwords, and bytes that grow leave copies behind.
        let mut out = ZipWriter::new(Cursor::new(Vec::with_capacity(self.size + content.len())));
        let mut copy = || {
            out.set_raw_comment(self.zip.comment().into())?;
            for index in 0..self.zip.len() {
                let file = self.zip.by_index_raw(index)?;
                if index != changed {
                    out.raw_copy_file(file)?;
                    continue;
                }
                let options = file.options();
                drop(file);
                out.start_file(self.names[index].as_str(), options)?;
                out.write_all(content.as_bytes())?;
            }
            Ok::<_, ZipError>(())
        };
        copy().map_err(|_| Fault::damaged("the zip package"))?;
        let written = out.finish().map_err(|_| Fault::damaged("the zip package"))?;
        Ok(Zeroizing::new(written.into_inner()))
    }

    fn part(&mut self, part: &str, limit: u64, whole: bool) -> Result<PartXml<'_, 'a>, Fault> {
        let file = self.file(part, limit, whole)?;
        Ok(Xml::new(part, limit, BufReader::with_capacity(BUFFER, file)))
    }

    fn file(&mut self, part: &str, limit: u64, whole: bool) -> Result<ZipFile<'_, Cursor<&'a [u8]>>, Fault> {
        let name = self.find(part).ok_or_else(|| Fault::damaged(part))?.to_owned();
        let file = self.zip.by_name(&name).map_err(|error| match error {
            ZipError::UnsupportedArchive(why) if why == ZipError::PASSWORD_REQUIRED => Fault::Encrypted,
            _ => Fault::damaged(part),
        })?;
        if whole && file.size() > limit {
            return Err(Fault::Unpacked { what: part.to_owned(), bytes: file.size(), limit });
        }
        Ok(file)
    }

    fn check_sizes(&mut self) -> Result<(), Fault> {
        let mut total = 0_u64;
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_raw(index).map_err(|_| Fault::CutOff)?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let bytes = entry.size();
            total = total.saturating_add(bytes);
            if bytes > PART_MAX {
                let what = crate::text::shown(&name);
                return Err(Fault::Unpacked { what, bytes, limit: PART_MAX });
            }
            self.names.push(name);
        }
        if total > TOTAL_MAX {
            return Err(Fault::Unpacked { what: "all of it".to_owned(), bytes: total, limit: TOTAL_MAX });
        }
        Ok(())
    }
}

fn check_kind(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.is_empty() {
        return Err(Fault::Empty);
    }
    if bytes.len() > FILE_MAX {
        return Err(Fault::FileTooLarge { bytes: bytes.len() });
    }
    if bytes.starts_with(COMPOUND_FILE) {
        return Err(compound_file(bytes));
    }
    if bytes.starts_with(EMPTY_ARCHIVE) {
        return Err(Fault::NoWorkbook);
    }
    if !bytes.starts_with(LOCAL_HEADER) {
        return Err(Fault::NotAZip);
    }
    Ok(())
}

/// The old container holds either an .xls or the encrypted form of an .xlsx; its directory has the names in UTF-16.
fn compound_file(bytes: &[u8]) -> Fault {
    let holds = |name: &str| {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.windows(name.len()).any(|window| window == name)
    };
    if holds("EncryptedPackage") {
        Fault::Encrypted
    } else if holds("Workbook") || holds("Book") {
        Fault::OldFormat
    } else {
        Fault::OldFormatOrEncrypted
    }
}
