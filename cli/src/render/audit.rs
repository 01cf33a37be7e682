//! The audit log, and what a check of it has found.

use std::fmt::Write as _;

use gantry_proto::audit::{Entry, Head, Outcome, Record, Verified};
use serde_json::{Value, json};

use super::{jobs::short, table::table, text::clean, units};

/// One row a record, then the head.
pub(crate) fn text(records: &[Record], head: Head, columns: usize) -> String {
    let mut text = if records.is_empty() {
        "no records\n".to_owned()
    } else {
        let heading = ["NUMBER", "TIME", "WHO", "FROM", "ACT", "JOB", "OUTCOME", "ABOUT"];
        table(&heading, records.iter().map(row), columns)
    };
    let _ = writeln!(text, "head: {head}");
    text
}

/// The head in JSON.
pub(crate) fn head(head: Head) -> Value {
    json!({ "number": head.number, "hash": head.hash })
}

/// What a check has found, for people.
pub(crate) fn verdict(what: &str, verified: &Verified, checked_end: bool) -> String {
    let Verified { records, head, faults, more } = verified;
    let mut text = format!("{}: {records} records, head {head}\n", clean(what));
    for fault in faults {
        let _ = writeln!(text, "  fault: {}", clean(&fault.to_string()));
    }
    if *more > 0 {
        let _ = writeln!(text, "  and {more} more faults");
    }
    if !faults.is_empty() {
        text.push_str("the log is not as it was written\n");
    } else if checked_end {
        text.push_str("nothing was altered, removed or reordered\n");
    } else {
        text.push_str("nothing was altered, removed or reordered up to that head\n");
        text.push_str("what was removed behind it cannot be seen in the file: give --head or --head-from-controller\n");
    }
    text
}

/// The same in JSON.
pub(crate) fn verdict_document(verified: &Verified, checked_end: bool) -> Value {
    json!({
        "sound": verified.is_sound(),
        "records": verified.records,
        "head": head(verified.head),
        "checked_against_a_known_head": checked_end,
        "faults": verified.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "more_faults": verified.more,
    })
}

fn row(record: &Record) -> Vec<String> {
    let Record { number, at, entry, .. } = record;
    let outcome = match entry.outcome {
        Outcome::Asked => "asked".to_owned(),
        Outcome::Done => "done".to_owned(),
        Outcome::Refused => format!("refused: {}", entry.code),
        Outcome::CutOff => "not known".to_owned(),
    };
    let outcome = if entry.asked > 0 { format!("{outcome} ({})", entry.asked) } else { outcome };
    let who = match (entry.operator.as_str(), entry.role.as_str()) {
        ("", _) => "-".to_owned(),
        (name, "") => name.to_owned(),
        (name, role) => format!("{name} ({role})"),
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        number.to_string(),
        units::time(*at),
        who,
        or_dash(&entry.remote),
        entry.act.clone(),
        or_dash(&short(&entry.job)),
        outcome,
        about(entry),
    ]
}

/// Everything else that a person wants to read in a row.
fn about(entry: &Entry) -> String {
    let place = match (entry.site.as_str(), entry.agent.as_str()) {
        ("", "") => String::new(),
        (site, "") => site.to_owned(),
        (site, agent) => format!("{site}/{agent}"),
    };
    let told = [&place, &entry.subject, &entry.message, &entry.detail].map(String::as_str);
    told.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}
