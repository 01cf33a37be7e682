//! `--set key=value`: it wins over everything, and obeys the same rules.

use std::collections::BTreeMap;

use gantry_plan::{Defaults, Outcome, settable};
use gantry_proto::{Verdict, plan::RollbackPolicy};
use gantry_sim::workbook::{Cell, Workbook};

use crate::{errors, only};

fn plan_with(workbook: &Workbook, overrides: &[(&str, &str)]) -> Outcome {
    let overrides: BTreeMap<_, _> =
        overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    gantry_plan::plan(&workbook.bytes(), &Defaults::default(), &overrides)
}

#[test]
fn an_override_wins_and_is_noted_as_the_source() {
    let workbook = Workbook::valid().set("集群管理信息!E3", Cell::formula("A1")).clear("虚拟网络!C4");
    let outcome = plan_with(
        &workbook,
        &[
            ("cloudtower.ip", " 127.30.40.99 "),
            ("cloudtower.vm_name", "Tower-Two"),
            ("management_network.vds", "vds-x"),
            ("management_network.vlan_id", "7"),
            ("ntp_servers", "a.example, b.example"),
            ("deployment.vm.profile", "low"),
            ("deployment.vm.vcpu", "6"),
            ("deployment.rollback_policy", "keep"),
            ("deployment.iso.file_name", "cloudtower-4.7.1.el7.x86_64.iso"),
            ("deployment.require_guest_tools_in_iso", "false"),
        ],
    );
    assert_eq!(errors(&outcome), [] as [&str; 0]);
    let plan = outcome.plan.expect("a plan");
    assert_eq!(
        (plan.cloudtower.ip.to_string().as_str(), plan.cloudtower.vm_name.as_str()),
        ("127.30.40.99", "tower-two")
    );
    assert_eq!((plan.management_network.vds.as_str(), plan.management_network.vlan_id), ("vds-x", 7));
    assert_eq!(plan.ntp_servers, ["a.example", "b.example"]);
    let vm = plan.deployment.vm;
    assert_eq!((vm.vcpu, vm.memory_bytes, vm.disk_bytes), (6, 12 << 30, 100 << 30));
    assert_eq!(plan.deployment.rollback_policy, RollbackPolicy::Keep);
    assert!(!plan.deployment.require_guest_tools_in_iso);
    for key in ["cloudtower.ip", "ntp_servers", "deployment.vm.vcpu", "management_network.vds"] {
        assert_eq!(serde_json::to_value(&plan.sources[key]).unwrap()["from"], "override", "{key}");
    }
}

#[test]
fn an_override_obeys_the_rules_of_its_field() {
    let cases: &[(&str, &str, &str)] = &[
        ("cloudtower.ip", "127.30.99.1", "not_in_subnet"),
        ("cloudtower.ip", "127.30.40.11", "address_conflict"),
        ("cloudtower.ip", "x", "invalid_address"),
        ("cloudtower.vm_name", "a b", "invalid_name"),
        ("management_network.vlan_id", "4095", "invalid_vlan"),
        ("ntp_servers", "bad_name", "invalid_server"),
        ("deployment.vm.vcpu", "0", "invalid_value"),
        ("deployment.vm.profile", "huge", "invalid_value"),
        ("deployment.iso.sha256", "abc", "invalid_value"),
        ("deployment.iso.file_name", "../x.iso", "invalid_value"),
        ("deployment.rollback_policy", "never", "invalid_value"),
        ("organization", " ", "blank_override"),
    ];
    for (key, value, code) in cases {
        let outcome = plan_with(&Workbook::valid(), &[(key, value)]);
        assert_eq!(errors(&outcome), [format!("--set {key} {code}")], "{key}={value}");
        assert_eq!(outcome.verdict, Verdict::Invalid);
    }
}

#[test]
fn unknown_keys_and_secrets_are_refused() {
    let outcome = plan_with(&Workbook::valid(), &[("cloudtower.adress", "1")]);
    assert!(only(&outcome, "unknown_key").remedy.contains("did you mean"));
    for key in ["cloudtower.root_password", "cluster.admin_password", "cloudtower.ssh_password", "my_password"] {
        let outcome = plan_with(&Workbook::valid(), &[(key, "Visible#Everywhere9")]);
        let problem = only(&outcome, "secret_on_command_line");
        assert_eq!((problem.rule.as_str(), problem.value.as_deref()), ("SET", None));
        assert!(!format!("{outcome:?}").contains("Visible#Everywhere9"));
    }
    let outcome = plan_with(&Workbook::valid(), &[("cloudtower.serial", "x")]);
    assert_eq!(only(&outcome, "fixed_field").rule, "SET");
}

#[test]
fn every_settable_key_says_what_it_expects() {
    assert!(settable().count() > 25);
    for field in settable() {
        assert!(!field.expects.is_empty() && !field.key.contains("password"), "{}", field.key);
    }
}
