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

/// Cells that are read as text, one of each way of reading.
const TEXT_CELLS: &[&str] = &[
    "文档描述!C15",
    "文档描述!C17",
    "虚拟网络!B3",
    "虚拟网络!C4",
    "虚拟网络!D4",
    "虚拟网络!F4",
    "虚拟网络!G4",
    "虚拟网络!H4",
    "虚拟网络!I4",
    "虚拟网络!H6",
    "主机规划!E3",
    "主机规划!F3",
    "主机规划!H3",
    "主机规划!I3",
    "主机规划!J3",
    "主机规划!N3",
    "主机规划!I19",
    "主机规划!L19",
    "主机规划!C19",
    "主机规划!E19",
    "主机规划!O19",
    "主机规划!Q19",
    "主机规划!Q20",
    "集群管理信息!B3",
    "集群管理信息!D3",
    "集群管理信息!E3",
    "集群管理信息!F3",
    "集群管理信息!H3",
    "集群管理信息!L3",
    "集群管理信息!M3",
    "集群管理信息!E4",
    "集群管理信息!E7",
    "集群管理信息!E18",
    "集群管理信息!E22",
    "集群管理信息!E25",
];

#[test]
fn a_password_in_a_text_cell_is_refused_and_no_form_of_it_is_shown() {
    let long = format!("Long#{}End9", "Qz7".repeat(80));
    let secrets = ["Zqj#Upper9Kw", "Zqj１２３Wk＃", "Zqj#aa,Wkq9bb", "Zqj\u{200B}Wkq#99", "Zqj#4  Wkq9", &long];
    for (number, secret) in secrets.iter().enumerate() {
        for cell in TEXT_CELLS {
            let workbook = Workbook::valid().set("集群管理信息!G3", *secret).set(cell, *secret);
            let outcome = plan(&workbook.bytes());
            assert!(outcome.plan.is_none() && outcome.secrets.is_none(), "{number} {cell}");
            let problem = crate::only(&outcome, "secret_in_text");
            assert_eq!(problem.value, None);
            assert_eq!(problem.related, ["集群管理信息!G3"]);
            let output = format!("{}{outcome:?}", check_document(&outcome)).to_lowercase();
            for piece in ["zqj", "wkq", "wk＃", "qz7qz7"] {
                assert!(!output.contains(piece), "{number} {cell}: {output}");
            }
        }
    }
}

#[test]
fn a_common_word_may_stand_in_a_password_cell_and_elsewhere() {
    for word in ["cloudtower", "administrator", "root", "smartx", "ADMIN", "N/A"] {
        let workbook = Workbook::valid().set("主机规划!G3", word).set("主机规划!K3", word).set("主机规划!J3", word);
        crate::expect(&workbook, &[]);
    }
}

#[test]
fn every_finding_says_what_to_do() {
    for cell in TEXT_CELLS {
        for text in ["", "１0.0.0.1", "x y", "0.1.2.3", "::1", "127.30.40.255", "127.30.40.11", "Name.Two, 224.0.0.1"]
        {
            let outcome = plan(&Workbook::valid().set(cell, text).bytes());
            for problem in &outcome.problems {
                assert!(!problem.remedy.is_empty(), "{cell} {text}: {problem:?}");
            }
        }
    }
}

#[test]
fn a_refused_name_is_not_also_lower_cased() {
    let outcome = plan(&Workbook::valid().set("集群管理信息!B3", "Tower Two").bytes());
    crate::only(&outcome, "invalid_name");
    assert!(outcome.problems.iter().all(|problem| problem.code != "lower_cased"));
}

#[test]
fn each_wrong_server_says_why() {
    let outcome = plan(&Workbook::valid().set("集群管理信息!E25", "224.0.0.1, 0.1.2.3, dns.example").bytes());
    let problem = outcome.problems.iter().find(|problem| problem.cell.as_deref() == Some("E25")).unwrap();
    for why in ["224.0.0.1 is a multicast", "0.1.2.3 is of 0.0.0.0/8", "dns.example is a name"] {
        assert!(problem.message.contains(why), "{}", problem.message);
    }
}
