//! Calculates the few formulas the template has, so that a copy "saved by a spreadsheet program" holds true results.

use super::Workbook;
use super::cell::{Cell, full_address};

/// The result of a template formula: `sheet!cell`, parts joined by `&`, or `IF(ISNUMBER(Q3),Q3+1,"")`.
pub(super) fn result(workbook: &Workbook, sheet: &str, formula: &str) -> Cell {
    if let Some(cell) = formula.strip_prefix("IF(ISNUMBER(").and_then(|rest| rest.split(')').next()) {
        return match workbook.cell(&format!("{sheet}!{cell}")) {
            Some(Cell::Number(number)) => Cell::Number(number + 1.0),
            _ => Cell::Text(String::new()),
        };
    }
    Cell::Text(formula.split('&').map(|part| term(workbook, part)).collect())
}

fn term(workbook: &Workbook, part: &str) -> String {
    if let Some(text) = part.strip_prefix('"') {
        return text.trim_end_matches('"').to_owned();
    }
    let (sheet, position) = full_address(part);
    workbook.sheet(&sheet).and_then(|sheet| sheet.get(position)).map_or_else(String::new, Cell::shown)
}
