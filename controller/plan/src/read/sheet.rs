//! The values of one sheet, as calamine reads them from what was vetted.

use std::collections::BTreeMap;

use calamine::Data;

use super::{
    cell::{CellValue, Position},
    extract::Opened,
    fault::{Fault, TEXT_MAX},
};

/// The non-blank cells of a sheet.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    cells: BTreeMap<Position, CellValue>,
}

impl Sheet {
    /// What a cell holds; `None` when it is blank.
    pub(crate) fn get(&self, position: Position) -> Option<&CellValue> {
        self.cells.get(&position)
    }

    /// Every non-blank cell, row by row.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (Position, &CellValue)> {
        self.cells.iter().map(|(position, value)| (*position, value))
    }

    pub(super) fn set(&mut self, position: Position, value: CellValue) {
        self.cells.insert(position, value);
    }
}

/// Reads the cells of a sheet of the extract, by their absolute positions.
pub(super) fn read(workbook: &mut Opened, name: &str) -> Result<Sheet, Fault> {
    let damaged = || Fault::damaged(format!("the sheet {name}"));
    let mut cells = workbook.worksheet_cells_reader(name).map_err(|_| damaged())?;
    let mut sheet = Sheet::default();
    while let Some(cell) = cells.next_cell_with_formula().map_err(|_| damaged())? {
        if let Some(value) = value(cell.value.into(), cell.formula.is_some()) {
            sheet.set(Position { row: cell.pos.0 + 1, column: cell.pos.1 + 1 }, value);
        }
    }
    Ok(sheet)
}

/// `None` is a blank cell: also one whose formula has the empty text as its result.
fn value(data: Data, formula: bool) -> Option<CellValue> {
    match data {
        Data::Empty => formula.then_some(CellValue::NoResult),
        Data::String(text) if text.is_empty() => None,
        Data::String(text) if text.chars().count() > TEXT_MAX => Some(CellValue::TooLong),
        Data::String(text) => Some(CellValue::Text(text.into())),
        Data::Float(number) => Some(CellValue::Number(number)),
        // Not made by the .xlsx reader of today.
        Data::Int(number) => Some(CellValue::Number(number as f64)),
        Data::Bool(value) => Some(CellValue::Bool(value)),
        Data::DateTime(_) | Data::DateTimeIso(_) | Data::DurationIso(_) => Some(CellValue::Date),
        Data::Error(error) => Some(CellValue::Error(error.to_string())),
    }
}
