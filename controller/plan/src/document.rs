//! The JSON document of `ctl plan check -o json`. Knows no rule: it only lays out what the planner found.

use gantry_proto::{Plan, REDACTED, Verdict};
use serde_json::{Map, Value, json};

use crate::{
    Outcome,
    fields::{HOST_BMC_PASSWORD, HOST_SSH_PASSWORD, HOSTS},
    secrets::SecretCells,
};

/// `{"outcome", "plan", "problems"}`. The plan has the keys of the workbook reference, each password shown as
/// `机密凭据` (or `null` where the workbook has none); it is `null` unless the outcome is `ok`.
pub fn check_document(outcome: &Outcome) -> Value {
    let word = match outcome.verdict {
        Verdict::Ok => "ok",
        Verdict::Invalid => "invalid",
        Verdict::Unreadable => "unreadable",
    };
    let plan = outcome.plan.as_ref().map(|plan| shown_plan(plan, &outcome.secret_cells));
    json!({ "outcome": word, "plan": plan, "problems": outcome.problems })
}

fn shown_plan(plan: &Plan, secrets: &SecretCells) -> Value {
    let mut value = json!(plan);
    insert(&mut value["cloudtower"], "root_password", json!(REDACTED));
    insert(&mut value["cloudtower"], "ssh_password", json!(REDACTED));
    insert(&mut value["cluster"], "admin_password", json!(REDACTED));
    for (host, shown) in plan.hosts.iter().zip(value["hosts"].as_array_mut().into_iter().flatten()) {
        for column in [HOST_BMC_PASSWORD, HOST_SSH_PASSWORD] {
            let password = secrets.shown(HOSTS, &format!("{}{}", column.letter, host.row));
            insert(shown, column.key, json!(password));
        }
    }
    value
}

fn insert(object: &mut Value, key: &str, value: Value) {
    object.as_object_mut().unwrap_or(&mut Map::new()).insert(key.to_owned(), value);
}
