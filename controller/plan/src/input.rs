//! Fetches what was typed for a field: the override, else the cell, else the settings. Normalises it and reports cells
//! that hold no usable text. Knows no rule about what a good value is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use gantry_proto::{Redactor, Secret, Severity, plan::Source};

use crate::{
    fields::{Access, DESCRIPTION, Field},
    finding::{Finding, Findings, Place},
    read::{Book, CellValue, Position},
    secrets::SecretCells,
    text,
    values::{self, Reject},
};

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    /// The text as typed, for messages. Blank for a secret.
    pub(crate) typed: String,
    pub(crate) place: Place,
}

/// What there is at a place.
#[derive(Clone, Debug)]
pub(crate) enum State<T> {
    /// A value.
    Given(Given<T>),
    /// Nothing.
    Blank(Place),
    /// Something wrong that has been reported, or a sheet that cannot be used: rules that need it are skipped.
    Wrong,
}

impl<T> State<T> {
    /// The value, when there is a good one.
    pub(crate) fn given(self) -> Option<Given<T>> {
        match self {
            Self::Given(given) => Some(given),
            Self::Blank(_) | Self::Wrong => None,
        }
    }
}

/// The passwords of the workbook, for what is read beside them.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) cells: &'a SecretCells,
    /// Knows them in every form.
    pub(crate) redactor: &'a Redactor,
}

/// The workbook, the overrides, and what was found so far.
pub(crate) struct Input<'a> {
    book: &'a Book,
    /// Sheets that are there and whose layout is the known one.
    usable: BTreeSet<&'static str>,
    overrides: &'a BTreeMap<String, String>,
    known: Known<'a>,
    pub(crate) findings: Findings,
    /// Which source won, by key.
    pub(crate) sources: BTreeMap<String, Source>,
    /// Addresses that work only in special circumstances (W24), for one warning over all of them.
    pub(crate) special: Vec<(Ipv4Addr, Place)>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(
        book: &'a Book,
        usable: BTreeSet<&'static str>,
        overrides: &'a BTreeMap<String, String>,
        known: Known<'a>,
        findings: Findings,
    ) -> Self {
        Self { book, usable, overrides, known, findings, sources: BTreeMap::new(), special: Vec::new() }
    }

    /// The field's text, at its first cell.
    pub(crate) fn text(&mut self, field: &Field) -> State<String> {
        match field.position(0) {
            Some(position) => self.text_at(field, position, field.label),
            None => match self.overridden(field) {
                Some(given) => self.without_secret(given),
                None => State::Blank(Place::configuration(field.key)),
            },
        }
    }

    /// The field's text, its cell given: for fields that stand in row 4 or row 5.
    pub(crate) fn text_at(&mut self, field: &Field, position: Position, label: &str) -> State<String> {
        match self.overridden(field) {
            Some(given) => self.without_secret(given),
            None => self.cell(field.sheet, position, label, Severity::Error),
        }
    }

    /// Text for people that no step needs: an unusable cell is only a warning.
    pub(crate) fn remark(&mut self, field: &Field) -> Option<String> {
        let position = field.position(0)?;
        let given = self.cell(field.sheet, position, field.label, Severity::Warning).given()?;
        self.sources.insert(field.key.to_owned(), given.place.source().clone());
        Some(given.value)
    }

    /// The cell's text after N1. `severity` is how bad a cell without usable text is.
    pub(crate) fn cell(
        &mut self,
        sheet: &'static str,
        position: Position,
        label: &str,
        severity: Severity,
    ) -> State<String> {
        let place = Place::cell(sheet, position, label);
        if !self.usable.contains(sheet) {
            // Without the sheet of the descriptions its defaults apply (W2).
            let absent = sheet == DESCRIPTION && !self.book.names.iter().any(|name| name == sheet);
            return if absent { State::Blank(place) } else { State::Wrong };
        }
        let typed = match self.value(sheet, position) {
            None => return State::Blank(place),
            Some(CellValue::Text(text)) => text.to_string(),
            Some(CellValue::Number(number)) => text::number(*number),
            Some(other) => {
                let finding = unusable_cell(other, severity, &place);
                self.findings.add(finding);
                return State::Wrong;
            }
        };
        let value = text::clean(&typed);
        if value.is_empty() {
            return State::Blank(place);
        }
        self.without_secret(State::Given(Given { value, typed, place }))
    }

    /// Refuses text that is or holds a password: it would be stored and shown in clear (R71).
    fn without_secret(&mut self, state: State<String>) -> State<String> {
        let State::Given(given) = &state else { return state };
        let Some(cell) = self.known.cells.found_in(&given.value) else { return state };
        let phrase = "holds a password that also stands in a password cell";
        self.findings.add(Finding::error("secret_in_text", "W14", &given.place, phrase).related_cell(cell));
        State::Wrong
    }

    /// A value as a message may repeat it.
    pub(crate) fn shown(&self, text: &str) -> String {
        text::shown(&self.known.redactor.text(text))
    }

    /// Whether the cell holds anything at all (N6); false when the sheet cannot be used.
    pub(crate) fn is_filled(&self, sheet: &'static str, position: Position) -> bool {
        self.usable.contains(sheet)
            && self.value(sheet, position).is_some_and(|value| match value {
                CellValue::Text(text) => !text::clean(text).is_empty(),
                _ => true,
            })
    }

    /// The cells of a field in which an entry is this text; none when an override replaces them.
    pub(crate) fn cells_with(&self, field: &Field, wanted: &str) -> Vec<Place> {
        if self.overrides.contains_key(field.key) || !self.usable.contains(field.sheet) {
            return Vec::new();
        }
        let holds = |position: &Position| match self.value(field.sheet, *position) {
            Some(CellValue::Text(text)) => {
                let text = text::clean(text);
                text == wanted || values::entries(&text).contains(&wanted)
            }
            _ => false,
        };
        let positions = (0..field.cells.len()).filter_map(|index| field.position(index)).filter(holds);
        positions.map(|position| Place::cell(field.sheet, position, field.label)).collect()
    }

    /// A secret, taken exactly as typed (N4). White space only counts as blank.
    pub(crate) fn secret(&mut self, field: &Field) -> State<Secret> {
        let Some(position) = field.position(0) else { return State::Wrong };
        let place = Place::cell(field.sheet, position, field.label);
        if !self.usable.contains(field.sheet) {
            return State::Wrong;
        }
        let secret = match self.value(field.sheet, position) {
            None => return State::Blank(place),
            Some(CellValue::Text(text)) if text::clean(text).is_empty() => return State::Blank(place),
            Some(CellValue::Text(text)) => Secret::new(text.as_str()),
            Some(CellValue::Number(number)) => Secret::new(text::number(*number)),
            Some(other) => {
                let finding = unusable_cell(&without_content(other), Severity::Error, &place);
                self.findings.add(finding);
                return State::Wrong;
            }
        };
        if secret.expose().trim() != secret.expose() {
            self.findings.add(
                Finding::warning(
                    "outer_space",
                    "N4",
                    &place,
                    "begins or ends with white space, which is taken as part of the password",
                )
                .remedy("delete the white space, unless it belongs to the password"),
            );
        }
        State::Given(Given { value: secret, typed: String::new(), place })
    }

    /// Fills a blank from the settings or the built-in default, and says so (N6, C52).
    pub(crate) fn or(&mut self, state: State<String>, setting: Option<String>, builtin: &str) -> State<String> {
        let State::Blank(place) = state else { return state };
        let (value, source) = match setting.filter(|text| !text::clean(text).is_empty()) {
            Some(text) if text != builtin => (text, Source::Configuration),
            Some(_) => (builtin.to_owned(), Source::Default),
            None if builtin.is_empty() => return State::Blank(place),
            None => (builtin.to_owned(), Source::Default),
        };
        self.filled(place, value, source)
    }

    /// Puts a value in the place of a blank one and says so, unless the workbook has no cell for it.
    pub(crate) fn filled(&mut self, place: Place, value: String, source: Source) -> State<String> {
        let place = place.filled_from(source);
        if place.name().contains('!') {
            let origin = match place.source() {
                Source::Configuration => "the settings say",
                Source::Derived { .. } => "derived",
                _ => "the default is",
            };
            let phrase = format!("is blank: {origin} \"{}\"", self.shown(&value));
            // The phrase itself names the source.
            let finding = Finding::notice("default_used", "N6", &place.filled_from(Source::Default), phrase);
            self.findings.add(finding);
        }
        State::Given(Given { typed: value.clone(), value: text::clean(&value), place })
    }

    /// N2: folds full-width forms, with a notice when that changed something.
    pub(crate) fn folded(&mut self, state: State<String>) -> State<String> {
        let State::Given(mut given) = state else { return state };
        let folded = text::fold(&given.value);
        if folded != given.value {
            let phrase = format!("is read as \"{}\"", self.shown(&folded));
            self.findings.add(Finding::notice("normalised", "N2", &given.place, phrase).value(&given.typed));
            given.value = folded;
        }
        State::Given(given)
    }

    /// Turns text into a value, or reports why it is none.
    pub(crate) fn parsed<T>(
        &mut self,
        state: State<String>,
        rule: &str,
        parse: impl FnOnce(&str) -> Result<T, Reject>,
    ) -> State<T> {
        match state {
            State::Given(given) => match parse(&given.value) {
                Ok(value) => State::Given(Given { value, typed: given.typed, place: given.place }),
                Err(reject) => {
                    self.reject(&reject, rule, &given.place, &given.typed);
                    State::Wrong
                }
            },
            State::Blank(place) => State::Blank(place),
            State::Wrong => State::Wrong,
        }
    }

    /// An address: N2, W4, W24.
    pub(crate) fn address(&mut self, state: State<String>) -> State<Ipv4Addr> {
        let state = self.folded(state);
        let state = self.parsed(state, "W4", values::ipv4);
        let State::Given(given) = state else { return state };
        if let Some(reject) = values::unusable(given.value) {
            self.reject(&reject, "W24", &given.place, &given.typed);
            return State::Wrong;
        }
        self.note_special(given.value, &given.place);
        State::Given(given)
    }

    /// Remembers a loopback or link-local address for the warning of W24.
    pub(crate) fn note_special(&mut self, address: Ipv4Addr, place: &Place) {
        if address.is_loopback() || address.is_link_local() {
            self.special.push((address, place.clone()));
        }
    }

    /// Reports a required field that is blank.
    pub(crate) fn required<T>(&mut self, state: State<T>, rule: &str, expected: &str) -> Option<Given<T>> {
        match state {
            State::Given(given) => Some(given),
            State::Blank(place) => {
                let phrase = format!("is blank: expected {expected}");
                self.findings.add(Finding::error("required", rule, &place, phrase));
                None
            }
            State::Wrong => None,
        }
    }

    /// Reports a value that its rule refuses.
    pub(crate) fn reject(&mut self, reject: &Reject, rule: &str, place: &Place, typed: &str) {
        self.findings.add(Finding::error(reject.code, rule, place, reject.phrase.as_str()).value(typed));
    }

    /// Notes which source won for a key, and hands the value on.
    pub(crate) fn settle<T>(&mut self, field: &Field, given: Option<Given<T>>) -> Option<T> {
        let given = given?;
        self.sources.insert(field.key.to_owned(), given.place.source().clone());
        Some(given.value)
    }

    fn overridden(&self, field: &Field) -> Option<State<String>> {
        if field.access != Access::Settable {
            return None;
        }
        let typed = self.overrides.get(field.key)?.clone();
        let value = text::clean(&typed);
        // A blank override has been reported with the other mistakes in the overrides.
        let place = Place::setting(field.key);
        Some(if value.is_empty() { State::Wrong } else { State::Given(Given { value, typed, place }) })
    }

    fn value(&self, sheet: &str, position: Position) -> Option<&'a CellValue> {
        self.book.sheets.get(sheet).and_then(|sheet| sheet.get(position))
    }
}

/// An error cell's own word could be anything in a hostile file, so none is repeated for a secret.
fn without_content(value: &CellValue) -> CellValue {
    match value {
        CellValue::Error(_) => CellValue::Error(String::new()),
        other => other.clone(),
    }
}

/// N7, N8, N11: the cell holds something, but no text.
fn unusable_cell(value: &CellValue, severity: Severity, place: &Place) -> Finding {
    let (code, rule, phrase, remedy) = match value {
        CellValue::NoResult => (
            "formula_without_value",
            "N7",
            "holds a formula without a stored result",
            "open the workbook in a spreadsheet program and save it, or type the value",
        ),
        CellValue::Error(_) => ("error_value", "N8", "holds an error value", "type the value"),
        CellValue::Bool(_) => (
            "wrong_type",
            "N11",
            "holds a truth value (TRUE or FALSE) instead of text",
            "give the cell the format Text and type the value again",
        ),
        CellValue::TooLong => {
            ("too_long", "N11", "holds more than 32767 characters, the limit of a cell", "type the value again")
        }
        _ => (
            "wrong_type",
            "N11",
            "holds a date or time instead of text: the spreadsheet program converted what was typed",
            "give the cell the format Text and type the value again",
        ),
    };
    let finding = Finding::new(severity, code, rule, place, phrase.to_owned()).remedy(remedy);
    match value {
        CellValue::Error(word) if !word.is_empty() => finding.value(word),
        _ => finding,
    }
}
