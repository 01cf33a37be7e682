//! Reads the needed cells of an .xlsx, in bounded memory and time whatever the bytes are. It knows the file format and
//! nothing of what a cell means.
//!
//! `calamine` reads the values, and never sees the file itself: it asks for the memory that a file *claims* to need
//! (`uniqueCount` of the shared strings, `si` of a shared formula), which aborts the process, holds whole parts, and keeps
//! a copy of fonts and fills for each style. So each needed part is vetted first, as a stream, and what passes is written
//! to a small package of its own ([`Extract`]): the needed cells, the strings and formats that they refer to, and no
//! claims. What calamine reads is thus exactly what was vetted.

pub(crate) mod archive;
mod cell;
pub(crate) mod cells;
mod extract;
mod fault;
pub(crate) mod package;
mod sheet;
mod strings;
mod styles;
pub(crate) mod xml;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use cell::{CellValue, Position};
#[cfg(test)]
use fault::FILE_MAX;
pub(crate) use fault::{Fault, SHEET_READ_MAX};
pub(crate) use sheet::Sheet;

use archive::Archive;
use cells::VettedSheet;
use extract::Extract;
use strings::VettedStrings;

/// The sheets that were asked for, as far as the workbook has them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Names of all sheets, in the workbook's order.
    pub(crate) names: Vec<String>,
    /// The sheets that were asked for.
    pub(crate) sheets: BTreeMap<String, Sheet>,
}

/// Reads the sheets with these exact names. A sheet that is not there, or there twice, is left out; see [`Book::names`].
pub(crate) fn read(bytes: &[u8], wanted: &[&str]) -> Result<Book, Fault> {
    let mut archive = Archive::open(bytes)?;
    let package = package::read(&mut archive)?;
    let names: Vec<String> = package.sheets.iter().map(|sheet| sheet.name.clone()).collect();

    let mut vetted = Vec::new();
    for name in wanted {
        let mut parts = package.sheets.iter().filter(|sheet| sheet.name == *name);
        let (Some(only), None) = (parts.next(), parts.next()) else { continue };
        vetted.push((*name, cells::vet(&mut archive, &only.part)?));
    }
    let mut extract = Extract::default();
    let used: BTreeSet<u32> = vetted.iter().flat_map(|(_, sheet)| sheet.styles.iter().copied()).collect();
    if let Some(part) = &package.styles {
        extract.styles(&styles::vet(&mut archive, part, &used)?)?;
    }
    let needed: BTreeSet<u32> = vetted.iter().flat_map(|(_, sheet)| sheet.strings.values().copied()).collect();
    let mut strings = VettedStrings::default();
    if !needed.is_empty() {
        let part = package.shared_strings.as_deref().ok_or_else(|| Fault::damaged("the table of shared strings"))?;
        strings = strings::vet(&mut archive, part, &needed)?;
        extract.strings(&strings.xml)?;
    }
    for (name, sheet) in &vetted {
        extract.sheet(name, &sheet.xml)?;
    }
    let mut workbook = extract.open()?;
    let mut book = Book { names, ..Book::default() };
    for (name, vetted) in vetted {
        let mut sheet = sheet::read(&mut workbook, name)?;
        too_long(&vetted, &strings).for_each(|position| sheet.set(position, CellValue::TooLong));
        book.sheets.insert(name.to_owned(), sheet);
    }
    Ok(book)
}

/// The cells whose text was left out.
fn too_long(sheet: &VettedSheet, strings: &VettedStrings) -> impl Iterator<Item = Position> {
    let shared = sheet.strings.iter().filter(|(_, index)| strings.too_long.contains(index)).map(|(at, _)| *at);
    sheet.too_long.iter().copied().chain(shared)
}

#[cfg(test)]
mod tests;
