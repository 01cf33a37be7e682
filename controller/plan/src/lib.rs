//! The planner: a planning workbook in, a [`Plan`] or every [`Problem`] out.
//!
//! Pure: bytes go in, values come out. There is no network, clock or disk in here. `workbook.md` is the source of the
//! rules (W1..W29), of the normalisation (N1..N11) and of the traps (Q1..Q17).

mod defaults;

use std::collections::BTreeMap;

use gantry_proto::{Plan, Problem, Secret, Secrets, Severity, Verdict};
use serde_json::{Value, json};

pub use defaults::{
    Defaults, IsoDefaults, NetworkDefaults, PasswordPolicy, SecretSetting, SshDefaults, UploadDefaults, VmDefaults,
    VmProfile,
};

/// What came of a workbook.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict over all findings.
    pub verdict: Verdict,
    /// The plan; `None` unless the verdict is [`Verdict::Ok`].
    pub plan: Option<Plan>,
    /// The plan's secrets; `None` unless the verdict is [`Verdict::Ok`].
    pub secrets: Option<Secrets>,
    /// Every password that was seen in the workbook, valid or not: for the redactor, before the first log line.
    pub all_secrets: Vec<Secret>,
    /// Every finding, sorted by sheet in the workbook's order, row and column.
    pub problems: Vec<Problem>,
}

/// One key of `--set key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settable {
    /// The key, such as `cloudtower.ip`.
    pub key: &'static str,
    /// What a value looks like, in words.
    pub expects: &'static str,
    /// What the key is for.
    pub help: &'static str,
}

/// Every key that an override may name, in the order of the help text.
pub fn settable() -> Vec<Settable> {
    Vec::new()
}

/// Reads a workbook and checks everything in one pass.
pub fn plan(workbook: &[u8], _defaults: &Defaults, _overrides: &BTreeMap<String, String>) -> Outcome {
    Outcome {
        verdict: Verdict::Unreadable,
        plan: None,
        secrets: None,
        all_secrets: Vec::new(),
        problems: vec![Problem {
            severity: Severity::Error,
            code: "unreadable".to_owned(),
            rule: "FILE".to_owned(),
            sheet: None,
            cell: None,
            related: Vec::new(),
            label: String::new(),
            value: None,
            message: format!("the file of {} bytes cannot be read", workbook.len()),
            remedy: String::new(),
        }],
    }
}

/// The document of `ctl plan check -o json`.
pub fn check_document(outcome: &Outcome) -> Value {
    json!({ "outcome": outcome.verdict, "plan": null, "problems": outcome.problems })
}
