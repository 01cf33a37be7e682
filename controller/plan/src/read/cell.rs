//! A cell: where it is and what it holds.

use std::fmt;

use zeroize::Zeroizing;

/// A place in a sheet, row and column counted from 1. Rows come first in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) row: u32,
    pub(crate) column: u32,
}

impl Position {
    /// Reads `E3`; `None` for anything else and for what no sheet has.
    pub(crate) const fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (mut at, mut column, mut row) = (0, 0_u32, 0_u32);
        while at < bytes.len() && bytes[at].is_ascii_uppercase() && at < 4 {
            column = column * 26 + (bytes[at] - b'A') as u32 + 1;
            at += 1;
        }
        let letters = at;
        while at < bytes.len() && bytes[at].is_ascii_digit() && at < letters + 7 {
            row = row * 10 + (bytes[at] - b'0') as u32;
            at += 1;
        }
        if at != bytes.len() || column == 0 || column > 16_384 || row == 0 || row > 1_048_576 {
            return None;
        }
        Some(Self { row, column })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = [0_u8; 4];
        let (mut at, mut rest) = (letters.len(), self.column);
        while rest > 0 && at > 0 {
            at -= 1;
            letters[at] = b'A' + ((rest - 1) % 26) as u8;
            rest = (rest - 1) / 26;
        }
        write!(f, "{}{}", String::from_utf8_lossy(&letters[at..]), self.row)
    }
}

/// What a cell holds. A blank cell is not kept. `Debug` never shows the content: it may be a password.
#[derive(Clone, PartialEq)]
pub(crate) enum CellValue {
    /// Text, the runs of rich text joined (N9).
    Text(Zeroizing<String>),
    /// A number.
    Number(f64),
    /// `TRUE` or `FALSE`.
    Bool(bool),
    /// A number that the cell's format shows as a date or time (N11).
    Date,
    /// `#REF!` and the like (N8).
    Error(String),
    /// A formula without a stored result (N7).
    NoResult,
    /// Text beyond the limit of spreadsheet programs.
    TooLong,
}

impl fmt::Debug for CellValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Number(_) => "Number(..)",
            Self::Bool(_) => "Bool(..)",
            Self::Date => "Date",
            Self::Error(_) => "Error(..)",
            Self::NoResult => "NoResult",
            Self::TooLong => "TooLong",
        })
    }
}
