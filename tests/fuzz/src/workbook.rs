//! A planning workbook. What the planner calls a plan can be stored and read again, and a serial is written into the
//! copy of a workbook or refused.
//!
//! The first byte chooses what the rest is: the file itself; lines `CELL VALUE` that change a valid workbook, in either
//! saving style; or parts of the package, each behind its name in a line, that replace those of a small valid one, so
//! that the zip's checksums do not keep a fuzzer out. In a name, a digit alone stands for a part of [`PARTS`].

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _, Write as _},
    sync::LazyLock,
};

use gantry_plan::{Defaults, FIELDS, check_document, plan, with_serial};
use gantry_proto::{Plan, Verdict, plan::PLAN_MAX_BYTES};
use gantry_sim::workbook::{Cell, Saving, Workbook};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::input::{choice, parts};

/// Lines that are looked at, at most.
const LINES_MAX: usize = 32;

/// Parts with a short name.
const PARTS: [&str; 10] = [
    "xl/workbook.xml",
    "xl/_rels/workbook.xml.rels",
    "xl/styles.xml",
    "xl/sharedStrings.xml",
    "xl/worksheets/sheet1.xml",
    "xl/worksheets/sheet2.xml",
    "xl/worksheets/sheet3.xml",
    "xl/worksheets/sheet4.xml",
    "[Content_Types].xml",
    "_rels/.rels",
];

/// A valid workbook with the planner's sheets only.
static BASE: LazyLock<Workbook> = LazyLock::new(|| {
    let workbook = Workbook::valid();
    let names: Vec<String> = workbook.sheet_names().into_iter().map(str::to_owned).collect();
    let needed = |name: &String| FIELDS.iter().any(|field| field.sheet == name);
    names.iter().filter(|name| !needed(name)).fold(workbook, |workbook, name| workbook.remove_sheet(name))
});

/// Its parts, as a spreadsheet program saves them.
static PACKAGE: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let mut zip = ZipArchive::new(Cursor::new(BASE.clone().saved(Saving::Spreadsheet).bytes())).unwrap();
    let mut parts = BTreeMap::new();
    for index in 0..zip.len() {
        let (mut part, mut content) = (zip.by_index(index).unwrap(), Vec::new());
        part.read_to_end(&mut content).unwrap();
        let content = without_blank_cells(&String::from_utf8(content).unwrap()).into_bytes();
        parts.insert(part.name().unwrap().into_owned(), content);
    }
    parts
});

pub(crate) fn run(input: &[u8]) {
    let (chosen, rest) = choice(input);
    match chosen % 4 {
        0 => look(rest),
        1 => look(&changed(rest, Saving::Openpyxl)),
        2 => look(&changed(rest, Saving::Spreadsheet)),
        _ => look(&package(rest)),
    }
}

/// Most cells of a sheet have a style and nothing in them, and would only keep the fuzzer from the others.
fn without_blank_cells(xml: &str) -> String {
    without(&without(xml, "<c ", "/>"), "<row ", "></row>")
}

/// Without the elements that begin so and whose first tag ends so.
fn without(xml: &str, begin: &str, end: &str) -> String {
    let mut pieces = xml.split(begin);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |kept, piece| match piece.split_once(end) {
        Some((blank, rest)) if !blank.contains('>') => kept + rest,
        _ => kept + begin + piece,
    })
}

/// The valid workbook, for a seed.
pub(crate) fn base(saving: Saving) -> Vec<u8> {
    BASE.clone().saved(saving).bytes()
}

/// The parts with a short name, by that name, for seeds.
pub(crate) fn small_parts() -> impl Iterator<Item = (usize, Vec<u8>)> {
    PARTS.iter().enumerate().filter_map(|(number, name)| Some((number, PACKAGE.get(*name)?.clone())))
}

fn look(file: &[u8]) {
    let outcome = plan(file, &Defaults::default(), &BTreeMap::new());
    assert_eq!(outcome.verdict == Verdict::Ok, outcome.plan.is_some());
    assert_eq!(outcome.plan.is_some(), outcome.secrets.is_some());
    assert!(outcome.verdict == Verdict::Ok || !outcome.problems.is_empty(), "refused without a word");
    check_document(&outcome).to_string();
    let copy = with_serial(file, "7f2d7a0e");
    if let (Ok(copy), Verdict::Ok) = (&copy, outcome.verdict) {
        assert_eq!(plan(copy, &Defaults::default(), &BTreeMap::new()).verdict, Verdict::Ok);
    }
    let Some(plan) = outcome.plan else { return };
    let document = plan.to_document().unwrap();
    assert!(document.json.len() <= PLAN_MAX_BYTES, "a plan that no agent takes: {} bytes", document.json.len());
    assert_eq!(Plan::from_document(&document).unwrap(), plan);
}

/// The valid workbook with some cells changed: two letters choose the cell, the third the kind of its new value.
fn changed(lines: &[u8], saving: Saving) -> Vec<u8> {
    let mut workbook = BASE.clone().saved(saving);
    for line in lines.split(|byte| *byte == b'\n').take(LINES_MAX) {
        let [field, cell, kind, value @ ..] = line else { continue };
        let field = &FIELDS[usize::from(*field) % FIELDS.len()];
        if field.cells.is_empty() {
            continue;
        }
        let cell = field.cells[usize::from(*cell) % field.cells.len()];
        let address = format!("{}!{cell}", field.sheet);
        let text = String::from_utf8_lossy(value);
        workbook = match (kind, text.parse::<f64>()) {
            (b'#', Ok(number)) if number.is_finite() => workbook.set(&address, Cell::from(number)),
            (b'=', _) => workbook.set(&address, Cell::formula(&text)),
            (b'!', _) => workbook.set(&address, Cell::error(&text)),
            (b'-', _) => workbook.clear(&address),
            _ => workbook.set(&address, &*text),
        };
    }
    workbook.bytes()
}

/// The valid package with some parts replaced.
fn package(input: &[u8]) -> Vec<u8> {
    let mut all = PACKAGE.clone();
    for part in parts(input) {
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let (name, content) = (String::from_utf8_lossy(&part[..end]), part.get(end + 1..).unwrap_or_default());
        let short = name.parse::<usize>().ok().and_then(|number| PARTS.get(number));
        all.insert(short.map_or(name.into_owned(), |name| (*name).to_owned()), content.to_vec());
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in all {
        if zip.start_file(name, options).is_ok() {
            zip.write_all(&content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}
