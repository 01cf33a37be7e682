//! One sheet: the cells near its top left corner. Reading stops at the first row that no rule looks at, so that a
//! million further rows or a value in the last cell cost nothing but their unpacking (Q14, Q15).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
};

use super::{
    archive::Archive,
    cell::{CellValue, Position, unescaped},
    fault::{CELLS_MAX, Fault, SHEET_READ_MAX},
    strings::{plain_text, rich_text},
    xml::{Element, Token, Xml},
};

/// The last row and column that are kept. The lowest used row of a needed sheet is 34, the last column R.
const LAST: Position = Position { row: 40, column: 26 };

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

    pub(super) fn shared_indices(&self) -> impl Iterator<Item = u32> {
        self.cells.values().filter_map(|value| match value {
            CellValue::Shared(index) => Some(*index),
            _ => None,
        })
    }

    /// Replaces references to shared strings by the strings; blank ones become blank cells.
    pub(super) fn resolve(&mut self, strings: &BTreeMap<u32, CellValue>) -> Result<(), Fault> {
        for value in self.cells.values_mut() {
            if let CellValue::Shared(index) = value {
                let found = strings.get(index).ok_or_else(|| Fault::damaged("the table of shared strings"))?;
                *value = found.clone();
            }
        }
        self.cells.retain(|_, value| !matches!(value, CellValue::Text(text) if text.is_empty()));
        Ok(())
    }
}

/// Reads the sheet in `part`; `dates` are the styles that show a number as a date.
pub(super) fn read(archive: &mut Archive<'_>, part: &str, dates: &BTreeSet<u32>) -> Result<Sheet, Fault> {
    let mut xml = archive.beginning(part, SHEET_READ_MAX)?;
    let mut sheet = Sheet::default();
    let mut next = Position { row: 1, column: 1 };
    let mut in_data = false;
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("sheetData") => in_data = true,
            Token::Open(element) if in_data && element.is("row") => {
                next.row = element.attribute("r").and_then(|row| row.parse().ok()).unwrap_or(next.row);
                next.column = 1;
                if next.row > LAST.row {
                    break;
                }
            }
            Token::Open(element) if in_data && element.is("c") => {
                let head = Head::of(&element, next).ok_or_else(|| Fault::damaged(part))?;
                next = Position { column: head.at.column + 1, ..head.at };
                let value = cell(&mut xml, &head, dates)?;
                if let (Some(value), true) = (value, head.at.row <= LAST.row && head.at.column <= LAST.column) {
                    sheet.cells.entry(head.at).or_insert(value);
                }
                if sheet.cells.len() > CELLS_MAX {
                    return Err(xml.excessive("cells"));
                }
            }
            Token::Close(name) if name == "row" => next = Position { row: next.row.saturating_add(1), column: 1 },
            Token::Close(name) if name == "sheetData" => break,
            // Also a chart sheet or something else that has no cells.
            Token::End => return Err(Fault::damaged(part)),
            _ => {}
        }
    }
    xml.finish_sheet()?;
    Ok(sheet)
}

/// What the tag of a cell says.
struct Head {
    at: Position,
    kind: String,
    style: u32,
}

impl Head {
    /// `None` when the cell has an address that no sheet has.
    fn of(element: &Element<'_>, next: Position) -> Option<Self> {
        let at = match element.attribute("r") {
            Some(text) => Position::parse(&text)?,
            None => next,
        };
        let style = element.attribute("s").and_then(|style| style.parse().ok()).unwrap_or(0);
        Some(Self { at, kind: element.attribute("t").unwrap_or_default(), style })
    }
}

/// Reads up to the end of the cell. `None` is a blank one.
fn cell<R: BufRead>(xml: &mut Xml<R>, head: &Head, dates: &BTreeSet<u32>) -> Result<Option<CellValue>, Fault> {
    let (mut formula, mut has_value) = (false, false);
    let mut value = None;
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("f") => {
                formula = true;
                plain_text(xml, "f")?;
            }
            Token::Open(element) if element.is("v") => {
                has_value = true;
                let text = plain_text(xml, "v")?;
                if head.kind != "inlineStr" {
                    value = text.map_or(Some(CellValue::TooLong), |text| typed(&text, head, dates));
                }
            }
            Token::Open(element) if element.is("is") => value = Some(rich_text(xml, "is")?),
            Token::Close(name) if name == "c" => break,
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
    }
    value = value.filter(|value| !matches!(value, CellValue::Text(text) if text.is_empty()));
    // A stored result that is the empty text is written as a value of type `str`; no result at all has no type.
    let stored_blank = head.kind == "str" && has_value;
    Ok(if formula && value.is_none() && !stored_blank { Some(CellValue::NoResult) } else { value })
}

/// The value of `<v>` by the cell's type.
fn typed(text: &str, head: &Head, dates: &BTreeSet<u32>) -> Option<CellValue> {
    let trimmed = text.trim();
    if trimmed.is_empty() && head.kind != "str" {
        return None;
    }
    Some(match head.kind.as_str() {
        // An index that is no number points to nothing: found when the strings are read.
        "s" => CellValue::Shared(trimmed.parse().unwrap_or(u32::MAX)),
        "b" => CellValue::Bool(trimmed == "1" || trimmed.eq_ignore_ascii_case("true")),
        "e" => CellValue::Error(trimmed.chars().take(16).collect()),
        "d" => CellValue::Date,
        "" | "n" => match trimmed.parse::<f64>() {
            Ok(number) if number.is_finite() && dates.contains(&head.style) => CellValue::Date,
            Ok(number) if number.is_finite() => CellValue::Number(number),
            _ => CellValue::Text(unescaped(text).into()),
        },
        _ => CellValue::Text(unescaped(text).into()),
    })
}
