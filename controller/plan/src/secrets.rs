//! Every password of the workbook, for the redactor (Q17), whatever becomes of the plan.

use std::collections::BTreeSet;

use gantry_proto::{REDACTED, Redactor, Secret};

use crate::{
    fields::{COMPONENTS, FIELDS, Field, HOSTS, Need},
    read::{Book, CellValue, Fault, Position, Sheet},
    text, values,
};

/// What marks a column of passwords.
const HEADER: &str = "密码";
/// How far below its header a password column goes: from row 2 to row 22.
const ROWS_BELOW: u32 = 20;

/// Shorter passwords are not looked for in other cells: they would be found by chance. Characters.
const SHORTEST_SOUGHT: usize = 6;
/// From this length on a password is also looked for inside a longer text. Characters.
const SHORTEST_INSIDE: usize = 8;

/// Characters of all passwords together. Each is looked for in dozens of spellings, wherever a text is shown.
const PASSWORDS_MAX: usize = 4_096;

/// The passwords of a workbook and the cells they stand in.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretCells {
    /// The texts, each once.
    pub(crate) secrets: Vec<Secret>,
    /// `sheet!cell` of each.
    pub(crate) cells: BTreeSet<String>,
    /// Those that are looked for in other cells, folded, each with the cell it stands in.
    sought: Vec<(Secret, String)>,
}

impl SecretCells {
    /// Collects them by the headers `密码`, so that a password is found too when rows or columns were inserted.
    /// More than [`PASSWORDS_MAX`] characters are no passwords, and a fault of the file.
    pub(crate) fn of(book: &Book) -> Result<Self, Fault> {
        let mut found = Self::default();
        for name in [HOSTS, COMPONENTS] {
            if let Some(sheet) = book.sheets.get(name) {
                found.collect(name, sheet);
            }
        }
        let characters: usize = found.secrets.iter().map(|secret| secret.expose().chars().count()).sum();
        if characters > PASSWORDS_MAX {
            return Err(Fault::TooMany { what: "characters in its columns of passwords", limit: PASSWORDS_MAX });
        }
        Ok(found)
    }

    /// The redaction word when the cell holds a password.
    pub(crate) fn shown(&self, sheet: &str, cell: &str) -> Option<&'static str> {
        self.cells.contains(&format!("{sheet}!{cell}")).then_some(REDACTED)
    }

    /// The cell of the password that this text is, or holds; case, width and white space make no difference.
    pub(crate) fn found_in(&self, text: &str) -> Option<&str> {
        let text = folded(text);
        let holds =
            |secret: &str| text == secret || (secret.chars().count() >= SHORTEST_INSIDE && text.contains(secret));
        self.sought.iter().find(|(secret, _)| holds(secret.expose())).map(|(_, cell)| cell.as_str())
    }

    /// Makes the passwords known in every form that the planner itself gives a text on its way into a message.
    pub(crate) fn register(&self, redactor: &Redactor) {
        let mut all = BTreeSet::new();
        for secret in &self.secrets {
            let clean = text::clean(secret.expose());
            let fold = text::fold(&clean);
            let mut forms = BTreeSet::from([secret.expose().to_owned(), clean, fold]);
            let lower: Vec<_> = forms.iter().map(|form| form.to_lowercase()).collect();
            forms.extend(lower);
            let entries: Vec<_> = forms.iter().flat_map(|form| values::entries(form)).map(str::to_owned).collect();
            forms.extend(entries);
            let visible: Vec<_> = forms.iter().map(|form| text::visible(form)).collect();
            forms.extend(visible);
            all.extend(forms);
        }
        // The redactor itself leaves out what is too short.
        redactor.register_many(&all.into_iter().map(Secret::new).collect::<Vec<_>>());
    }

    fn collect(&mut self, name: &str, sheet: &Sheet) {
        let headers: Vec<Position> = sheet.cells().filter(|(_, value)| is_header(value)).map(|(at, _)| at).collect();
        for header in headers {
            for row in header.row + 1..=header.row + ROWS_BELOW {
                let at = Position { row, column: header.column };
                let Some(secret) = sheet.get(at).filter(|value| !is_header(value)).and_then(password) else { continue };
                self.cells.insert(format!("{name}!{at}"));
                if !self.secrets.contains(&secret) {
                    let folded = folded(secret.expose());
                    if folded.chars().count() >= SHORTEST_SOUGHT && !is_common(&folded) {
                        self.sought.push((Secret::new(folded), format!("{name}!{at}")));
                    }
                    self.secrets.push(secret);
                }
            }
        }
    }
}

/// The form in which texts are compared with passwords.
fn folded(text: &str) -> String {
    text::fold(&text::clean(text)).to_lowercase()
}

/// One plain word may well be a user name or a default too (`administrator`): that it stands in another cell tells
/// nothing. So do the defaults of the fields.
fn is_common(folded: &str) -> bool {
    let default = |field: &Field| matches!(field.need, Need::Default(word) if word.eq_ignore_ascii_case(folded));
    folded.chars().all(|c| c.is_ascii_lowercase()) || FIELDS.iter().any(default)
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
