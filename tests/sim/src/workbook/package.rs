//! Writes the parts of an .xlsx and zips them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::cell::{Cell, Position};
use super::{Saving, Sheet, Workbook, formula};

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";
const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const RELATIONS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const PACKAGE_RELATIONS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
const CONTENT_TYPES: &str = "http://schemas.openxmlformats.org/package/2006/content-types";
const SHEET_TYPE: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml";

/// Style 0 is plain, 1 a locked, bordered cell, 2 a date. The colours of the real template do not matter to a reader.
const STYLES: &str = "<numFmts count=\"1\"><numFmt numFmtId=\"164\" formatCode=\"m/d\"/></numFmts>\
    <fonts count=\"1\"><font><sz val=\"11\"/><name val=\"Microsoft Yahei\"/></font></fonts>\
    <fills count=\"2\"><fill><patternFill patternType=\"none\"/></fill><fill><patternFill patternType=\"gray125\"/></fill></fills>\
    <borders count=\"1\"><border><left/><right/><top/><bottom/><diagonal/></border></borders>\
    <cellStyleXfs count=\"1\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\"/></cellStyleXfs>\
    <cellXfs count=\"3\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\"/>\
    <xf numFmtId=\"49\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\" applyProtection=\"1\"><protection locked=\"1\"/></xf>\
    <xf numFmtId=\"164\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\" applyNumberFormat=\"1\"/></cellXfs>\
    <cellStyles count=\"1\"><cellStyle name=\"Normal\" xfId=\"0\" builtinId=\"0\"/></cellStyles>";

/// The whole file.
pub(super) fn write(workbook: &Workbook) -> Vec<u8> {
    zip_of(&parts(workbook))
}

/// Every part: its name and its content.
pub(super) fn parts(workbook: &Workbook) -> Vec<(String, Vec<u8>)> {
    let mut shared = SharedStrings::default();
    let mut parts = vec![
        ("[Content_Types].xml".to_owned(), content_types(workbook)),
        ("_rels/.rels".to_owned(), root_relations()),
        ("xl/workbook.xml".to_owned(), workbook_part(workbook)),
        ("xl/_rels/workbook.xml.rels".to_owned(), workbook_relations(workbook)),
        ("xl/styles.xml".to_owned(), format!("{HEAD}<styleSheet xmlns=\"{MAIN}\">{STYLES}</styleSheet>")),
    ];
    for (index, sheet) in workbook.sheets.iter().enumerate() {
        let number = index + 1;
        parts.push((format!("xl/worksheets/sheet{number}.xml"), sheet_part(workbook, sheet, &mut shared)));
        if !sheet.mail_links.is_empty() {
            parts.push((format!("xl/worksheets/_rels/sheet{number}.xml.rels"), sheet_relations(sheet)));
        }
    }
    if workbook.saving == Saving::Spreadsheet {
        parts.push(("xl/sharedStrings.xml".to_owned(), shared.part()));
    }
    parts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

/// Zips parts as they are.
#[expect(clippy::expect_used, reason = "writing a zip into memory fails for no reason a caller could handle")]
pub(crate) fn zip_of(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in parts {
        zip.start_file(name.as_str(), options).expect("a new part");
        zip.write_all(content).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

fn content_types(workbook: &Workbook) -> String {
    let mut xml = format!(
        "{HEAD}<Types xmlns=\"{CONTENT_TYPES}\">\
         <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
         <Override PartName=\"/xl/workbook.xml\" ContentType=\"{SHEET_TYPE}.sheet.main+xml\"/>\
         <Override PartName=\"/xl/styles.xml\" ContentType=\"{SHEET_TYPE}.styles+xml\"/>"
    );
    for number in 1..=workbook.sheets.len() {
        let _ = write!(
            xml,
            "<Override PartName=\"/xl/worksheets/sheet{number}.xml\" ContentType=\"{SHEET_TYPE}.worksheet+xml\"/>"
        );
    }
    if workbook.saving == Saving::Spreadsheet {
        let _ = write!(
            xml,
            "<Override PartName=\"/xl/sharedStrings.xml\" ContentType=\"{SHEET_TYPE}.sharedStrings+xml\"/>"
        );
    }
    xml + "</Types>"
}

fn root_relations() -> String {
    format!(
        "{HEAD}<Relationships xmlns=\"{PACKAGE_RELATIONS}\">\
         <Relationship Id=\"rId1\" Type=\"{RELATIONS}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
    )
}

fn workbook_part(workbook: &Workbook) -> String {
    let mut xml = format!("{HEAD}<workbook xmlns=\"{MAIN}\" xmlns:r=\"{RELATIONS}\"><sheets>");
    for (index, sheet) in workbook.sheets.iter().enumerate() {
        let state = if sheet.hidden { "hidden" } else { "visible" };
        let (name, number) = (escaped(&sheet.name), index + 1);
        let _ = write!(xml, "<sheet name=\"{name}\" sheetId=\"{number}\" state=\"{state}\" r:id=\"rId{number}\"/>");
    }
    xml + "</sheets><calcPr calcId=\"124519\" fullCalcOnLoad=\"1\"/></workbook>"
}

fn workbook_relations(workbook: &Workbook) -> String {
    let mut xml = format!("{HEAD}<Relationships xmlns=\"{PACKAGE_RELATIONS}\">");
    let count = workbook.sheets.len();
    for number in 1..=count {
        let _ = write!(
            xml,
            "<Relationship Id=\"rId{number}\" Type=\"{RELATIONS}/worksheet\" Target=\"worksheets/sheet{number}.xml\"/>"
        );
    }
    let _ = write!(xml, "<Relationship Id=\"rId{}\" Type=\"{RELATIONS}/styles\" Target=\"styles.xml\"/>", count + 1);
    if workbook.saving == Saving::Spreadsheet {
        let number = count + 2;
        let _ = write!(
            xml,
            "<Relationship Id=\"rId{number}\" Type=\"{RELATIONS}/sharedStrings\" Target=\"sharedStrings.xml\"/>"
        );
    }
    xml + "</Relationships>"
}

fn sheet_part(workbook: &Workbook, sheet: &Sheet, shared: &mut SharedStrings) -> String {
    let mut xml = format!("{HEAD}<worksheet xmlns=\"{MAIN}\" xmlns:r=\"{RELATIONS}\">");
    if let Some(reference) = dimension(sheet) {
        let _ = write!(xml, "<dimension ref=\"{reference}\"/>");
    }
    xml.push_str("<sheetData>");
    rows(&mut xml, workbook, sheet, shared);
    xml.push_str("</sheetData>");
    if sheet.protected {
        xml.push_str(
            "<sheetProtection algorithmName=\"SHA-512\" hashValue=\"bm90IHRoZSBwdWJsaXNoZWQgb25lLCBqdXN0IGEgc2hhcGU=\" \
             saltValue=\"c2FsdHNhbHRzYWx0c2FsdA==\" spinCount=\"100000\" sheet=\"1\" objects=\"1\" scenarios=\"1\"/>",
        );
    }
    if !sheet.merged.is_empty() {
        let _ = write!(xml, "<mergeCells count=\"{}\">", sheet.merged.len());
        for (first, last) in &sheet.merged {
            let _ = write!(xml, "<mergeCell ref=\"{first}:{last}\"/>");
        }
        xml.push_str("</mergeCells>");
    }
    if !sheet.mail_links.is_empty() {
        xml.push_str("<hyperlinks>");
        for (index, link) in sheet.mail_links.iter().enumerate() {
            let _ = write!(xml, "<hyperlink ref=\"{link}\" r:id=\"rId{}\"/>", index + 1);
        }
        xml.push_str("</hyperlinks>");
    }
    xml + "</worksheet>"
}

fn rows(xml: &mut String, workbook: &Workbook, sheet: &Sheet, shared: &mut SharedStrings) {
    let mut open_row = 0;
    for (position, cell) in &sheet.cells {
        if position.row != open_row {
            if open_row > 0 {
                xml.push_str("</row>");
            }
            open_row = position.row;
            let _ = write!(xml, "<row r=\"{open_row}\">");
        }
        cell_xml(xml, workbook, sheet, *position, cell, shared);
    }
    if open_row > 0 {
        xml.push_str("</row>");
    }
    for row in open_row + 1..=sheet.styled_rows {
        let _ = write!(
            xml,
            "<row r=\"{row}\" s=\"1\" customFormat=\"1\"><c r=\"B{row}\" s=\"1\"/><c r=\"AE{row}\" s=\"1\"/></row>"
        );
    }
}

fn cell_xml(
    xml: &mut String,
    workbook: &Workbook,
    sheet: &Sheet,
    at: Position,
    cell: &Cell,
    shared: &mut SharedStrings,
) {
    let _ = match cell {
        Cell::Text(_) | Cell::Rich(_) if workbook.saving == Saving::Spreadsheet => {
            write!(xml, "<c r=\"{at}\" s=\"1\" t=\"s\"><v>{}</v></c>", shared.index(&string_item(cell)))
        }
        Cell::Text(_) | Cell::Rich(_) => {
            write!(xml, "<c r=\"{at}\" s=\"1\" t=\"inlineStr\"><is>{}</is></c>", string_item(cell))
        }
        Cell::Number(number) => write!(xml, "<c r=\"{at}\" s=\"1\"><v>{number}</v></c>"),
        Cell::Date(day) => write!(xml, "<c r=\"{at}\" s=\"2\"><v>{day}</v></c>"),
        Cell::Bool(value) => write!(xml, "<c r=\"{at}\" s=\"1\" t=\"b\"><v>{}</v></c>", u8::from(*value)),
        Cell::Error(text) => write!(xml, "<c r=\"{at}\" s=\"1\" t=\"e\"><v>{}</v></c>", escaped(text)),
        Cell::Formula { text, stored } => formula_xml(xml, at, text, stored.as_deref()),
        Cell::TemplateFormula(text) => {
            let stored = (workbook.saving == Saving::Spreadsheet).then(|| formula::result(workbook, &sheet.name, text));
            formula_xml(xml, at, text, stored.as_ref())
        }
    };
}

fn formula_xml(xml: &mut String, at: Position, formula: &str, stored: Option<&Cell>) -> std::fmt::Result {
    let (kind, value) = match stored {
        None => ("", String::new()),
        Some(Cell::Number(number) | Cell::Date(number)) => ("", number.to_string()),
        Some(Cell::Bool(value)) => (" t=\"b\"", u8::from(*value).to_string()),
        Some(Cell::Error(text)) => (" t=\"e\"", escaped(text)),
        Some(other) => (" t=\"str\"", escaped(&other.shown())),
    };
    write!(xml, "<c r=\"{at}\" s=\"1\"{kind}><f>{}</f><v>{value}</v></c>", escaped(formula))
}

/// The content of `<is>` or `<si>`.
fn string_item(cell: &Cell) -> String {
    match cell {
        Cell::Rich(runs) => runs.iter().fold(String::new(), |mut xml, run| {
            let text = escaped(run);
            let _ = write!(xml, "<r><rPr><b/></rPr><t xml:space=\"preserve\">{text}</t></r>");
            xml
        }),
        other => format!("<t xml:space=\"preserve\">{}</t>", escaped(&other.shown())),
    }
}

fn sheet_relations(sheet: &Sheet) -> String {
    let mut xml = format!("{HEAD}<Relationships xmlns=\"{PACKAGE_RELATIONS}\">");
    for (index, link) in sheet.mail_links.iter().enumerate() {
        let target = escaped(&sheet.get(*link).map_or_else(String::new, Cell::shown));
        let number = index + 1;
        let _ = write!(
            xml,
            "<Relationship Id=\"rId{number}\" Type=\"{RELATIONS}/hyperlink\" Target=\"mailto:{target}\" TargetMode=\"External\"/>"
        );
    }
    xml + "</Relationships>"
}

fn dimension(sheet: &Sheet) -> Option<String> {
    let rows = sheet.cells.keys().map(|at| at.row);
    let columns = sheet.cells.keys().map(|at| at.column);
    let first = Position { row: rows.clone().min()?, column: columns.clone().min()? };
    let last = Position { row: rows.max()?, column: columns.max()? };
    Some(format!("{first}:{last}"))
}

/// Text for XML, attribute values included; what XML 1.0 cannot hold is written the way spreadsheet programs do.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c < ' ' => {
                let _ = write!(out, "_x{:04X}_", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[derive(Default)]
struct SharedStrings {
    items: Vec<String>,
    index: HashMap<String, usize>,
}

impl SharedStrings {
    fn index(&mut self, item: &str) -> usize {
        if let Some(known) = self.index.get(item) {
            return *known;
        }
        self.items.push(item.to_owned());
        self.index.insert(item.to_owned(), self.items.len() - 1);
        self.items.len() - 1
    }

    fn part(&self) -> String {
        let count = self.items.len();
        let mut xml = format!("{HEAD}<sst xmlns=\"{MAIN}\" count=\"{count}\" uniqueCount=\"{count}\">");
        for item in &self.items {
            let _ = write!(xml, "<si>{item}</si>");
        }
        xml + "</sst>"
    }
}
