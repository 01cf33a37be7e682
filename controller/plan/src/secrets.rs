//! Every password of the workbook, for the redactor (Q17), whatever becomes of the plan.

use std::collections::BTreeSet;

use gantry_proto::{REDACTED, Secret};

use crate::{
    fields::{COMPONENTS, HOSTS},
    read::{Book, CellValue, Position, Sheet},
    text,
};

/// What marks a column of passwords.
const HEADER: &str = "密码";
/// How far below its header a password column goes: from row 2 to row 22.
const ROWS_BELOW: u32 = 20;

/// The passwords of a workbook and the cells they stand in.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretCells {
    /// The texts, each once.
    pub(crate) secrets: Vec<Secret>,
    /// `sheet!cell` of each.
    pub(crate) cells: BTreeSet<String>,
}

impl SecretCells {
    /// Collects them by the headers `密码`, so that a password is found too when rows or columns were inserted.
    pub(crate) fn of(book: &Book) -> Self {
        let mut found = Self::default();
        for name in [HOSTS, COMPONENTS] {
            if let Some(sheet) = book.sheets.get(name) {
                found.collect(name, sheet);
            }
        }
        found
    }

    /// The redaction word when the cell holds a password.
    pub(crate) fn shown(&self, sheet: &str, cell: &str) -> Option<&'static str> {
        self.cells.contains(&format!("{sheet}!{cell}")).then_some(REDACTED)
    }

    fn collect(&mut self, name: &str, sheet: &Sheet) {
        let headers: Vec<Position> = sheet.cells().filter(|(_, value)| is_header(value)).map(|(at, _)| at).collect();
        for header in headers {
            for row in header.row + 1..=header.row + ROWS_BELOW {
                let at = Position { row, column: header.column };
                let Some(secret) = sheet.get(at).filter(|value| !is_header(value)).and_then(password) else { continue };
                self.cells.insert(format!("{name}!{at}"));
                if !self.secrets.contains(&secret) {
                    self.secrets.push(secret);
                }
            }
        }
    }
}

fn is_header(value: &CellValue) -> bool {
    matches!(value, CellValue::Text(text) if text.contains(HEADER))
}

fn password(value: &CellValue) -> Option<Secret> {
    match value {
        CellValue::Text(text) if placeholder(text) => None,
        CellValue::Text(text) => Some(Secret::new(text.as_str())),
        CellValue::Number(number) => Some(Secret::new(text::number(*number))),
        _ => None,
    }
}

/// Q12: what stands for "nothing".
fn placeholder(text: &str) -> bool {
    let text = text::compact(text);
    matches!(text.as_str(), "" | "n/a" | "/" | "无") || text.chars().all(|c| matches!(c, '-' | 'x'))
}
