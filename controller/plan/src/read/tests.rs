//! What the vet lets through unchanged, and what calamine must never see.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
    path::Path,
};

use calamine::{Data, Reader, Xlsx};
use gantry_sim::workbook::{Cell, Saving, Workbook};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::fields::SHEETS;

#[test]
fn vetting_changes_no_value() {
    let mut files = vec![Workbook::valid().bytes(), Workbook::valid().saved(Saving::Spreadsheet).bytes()];
    let odd = |saving| {
        Workbook::valid()
            .saved(saving)
            .set("集群管理信息!D12", Cell::rich(&["a ", "b", "\u{A0}c"]))
            .set("集群管理信息!D13", 20.5)
            .set("集群管理信息!D14", true)
            .set("集群管理信息!D15", Cell::error("#REF!"))
            .set("集群管理信息!D16", "a\u{7}b <&> \"c\"\nd")
            .set("集群管理信息!D17", Cell::formula_with("A1", "stored"))
            .bytes()
    };
    files.extend([odd(Saving::Openpyxl), odd(Saving::Spreadsheet)]);
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    for entry in std::fs::read_dir(shared).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "xlsx") {
            files.push(std::fs::read(entry.path()).expect("readable"));
        }
    }
    for bytes in files {
        let book = read(&bytes, &SHEETS).expect("an honest file");
        let mut other: Xlsx<_> = Xlsx::new(Cursor::new(&bytes)).expect("an honest file");
        assert_eq!(book.names, other.sheet_names());
        for name in SHEETS {
            let mut theirs = BTreeMap::new();
            let mut cells = other.worksheet_cells_reader(name).expect("a sheet");
            while let Some(cell) = cells.next_cell_with_formula().expect("a cell") {
                let at = Position { row: cell.pos.0 + 1, column: cell.pos.1 + 1 };
                let shown = match Data::from(cell.value) {
                    Data::Empty if cell.formula.is_some() => "no result".to_owned(),
                    Data::Empty => continue,
                    Data::String(text) if text.is_empty() => continue,
                    Data::String(text) => format!("text {text}"),
                    Data::Float(number) => format!("number {number}"),
                    Data::Bool(value) => format!("bool {value}"),
                    Data::DateTime(_) => "date".to_owned(),
                    Data::Error(error) => format!("error {error}"),
                    other => format!("{other:?}"),
                };
                if at.row <= 40 && at.column <= 26 {
                    theirs.insert(at, shown);
                }
            }
            let ours: BTreeMap<_, _> = book.sheets[name]
                .cells()
                .map(|(at, value)| {
                    let shown = match value {
                        CellValue::Text(text) => format!("text {}", text.as_str()),
                        CellValue::Number(number) => format!("number {number}"),
                        CellValue::Bool(value) => format!("bool {value}"),
                        CellValue::Date => "date".to_owned(),
                        CellValue::Error(error) => format!("error {error}"),
                        CellValue::NoResult => "no result".to_owned(),
                        CellValue::TooLong => "too long".to_owned(),
                    };
                    (at, shown)
                })
                .collect();
            // A stored result that is the empty text is blank to us, and nothing to calamine.
            theirs.retain(|at, shown| shown != "no result" || ours.contains_key(at));
            assert_eq!(ours, theirs, "{name}");
        }
    }
}

#[test]
fn a_formula_with_an_empty_result_is_blank_and_one_without_a_result_is_not() {
    let value = |cell: &str| {
        let book = read(&with_cell(cell), &["集群管理信息"]);
        book.map(|book| book.sheets["集群管理信息"].get(Position { row: 13, column: 24 }).cloned())
    };
    assert_eq!(value("<c r=\"X13\" t=\"str\"><f>A1</f><v></v></c>"), Ok(None));
    assert_eq!(value("<c r=\"X13\"><f>A1</f><v/></c>"), Ok(Some(CellValue::NoResult)));
    assert_eq!(value("<c r=\"X13\"><f>A1</f></c>"), Ok(Some(CellValue::NoResult)));
    assert_eq!(value("<c r=\"X13\"/>"), Ok(None));
    let text = |text: &str| Ok(Some(CellValue::Text(text.to_owned().into())));
    let phonetic = "<c r=\"X13\" t=\"inlineStr\"><is><r><t>汉</t></r><rPh sb=\"0\" eb=\"1\"><t>han</t></rPh><r><t>字</t></r></is></c>";
    assert_eq!(value(phonetic), text("汉字"));
    assert_eq!(value("<c r=\"X13\" t=\"inlineStr\"><is><t>a&#65;&amp;_x0041__x005F_x</t></is></c>"), text("aA&A_x"));
    assert_eq!(value("<c r=\"X13\" t=\"inlineStr\"><is><t> a </t></is></c>"), text("a"));
    assert_eq!(value("<c r=\"X13\" t=\"inlineStr\"><is><t xml:space=\"preserve\"> a </t></is></c>"), text(" a "));
    assert_eq!(value("<c r=\"X13\" t=\"inlineStr\"><is><t><![CDATA[<b>]]></t></is></c>"), text("<b>"));
    assert!(matches!(value("<c r=\"ABCDE13\"><v>1</v></c>"), Err(Fault::Damaged { .. })));
    assert!(matches!(value("<c r=\"X13\" t=\"s\"><v>99999</v></c>"), Err(Fault::Damaged { .. })));
}

#[test]
fn a_claimed_number_of_shared_strings_is_refused_when_it_is_beyond_the_limit() {
    let claiming = |count: &str| {
        rewrite(Workbook::valid().saved(Saving::Spreadsheet).bytes(), "xl/sharedStrings.xml", |xml| {
            let at = xml.find("uniqueCount=\"").expect("the attribute");
            format!("{}uniqueCount=\"{count}\" x=\"{}", &xml[..at], &xml[at + 13..])
        })
    };
    for count in ["4000000000", "4294967295", "9999999999999", "18446744073709551615", "1048577", "-1", "many", ""] {
        let refused = Err(Fault::Excessive { part: "xl/sharedStrings.xml".to_owned(), what: "shared strings" });
        assert_eq!(read(&claiming(count), &SHEETS).map(|_| ()), refused, "{count}");
    }
    for count in ["0", "1048576"] {
        assert_eq!(read(&claiming(count), &SHEETS).map(|_| ()), Ok(()), "{count}");
    }
    let more = rewrite(Workbook::valid().saved(Saving::Spreadsheet).bytes(), "xl/sharedStrings.xml", |xml| {
        xml.replacen("<si>", &format!("{}<si>", "<si/>".repeat(1_050_000)), 1)
    });
    let refer = rewrite(more, "xl/worksheets/sheet10.xml", |xml| {
        xml.replacen("<row r=\"18\">", "<row r=\"13\"><c r=\"D13\" t=\"s\"><v>1049999</v></c></row><row r=\"18\">", 1)
    });
    let refused = read(&refer, &SHEETS).map(|_| ());
    assert!(matches!(refused, Err(Fault::Excessive { what: "shared strings", .. })), "{refused:?}");
}

#[test]
fn a_claimed_index_of_a_shared_formula_is_refused_when_it_is_beyond_the_limit() {
    for index in ["65536", "4294967295", "18446744073709551615", "99999999999999999999999", "-1", "x"] {
        let cell = format!("<c r=\"X13\"><f t=\"shared\" si=\"{index}\" ref=\"X13:X14\">A1</f><v>1</v></c>");
        let refused = Err(Fault::Excessive { part: "xl/worksheets/sheet10.xml".to_owned(), what: "shared formulas" });
        assert_eq!(read(&with_cell(&cell), &SHEETS).map(|_| ()), refused, "{index}");
    }
    let cell = "<c r=\"X13\"><f t=\"shared\" si=\"65535\" ref=\"X13:X14\">A1</f><v>1</v></c>";
    let book = read(&with_cell(cell), &SHEETS).expect("good");
    assert_eq!(book.sheets["集群管理信息"].get(Position { row: 13, column: 24 }), Some(&CellValue::Number(1.0)));
}

/// What makes calamine itself panic, stop or reserve without bound never reaches it.
#[test]
fn constructs_that_calamine_does_not_survive_are_left_out() {
    let value = |cell: &str| {
        let book = read(&with_cell(cell), &["集群管理信息"]).expect("good");
        book.sheets["集群管理信息"].get(Position { row: 13, column: 24 }).cloned()
    };
    let text = |text: &str| Some(CellValue::Text(text.to_owned().into()));
    // The range of a shared formula is turned round: a subtraction that overflows.
    assert_eq!(
        value("<c r=\"X13\"><f t=\"shared\" si=\"1\" ref=\"X13:A1\">A1</f><v>1</v></c>"),
        Some(CellValue::Number(1.0))
    );
    assert_eq!(
        value("<c r=\"X13\"><f t=\"shared\" si=\"1\" ref=\"ZZZZZZZZ9999999999\">A1</f></c>"),
        Some(CellValue::NoResult)
    );
    // One cell that a strict reader would give the whole workbook up for.
    assert_eq!(value("<c r=\"X13\" t=\"e\"><v>#SPILL!</v></c>"), Some(CellValue::Error("#VALUE!".to_owned())));
    assert_eq!(value("<c r=\"X13\" t=\"n\"><v>many</v></c>"), text("many"));
    assert_eq!(value("<c r=\"X13\" t=\"n\"><v>1e999</v></c>"), text("1e999"));
    assert_eq!(value("<c r=\"X13\" t=\"n\"><v> 1&#50; </v></c>"), Some(CellValue::Number(12.0)));
    assert!(value("<c r=\"X13\"><v>+.5</v></c>").is_some());
    assert_eq!(value("<c r=\"X13\" t=\"new\"><v>a&amp;b</v></c>"), text("a&b"));
    assert_eq!(value("<c r=\"X13\" t=\"str\"><v>a&#13;\nb&lt;</v></c>"), text("a\r\nb<"));
    assert_eq!(value("<c r=\"X13\" s=\"99999999999999999999\"><v>1</v></c>"), Some(CellValue::Number(1.0)));
    assert_eq!(value("<c r=\"X13\" s=\"2\"><v>45691</v></c>"), Some(CellValue::Date));
    assert_eq!(value("<c r=\"X13\" t=\"d\"><v>2025-02-03</v></c>"), Some(CellValue::Date));

    for dimension in ["B2:A1", "ZZZZZZZZ99999999999", "A1:B2:C3", ""] {
        let bytes = rewrite(Workbook::valid().bytes(), "xl/worksheets/sheet10.xml", |xml| {
            xml.replacen("<sheetData>", &format!("<dimension ref=\"{dimension}\"/><sheetData>"), 1)
        });
        assert_eq!(read(&bytes, &SHEETS).map(|_| ()), Ok(()), "{dimension}");
    }
}

#[test]
fn date_formats_are_told_from_number_formats() {
    let cell = |format: &str| {
        let bytes = rewrite(with_cell("<c r=\"X13\" s=\"2\"><v>45691</v></c>"), "xl/styles.xml", |xml| {
            xml.replacen("formatCode=\"m/d\"", &format!("formatCode=\"{}\"", quick_xml::escape::escape(format)), 1)
        });
        let book = read(&bytes, &["集群管理信息"]).expect("good");
        book.sheets["集群管理信息"].get(Position { row: 13, column: 24 }).cloned()
    };
    for code in ["m/d", "yyyy\"年\"m\"月\"d\"日\"", "[h]:mm:ss", "[$-804]yyyy-mm-dd", "h:mm AM/PM"] {
        assert_eq!(cell(code), Some(CellValue::Date), "{code}");
    }
    for code in ["General", "0", "0.00E+00", "@", "#,##0 \"days\"", "[Red]0", "0_d", "\"mm\"0", "0;d"] {
        assert_eq!(cell(code), Some(CellValue::Number(45_691.0)), "{code}");
    }
}

#[test]
fn number_formats_and_styles_are_bounded() {
    let styles = |from: &str, to: &str| {
        rewrite(Workbook::valid().bytes(), "xl/styles.xml", |xml| {
            assert!(xml.contains(from));
            xml.replacen(from, to, 1)
        })
    };
    let long = styles("formatCode=\"m/d\"", &format!("formatCode=\"{}\"", "0".repeat(1025)));
    assert!(matches!(read(&long, &SHEETS), Err(Fault::Excessive { what: "a number format's length", .. })));
    let many = styles("</cellXfs>", &format!("{}</cellXfs>", "<xf/>".repeat(65_536)));
    assert_eq!(read(&many, &SHEETS).map(|_| ()), Err(Fault::TooMany { what: "cell styles", limit: 65_536 }));
    let formats: String = (0..65_537).map(|id| format!("<numFmt numFmtId=\"{id}\" formatCode=\"0\"/>")).collect();
    let many = styles("</numFmts>", &format!("{formats}</numFmts>"));
    assert_eq!(read(&many, &SHEETS).map(|_| ()), Err(Fault::TooMany { what: "number formats", limit: 65_536 }));
}

#[test]
fn entities_depth_and_endless_text_are_refused() {
    let honest = || Workbook::valid().saved(Saving::Spreadsheet).bytes();
    let laughs = "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>";
    for part in ["xl/workbook.xml", "xl/sharedStrings.xml", "xl/worksheets/sheet10.xml", "xl/styles.xml"] {
        let bytes = rewrite(honest(), part, |xml| xml.replacen("?>\n", &format!("?>\n{laughs}"), 1));
        assert!(matches!(read(&bytes, &SHEETS), Err(Fault::Entities { .. })), "{part}");
        let bytes = rewrite(honest(), part, |xml| xml.replacen("?>\n", &format!("?>\n{}", "<a>".repeat(100_000)), 1));
        assert!(matches!(read(&bytes, &SHEETS), Err(Fault::Excessive { .. })), "{part}");
        let bytes =
            rewrite(honest(), part, |xml| xml.replacen("?>\n", &format!("?>\n<a b=\"{}\"/>", "x".repeat(2 << 20)), 1));
        assert!(matches!(read(&bytes, &SHEETS), Err(Fault::Excessive { .. })), "{part}");
        let bytes = rewrite(honest(), part, |xml| xml.chars().take(600).collect());
        assert!(matches!(read(&bytes, &SHEETS), Err(Fault::Damaged { .. })), "{part} cut off");
    }
    let bytes = rewrite(honest(), "xl/sharedStrings.xml", |xml| xml.replacen("<t ", "<t>&unknown;</t><t ", 1));
    assert!(matches!(read(&bytes, &SHEETS), Err(Fault::Entities { .. })));
}

#[test]
fn too_many_sheets_and_parts_are_refused() {
    let many = |count: usize| {
        let sheets: String =
            (0..count).map(|n| format!("<sheet name=\"s{n}\" sheetId=\"{n}\" r:id=\"rId1\"/>")).collect();
        rewrite(Workbook::valid().bytes(), "xl/workbook.xml", |xml| {
            xml.replacen("</sheets>", &format!("{sheets}</sheets>"), 1)
        })
    };
    assert!(read(&many(100), &SHEETS).is_ok());
    assert_eq!(read(&many(5000), &SHEETS).map(|_| ()), Err(Fault::TooMany { what: "sheets", limit: 255 }));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..10_001 {
        zip.start_file(format!("f{number}"), SimpleFileOptions::default()).expect("a new part");
    }
    let bytes = zip.finish().expect("memory").into_inner();
    assert_eq!(read(&bytes, &SHEETS).map(|_| ()), Err(Fault::TooMany { what: "parts", limit: 10_000 }));
}

#[test]
fn a_part_that_unpacks_to_more_than_it_declares_does_not_get_past_the_limits() {
    let big = rewrite(Workbook::valid().saved(Saving::Spreadsheet).bytes(), "xl/sharedStrings.xml", |xml| {
        xml.replacen("<si>", &format!("{}<si>", "<si><t>x</t></si>".repeat(200_000)), 1)
    });
    let lost = read(&big, &SHEETS).expect("large, and within the limits");
    assert_eq!(lost.names.len(), 13);
    let mut lying = big.clone();
    for (signature, size_at, name_at) in [(b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)] {
        let entry = (0..lying.len() - name_at)
            .find(|at| {
                lying[*at..].starts_with(signature) && lying[at + name_at..].starts_with(b"xl/sharedStrings.xml")
            })
            .expect("the entry");
        lying[entry + size_at..entry + size_at + 4].copy_from_slice(&100_u32.to_le_bytes());
    }
    assert!(matches!(read(&lying, &SHEETS), Err(Fault::Damaged { .. })));
}

#[test]
fn other_kinds_of_files_are_named() {
    let compound = |name: &str| {
        let mut bytes = vec![0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];
        bytes.resize(2048, 0);
        bytes.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        bytes.resize(4096, 0);
        bytes
    };
    let fault = |bytes: &[u8]| read(bytes, &SHEETS).expect_err("not a workbook");
    assert_eq!(fault(b""), Fault::Empty);
    assert_eq!(fault(b"hello"), Fault::NotAZip);
    assert_eq!(fault(&compound("EncryptedPackage")), Fault::Encrypted);
    assert_eq!(fault(&compound("Workbook")), Fault::OldFormat);
    assert_eq!(fault(&compound("")), Fault::OldFormatOrEncrypted);
    assert_eq!(fault(&vec![b'P'; FILE_MAX + 1]), Fault::FileTooLarge { bytes: FILE_MAX + 1 });
    assert_eq!(fault(&zipped(&[])), Fault::NoWorkbook);
    assert_eq!(fault(&zipped(&[("a.txt", "x")])), Fault::NoWorkbook);
    assert_eq!(fault(&zipped(&[("mimetype", "x"), ("content.xml", "<x/>")])), Fault::OpenDocument);
    let rels =
        "<Relationships><Relationship Id=\"a\" Type=\"x/officeDocument\" Target=\"xl/workbook.bin\"/></Relationships>";
    assert_eq!(fault(&zipped(&[("_rels/.rels", rels), ("xl/workbook.bin", "")])), Fault::Binary);
    let mut cut = Workbook::valid().bytes();
    cut.truncate(cut.len() / 2);
    assert_eq!(fault(&cut), Fault::CutOff);
}

#[test]
fn no_damage_at_any_byte_makes_it_panic() {
    let honest = Workbook::valid().saved(Saving::Spreadsheet).bytes();
    // Unpacked, so that a changed byte reaches the XML.
    let mut zip = ZipArchive::new(Cursor::new(&honest)).expect("a zip");
    let parts: Vec<(String, Vec<u8>)> = (0..zip.len())
        .map(|index| {
            let mut file = zip.by_index(index).expect("a part");
            let mut content = Vec::new();
            file.read_to_end(&mut content).expect("content");
            content.truncate(6000);
            (file.name().expect("a name").into_owned(), content)
        })
        .collect();
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..150 {
        let mut damaged = parts.clone();
        for _ in 0..4 {
            let part = random(damaged.len());
            let content = &mut damaged[part].1;
            let at = random(content.len());
            content[at] = b"<>&\"'/ \x00\xff0A"[random(11)];
        }
        let named: Vec<(&str, &[u8])> =
            damaged.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let _ = read(&zipped_bytes(&named), &SHEETS);
    }
    for _ in 0..150 {
        let mut damaged = honest.clone();
        let at = random(damaged.len());
        damaged[at] ^= 1 << random(8);
        let _ = read(&damaged, &SHEETS);
    }
}

/// A good workbook with this cell in X13 of `集群管理信息`.
fn with_cell(cell: &str) -> Vec<u8> {
    rewrite(Workbook::valid().bytes(), "xl/worksheets/sheet10.xml", |xml| {
        xml.replacen("<row r=\"18\">", &format!("<row r=\"13\">{cell}</row><row r=\"18\">"), 1)
    })
}

fn zipped(parts: &[(&str, &str)]) -> Vec<u8> {
    zipped_bytes(&parts.iter().map(|(name, content)| (*name, content.as_bytes())).collect::<Vec<_>>())
}

fn zipped_bytes(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).expect("a new part");
        zip.write_all(content).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

/// The file with one part changed.
fn rewrite(bytes: Vec<u8>, part: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let mut zip = ZipArchive::new(Cursor::new(&bytes)).expect("a zip");
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).expect("a part");
        let name = file.name().expect("a name").into_owned();
        let mut content = String::new();
        file.read_to_string(&mut content).expect("text");
        out.start_file(name.as_str(), SimpleFileOptions::default()).expect("a new part");
        let content = if name == part { change(content) } else { content };
        out.write_all(content.as_bytes()).expect("memory");
    }
    out.finish().expect("memory").into_inner()
}
