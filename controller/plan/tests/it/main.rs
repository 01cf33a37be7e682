//! The planner through its public API: workbooks of every shape in, verdicts out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod canary;
mod hostile;
mod overrides;
mod reference;
mod rules;
mod settings;
mod warnings;
mod write;

use std::collections::BTreeMap;

use gantry_plan::{Defaults, Outcome};
use gantry_proto::{Problem, Severity, Verdict};
use gantry_sim::workbook::{Saving, Workbook};

/// Plans with the default settings and without overrides.
fn plan(bytes: &[u8]) -> Outcome {
    gantry_plan::plan(bytes, &Defaults::default(), &BTreeMap::new())
}

/// `sheet!cell code` of every finding of one severity, in order; the sheet alone when no cell is named.
fn found(outcome: &Outcome, severity: Severity) -> Vec<String> {
    outcome.problems.iter().filter(|problem| problem.severity == severity).map(place_and_code).collect()
}

fn errors(outcome: &Outcome) -> Vec<String> {
    found(outcome, Severity::Error)
}

fn place_and_code(problem: &Problem) -> String {
    let place = match (&problem.sheet, &problem.cell) {
        (Some(sheet), Some(cell)) => format!("{sheet}!{cell}"),
        (Some(sheet), None) => sheet.clone(),
        (None, _) => problem.label.clone(),
    };
    format!("{place} {}", problem.code)
}

/// Both saving styles of a workbook.
fn both(workbook: &Workbook) -> [Vec<u8>; 2] {
    [Saving::Openpyxl, Saving::Spreadsheet].map(|saving| workbook.clone().saved(saving).bytes())
}

/// Asserts the verdict and exactly these errors, in both saving styles; hands one outcome back.
#[track_caller]
fn expect(workbook: &Workbook, expected: &[&str]) -> Outcome {
    let [one, other] = both(workbook).map(|bytes| plan(&bytes));
    for outcome in [&one, &other] {
        assert_eq!(errors(outcome), expected, "{:#?}", outcome.problems);
        let verdict = if expected.is_empty() { Verdict::Ok } else { Verdict::Invalid };
        assert_eq!((outcome.verdict, outcome.plan.is_some()), (verdict, expected.is_empty()));
        assert_eq!(outcome.secrets.is_some(), outcome.plan.is_some());
    }
    assert_eq!(one.problems, other.problems, "the saving style makes no difference");
    one
}

/// Asserts exactly these errors in one saving style: the table of cases takes turns.
#[track_caller]
fn expect_one(workbook: &Workbook, saving: Saving, expected: &[&str]) {
    let outcome = plan(&workbook.clone().saved(saving).bytes());
    assert_eq!(errors(&outcome), expected, "{:#?}", outcome.problems);
    assert_eq!(outcome.verdict == Verdict::Ok, expected.is_empty());
}

/// The only problem with this code.
#[track_caller]
fn only<'a>(outcome: &'a Outcome, code: &str) -> &'a Problem {
    let all: Vec<_> = outcome.problems.iter().filter(|problem| problem.code == code).collect();
    assert_eq!(all.len(), 1, "{code}: {:#?}", outcome.problems);
    all[0]
}
