//! Writes one value back into a workbook: CloudTower's serial into `集群管理信息!M3` (R83). Pure, as all of the planner:
//! bytes go in, the bytes of a copy come out.
//!
//! Nothing else changes. Every other part of the package is copied as it is packed, and of the sheet's XML only the
//! cell is another one. The text stands in the cell itself: the table of shared strings is another part. A formula stays
//! a formula, whose text is the serial, because the chain of calculations, another part too, names its cell.

mod spot;

use quick_xml::escape::escape;
use zeroize::Zeroizing;

use crate::{
    fields::TOWER_SERIAL,
    read::{self, Book, CellValue, Fault, Position, SHEET_READ_MAX, archive::Archive, package},
};
use spot::{NoSpot, Spot};

/// The longest serial, characters: what a text within a formula may have.
pub const SERIAL_MAX: usize = 255;

/// Why a serial cannot be written into a workbook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct WriteError(#[from] Why);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("the serial is not one that a cell can hold: expected 1 to {SERIAL_MAX} printable ASCII characters")]
    Serial,
    #[error("the workbook has no sheet {0}, or more than one")]
    Sheet(&'static str),
    #[error(transparent)]
    NoSpot(#[from] NoSpot),
    #[error("the copy does not read as it should: the workbook is put together in an unusual way")]
    OtherThanMeant,
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        Self(NoSpot::from(fault).into())
    }
}

impl WriteError {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match &self.0 {
            Why::NoSpot(NoSpot::Unreadable(fault)) => fault.remedy(),
            Why::Sheet(_) => "give the planning workbook (规划表, edition v20250820) that was deployed",
            Why::Serial | Why::NoSpot(_) | Why::OtherThanMeant => "type the serial into the workbook by hand",
        }
    }
}

/// The sheet and the cell that the serial goes into.
pub fn serial_cell() -> (&'static str, &'static str) {
    (TOWER_SERIAL.sheet, TOWER_SERIAL.cells.first().copied().unwrap_or_default())
}

/// A copy of the workbook with CloudTower's serial in its cell.
///
/// # Errors
/// When the serial is not one, when the file cannot be read as a workbook within the planner's limits, and when the
/// cell is not one that can be written without changing others.
pub fn with_serial(workbook: &[u8], serial: &str) -> Result<Zeroizing<Vec<u8>>, WriteError> {
    if !is_serial(serial) {
        return Err(Why::Serial.into());
    }
    let (sheet, cell) = serial_cell();
    let position = Position::parse(cell).ok_or(Why::Sheet(sheet))?;
    let mut archive = Archive::open(workbook)?;
    let package = package::read(&mut archive)?;
    let mut parts = package.sheets.iter().filter(|known| known.name == sheet);
    let (Some(only), None) = (parts.next(), parts.next()) else { return Err(Why::Sheet(sheet).into()) };

    let xml = archive.text(&only.part, SHEET_READ_MAX)?;
    let spot = spot::find(&only.part, &xml, position).map_err(Why::from)?;
    let changed = replaced(&xml, &spot, serial).ok_or_else(|| Fault::damaged(&only.part))?;
    let copy = archive.with_part(&only.part, &changed)?;
    check(workbook, &copy, position, serial)?;
    Ok(copy)
}

fn is_serial(text: &str) -> bool {
    let printable = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    printable && !text.is_empty() && text.trim() == text && text.len() <= SERIAL_MAX
}

/// The sheet with the cell in its place; `None` when the place is not one of this text.
fn replaced(xml: &str, spot: &Spot, serial: &str) -> Option<Zeroizing<String>> {
    let Spot { span, before, after, prefix: p, attributes, formula } = spot;
    let (head, tail) = (xml.get(..span.start)?, xml.get(span.end..)?);
    let text = escape(serial);
    let cell = if *formula {
        let quoted = serial.replace('"', "\"\"");
        let quoted = escape(&quoted);
        format!("<{p}c{attributes} t=\"str\"><{p}f>\"{quoted}\"</{p}f><{p}v>{text}</{p}v></{p}c>")
    } else {
        format!("<{p}c{attributes} t=\"inlineStr\"><{p}is><{p}t>{text}</{p}t></{p}is></{p}c>")
    };
    let pieces = [head, before, &cell, after, tail];
    // Reserved at once: the sheet holds passwords, and a string that grows leaves copies behind.
    let mut changed = Zeroizing::new(String::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
    pieces.iter().for_each(|piece| changed.push_str(piece));
    Some(changed)
}

/// The copy, read as the planner reads it, has the serial in its cell and every other cell as before: what is unusual
/// in a file that others have made must not give a wrong copy.
fn check(workbook: &[u8], copy: &[u8], position: Position, serial: &str) -> Result<(), WriteError> {
    let (sheet, _) = serial_cell();
    let others = |book: &Book| -> Vec<(Position, CellValue)> {
        let cells = book.sheets.get(sheet).into_iter().flat_map(|sheet| sheet.cells());
        cells.filter(|(at, _)| *at != position).map(|(at, value)| (at, value.clone())).collect()
    };
    let (before, after) = (read::read(workbook, &[sheet])?, read::read(copy, &[sheet])?);
    let written = after.sheets.get(sheet).and_then(|sheet| sheet.get(position));
    let holds = matches!(written, Some(CellValue::Text(text)) if text.as_str() == serial);
    if !holds || before.names != after.names || others(&before) != others(&after) {
        return Err(Why::OtherThanMeant.into());
    }
    Ok(())
}
