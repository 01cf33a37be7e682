//! Where a cell stands in a sheet's XML, or where it belongs when it is not there. Reads addresses as the planner does;
//! knows nothing of what is written.

use std::ops::Range;

use crate::read::{
    Fault, Position, SHEET_READ_MAX,
    cells::Head,
    xml::{Element, Token, Xml},
};

/// Attributes of a cell that tell its type or belong to the value that it had.
const OF_THE_VALUE: [&str; 3] = ["t", "cm", "vm"];

/// What a new cell takes the place of, and what stands around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Bytes of the part.
    pub(super) span: Range<usize>,
    /// What goes in front of the cell, such as the beginning of a row that is not there.
    pub(super) before: String,
    /// What goes behind it.
    pub(super) after: String,
    /// Prefix of the sheet's elements, with its colon.
    pub(super) prefix: String,
    /// The cell's attributes but for its type: address and style.
    pub(super) attributes: String,
    /// The cell that is there holds a formula.
    pub(super) formula: bool,
}

/// Why there is no place for a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSpot {
    #[error(transparent)]
    Unreadable(#[from] Fault),
    #[error("the cell is covered by the merged cells {0}: nobody would see the value")]
    Merged(String),
    #[error("the cell belongs to a formula that stands in several cells ({0}): the others would lose theirs")]
    SharedFormula(String),
}

/// Finds the place of a cell. `xml` is the part as the package has it.
pub(super) fn find(part: &str, xml: &str, wanted: Position) -> Result<Spot, NoSpot> {
    let bare = xml.strip_prefix('\u{feff}').unwrap_or(xml);
    let mut search = Search { part, xml: bare, ..Search::of(wanted) };
    let mut tokens = Xml::new(part, SHEET_READ_MAX, bare.as_bytes());
    loop {
        let token = tokens.next()?;
        let span = tokens.span();
        match token {
            Token::Open(element) => search.open(&element, span)?,
            Token::Close(name) => search.close(&name, span),
            Token::Text(_) => {}
            Token::End => break,
        }
    }
    let spot = search.found.or(search.place).ok_or_else(|| Fault::damaged(part))?;
    let mark = xml.len() - bare.len();
    Ok(Spot { span: spot.span.start + mark..spot.span.end + mark, ..spot })
}

/// One reading of a sheet.
struct Search<'a> {
    part: &'a str,
    xml: &'a str,
    wanted: Position,
    /// Where a row or cell without an address stands.
    next: Position,
    /// Style of the wanted column.
    column_style: Option<String>,
    /// Style of the wanted row, while it is read.
    row_style: Option<String>,
    /// The cells of the sheet, while they are read.
    data: Option<Tag>,
    /// The wanted row, while it is read.
    row: Option<Tag>,
    /// The wanted cell, while it is read.
    cell: Option<Spot>,
    found: Option<Spot>,
    /// Where it belongs if it is not found.
    place: Option<Spot>,
}

/// The beginning of an element.
struct Tag {
    span: Range<usize>,
    prefix: String,
}

impl<'a> Search<'a> {
    fn of(wanted: Position) -> Self {
        Self {
            part: "",
            xml: "",
            wanted,
            next: Position { row: 1, column: 1 },
            column_style: None,
            row_style: None,
            data: None,
            row: None,
            cell: None,
            found: None,
            place: None,
        }
    }

    fn open(&mut self, element: &Element<'_>, span: Range<usize>) -> Result<(), NoSpot> {
        if element.is("mergeCell") {
            return self.merged(element);
        }
        if self.data.is_none() {
            if element.is("col") {
                self.column(element);
            } else if element.is("sheetData") {
                self.data = Some(Tag { span, prefix: element.prefix() });
            }
            return Ok(());
        }
        if element.is("row") {
            self.begin_row(element, span);
        } else if element.is("c") {
            self.begin_cell(element, span)?;
        } else if element.is("f") {
            self.formula(element)?;
        }
        Ok(())
    }

    fn close(&mut self, name: &str, span: Range<usize>) {
        match name {
            "c" => {
                if let Some(cell) = self.cell.take() {
                    self.found = Some(Spot { span: cell.span.start..span.end, ..cell });
                }
            }
            "row" if self.data.is_some() => {
                if let Some(row) = self.row.take() {
                    let around = [String::new(), format!("</{}row>", row.prefix)];
                    self.put_at_end(&row, &span, around);
                    self.row_style = None;
                }
                self.next = Position { row: self.next.row.saturating_add(1), column: 1 };
            }
            "sheetData" => {
                if let Some(data) = self.data.take() {
                    let end = format!("</{}sheetData>", data.prefix);
                    let [before, after] = self.new_row(&data.prefix);
                    if self.is_empty(&data) {
                        self.put_at_end(&data, &span, [before, format!("{after}{end}")]);
                    } else {
                        self.put(span.start..span.start, [before, after], &data.prefix);
                    }
                }
            }
            _ => {}
        }
    }

    fn column(&mut self, element: &Element<'_>) {
        let number = |name| element.attribute(name).and_then(|number| number.parse::<u32>().ok());
        if let (Some(min), Some(max)) = (number("min"), number("max"))
            && (min..=max).contains(&self.wanted.column)
        {
            self.column_style = element.attribute("style");
        }
    }

    fn begin_row(&mut self, element: &Element<'_>, span: Range<usize>) {
        let number = element.attribute("r").and_then(|row| row.parse().ok()).unwrap_or(self.next.row);
        self.next = Position { row: number, column: 1 };
        let prefix = element.prefix();
        if number > self.wanted.row {
            let around = self.new_row(&prefix);
            self.put(span.start..span.start, around, &prefix);
        } else if number == self.wanted.row {
            let own = element.attribute("customFormat").is_some_and(|is| matches!(is.as_str(), "1" | "true"));
            self.row_style = element.attribute("s").filter(|_| own);
            self.row = Some(Tag { span, prefix });
        }
    }

    fn begin_cell(&mut self, element: &Element<'_>, span: Range<usize>) -> Result<(), NoSpot> {
        let head = Head::of(element, self.next).ok_or_else(|| Fault::damaged(self.part))?;
        self.next = Position { column: head.at.column + 1, ..head.at };
        if head.at == self.wanted && self.found.is_none() {
            let attributes = element.attributes_but(&OF_THE_VALUE);
            let (before, after) = (String::new(), String::new());
            self.cell = Some(Spot { span, before, after, prefix: element.prefix(), attributes, formula: false });
        } else if self.row.is_some() && head.at.column > self.wanted.column {
            self.put(span.start..span.start, [String::new(), String::new()], &element.prefix());
        }
        Ok(())
    }

    /// A formula of one cell can be replaced. One that others use, or that fills others, cannot.
    fn formula(&mut self, element: &Element<'_>) -> Result<(), NoSpot> {
        let here = self.cell.as_mut().map(|cell| cell.formula = true).is_some();
        let Some(range) = element.attribute("ref").filter(|range| self.covers(range)) else { return Ok(()) };
        // Each cell that uses a shared formula names it by itself: only the one that holds it matters.
        let shared = element.attribute("t").as_deref() == Some("shared");
        if self.is_alone(&range) || (shared && !here) { Ok(()) } else { Err(NoSpot::SharedFormula(range)) }
    }

    /// Of merged cells only the first one is seen.
    fn merged(&self, element: &Element<'_>) -> Result<(), NoSpot> {
        match element.attribute("ref") {
            Some(range) if self.covers(&range) && corners(&range).map(|(first, _)| first) != Some(self.wanted) => {
                Err(NoSpot::Merged(range))
            }
            _ => Ok(()),
        }
    }

    fn covers(&self, range: &str) -> bool {
        corners(range).is_some_and(|(first, last)| {
            (first.row..=last.row).contains(&self.wanted.row)
                && (first.column..=last.column).contains(&self.wanted.column)
        })
    }

    fn is_alone(&self, range: &str) -> bool {
        corners(range) == Some((self.wanted, self.wanted))
    }

    /// Whether an element was written without content, `<row/>`.
    fn is_empty(&self, tag: &Tag) -> bool {
        self.xml.get(tag.span.clone()).is_some_and(|text| text.ends_with("/>"))
    }

    fn new_row(&self, prefix: &str) -> [String; 2] {
        [format!("<{prefix}row r=\"{}\">", self.wanted.row), format!("</{prefix}row>")]
    }

    /// The cell belongs at the end of `tag`; one without content gets an end of its own, which `around` brings.
    fn put_at_end(&mut self, tag: &Tag, end: &Range<usize>, around: [String; 2]) {
        if self.is_empty(tag) {
            let [before, after] = around;
            let slash = tag.span.end - "/>".len();
            self.put(slash..tag.span.end, [format!(">{before}"), after], &tag.prefix);
        } else {
            self.put(end.start..end.start, [String::new(), String::new()], &tag.prefix);
        }
    }

    /// The first place that fits is the one.
    fn put(&mut self, span: Range<usize>, [before, after]: [String; 2], prefix: &str) {
        if self.place.is_some() {
            return;
        }
        let style = self.row_style.as_ref().or(self.column_style.as_ref());
        let style = style.and_then(|style| style.parse::<u32>().ok()).map(|style| format!(" s=\"{style}\""));
        let attributes = format!(" r=\"{}\"{}", self.wanted, style.unwrap_or_default());
        self.place = Some(Spot { span, before, after, prefix: prefix.to_owned(), attributes, formula: false });
    }
}

/// `B2:C4`, or `B2` alone.
fn corners(range: &str) -> Option<(Position, Position)> {
    let (first, last) = range.split_once(':').unwrap_or((range, range));
    Some((Position::parse(first)?, Position::parse(last)?))
}

#[cfg(test)]
mod tests;
