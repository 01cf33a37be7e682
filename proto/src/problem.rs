//! What is wrong with a workbook: one finding, and the verdict over all of them.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The plan cannot be used.
    Error,
    /// The plan can be used; somebody should look.
    Warning,
    /// For information.
    Notice,
}

/// One finding (`workbook.md` 9). The JSON form of `ctl plan check -o json` is this struct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for the kind of fault, such as `not_in_subnet`.
    pub code: String,
    /// The rule, such as `W8`; `FILE` for the file as a whole, `SET` for an override.
    pub rule: String,
    /// The sheet's exact name; `None` when the file as a whole is meant.
    pub sheet: Option<String>,
    /// The cell, such as `E3`; `None` when the sheet or the file is meant.
    pub cell: Option<String>,
    /// Other cells that take part, as `sheet!cell`.
    pub related: Vec<String>,
    /// The words a person looks for: column header and row.
    pub label: String,
    /// The value as typed, invisible characters made visible; `None` when blank or secret.
    pub value: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do; empty when that is obvious.
    pub remedy: String,
}

/// What the planner says about a workbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The plan can be deployed.
    Ok,
    /// The workbook was read and is not valid.
    Invalid,
    /// The file cannot be read as a planning workbook.
    Unreadable,
}
