//! The small package of vetted parts that calamine reads: it is written here from beginning to end, so nothing of the
//! original's structure, names or claims is in it.

use std::{
    fmt::Write as _,
    io::{Cursor, Write as _},
};

use calamine::{Reader, Xlsx};
use quick_xml::escape::escape;
use zeroize::Zeroizing;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::fault::Fault;

const RELATIONSHIP: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// The package being written, and then opened.
pub(super) struct Extract {
    zip: ZipWriter<Cursor<Vec<u8>>>,
    /// `<sheet>` of each sheet.
    sheets: String,
    /// `<Relationship>` of each sheet.
    links: String,
    count: usize,
}

/// The extract as calamine has it open. Its copy of the bytes is wiped when it is dropped; what calamine keeps is not.
pub(super) type Opened = Xlsx<Cursor<Zeroizing<Vec<u8>>>>;

impl Default for Extract {
    fn default() -> Self {
        let zip = ZipWriter::new(Cursor::new(Vec::new()));
        Self { zip, sheets: String::new(), links: String::new(), count: 0 }
    }
}

impl Extract {
    /// Adds a sheet: the whole part.
    pub(super) fn sheet(&mut self, name: &str, xml: &str) -> Result<(), Fault> {
        self.count += 1;
        let (number, name) = (self.count, escape(name));
        // Writing to a string cannot fail.
        let _ = write!(self.sheets, "<sheet name=\"{name}\" sheetId=\"{number}\" r:id=\"rId{number}\"/>");
        let _ = write!(
            self.links,
            "<Relationship Id=\"rId{number}\" Type=\"{RELATIONSHIP}/worksheet\" Target=\"worksheets/sheet{number}.xml\"/>"
        );
        self.part(&format!("xl/worksheets/sheet{number}.xml"), xml)
    }

    /// Adds the table of shared strings.
    pub(super) fn strings(&mut self, xml: &str) -> Result<(), Fault> {
        self.part("xl/sharedStrings.xml", xml)
    }

    /// Adds the styles.
    pub(super) fn styles(&mut self, xml: &str) -> Result<(), Fault> {
        self.part("xl/styles.xml", xml)
    }

    /// Completes the package and opens it.
    pub(super) fn open(mut self) -> Result<Opened, Fault> {
        let root = format!(
            "<Relationships><Relationship Id=\"rId1\" Type=\"{RELATIONSHIP}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
        );
        self.part("_rels/.rels", &root)?;
        let sheets = std::mem::take(&mut self.sheets);
        self.part(
            "xl/workbook.xml",
            &format!("<workbook xmlns:r=\"{RELATIONSHIP}\"><sheets>{sheets}</sheets></workbook>"),
        )?;
        let links = std::mem::take(&mut self.links);
        self.part("xl/_rels/workbook.xml.rels", &format!("<Relationships>{links}</Relationships>"))?;
        let bytes = self.zip.finish().map_err(|_| unreadable())?.into_inner();
        Xlsx::new(Cursor::new(Zeroizing::new(bytes))).map_err(|_| unreadable())
    }

    fn part(&mut self, name: &str, xml: &str) -> Result<(), Fault> {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        self.zip.start_file(name, stored).map_err(|_| unreadable())?;
        self.zip.write_all(xml.as_bytes()).map_err(|_| unreadable())
    }
}

/// Not seen in practice: the package is written in memory and by us.
fn unreadable() -> Fault {
    Fault::damaged("the list of sheets")
}
