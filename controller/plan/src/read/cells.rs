//! Vets one sheet and keeps the cells near its top left corner. Reading stops at the first row that no rule looks at, so
//! that a million further rows or a value in the last cell cost nothing but their unpacking (Q14, Q15).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::BufRead,
};

use quick_xml::escape::partial_escape;
use zeroize::Zeroizing;

use super::{
    archive::Archive,
    cell::Position,
    fault::{Fault, KEPT_MAX, SHARED_FORMULAS_MAX, SHEET_READ_MAX},
    strings::{plain_text, rich_text},
    xml::{Element, Token, Xml},
};

/// The last row and column that are kept. The lowest used row of a needed sheet is 34, the last column R.
const LAST: Position = Position { row: 40, column: 26 };
/// What a cell of type `e` may hold; programs store their newer errors as `#VALUE!` for readers that do not know them.
const ERRORS: [&str; 7] = ["#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"];

/// What may be read of a sheet.
pub(super) struct VettedSheet {
    /// The part as calamine shall see it: every cell with its address, no blank one, no cell twice.
    pub(super) xml: Zeroizing<String>,
    /// Which cell refers to which shared string.
    pub(super) strings: BTreeMap<Position, u32>,
    /// The styles of the cells with numbers: they tell dates from numbers.
    pub(super) styles: BTreeSet<u32>,
    /// Cells whose text is longer than any cell's; they are not in `xml`.
    pub(super) too_long: BTreeSet<Position>,
}

/// Vets the sheet in `part`.
pub(super) fn vet(archive: &mut Archive<'_>, part: &str) -> Result<VettedSheet, Fault> {
    let mut xml = archive.beginning(part, SHEET_READ_MAX)?;
    let mut kept = Kept::default();
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
                let cell = cell(&mut xml, &head)?;
                if head.at.row <= LAST.row && head.at.column <= LAST.column {
                    kept.keep(head.at, cell);
                }
                if kept.rows.len() > KEPT_MAX {
                    return Err(xml.excessive("text in its cells"));
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
    Ok(kept.into_sheet())
}

/// What the tag of a cell says.
pub(crate) struct Head {
    pub(crate) at: Position,
    kind: String,
    style: u32,
}

impl Head {
    /// `None` when the cell has an address that no sheet has.
    pub(crate) fn of(element: &Element<'_>, next: Position) -> Option<Self> {
        let at = match element.attribute("r") {
            Some(text) => Position::parse(&text)?,
            None => next,
        };
        let style = element.attribute("s").and_then(|style| style.parse().ok()).unwrap_or(0);
        Some(Self { at, kind: element.attribute("t").unwrap_or_default(), style })
    }
}

/// A cell with what calamine shall see in it.
#[derive(Default)]
struct Cell {
    formula: bool,
    stored: Option<Stored>,
}

/// What is stored in a cell: `<v>` by its type, or `<is>`.
enum Stored {
    Shared(u32),
    Number { text: Zeroizing<String>, style: u32 },
    Other { kind: &'static str, text: Zeroizing<String> },
    Inline(Zeroizing<String>),
    TooLong,
}

/// Reads up to the end of the cell.
fn cell<R: BufRead>(xml: &mut Xml<R>, head: &Head) -> Result<Cell, Fault> {
    let mut cell = Cell::default();
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("f") => {
                let index = element.attribute("si");
                if index.is_some_and(|index| index.trim().parse::<u32>().map_or(true, |si| si > SHARED_FORMULAS_MAX)) {
                    return Err(xml.excessive("shared formulas"));
                }
                cell.formula = true;
                plain_text(xml, "f")?;
            }
            Token::Open(element) if element.is("v") => {
                let text = plain_text(xml, "v")?;
                if head.kind != "inlineStr" {
                    cell.stored = match text {
                        Some(text) => typed(text, head).map_err(|Pointless| Fault::damaged(xml.part()))?,
                        None => Some(Stored::TooLong),
                    };
                }
            }
            Token::Open(element) if element.is("is") => {
                cell.stored = Some(rich_text(xml, "is")?.map_or(Stored::TooLong, Stored::Inline));
            }
            Token::Close(name) if name == "c" => return Ok(cell),
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
    }
}

/// The index of a shared string is no number.
struct Pointless;

/// The content of `<v>` by the cell's type. A number that is none becomes the text that it is.
fn typed(text: Zeroizing<String>, head: &Head) -> Result<Option<Stored>, Pointless> {
    let trimmed = Zeroizing::new(text.trim().to_owned());
    if trimmed.is_empty() && head.kind != "str" {
        return Ok(None);
    }
    Ok(Some(match head.kind.as_str() {
        "s" => Stored::Shared(trimmed.parse().map_err(|_| Pointless)?),
        "b" => Stored::Other { kind: "b", text: trimmed },
        "d" => Stored::Other { kind: "d", text: trimmed },
        "e" if ERRORS.contains(&trimmed.as_str()) => Stored::Other { kind: "e", text: trimmed },
        "e" => Stored::Other { kind: "e", text: "#VALUE!".to_owned().into() },
        "" | "n" if trimmed.parse::<f64>().is_ok_and(f64::is_finite) => {
            Stored::Number { text: trimmed, style: head.style }
        }
        _ => Stored::Other { kind: "str", text },
    }))
}

/// The sheet as far as it has been vetted.
#[derive(Default)]
struct Kept {
    rows: Zeroizing<String>,
    seen: BTreeSet<Position>,
    strings: BTreeMap<Position, u32>,
    styles: BTreeSet<u32>,
    too_long: BTreeSet<Position>,
}

impl Kept {
    /// Keeps a cell unless it is blank or an earlier one has its address.
    fn keep(&mut self, at: Position, cell: Cell) {
        if (cell.stored.is_none() && !cell.formula) || !self.seen.insert(at) {
            return;
        }
        let formula = if cell.formula { "<f></f>" } else { "" };
        let (kind, value) = match cell.stored {
            None => (String::new(), Zeroizing::default()),
            Some(Stored::TooLong) => {
                self.too_long.insert(at);
                return;
            }
            Some(Stored::Shared(index)) => {
                self.strings.insert(at, index);
                (" t=\"s\"".to_owned(), format!("<v>{index}</v>").into())
            }
            // Without a type: calamine panics on a number of type `n` that its parser does not take and Rust's does.
            Some(Stored::Number { text, style }) => {
                self.styles.insert(style);
                (format!(" s=\"{style}\""), Zeroizing::new(format!("<v>{}</v>", text.as_str())))
            }
            Some(Stored::Other { kind, text }) => {
                (format!(" t=\"{kind}\""), Zeroizing::new(format!("<v>{}</v>", partial_escape(text.as_str()))))
            }
            Some(Stored::Inline(runs)) => {
                (" t=\"inlineStr\"".to_owned(), Zeroizing::new(format!("<is>{}</is>", runs.as_str())))
            }
        };
        // Writing to a string cannot fail.
        let _ = write!(self.rows, "<row r=\"{}\"><c r=\"{at}\"{kind}>{formula}{}</c></row>", at.row, value.as_str());
    }

    fn into_sheet(self) -> VettedSheet {
        let xml = Zeroizing::new(format!("<worksheet><sheetData>{}</sheetData></worksheet>", self.rows.as_str()));
        VettedSheet { xml, strings: self.strings, styles: self.styles, too_long: self.too_long }
    }
}
