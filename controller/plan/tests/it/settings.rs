//! The settings fill what the workbook leaves blank, under the same rules.

use std::collections::BTreeMap;

use gantry_plan::{Defaults, Outcome, VmProfile};
use gantry_sim::workbook::Workbook;
use serde_json::json;

use crate::errors;

fn plan_with(workbook: &Workbook, settings: serde_json::Value) -> Outcome {
    let defaults: Defaults = serde_json::from_value(settings).expect("good settings");
    gantry_plan::plan(&workbook.bytes(), &defaults, &BTreeMap::new())
}

#[test]
fn settings_fill_blanks_and_are_noted_as_the_source() {
    let workbook = Workbook::valid()
        .clear("文档描述!C15")
        .clear("文档描述!C17")
        .clear("主机规划!I19")
        .clear("主机规划!M19")
        .clear("虚拟网络!C4")
        .clear("集群管理信息!I3")
        .clear("集群管理信息!E25");
    let outcome = plan_with(
        &workbook,
        json!({
            "organization_name": "Org", "datacenter_name": "Dc", "cluster_vip": "127.30.40.200",
            "cluster_password": "from#Settings1", "network": {"vds_name": "vds-s"}, "ssh": {"password": "ssh#Settings2"},
            "dns_servers": ["127.30.40.53", "127.30.40.54"], "vm": {"profile": "low", "disk_gib": 200}, "target_host": "127.30.41.11",
        }),
    );
    assert_eq!(errors(&outcome), [] as [&str; 0]);
    let plan = outcome.plan.expect("a plan");
    assert_eq!((plan.organization.as_str(), plan.datacenter.as_str()), ("Org", "Dc"));
    assert_eq!(plan.cluster.vip, Some([127, 30, 40, 200].into()));
    assert_eq!((plan.management_network.vds.as_str(), plan.dns_servers.len()), ("vds-s", 2));
    assert_eq!((plan.deployment.vm.vcpu, plan.deployment.vm.disk_bytes), (4, 200 << 30));
    let secrets = outcome.secrets.expect("secrets");
    assert_eq!((secrets.fisheye_password.expose(), secrets.ssh_password.expose()), ("from#Settings1", "ssh#Settings2"));
    for key in
        ["organization", "datacenter", "cluster.vip", "cluster.admin_password", "management_network.vds", "dns_servers"]
    {
        assert_eq!(serde_json::to_value(&plan.sources[key]).unwrap()["from"], "configuration", "{key}");
    }
}

#[test]
fn the_workbook_wins_over_the_settings() {
    let outcome =
        plan_with(&Workbook::valid(), json!({"organization_name": "Org", "cluster_password": "from#Settings1"}));
    assert_eq!(outcome.plan.expect("a plan").organization, "仿真实验室");
    assert_ne!(outcome.secrets.expect("secrets").fisheye_password.expose(), "from#Settings1");
}

#[test]
fn settings_obey_the_rules_too() {
    let workbook = Workbook::valid().clear("主机规划!I19");
    let outcome = plan_with(&workbook, json!({"cluster_vip": "10.0.0.1"}));
    assert_eq!(errors(&outcome), ["主机规划!I19 not_in_subnet"]);
}

#[test]
fn the_published_password_needs_permission_and_the_policy_can_be_changed() {
    let blank = Workbook::valid().clear("集群管理信息!G3");
    assert_eq!(errors(&plan_with(&blank, json!({}))), ["集群管理信息!G3 required"]);
    let allowed = plan_with(&blank, json!({"allow_default_root_password": true}));
    assert_eq!(errors(&allowed), [] as [&str; 0]);
    let weak = Workbook::valid().set("集群管理信息!G3", "abcdef");
    let outcome = plan_with(&weak, json!({"password_policy": {"min_length": 6, "min_classes": 1}}));
    assert_eq!(errors(&outcome), [] as [&str; 0]);
}

#[test]
fn unknown_settings_are_refused_and_the_defaults_are_the_documented_ones() {
    for bad in [json!({"organisation": "x"}), json!({"vm": {"cpus": 3}}), json!({"iso": {"name": "x"}})] {
        assert!(serde_json::from_value::<Defaults>(bad).is_err());
    }
    let defaults: Defaults = serde_json::from_value(json!({})).expect("nothing is needed");
    assert_eq!((defaults.organization_name.as_str(), defaults.vm_name.as_str()), ("SMTX-HCI", "cloudtower"));
    assert_eq!((defaults.vm.profile, defaults.upload.chunk_size_fallback), (VmProfile::High, 8_388_608));
    assert!(defaults.require_guest_tools_in_iso && !defaults.allow_default_root_password);
}

#[test]
fn a_secret_of_the_wrong_type_is_not_repeated() {
    for bad in [json!({"cluster_password": 7319.25}), json!({"ssh": {"password": ["Canary#7319"]}})] {
        let error = serde_json::from_value::<Defaults>(bad).expect_err("not a text").to_string();
        assert!(!error.contains("7319"), "{error}");
    }
    let number: Defaults = serde_json::from_value(json!({"cluster_password": 20_250_820})).expect("digits");
    assert!(!format!("{number:?}").contains("20250820"));
}
