//! Every way in which a cell can be there, or not.

use super::*;

const M3: Position = Position { row: 3, column: 13 };

/// The sheet with a new cell in its place, written as its attributes alone.
fn put(xml: &str) -> String {
    let spot = find("sheet.xml", xml, M3).expect("a place");
    let Spot { span, before, after, prefix, attributes, formula } = spot;
    let formula = if formula { "=" } else { "" };
    format!("{}{before}<{prefix}new{attributes}{formula}/>{after}{}", &xml[..span.start], &xml[span.end..])
}

fn sheet(data: &str) -> String {
    format!("<worksheet><cols><col min=\"12\" max=\"14\" style=\"7\"/></cols>{data}</worksheet>")
}

/// What becomes of the cells of a sheet.
fn cells(data: &str) -> String {
    let (before, after) = (sheet("|"), put(&sheet(data)));
    let (head, tail) = before.split_once('|').expect("two halves");
    after.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail)).expect("the rest is as it was").to_owned()
}

#[test]
fn a_cell_that_is_there_keeps_its_address_and_style() {
    let row = |cell: &str| format!("<sheetData><row r=\"3\"><c r=\"L3\"/>{cell}<c r=\"N3\"/></row></sheetData>");
    for (cell, new) in [
        ("<c r=\"M3\" s=\"5\"/>", "<new r=\"M3\" s=\"5\"/>"),
        ("<c r=\"M3\" s=\"5\"></c>", "<new r=\"M3\" s=\"5\"/>"),
        ("<c t='s' r='M3' s='5' ><v>17</v></c>", "<new r=\"M3\" s=\"5\"/>"),
        ("<c r=\"M3\" x:y='a\"b' t=\"n\" cm=\"1\" vm=\"2\"><v>1</v></c>", "<new r=\"M3\" x:y='a\"b'/>"),
        ("<c r=\"M3\" t=\"inlineStr\"><is><r><t>a</t></r><r><t>b</t></r></is></c>", "<new r=\"M3\"/>"),
        ("<c r=\"M3\" t=\"str\"><f>A1&amp;A2</f><v>x</v></c>", "<new r=\"M3\"=/>"),
        ("<c r=\"M3\"><f t=\"shared\" si=\"0\"/><v>1</v></c>", "<new r=\"M3\"=/>"),
        ("<c r=\"M3\"><f t=\"array\" ref=\"M3\">A1</f><v>1</v></c>", "<new r=\"M3\"=/>"),
        ("<!-- <c r=\"M3\"/> --><c r=\"M3\"/>", "<!-- <c r=\"M3\"/> --><new r=\"M3\"/>"),
        // Without an address it stands behind the one before.
        ("<c s=\"5\"/>", "<new s=\"5\"/>"),
    ] {
        assert_eq!(cells(&row(cell)), row(new), "{cell}");
    }
}

#[test]
fn a_cell_that_is_not_there_gets_its_place_and_the_style_of_its_row_or_column() {
    for (data, expected) in [
        (
            "<sheetData><row r=\"3\"><c r=\"L3\"/><c r=\"N3\"/></row></sheetData>",
            "<sheetData><row r=\"3\"><c r=\"L3\"/><new r=\"M3\" s=\"7\"/><c r=\"N3\"/></row></sheetData>",
        ),
        (
            "<sheetData><row r=\"3\" s=\"9\" customFormat=\"1\"><c r=\"L3\"/></row></sheetData>",
            "<sheetData><row r=\"3\" s=\"9\" customFormat=\"1\"><c r=\"L3\"/><new r=\"M3\" s=\"9\"/></row></sheetData>",
        ),
        (
            "<sheetData><row r=\"2\"/><row r=\"3\" s=\"9\" /><row r=\"4\"/></sheetData>",
            "<sheetData><row r=\"2\"/><row r=\"3\" s=\"9\" ><new r=\"M3\" s=\"7\"/></row><row r=\"4\"/></sheetData>",
        ),
        (
            "<sheetData><row r=\"2\"/><row r=\"4\"><c r=\"M4\"/></row></sheetData>",
            "<sheetData><row r=\"2\"/><row r=\"3\"><new r=\"M3\" s=\"7\"/></row><row r=\"4\"><c r=\"M4\"/></row>\
             </sheetData>",
        ),
        (
            "<sheetData><row/><row/></sheetData>",
            "<sheetData><row/><row/><row r=\"3\"><new r=\"M3\" s=\"7\"/></row></sheetData>",
        ),
        ("<sheetData/>", "<sheetData><row r=\"3\"><new r=\"M3\" s=\"7\"/></row></sheetData>"),
        ("<sheetData></sheetData>", "<sheetData><row r=\"3\"><new r=\"M3\" s=\"7\"/></row></sheetData>"),
    ] {
        assert_eq!(cells(data), expected);
    }
}

#[test]
fn prefixes_and_a_byte_order_mark_stay() {
    let xml = "\u{feff}<x:worksheet xmlns:x=\"m\"><x:sheetData><x:row r=\"4\"/></x:sheetData></x:worksheet>";
    assert_eq!(
        put(xml),
        "\u{feff}<x:worksheet xmlns:x=\"m\"><x:sheetData><x:row r=\"3\"><x:new r=\"M3\"/></x:row><x:row r=\"4\"/>\
         </x:sheetData></x:worksheet>"
    );
}

#[test]
fn a_cell_that_others_depend_on_is_refused() {
    let find = |xml: &str| find("sheet.xml", xml, M3).map(|_| ());
    let formula = |cell: &str, kind: &str| {
        format!(
            "<worksheet><sheetData><row r=\"3\"><c r=\"{cell}\"><f t=\"{kind}\" ref=\"M2:N9\" si=\"0\">A1</f></c></row>\
             </sheetData></worksheet>"
        )
    };
    let shared = Err(NoSpot::SharedFormula("M2:N9".to_owned()));
    assert_eq!(find(&formula("M3", "shared")), shared);
    assert_eq!(find(&formula("M3", "array")), shared);
    assert_eq!(find(&formula("N3", "array")), shared);
    assert_eq!(find(&formula("N3", "shared")), Ok(()));
    let merged = |range: &str| {
        find(&format!("<worksheet><sheetData/><mergeCells><mergeCell ref=\"{range}\"/></mergeCells></worksheet>"))
    };
    assert_eq!(merged("M2:M4"), Err(NoSpot::Merged("M2:M4".to_owned())));
    assert_eq!(merged("A1:Z9"), Err(NoSpot::Merged("A1:Z9".to_owned())));
    for good in ["M3:N4", "M3", "M4:M6", "A1:L9", "nonsense"] {
        assert_eq!(merged(good), Ok(()), "{good}");
    }
}

#[test]
fn what_is_no_sheet_is_refused() {
    let deep = format!("{}<sheetData/>{}", "<a>".repeat(100), "</a>".repeat(100));
    for xml in [
        "",
        "<worksheet/>",
        "<worksheet><sheetData>",
        "<worksheet><sheetData><row r=\"3\"><c r=\"M3\">",
        "<worksheet><sheetData><row><c r=\"ZZZZ3\"/></row></sheetData></worksheet>",
        "<!DOCTYPE x [<!ENTITY a \"b\">]><worksheet><sheetData/></worksheet>",
        deep.as_str(),
    ] {
        assert!(matches!(find("sheet.xml", xml, M3), Err(NoSpot::Unreadable(_))), "{xml}");
    }
}

/// Whatever the sheet is: an answer, and if it is a place, one that is in the text.
#[test]
fn a_place_is_always_one_of_the_text() {
    let whole = sheet(
        "<sheetData><!--集群--><row r=\"2\"/><row r=\"3\" s=\"9\"><c r=\"L3\"/><c r=\"M3\" t=\"s\"><f>A1</f><v>1</v></c>\
         <c r=\"N3\"/></row><row r=\"4\"/></sheetData><mergeCells><mergeCell ref=\"N3:N19\"/></mergeCells>",
    );
    let fits = |xml: &str| match find("sheet.xml", xml, M3) {
        Ok(spot) => assert!(xml.get(spot.span).is_some(), "{xml}"),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    };
    for at in (0..whole.len()).filter(|at| whole.is_char_boundary(*at)) {
        fits(&whole[..at]);
        fits(&whole[at..]);
        for other in ["<", ">", "/", "\"", " ", "&", "3", "c", "<c r=\"M3\">", "</row>", "<sheetData/>", "群"] {
            fits(&format!("{}{other}{}", &whole[..at], &whole[at..]));
        }
    }
    for encoding in ["UTF-8", "GBK", "UTF-16", "ISO-8859-1", "nonsense"] {
        fits(&format!("<?xml version=\"1.0\" encoding=\"{encoding}\"?>{whole}"));
    }
}
