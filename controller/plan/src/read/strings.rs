//! The table of shared strings: only the entries that a needed cell refers to are kept.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::{
    archive::Archive,
    cell::{CellValue, unescaped},
    fault::{Fault, TEXT_MAX},
    xml::{Token, Xml},
};

/// Reads the entries with these numbers, and stops behind the last one.
pub(super) fn read(
    archive: &mut Archive<'_>,
    part: &str,
    needed: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, CellValue>, Fault> {
    let mut xml = archive.index_part(part)?;
    let mut strings = BTreeMap::new();
    let mut index = 0_u32;
    while strings.len() < needed.len() {
        match xml.next()? {
            Token::Open(element) if element.is("si") => {
                let value = rich_text(&mut xml, "si")?;
                if needed.contains(&index) {
                    strings.insert(index, value);
                }
                index = index.saturating_add(1);
            }
            Token::End => break,
            _ => {}
        }
    }
    Ok(strings)
}

/// Joins the runs of `<si>` or `<is>` up to its end; phonetic text is left out (N9). What goes beyond the limit is not
/// kept.
pub(super) fn rich_text<R: std::io::BufRead>(xml: &mut Xml<R>, until: &str) -> Result<CellValue, Fault> {
    let mut text = Zeroizing::new(String::new());
    let (mut phonetic, mut too_long) = (false, false);
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("rPh") => phonetic = true,
            Token::Open(element) if element.is("t") => {
                let keep = element.attribute("space").as_deref() == Some("preserve");
                let run = plain_text(xml, "t")?;
                if phonetic {
                    continue;
                }
                match run {
                    Some(run) if keep => text.push_str(&unescaped(&run)),
                    // Without `preserve` spreadsheet programs ignore ASCII space at the ends, and only that.
                    Some(run) => text.push_str(&unescaped(run.trim_matches([' ', '\t', '\r', '\n']))),
                    None => too_long = true,
                }
                if text.len() > TEXT_MAX * 4 {
                    too_long = true;
                    text.clear();
                }
            }
            Token::Close(name) if name == "rPh" => phonetic = false,
            Token::Close(name) if name == until => break,
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
    }
    too_long |= text.chars().count() > TEXT_MAX;
    Ok(if too_long { CellValue::TooLong } else { CellValue::Text(text) })
}

/// The text up to the end of the element `until`; `None` when it is longer than any cell.
pub(super) fn plain_text<R: std::io::BufRead>(
    xml: &mut Xml<R>,
    until: &str,
) -> Result<Option<Zeroizing<String>>, Fault> {
    let mut text = Zeroizing::new(String::new());
    let mut too_long = false;
    loop {
        match xml.next()? {
            Token::Text(more) if !too_long => {
                text.push_str(&more);
                // An escaped character takes seven bytes.
                too_long = text.len() > TEXT_MAX * 7;
            }
            Token::Close(name) if name == until => return Ok((!too_long).then_some(text)),
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
    }
}
