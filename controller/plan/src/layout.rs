//! Whether the needed sheets are there and laid out as the known edition (W1, W2, W3). Nothing is read from a sheet
//! whose labels are not where they belong: a password may have slid into any of its cells.

use std::collections::BTreeSet;

use gantry_proto::Redactor;

use crate::{
    fields::{ANCHORS, DESCRIPTION, SHEETS},
    finding::{Finding, Findings, Place},
    read::{Book, CellValue, Position, Sheet},
    text,
};

/// Reports missing and foreign sheets; returns those whose cells may be read.
pub(crate) fn usable_sheets(book: &Book, redactor: &Redactor, findings: &mut Findings) -> BTreeSet<&'static str> {
    let mut usable = BTreeSet::new();
    for name in SHEETS {
        match (book.names.iter().filter(|other| *other == name).count(), book.sheets.get(name)) {
            (0, _) => findings.add(missing(name, &book.names, redactor)),
            (1, Some(sheet)) => match misplaced(name, sheet) {
                None => drop(usable.insert(name)),
                Some(finding) => findings.add(finding),
            },
            _ => findings.add(
                Finding::error("duplicate_sheet", "W1", &Place::sheet(name), "is there more than once in the workbook")
                    .remedy("delete or rename the sheets that are not meant"),
            ),
        }
    }
    usable
}

fn missing(name: &'static str, names: &[String], redactor: &Redactor) -> Finding {
    let place = Place::sheet(name);
    let phrase = format!("the sheet {name} is missing");
    let finding = if name == DESCRIPTION {
        Finding::warning("missing_sheet", "W2", &place, format!("{phrase}: the defaults of its fields apply"))
    } else {
        Finding::error("missing_sheet", "W1", &place, phrase)
    };
    let similar: Vec<_> = names.iter().filter(|other| text::compact(other).starts_with(&text::compact(name))).collect();
    match similar.first() {
        Some(other) => {
            finding.remedy(format!("if \"{}\" is meant, rename it to {name}", text::shown(&redactor.text(other))))
        }
        None => finding.remedy("use the planning workbook of edition v20250820 with its own sheet names"),
    }
}

/// One error for the whole sheet, whatever number of labels has moved.
fn misplaced(name: &'static str, sheet: &Sheet) -> Option<Finding> {
    let anchors = ANCHORS.iter().filter(|(sheet, _, _)| *sheet == name);
    let wrong: Vec<(Position, &str)> = anchors
        .filter_map(|(_, cell, label)| Some((Position::parse(cell)?, *label)))
        .filter(|(position, label)| !holds(sheet.get(*position), label))
        .collect();
    let (position, label) = *wrong.first()?;
    let found = found_instead(name, sheet.get(position));
    let place = Place::cell(name, position, label);
    let others: Vec<Place> = wrong[1..].iter().map(|(position, label)| Place::cell(name, *position, *label)).collect();
    let phrase = format!("the sheet has another layout: expected the label \"{label}\", found {found}");
    Some(Finding::error("layout", "W3", &place, phrase).related(&others).remedy(
        "undo inserted or deleted rows and columns, or copy the values into a fresh workbook of edition v20250820",
    ))
}

fn holds(value: Option<&CellValue>, label: &str) -> bool {
    matches!(value, Some(CellValue::Text(text)) if text::compact(text) == text::compact(label))
}

/// What stands there, without repeating it unless it is itself a known label.
fn found_instead(name: &str, value: Option<&CellValue>) -> String {
    let Some(value) = value else { return "a blank cell".to_owned() };
    let known = ANCHORS.iter().find(|(sheet, _, label)| *sheet == name && holds(Some(value), label));
    match known {
        Some((_, cell, label)) => format!("\"{label}\", which belongs in {cell}"),
        None => "something else".to_owned(),
    }
}
