//! Reads the needed cells of an .xlsx, in bounded memory and time whatever the bytes are. It knows the file format and
//! nothing of what a cell means.
//!
//! `calamine` is not used here on purpose: it asks for the memory that a file *claims* to need (`uniqueCount` of the
//! shared strings, `si` of a shared formula), which aborts the process, and holds whole parts. It stays as the reference
//! against which the tests compare this reader.

mod archive;
mod cell;
mod fault;
mod package;
mod sheet;
mod strings;
mod styles;
mod xml;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use cell::{CellValue, Position};
#[cfg(test)]
use fault::FILE_MAX;
pub(crate) use fault::Fault;
pub(crate) use sheet::Sheet;

use archive::Archive;

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
    let dates = match &package.styles {
        Some(part) => styles::date_styles(&mut archive, part)?,
        None => BTreeSet::new(),
    };
    let mut book = Book { names: package.sheets.iter().map(|sheet| sheet.name.clone()).collect(), ..Book::default() };
    for name in wanted {
        let mut parts = package.sheets.iter().filter(|sheet| sheet.name == *name);
        let (Some(only), None) = (parts.next(), parts.next()) else { continue };
        book.sheets.insert((*name).to_owned(), sheet::read(&mut archive, &only.part, &dates)?);
    }
    let needed = book.sheets.values().flat_map(Sheet::shared_indices).collect::<BTreeSet<_>>();
    if !needed.is_empty() {
        let part = package.shared_strings.as_deref().ok_or_else(|| Fault::damaged("the table of shared strings"))?;
        let strings = strings::read(&mut archive, part, &needed)?;
        book.sheets.values_mut().try_for_each(|sheet| sheet.resolve(&strings))?;
    }
    Ok(book)
}

#[cfg(test)]
mod tests;
