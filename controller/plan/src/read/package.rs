//! The package's table of contents: which part is which sheet.

use super::{
    archive::Archive,
    fault::{Fault, SHEETS_MAX},
    xml::Token,
};

/// The most relationships that are kept of the kinds that are looked for.
const RELATIONSHIPS_MAX: usize = SHEETS_MAX + 8;

/// The parts that matter.
pub(crate) struct Package {
    pub(crate) sheets: Vec<SheetPart>,
    pub(crate) shared_strings: Option<String>,
    pub(crate) styles: Option<String>,
}

/// A sheet's name and the part that holds it.
pub(crate) struct SheetPart {
    pub(crate) name: String,
    pub(crate) part: String,
}

/// Follows the relationships from the package's root to the sheets.
pub(crate) fn read(archive: &mut Archive<'_>) -> Result<Package, Fault> {
    if archive.find("_rels/.rels").is_none() {
        return Err(Fault::NoWorkbook);
    }
    let root = relationships(archive, "_rels/.rels", "")?;
    let workbook = target(&root, "/officeDocument").ok_or(Fault::NoWorkbook)?.to_owned();
    if workbook.ends_with(".bin") {
        return Err(Fault::Binary);
    }
    let (folder, file) = workbook.rsplit_once('/').unwrap_or(("", &workbook));
    let rels = if folder.is_empty() { format!("_rels/{file}.rels") } else { format!("{folder}/_rels/{file}.rels") };
    if archive.find(&workbook).is_none() || archive.find(&rels).is_none() {
        return Err(Fault::NoWorkbook);
    }
    let links = relationships(archive, &rels, folder)?;
    let mut sheets = Vec::new();
    for (name, id) in sheet_list(archive, &workbook)? {
        // A chart sheet has a name too, and no cells.
        let link = links.iter().find(|link| link.id == id).ok_or_else(|| Fault::damaged("the list of sheets"))?;
        sheets.push(SheetPart { name, part: link.target.clone() });
    }
    Ok(Package {
        sheets,
        shared_strings: target(&links, "/sharedStrings").map(str::to_owned),
        styles: target(&links, "/styles").map(str::to_owned),
    })
}

struct Relationship {
    id: String,
    kind: String,
    target: String,
}

fn target<'a>(links: &'a [Relationship], kind: &str) -> Option<&'a str> {
    links.iter().find(|link| link.kind.ends_with(kind)).map(|link| link.target.as_str())
}

/// The relationships of one part, targets made absolute. Only the kinds that lead to cells are kept.
fn relationships(archive: &mut Archive<'_>, part: &str, folder: &str) -> Result<Vec<Relationship>, Fault> {
    const KINDS: [&str; 5] = ["/officeDocument", "sheet", "/sharedStrings", "/styles", "/macrosheet"];
    let mut xml = archive.index_part(part)?;
    let mut links = Vec::new();
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("Relationship") => {
                let (Some(id), Some(kind), Some(target)) =
                    (element.attribute("Id"), element.attribute("Type"), element.attribute("Target"))
                else {
                    continue;
                };
                if KINDS.iter().any(|known| kind.ends_with(known)) {
                    links.push(Relationship { id, kind, target: absolute(folder, &target) });
                }
                if links.len() > RELATIONSHIPS_MAX {
                    return Err(Fault::TooMany { what: "sheets", limit: SHEETS_MAX });
                }
            }
            Token::End => return Ok(links),
            _ => {}
        }
    }
}

/// Every sheet's name and relationship id, in order.
fn sheet_list(archive: &mut Archive<'_>, part: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut xml = archive.index_part(part)?;
    let mut sheets = Vec::new();
    let mut inside = false;
    loop {
        match xml.next()? {
            Token::Open(element) if element.is("sheets") => inside = true,
            Token::Open(element) if inside && element.is("sheet") => {
                if let (Some(name), Some(id)) = (element.attribute("name"), element.attribute("id")) {
                    sheets.push((name, id));
                }
                if sheets.len() > SHEETS_MAX {
                    return Err(Fault::TooMany { what: "sheets", limit: SHEETS_MAX });
                }
            }
            Token::Close(name) if name == "sheets" => return Ok(sheets),
            Token::End => return Err(Fault::damaged(xml.part())),
            _ => {}
        }
    }
}

/// Resolves a target against its folder: `/xl/x.xml`, `x.xml`, `../x.xml`.
fn absolute(folder: &str, target: &str) -> String {
    let target = target.replace('\\', "/");
    let mut path: Vec<&str> = if target.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for step in target.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(path.pop()),
            step => path.push(step),
        }
    }
    path.retain(|step| !step.is_empty());
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn targets_are_resolved_against_their_folder() {
        assert_eq!(absolute("xl", "worksheets/sheet1.xml"), "xl/worksheets/sheet1.xml");
        assert_eq!(absolute("xl", "/xl/worksheets/sheet1.xml"), "xl/worksheets/sheet1.xml");
        assert_eq!(absolute("xl", "../other/./a.xml"), "other/a.xml");
        assert_eq!(absolute("", "xl\\workbook.xml"), "xl/workbook.xml");
        assert_eq!(absolute("xl", "../../../a.xml"), "a.xml");
    }
}
