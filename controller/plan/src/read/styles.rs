//! Which cell styles show a number as a date or a time: the only thing that a reader of values wants from the styles.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    archive::Archive,
    fault::Fault,
    xml::{Token, Xml},
};

/// The most cell styles and number formats that a spreadsheet program makes.
const STYLES_MAX: usize = 65_536;

/// The numbers of the cell styles (attribute `s`) with a date format.
pub(super) fn date_styles(archive: &mut Archive<'_>, part: &str) -> Result<BTreeSet<u32>, Fault> {
    let mut xml = archive.index_part(part)?;
    let mut dates = BTreeSet::new();
    let mut custom = BTreeMap::new();
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("numFmt") => {
                let id = element.attribute("numFmtId").and_then(|id| id.parse::<u32>().ok());
                if let (Some(id), Some(code)) = (id, element.attribute("formatCode")) {
                    custom.insert(id, shows_a_date(&code));
                }
                if custom.len() > STYLES_MAX {
                    return Err(Fault::TooMany { what: "number formats", limit: STYLES_MAX });
                }
            }
            Token::Open(element) if element.is("cellXfs") => break,
            Token::End => return Ok(dates),
            _ => {}
        }
    }
    cell_formats(&mut xml, &custom, &mut dates)?;
    Ok(dates)
}

fn cell_formats<R: std::io::BufRead>(
    xml: &mut Xml<R>,
    custom: &BTreeMap<u32, bool>,
    dates: &mut BTreeSet<u32>,
) -> Result<(), Fault> {
    let mut number = 0_u32;
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("xf") => {
                let format = element.attribute("numFmtId").and_then(|id| id.parse::<u32>().ok()).unwrap_or(0);
                if custom.get(&format).copied().unwrap_or_else(|| built_in_date(format)) {
                    dates.insert(number);
                }
                number += 1;
                if number as usize > STYLES_MAX {
                    return Err(Fault::TooMany { what: "cell styles", limit: STYLES_MAX });
                }
            }
            Token::Close(name) if name == "cellXfs" => return Ok(()),
            Token::End => return Ok(()),
            _ => {}
        }
    }
}

/// The formats that every program knows by number, East Asian ones included.
fn built_in_date(format: u32) -> bool {
    matches!(format, 14..=22 | 27..=36 | 45..=47 | 50..=58)
}

/// Looks for day, month, year, hour or second letters outside quotes, brackets and escapes.
fn shows_a_date(code: &str) -> bool {
    let mut chars = code.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => drop(chars.by_ref().find(|c| *c == '"')),
            '\\' | '_' | '*' => drop(chars.next()),
            '[' => {
                let inside: String = chars.by_ref().take_while(|c| *c != ']').collect();
                if !inside.is_empty() && inside.chars().all(|c| matches!(c.to_ascii_lowercase(), 'h' | 'm' | 's')) {
                    return true;
                }
            }
            'd' | 'D' | 'm' | 'M' | 'y' | 'Y' | 'h' | 'H' | 's' | 'S' => return true,
            ';' => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::shows_a_date;

    #[test]
    fn date_formats_are_told_from_number_formats() {
        for code in ["m/d", "yyyy\"年\"m\"月\"d\"日\"", "[h]:mm:ss", "[$-804]yyyy-mm-dd", "h:mm AM/PM"] {
            assert!(shows_a_date(code), "{code}");
        }
        for code in ["General", "0", "0.00E+00", "@", "#,##0 \"days\"", "[Red]0", "0_d", "\"mm\"0", "0;d"] {
            assert!(!shows_a_date(code), "{code}");
        }
    }
}
