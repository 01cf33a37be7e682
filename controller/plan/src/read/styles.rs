//! Vets the styles: only the number formats of the used cell styles are kept, for they tell dates from numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::BufRead,
};

use quick_xml::escape::escape;

use super::{
    archive::Archive,
    fault::{FORMAT_MAX, Fault, STYLES_MAX},
    xml::{Token, Xml},
};

/// The part as calamine shall see it, with the formats of the cell styles in `used` (attribute `s` of a cell).
pub(super) fn vet(archive: &mut Archive<'_>, part: &str, used: &BTreeSet<u32>) -> Result<String, Fault> {
    let mut xml = archive.index_part(part)?;
    let mut custom = BTreeMap::new();
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("numFmt") => {
                let id = element.attribute("numFmtId").and_then(|id| id.parse::<u32>().ok());
                if let (Some(id), Some(code)) = (id, element.attribute("formatCode")) {
                    if code.len() > FORMAT_MAX {
                        return Err(xml.excessive("a number format's length"));
                    }
                    custom.insert(id, code);
                }
                if custom.len() > STYLES_MAX {
                    return Err(Fault::TooMany { what: "number formats", limit: STYLES_MAX });
                }
            }
            Token::Open(element) if element.is("cellXfs") => break,
            Token::End => return Ok("<styleSheet></styleSheet>".to_owned()),
            _ => {}
        }
    }
    let formats = cell_formats(&mut xml, used)?;
    Ok(style_sheet(&custom, &formats))
}

/// The number format of each cell style, 0 (general) for those that are not used.
fn cell_formats<R: BufRead>(xml: &mut Xml<R>, used: &BTreeSet<u32>) -> Result<Vec<u32>, Fault> {
    let mut formats = Vec::new();
    let mut number = 0_u32;
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("xf") => {
                let format = element.attribute("numFmtId").and_then(|id| id.parse::<u32>().ok());
                formats.push(format.filter(|_| used.contains(&number)).unwrap_or(0));
                number += 1;
                if formats.len() > STYLES_MAX {
                    return Err(Fault::TooMany { what: "cell styles", limit: STYLES_MAX });
                }
            }
            Token::Close(name) if name == "cellXfs" => return Ok(formats),
            Token::End => return Ok(formats),
            _ => {}
        }
    }
}

fn style_sheet(custom: &BTreeMap<u32, String>, formats: &[u32]) -> String {
    let mut codes = String::new();
    let mut styles = String::new();
    // Writing to a string cannot fail.
    for id in formats.iter().collect::<BTreeSet<_>>() {
        if let Some(code) = custom.get(id) {
            let _ = write!(codes, "<numFmt numFmtId=\"{id}\" formatCode=\"{}\"/>", escape(code.as_str()));
        }
    }
    for id in formats {
        let _ = write!(styles, "<xf numFmtId=\"{id}\"/>");
    }
    format!("<styleSheet><numFmts>{codes}</numFmts><cellXfs>{styles}</cellXfs></styleSheet>")
}
