//! None of a workbook's passwords leaves the planner, in any form, whatever is wrong with the workbook.

use gantry_plan::check_document;
use gantry_proto::Redactor;
use gantry_sim::workbook::{Cell, Saving, Workbook};

use crate::plan;

const CANARIES: &[(&str, &str)] = &[
    ("集群管理信息!G3", "Canary#Tower7319x"),
    ("集群管理信息!I3", "Canary$Ssh2846y"),
    ("集群管理信息!K3", "Canary%Sys9157z"),
    ("集群管理信息!I4", "Canary^Obs3648w"),
    ("集群管理信息!K5", "Canary&Bak5521v"),
    ("主机规划!G3", "Canary@Bmc4402u"),
    ("主机规划!K4", "Canary!Node8830t"),
    ("主机规划!M5", "Canary~Adm6674s"),
    ("主机规划!M19", "Canary=Fish1093r"),
];

fn with_canaries() -> Workbook {
    CANARIES.iter().fold(Workbook::valid(), |workbook, (cell, secret)| workbook.set(cell, *secret))
}

#[test]
fn no_password_is_in_any_output_and_all_are_handed_to_the_redactor() {
    let mut variants = vec![
        with_canaries(),
        with_canaries().clear("集群管理信息!E3"),
        with_canaries().set("集群管理信息!G3", Cell::rich(&["canary", "tower"])),
        // slid into other cells
        with_canaries().insert_rows("主机规划", 1, 1),
        with_canaries().insert_rows("主机规划", 12, 1),
        with_canaries().insert_columns("主机规划", 4, 1),
        with_canaries().insert_rows("集群管理信息", 3, 1),
        with_canaries().insert_columns("集群管理信息", 3, 2),
        with_canaries().insert_columns("集群管理信息", 4, 1),
        // typed twice, the second time into a cell that is repeated in messages
        with_canaries().set("集群管理信息!E3", "Canary#Tower7319x"),
        with_canaries().set("虚拟网络!F4", "Canary=Fish1093r"),
        with_canaries().set("集群管理信息!B3", "Canary$Ssh2846y Canary$Ssh2846y"),
        with_canaries().set("文档描述!C15", Cell::from(format!("Canary#Tower7319x{}", "x".repeat(300)))),
        with_canaries().rename_sheet("虚拟网络", "x"),
    ];
    variants.push(with_canaries().set("集群管理信息!G3", "Canary#Tower7319x "));
    for (number, workbook) in variants.iter().enumerate() {
        let saving = [Saving::Openpyxl, Saving::Spreadsheet][number % 2];
        {
            let bytes = workbook.clone().saved(saving).bytes();
            let outcome = plan(&bytes);
            let document = check_document(&outcome);
            let outputs = [
                document.to_string(),
                serde_json::to_string_pretty(&document).unwrap(),
                format!("{outcome:?}"),
                format!("{outcome:#?}"),
                format!("{:?}", outcome.problems),
                outcome.plan.as_ref().map_or_else(String::new, |plan| serde_json::to_string(plan).unwrap()),
            ];
            let finder = Redactor::new();
            for (cell, secret) in CANARIES {
                finder.register(&gantry_proto::Secret::new(*secret));
                // The value as typed: it may differ in this variant.
                let typed = workbook.cell(cell).is_some_and(|value| value.shown() == *secret);
                let known = outcome.all_secrets.iter().any(|known| known.expose() == *secret);
                assert!(known || !typed, "variant {number}: {cell} is not handed to the redactor");
            }
            for output in &outputs {
                assert_eq!(finder.text(output), output.as_str(), "variant {number}");
            }
        }
    }
}

#[test]
fn a_failing_password_shows_nothing_of_itself() {
    for bad in ["zqj", "zqjzqjzqjzqjzqj", "ZQJ12"] {
        let outcome = plan(&Workbook::valid().set("集群管理信息!G3", bad).bytes());
        let problem = crate::only(&outcome, "password_policy");
        assert_eq!(problem.value, None);
        assert!(!problem.message.to_lowercase().contains("zqj"));
        let other = plan(&Workbook::valid().set("集群管理信息!G3", "a").bytes());
        assert_eq!(crate::only(&other, "password_policy").message, problem.message, "no hint at length or part");
    }
}

#[test]
fn placeholders_are_no_passwords() {
    let outcome = plan(&Workbook::valid().bytes());
    for word in ["N/A", "root", "---", "密码", "SSH 密码"] {
        assert!(outcome.all_secrets.iter().all(|secret| secret.expose() != word), "{word}");
    }
    // The published default, CloudTower, three kinds of host passwords, components.
    assert_eq!(outcome.all_secrets.len(), 6);
}
