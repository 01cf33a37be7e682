//! A serial in a copy: everything else is as it was, byte by byte.

use std::{
    fs,
    io::{Cursor, Read as _},
    path::Path,
};

use gantry_plan::{SERIAL_MAX, serial_cell, with_serial};
use gantry_proto::Verdict;
use gantry_sim::workbook::{Cell, Hostile, Workbook};
use serde_json::json;
use zip::ZipArchive;

use crate::{both, plan};

const SERIAL: &str = "7f2d7a0e-1c3b-4f6a-9d55-0a1b3f2a1b0c";

/// One part of a package: its name, everything that the package says of it, and its bytes as they are packed.
type Part = (String, String, Vec<u8>);

fn parts(bytes: &[u8]) -> Vec<Part> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let count = zip.len();
    let part = |index| {
        let mut file = zip.by_index_raw(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let said = format!(
            "{:?} {:?} {:?} {:?} {} {} {:?}",
            file.compression(),
            file.last_modified(),
            file.unix_mode(),
            file.comment_raw(),
            file.crc32(),
            file.size(),
            file.extra_data()
        );
        let mut packed = Vec::new();
        file.read_to_end(&mut packed).unwrap();
        (name, said, packed)
    };
    (0..count).map(part).collect()
}

fn text(bytes: &[u8], part: &str) -> String {
    let mut text = String::new();
    ZipArchive::new(Cursor::new(bytes)).unwrap().by_name(part).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// A sheet's XML in front of the cell M3 and behind it, and the cell.
fn around(xml: &str) -> (&str, &str, &str) {
    let start = xml.find(" r=\"M3\"").map(|at| xml[..at].rfind('<').unwrap()).expect("the cell");
    let tag = start + xml[start..].find('>').unwrap() + 1;
    let end = if xml[..tag].ends_with("/>") { tag } else { tag + xml[tag..].find("</c>").unwrap() + "</c>".len() };
    (&xml[..start], &xml[start..end], &xml[end..])
}

/// Writes the serial and compares the two packages; hands back the cell before and after.
#[track_caller]
fn written(before: &[u8]) -> (String, String) {
    let after = with_serial(before, SERIAL).expect("a copy");
    let (old, new) = (parts(before), parts(&after));
    let changed: Vec<&str> =
        old.iter().zip(&new).filter(|(old, new)| old != new).map(|(old, _)| old.0.as_str()).collect();
    let names = |parts: &[Part]| parts.iter().map(|part| part.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&old), names(&new), "the same parts in the same order");
    assert_eq!(changed, ["xl/worksheets/sheet10.xml"]);
    let (old, new) = (text(before, changed[0]), text(&after, changed[0]));
    let (old_cell, new_cell) = (around(&old), around(&new));
    assert_eq!((old_cell.0, old_cell.2), (new_cell.0, new_cell.2), "the XML around the cell");

    let planned = |bytes: &[u8]| json!(plan(bytes).plan);
    let (mut old, new) = (planned(before), planned(&after));
    if !new.is_null() {
        assert_eq!(new["cloudtower"]["serial"], SERIAL);
        old["cloudtower"]["serial"] = json!(SERIAL);
        old["sources"]["cloudtower.serial"] = new["sources"]["cloudtower.serial"].clone();
    }
    assert_eq!(old, new, "the plans, but for the serial");
    (old_cell.1.to_owned(), new_cell.1.to_owned())
}

#[test]
fn only_the_cell_changes() {
    let inline = format!("t=\"inlineStr\"><is><t>{SERIAL}</t></is></c>");
    for cell in [Cell::from("15271df9"), Cell::rich(&["a", "b"]), Cell::from(20.5), Cell::error("#N/A")] {
        for bytes in both(&Workbook::valid().set("集群管理信息!M3", cell)) {
            let (old, new) = written(&bytes);
            assert!(new.starts_with("<c r=\"M3\"") && new.ends_with(&inline), "{old} {new}");
        }
    }
    let (old, new) = written(&Workbook::valid().set("集群管理信息!M3", Cell::formula_with("A1", "old")).bytes());
    assert!(old.contains("<f>A1</f>") && new.contains(&format!("<f>\"{SERIAL}\"</f>")), "{old} {new}");
}

/// Workbooks as spreadsheet programs save them, with protection, merged cells, styles and comments; where they are at
/// hand.
#[test]
fn only_the_cell_changes_in_workbooks_of_other_programs() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    for entry in fs::read_dir(shared).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "xlsx") {
            let (old, new) = written(&fs::read(entry.path()).unwrap());
            let style =
                |cell: &str| cell.split(" s=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
            assert!(style(&old).is_some() && style(&old) == style(&new), "{old} {new}");
        }
    }
}

#[test]
fn a_cell_that_is_not_there_is_made() {
    for bytes in both(&Workbook::valid().clear("集群管理信息!M3")) {
        let copy = with_serial(&bytes, SERIAL).unwrap();
        assert_eq!(plan(&copy).plan.unwrap().cloudtower.serial.as_deref(), Some(SERIAL));
        // The copy is a workbook like any other.
        assert_eq!(with_serial(&copy, "other").map(|bytes| plan(&bytes).verdict), Ok(Verdict::Ok));
    }
}

#[test]
fn what_would_be_markup_stays_text() {
    let odd = "a&b<c>\"d'e]]>";
    for workbook in [Workbook::valid(), Workbook::valid().set("集群管理信息!M3", Cell::formula("A1"))] {
        let copy = with_serial(&workbook.bytes(), odd).unwrap();
        assert_eq!(plan(&copy).plan.unwrap().cloudtower.serial.as_deref(), Some(odd));
    }
    // A spreadsheet program reads this as the letter A.
    let refused = with_serial(&Workbook::valid().bytes(), "_x0041_").unwrap_err();
    assert!(refused.to_string().contains("does not read as it should") && refused.remedy().contains("by hand"));
}

#[test]
fn what_is_no_serial_is_refused() {
    let bytes = Workbook::valid().bytes();
    for bad in ["", " ", " a", "a ", "a\nb", "序列号", "a\u{202e}b", &"a".repeat(SERIAL_MAX + 1)] {
        let refused = with_serial(&bytes, bad).unwrap_err();
        assert!(refused.to_string().contains("is not one that a cell can hold"), "{refused}");
    }
    assert!(with_serial(&bytes, &"a".repeat(SERIAL_MAX)).is_ok());
    assert_eq!(serial_cell(), ("集群管理信息", "M3"));
}

#[test]
fn a_workbook_without_the_sheet_is_refused() {
    for workbook in [
        Workbook::valid().remove_sheet("集群管理信息"),
        Workbook::valid().rename_sheet("集群管理信息", "集群管理信息 "),
        Workbook::valid().copy_sheet("集群管理信息", "集群管理信息"),
    ] {
        let refused = with_serial(&workbook.bytes(), SERIAL).unwrap_err();
        assert!(refused.to_string().contains("no sheet 集群管理信息"), "{refused}");
    }
}

#[test]
fn hostile_files_are_refused_and_large_ones_are_not() {
    for hostile in [
        Hostile::Empty,
        Hostile::NotAZip,
        Hostile::Encrypted,
        Hostile::CutOff,
        Hostile::NoWorkbook,
        Hostile::BrokenXml,
        Hostile::DeclaredBomb { bytes: 1 << 30 },
    ] {
        let refused = with_serial(&hostile.bytes(), SERIAL).unwrap_err();
        assert!(!refused.to_string().is_empty() && !refused.remedy().is_empty(), "{hostile:?}");
    }
    for hostile in [Hostile::StrayFarCell, Hostile::HugeSheet { rows: 50_000 }] {
        assert_eq!(with_serial(&hostile.bytes(), SERIAL).map(|bytes| plan(&bytes).verdict), Ok(Verdict::Ok));
    }
    // Any byte of the sheet's part or of the directory may be another one: an answer, and no panic.
    let bytes = Workbook::valid().bytes();
    for at in (0..bytes.len()).step_by(bytes.len() / 300) {
        let mut broken = bytes.clone();
        broken[at] ^= 0x55;
        let _ = with_serial(&broken, SERIAL);
    }
}
