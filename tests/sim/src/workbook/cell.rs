//! A cell's value and its address.

/// What one cell holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text, as typed.
    Text(String),
    /// A number; whole ones are written without a fraction.
    Number(f64),
    /// `TRUE` or `FALSE`.
    Bool(bool),
    /// An error value such as `#REF!`.
    Error(String),
    /// A day number with a date format: what a spreadsheet program makes of `2/3`.
    Date(f64),
    /// Text in several runs of different format.
    Rich(Vec<String>),
    /// A formula (without `=`) and its stored result.
    Formula { text: String, stored: Option<Box<Cell>> },
    /// A formula of the template: its result is stored or not by the saving style.
    TemplateFormula(String),
}

impl Cell {
    /// A formula without stored result (`workbook.md` N7).
    pub fn formula(text: &str) -> Self {
        Cell::Formula { text: text.to_owned(), stored: None }
    }

    /// A formula with a stored result.
    pub fn formula_with(text: &str, result: impl Into<Cell>) -> Self {
        Cell::Formula { text: text.to_owned(), stored: Some(Box::new(result.into())) }
    }

    /// Rich text of these runs.
    pub fn rich(runs: &[&str]) -> Self {
        Cell::Rich(runs.iter().map(|run| (*run).to_owned()).collect())
    }

    /// An error value, for example `error("#N/A")`.
    pub fn error(text: &str) -> Self {
        Cell::Error(text.to_owned())
    }

    /// The text the cell shows, as far as that is known without calculating.
    pub fn shown(&self) -> String {
        match self {
            Cell::Text(text) | Cell::Error(text) => text.clone(),
            Cell::Number(number) | Cell::Date(number) => number.to_string(),
            Cell::Bool(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
            Cell::Rich(runs) => runs.concat(),
            Cell::Formula { stored, .. } => stored.as_ref().map_or_else(String::new, |cell| cell.shown()),
            Cell::TemplateFormula(_) => String::new(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Cell::Number(f64::from(number))
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Cell::Number(f64::from(number))
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Cell::Number(number)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Cell::Bool(value)
    }
}

impl From<std::net::Ipv4Addr> for Cell {
    fn from(address: std::net::Ipv4Addr) -> Self {
        Cell::Text(address.to_string())
    }
}

/// A place in a sheet; row and column both count from 1. Rows first, as the file stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) row: u32,
    pub(super) column: u32,
}

impl Position {
    /// Reads `E3`; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| c.is_ascii_digit())?;
        let (letters, digits) = text.split_at(split);
        if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let column = letters.bytes().fold(0_u32, |sum, b| sum * 26 + u32::from(b - b'A') + 1);
        let row: u32 = digits.parse().ok()?;
        (row > 0).then_some(Position { row, column })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut letters = Vec::new();
        let mut rest = self.column;
        while rest > 0 {
            letters.push(char::from(b'A' + ((rest - 1) % 26) as u8));
            rest = (rest - 1) / 26;
        }
        write!(f, "{}{}", letters.iter().rev().collect::<String>(), self.row)
    }
}

/// Splits `sheet!cell`.
#[expect(clippy::panic, reason = "a test that misspells a cell address must fail at that line")]
pub(super) fn full_address(address: &str) -> (String, Position) {
    let parsed = address.rsplit_once('!').and_then(|(sheet, cell)| Some((sheet.to_owned(), Position::parse(cell)?)));
    match parsed {
        Some(parsed) => parsed,
        None => panic!("{address:?} is not an address like `集群管理信息!E3`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_and_print() {
        for text in ["A1", "E3", "Z9", "AA10", "AE990", "XFD1048576"] {
            assert_eq!(Position::parse(text).expect("a cell").to_string(), text);
        }
        assert_eq!(Position::parse("XFD1048576"), Some(Position { row: 1_048_576, column: 16_384 }));
        for text in ["", "3", "E", "E0", "e3", "ABCD1", "E3x"] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
