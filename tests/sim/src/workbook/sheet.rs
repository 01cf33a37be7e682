//! One worksheet: its cells, merged ranges and flags.

use std::collections::BTreeMap;

use super::cell::{Cell, Position};

/// A worksheet. The cells of a merged range other than its top left one stay blank, as in a real file.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    pub(super) name: String,
    pub(super) hidden: bool,
    pub(super) protected: bool,
    /// Rows down to this one exist as styled but empty rows.
    pub(super) styled_rows: u32,
    pub(super) cells: BTreeMap<Position, Cell>,
    pub(super) merged: Vec<(Position, Position)>,
    /// Cells whose text is also the target of a `mailto:` link, as a spreadsheet program makes of a text with an `@`.
    pub(super) mail_links: Vec<Position>,
}

impl Sheet {
    /// An empty, visible sheet.
    pub fn new(name: &str) -> Self {
        Sheet { name: name.to_owned(), ..Sheet::default() }
    }

    /// Sets a cell such as `E3`.
    ///
    /// # Panics
    /// When `cell` is not an address: a mistake in the test.
    #[must_use]
    pub fn with(mut self, cell: &str, value: impl Into<Cell>) -> Self {
        self.put(position(cell), value.into());
        self
    }

    /// Hides the sheet.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(super) fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    pub(super) fn styled_rows(mut self, rows: u32) -> Self {
        self.styled_rows = rows;
        self
    }

    pub(super) fn merged(mut self, ranges: &[&str]) -> Self {
        for range in ranges {
            let (from, to) = range.split_once(':').unwrap_or((range, range));
            self.merged.push((position(from), position(to)));
        }
        self
    }

    pub(super) fn mail_link(mut self, cell: &str) -> Self {
        self.mail_links.push(position(cell));
        self
    }

    pub(super) fn put(&mut self, position: Position, value: Cell) {
        self.cells.insert(position, value);
    }

    pub(super) fn remove(&mut self, position: Position) {
        self.cells.remove(&position);
        self.mail_links.retain(|link| *link != position);
    }

    pub(super) fn get(&self, position: Position) -> Option<&Cell> {
        self.cells.get(&position)
    }

    /// Moves everything at or beyond `from` down by `rows` and right by `columns`.
    pub(super) fn shift(&mut self, from: Position, rows: u32, columns: u32) {
        let moved = |at: Position| {
            let beyond = at.row >= from.row && at.column >= from.column;
            if beyond { Position { row: at.row + rows, column: at.column + columns } } else { at }
        };
        self.cells = std::mem::take(&mut self.cells).into_iter().map(|(at, cell)| (moved(at), cell)).collect();
        for (first, last) in &mut self.merged {
            (*first, *last) = (moved(*first), moved(*last));
        }
        for link in &mut self.mail_links {
            *link = moved(*link);
        }
    }
}

#[expect(clippy::panic, reason = "a test that misspells a cell address must fail at that line")]
fn position(cell: &str) -> Position {
    match Position::parse(cell) {
        Some(position) => position,
        None => panic!("{cell:?} is not a cell like `E3`"),
    }
}
