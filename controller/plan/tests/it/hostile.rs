//! Files that are no honest workbooks: one clear sentence each, and never a panic.

use gantry_proto::Verdict;
use gantry_sim::workbook::{Hostile, Workbook};

use crate::plan;

#[test]
fn unreadable_files_get_one_message_each() {
    let cases = [
        (Hostile::Empty, "file_empty"),
        (Hostile::NotAZip, "not_a_workbook"),
        (Hostile::Encrypted, "wrong_file_format"),
        (Hostile::CutOff, "file_damaged"),
        (Hostile::NoWorkbook, "no_workbook"),
        (Hostile::BrokenXml, "file_damaged"),
        (Hostile::Bomb { bytes: 100 << 20 }, "file_too_large"),
        (Hostile::DeclaredBomb { bytes: 1 << 30 }, "file_too_large"),
    ];
    for (hostile, code) in cases {
        let outcome = plan(&hostile.bytes());
        assert_eq!(outcome.verdict, Verdict::Unreadable, "{hostile:?}");
        assert!(outcome.plan.is_none() && outcome.secrets.is_none() && outcome.all_secrets.is_empty());
        let [problem] = outcome.problems.as_slice() else { panic!("{hostile:?}: {:#?}", outcome.problems) };
        assert_eq!((problem.code.as_str(), problem.rule.as_str()), (code, "FILE"), "{hostile:?}: {}", problem.message);
        assert_eq!((&problem.sheet, &problem.cell), (&None, &None));
        assert!(!problem.message.is_empty() && !problem.remedy.is_empty());
        let document = gantry_plan::check_document(&outcome);
        assert_eq!((document["outcome"].as_str(), document["plan"].is_null()), (Some("unreadable"), true));
    }
}

#[test]
fn large_and_odd_but_honest_files_are_read() {
    for hostile in [Hostile::StrayFarCell, Hostile::HugeSheet { rows: 50_000 }] {
        let outcome = plan(&hostile.bytes());
        assert_eq!(outcome.verdict, Verdict::Ok, "{hostile:?}: {:#?}", outcome.problems);
    }
}

/// Each password is looked for in dozens of spellings: a column of essays costs memory and time without end.
#[test]
fn essays_are_no_passwords() {
    let filled = |characters: usize| {
        let essay: String =
            (0..characters).map(|n| if n % 9 == 0 { ',' } else { char::from(b'a' + (n % 7) as u8) }).collect();
        plan(&Workbook::valid().set("主机规划!M19", essay.as_str()).bytes())
    };
    let refused = filled(5_000);
    let [problem] = refused.problems.as_slice() else { panic!("{:#?}", refused.problems) };
    assert_eq!((refused.verdict, problem.code.as_str()), (Verdict::Unreadable, "file_too_large"));
    assert!(problem.message.contains("4096 characters in its columns of passwords"), "{}", problem.message);
    assert_ne!(filled(2_000).verdict, Verdict::Unreadable);
}
