//! Builds SmartX planning workbooks (.xlsx) cell by cell, valid ones and broken ones (`workbook.md`). It writes the XML
//! and the zip itself and must not know how anybody reads a workbook.
//!
//! ```
//! use gantry_sim::workbook::{Cell, Saving, Workbook};
//!
//! let bytes = Workbook::valid().set("集群管理信息!E3", "127.30.40.77").clear("集群管理信息!D3").bytes();
//! let saved_by_excel = Workbook::valid().saved(Saving::Spreadsheet).set("虚拟网络!F4", 20).bytes();
//! let no_result = Workbook::valid().set("集群管理信息!E3", Cell::formula("A1")).bytes();
//! # assert!(bytes.starts_with(b"PK") && saved_by_excel.starts_with(b"PK") && no_result.starts_with(b"PK"));
//! ```

mod addresses;
mod cell;
mod formula;
mod hostile;
mod package;
mod sheet;
mod template;

pub use cell::Cell;
pub use hostile::Hostile;
pub(crate) use package::zip_of;
pub use sheet::Sheet;

use cell::{Position, full_address};

/// How the file was last saved (`workbook.md` 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saving {
    /// As the published template: strings inline, formulas of the template without a stored result.
    Openpyxl,
    /// As a spreadsheet program does: one table of shared strings, every formula of the template with its result.
    Spreadsheet,
}

/// A workbook under construction. Cells are addressed as `sheet!cell`, as a person sees them.
#[derive(Clone, Debug)]
pub struct Workbook {
    sheets: Vec<Sheet>,
    saving: Saving,
}

impl Workbook {
    /// A complete plan for three hosts in 127.30.40.0/24: CloudTower `127.30.40.20`, VIP `127.30.40.10`, hosts
    /// `127.30.40.11` to `.13`, gateway `127.30.40.1`; every value invented, all thirteen sheets.
    pub fn valid() -> Self {
        Workbook { sheets: template::sheets(), saving: Saving::Openpyxl }
    }

    /// A workbook without any sheet, for building something else than a plan.
    pub fn empty() -> Self {
        Workbook { sheets: Vec::new(), saving: Saving::Openpyxl }
    }

    /// Chooses the saving style; [`Saving::Openpyxl`] is the default.
    #[must_use]
    pub fn saved(mut self, saving: Saving) -> Self {
        self.saving = saving;
        self
    }

    /// Sets one cell, for example `set("集群管理信息!E3", "127.30.40.20")`.
    ///
    /// # Panics
    /// When the address is not `sheet!cell` or the sheet does not exist: a mistake in the test.
    #[must_use]
    pub fn set(mut self, address: &str, value: impl Into<Cell>) -> Self {
        let (sheet, position) = full_address(address);
        self.sheet_mut(&sheet).put(position, value.into());
        self
    }

    /// Makes one cell blank. Panics as [`Workbook::set`].
    #[must_use]
    pub fn clear(mut self, address: &str) -> Self {
        let (sheet, position) = full_address(address);
        self.sheet_mut(&sheet).remove(position);
        self
    }

    /// The value a cell holds now, if it is not blank.
    pub fn cell(&self, address: &str) -> Option<&Cell> {
        let (sheet, position) = full_address(address);
        self.sheet(&sheet).and_then(|sheet| sheet.get(position))
    }

    /// Renames a sheet; formulas that name it are left as they are, as after an edit of the raw file. Panics as `set`.
    #[must_use]
    pub fn rename_sheet(mut self, name: &str, new_name: &str) -> Self {
        self.sheet_mut(name).name = new_name.to_owned();
        self
    }

    /// Removes a sheet. Panics as `set`.
    #[must_use]
    pub fn remove_sheet(mut self, name: &str) -> Self {
        self.sheet_mut(name);
        self.sheets.retain(|sheet| sheet.name != name);
        self
    }

    /// Inserts a sheet so that it becomes number `index` (0 is the first; past the end appends).
    #[must_use]
    pub fn insert_sheet(mut self, index: usize, sheet: Sheet) -> Self {
        self.sheets.insert(index.min(self.sheets.len()), sheet);
        self
    }

    /// Appends a copy of a sheet under another name (`集群管理信息 (2)`). Panics as `set`.
    #[must_use]
    pub fn copy_sheet(mut self, name: &str, copy_name: &str) -> Self {
        let mut copy = self.sheet_mut(name).clone();
        copy.name = copy_name.to_owned();
        self.sheets.push(copy);
        self
    }

    /// Hides a sheet or shows it again. Panics as `set`.
    #[must_use]
    pub fn hide_sheet(mut self, name: &str, hidden: bool) -> Self {
        self.sheet_mut(name).hidden = hidden;
        self
    }

    /// Puts the sheets into the opposite order: position is no way to find a sheet.
    #[must_use]
    pub fn reverse_sheets(mut self) -> Self {
        self.sheets.reverse();
        self
    }

    /// Inserts `count` blank rows above row `row` (1 is the first): everything below slides down. Panics as `set`.
    #[must_use]
    pub fn insert_rows(mut self, sheet: &str, row: u32, count: u32) -> Self {
        self.sheet_mut(sheet).shift(Position { row, column: 0 }, count, 0);
        self
    }

    /// Inserts `count` blank columns left of `column` (1 is column A). Panics as `set`.
    #[must_use]
    pub fn insert_columns(mut self, sheet: &str, column: u32, count: u32) -> Self {
        self.sheet_mut(sheet).shift(Position { row: 0, column }, 0, count);
        self
    }

    /// The names of the sheets, in order.
    pub fn sheet_names(&self) -> Vec<&str> {
        self.sheets.iter().map(|sheet| sheet.name.as_str()).collect()
    }

    /// The finished file.
    pub fn bytes(&self) -> Vec<u8> {
        package::write(self)
    }

    fn sheet(&self, name: &str) -> Option<&Sheet> {
        self.sheets.iter().find(|sheet| sheet.name == name)
    }

    #[expect(clippy::panic, reason = "a test that names a sheet that is not there must fail at that line")]
    fn sheet_mut(&mut self, name: &str) -> &mut Sheet {
        match self.sheets.iter_mut().find(|sheet| sheet.name == name) {
            Some(sheet) => sheet,
            None => panic!("the workbook under construction has no sheet {name:?}"),
        }
    }
}
