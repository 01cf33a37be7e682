//! The reference workbooks and what must be read from them, where they are at hand.

use std::path::{Path, PathBuf};

use gantry_plan::check_document;
use gantry_proto::REDACTED;
use serde_json::Value;

use crate::plan;

#[test]
fn the_reference_workbooks_give_what_is_expected_of_them() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let Ok(expected) = std::fs::read_to_string(folder.join("expected.json")) else { return };
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (file, expected) in expected["workbooks"].as_object().unwrap() {
        let outcome = plan(&std::fs::read(folder.join(file)).unwrap());
        let document = check_document(&outcome);
        assert_eq!(document["outcome"], expected["outcome"], "{file}");
        for part in ["core", "informative"] {
            if let Some(values) = expected.get(part) {
                assert_holds(&document["plan"], values, file);
            }
        }
        let errors: Vec<_> =
            document["problems"].as_array().unwrap().iter().filter(|p| p["severity"] == "error").collect();
        let wanted = expected["errors"].as_array().unwrap();
        assert_eq!(errors.len(), wanted.len(), "{file}: {errors:#?}");
        for (error, wanted) in errors.iter().zip(wanted) {
            for key in ["sheet", "cell", "code"] {
                assert_eq!(error[key], wanted[key], "{file}");
            }
            assert_eq!(error["value"], wanted["value_shown"]);
            assert!(error["label"].as_str().unwrap().contains(wanted["label"].as_str().unwrap()));
            assert!(error["message"].as_str().unwrap().contains(wanted["expected_in_words"].as_str().unwrap()));
        }
        let text = format!("{document} {outcome:?}");
        for secret in expected["secrets"].as_array().unwrap() {
            assert!(!text.contains(secret.as_str().unwrap()), "{file}");
        }
        if let (Some(secrets), Some(core)) = (&outcome.secrets, expected.get("core")) {
            assert_eq!(secrets.root_password.expose(), core["cloudtower"]["root_password"]);
            assert_eq!(secrets.fisheye_password.expose(), core["cluster"]["admin_password"]);
        }
    }
    let template = plan(&std::fs::read(folder.join("planning-template-v20250820.xlsx")).unwrap());
    let warnings: Vec<_> = template.problems.iter().map(|problem| problem.code.as_str()).collect();
    assert!(template.plan.is_some(), "{:#?}", template.problems);
    assert_eq!(warnings.iter().filter(|code| **code == "sample_value").count(), 5);
    assert!(warnings.contains(&"default_password") && warnings.contains(&"two_ntp_servers"));
}

/// Every expected value is there; passwords are replaced by the redaction word.
fn assert_holds(actual: &Value, expected: &Value, path: &str) {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            for (key, value) in expected {
                let found = actual.get(key).unwrap_or_else(|| panic!("{path}.{key} is missing"));
                assert_holds(found, value, &format!("{path}.{key}"));
            }
        }
        (Value::Array(actual), Value::Array(expected)) => {
            assert_eq!(actual.len(), expected.len(), "{path}");
            for (index, (one, other)) in actual.iter().zip(expected).enumerate() {
                assert_holds(one, other, &format!("{path}[{index}]"));
            }
        }
        _ if path.ends_with("password") => assert_eq!(actual, REDACTED, "{path}"),
        _ => assert_eq!(actual, expected, "{path}"),
    }
}
