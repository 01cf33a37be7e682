//! Vets the table of shared strings: only the entries that a needed cell refers to are kept.

use std::{collections::BTreeSet, io::BufRead};

use quick_xml::escape::partial_escape;
use zeroize::Zeroizing;

use super::{
    archive::Archive,
    fault::{Fault, KEPT_MAX, STRINGS_MAX, TEXT_MAX},
    xml::{Token, Xml},
};

/// The longest text as it is written, bytes: an escaped character takes seven.
const RAW_TEXT_MAX: usize = TEXT_MAX * 7;

/// What may be read of the table.
#[derive(Default)]
pub(super) struct VettedStrings {
    /// The part as calamine shall see it: an entry that nobody needs is empty, and none follows the last needed one.
    pub(super) xml: Zeroizing<String>,
    /// The entries whose text is longer than any cell's; they are empty in `xml`.
    pub(super) too_long: BTreeSet<u32>,
}

/// Vets the entries with these numbers, and stops behind the last one.
pub(super) fn vet(archive: &mut Archive<'_>, part: &str, needed: &BTreeSet<u32>) -> Result<VettedStrings, Fault> {
    let mut xml = archive.index_part(part)?;
    let mut kept = VettedStrings::default();
    kept.xml.push_str("<sst>");
    let (mut index, mut found) = (0_u32, 0);
    while found < needed.len() {
        match xml.next()? {
            Token::Open(element) if element.is("sst") => {
                let claimed = element.attribute("uniqueCount");
                if claimed.is_some_and(|count| count.trim().parse::<u32>().map_or(true, |count| count > STRINGS_MAX)) {
                    return Err(xml.excessive("shared strings"));
                }
            }
            Token::Open(element) if element.is("si") => {
                let text = rich_text(&mut xml, "si")?;
                kept.xml.push_str("<si>");
                if needed.contains(&index) {
                    found += 1;
                    match text {
                        Some(text) => kept.xml.push_str(&text),
                        None => {
                            kept.too_long.insert(index);
                        }
                    }
                }
                kept.xml.push_str("</si>");
                index += 1;
                if index > STRINGS_MAX || kept.xml.len() > KEPT_MAX {
                    return Err(xml.excessive("shared strings"));
                }
            }
            // A cell refers to an entry that is not there.
            Token::End => return Err(Fault::damaged("the table of shared strings")),
            _ => {}
        }
    }
    kept.xml.push_str("</sst>");
    Ok(kept)
}

/// The runs of `<si>` or `<is>` up to its end, as runs for calamine to join; phonetic text is left out (N9). `None` when
/// the text is longer than any cell's.
pub(super) fn rich_text<R: BufRead>(xml: &mut Xml<R>, until: &str) -> Result<Option<Zeroizing<String>>, Fault> {
    let mut runs = Zeroizing::new(String::new());
    let (mut phonetic, mut raw) = (false, 0_usize);
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("rPh") => phonetic = true,
            Token::Open(element) if element.is("t") => {
                // What `preserve` means is for calamine to know.
                let space = element.attribute("space").as_deref() == Some("preserve");
                let run = plain_text(xml, "t")?;
                if phonetic {
                    continue;
                }
                raw = raw.saturating_add(run.as_ref().map_or(RAW_TEXT_MAX + 1, |run| run.len()));
                if let (Some(run), true) = (run, raw <= RAW_TEXT_MAX) {
                    runs.push_str(if space { "<r><t xml:space=\"preserve\">" } else { "<r><t>" });
                    runs.push_str(&partial_escape(run.as_str()));
                    runs.push_str("</t></r>");
                }
            }
            Token::Close(name) if name == "rPh" => phonetic = false,
            Token::Close(name) if name == until => return Ok((raw <= RAW_TEXT_MAX).then_some(runs)),
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
        if runs.len() > KEPT_MAX {
            return Err(xml.excessive("runs of text"));
        }
    }
}

/// The text up to the end of the element `until`; `None` when it is longer than any cell.
pub(super) fn plain_text<R: BufRead>(xml: &mut Xml<R>, until: &str) -> Result<Option<Zeroizing<String>>, Fault> {
    let mut text = Zeroizing::new(String::new());
    let mut too_long = false;
    loop {
        match xml.next()? {
            Token::Text(more) if !too_long => {
                text.push_str(&more);
                too_long = text.len() > RAW_TEXT_MAX;
            }
            Token::Close(name) if name == until => return Ok((!too_long).then_some(text)),
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
    }
}
