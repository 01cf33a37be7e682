//! What is said without refusing the plan, and what the plan then holds.

use gantry_proto::Severity;
use gantry_sim::workbook::{Cell, Workbook};

use crate::{errors, expect, found, only, plan};

/// A workbook outside the loopback network, in which nothing at all is to be said.
fn quiet() -> Workbook {
    let ip = |last: u8| [192, 0, 2, last].into();
    Workbook::valid()
        .addresses(ip(10), &[ip(11), ip(12)], ip(20), ip(1), "192.0.2.0/24")
        .set("主机规划!E3", "203.0.113.11")
        .set("主机规划!E4", "203.0.113.12")
        .set("主机规划!N3", "198.51.100.11")
        .set("主机规划!N4", "198.51.100.12")
        .set("虚拟网络!H6", "198.51.100.0/24")
}

#[test]
fn a_good_workbook_gives_no_finding() {
    let outcome = expect(&quiet(), &[]);
    assert_eq!(outcome.problems, []);
}

#[test]
fn each_warning_names_its_cell() {
    let cases: &[(Workbook, &str)] = &[
        (quiet().clear("主机规划!I19"), "主机规划!I19 no_vip"),
        (quiet().set("集群管理信息!G3", "HC!r0cks"), "集群管理信息!G3 default_password"),
        (quiet().set("集群管理信息!G3", "Si#Tower2957g "), "集群管理信息!G3 outer_space"),
        (quiet().set("主机规划!M19", " pass"), "主机规划!M19 outer_space"),
        (quiet().set("虚拟网络!G4", "Trunk"), "虚拟网络!G4 vlan_type"),
        (quiet().clear("集群管理信息!E24"), "集群管理信息!E22 two_ntp_servers"),
        (quiet().clear("集群管理信息!E25"), "集群管理信息!E25 no_dns"),
        (
            quiet().clear("集群管理信息!E22").clear("集群管理信息!E23").clear("集群管理信息!E24"),
            "集群管理信息!E22 no_ntp",
        ),
        (quiet().set("集群管理信息!E4", "198.51.100.99"), "集群管理信息!E4 not_in_subnet"),
        (quiet().set("集群管理信息!E7", "198.51.100.99"), "集群管理信息!E7 not_in_subnet"),
        (quiet().set("主机规划!I3", "198.51.100.99"), "主机规划!I3 not_in_subnet"),
        (quiet().set("虚拟网络!H6", "192.0.2.128/25"), "虚拟网络!H6 subnet_overlap"),
        (quiet().set("虚拟网络!F5", 20), "虚拟网络!H5 half_filled_row"),
        (quiet().set("虚拟网络!I5", "192.0.2.1"), "虚拟网络!H5 half_filled_row"),
        (quiet().clear("集群管理信息!E19"), "集群管理信息!E19 half_filled_range"),
        (quiet().clear("集群管理信息!E18"), "集群管理信息!E18 half_filled_range"),
        (quiet().set("文档描述!C15", "八九实验室"), "文档描述!C15 sample_value"),
        (quiet().set("文档描述!C17", "C89-LAB"), "文档描述!C17 sample_value"),
        (quiet().set("虚拟网络!B3", "CN-BJ-SMTX-Prod-Cls01"), "虚拟网络!B3 sample_value"),
        (quiet().set("集群管理信息!E24", "ntp.c89.fun"), "集群管理信息!E24 sample_value"),
        (quiet().set("集群管理信息!F3", "admin"), "集群管理信息!F3 web_user"),
        (quiet().set("集群管理信息!L3", "4vCPU\\12GB-Mem\\100GB Disk"), "集群管理信息!L3 sizing_differs"),
        (quiet().set("集群管理信息!D3", Cell::error("#REF!")), "集群管理信息!D3 error_value"),
        (quiet().set("集群管理信息!E5", "169.254.1.1"), "集群管理信息!E5 link_local_address"),
        (quiet().set("虚拟网络!H4", "192.0.2.9/24"), "虚拟网络!H4 host_bits_set"),
    ];
    for (workbook, expected) in cases {
        let outcome = plan(&workbook.bytes());
        assert_eq!(errors(&outcome), [] as [&str; 0]);
        let warnings = found(&outcome, Severity::Warning);
        let also: &[&str] =
            if expected.contains("link_local") { &["集群管理信息!E5 not_in_subnet"] } else { &[] };
        assert!(warnings.iter().all(|warning| warning == expected || also.contains(&warning.as_str())), "{warnings:?}");
        assert!(warnings.iter().any(|warning| warning == expected), "{expected}: {warnings:?}");
    }
}

#[test]
fn a_reversed_temporary_range_still_protects_its_addresses() {
    let reversed = quiet().set("集群管理信息!E18", "192.0.2.100").set("集群管理信息!E19", "192.0.2.90");
    let outcome = expect(&reversed, &[]);
    assert_eq!(only(&outcome, "reversed_range").cell.as_deref(), Some("E19"));
    expect(&reversed.set("集群管理信息!E3", "192.0.2.95"), &["集群管理信息!E3 in_temporary_range"]);
    let half = quiet().clear("集群管理信息!E19").set("集群管理信息!E18", "192.0.2.20");
    expect(&half, &["集群管理信息!E3 in_temporary_range"]);
}

#[test]
fn loopback_addresses_are_one_warning_at_cloudtower() {
    let outcome = expect(&Workbook::valid(), &[]);
    let problem = only(&outcome, "loopback_address");
    assert_eq!((problem.cell.as_deref(), problem.severity), (Some("E3"), Severity::Warning));
    assert!(problem.related.contains(&"主机规划!I19".to_owned()));
}

#[test]
fn blank_cells_get_their_defaults_with_a_notice() {
    let workbook = quiet()
        .clear("集群管理信息!B3")
        .clear("集群管理信息!F3")
        .clear("集群管理信息!H3")
        .clear("集群管理信息!I3")
        .clear("文档描述!C17")
        .clear("主机规划!L19")
        .clear("虚拟网络!D4")
        .clear("虚拟网络!F4")
        .clear("虚拟网络!G4");
    let outcome = expect(&workbook, &[]);
    let notices = found(&outcome, Severity::Notice);
    for cell in ["文档描述!C17", "虚拟网络!D4", "虚拟网络!F4", "虚拟网络!G4", "主机规划!L19"] {
        assert!(notices.contains(&format!("{cell} default_used")), "{cell}: {notices:?}");
    }
    for cell in ["B3", "F3", "H3", "I3"] {
        assert!(notices.contains(&format!("集群管理信息!{cell} default_used")), "{cell}: {notices:?}");
    }
    let plan = outcome.plan.expect("a plan");
    assert_eq!((plan.cloudtower.vm_name.as_str(), plan.cloudtower.ssh_user.as_str()), ("cloudtower", "cloudtower"));
    assert_eq!((plan.datacenter.as_str(), plan.cluster.admin_user.as_str()), ("仿真实验室-DC", "root"));
    let network = plan.management_network;
    assert_eq!((network.network.as_str(), network.vlan_id, network.vlan_type.as_str()), ("default", 0, "Access"));
    assert_eq!(serde_json::to_value(&plan.sources["cloudtower.vm_name"]).unwrap()["from"], "default");
    assert_eq!(serde_json::to_value(&plan.sources["datacenter"]).unwrap()["from"], "derived");
    assert_eq!(serde_json::to_value(&plan.sources["cloudtower.ip"]).unwrap()["cell"], "集群管理信息!E3");
}

#[test]
fn odd_typing_is_normalised_and_said() {
    let workbook = quiet()
        .set("集群管理信息!E3", "\u{3000}１９２．0。2.20\u{A0}")
        .set("虚拟网络!H4", "192.0.2.0／24")
        .set("虚拟网络!F4", "２０")
        .set("集群管理信息!B3", Cell::rich(&["Cloud", "Tower-", "X1 "]))
        .set("集群管理信息!E22", "192.0.2.123，ntp.example;ntp.example、192.0.2.124\n192.0.2.123")
        .set("文档描述!C15", " 两\u{A0} 行\n名称\u{200B} ");
    let outcome = expect(&workbook, &[]);
    let notices = found(&outcome, Severity::Notice);
    assert_eq!(
        notices,
        [
            "虚拟网络!F4 normalised",
            "虚拟网络!H4 normalised",
            "集群管理信息!B3 lower_cased",
            "集群管理信息!E3 normalised",
        ]
    );
    let plan = outcome.plan.expect("a plan");
    assert_eq!(
        (plan.cloudtower.ip.to_string().as_str(), plan.cloudtower.vm_name.as_str()),
        ("192.0.2.20", "cloudtower-x1")
    );
    assert_eq!((plan.management_network.vlan_id, plan.organization.as_str()), (20, "两 行 名称"));
    assert_eq!(plan.ntp_servers[..3], ["192.0.2.123", "ntp.example", "192.0.2.124"]);
}

#[test]
fn secrets_are_taken_exactly_as_typed() {
    let workbook = quiet()
        .set("集群管理信息!G3", "Two  inner \u{3000}SPACES1")
        .set("主机规划!M19", 20_250_820)
        .set("集群管理信息!I3", "ｆｕｌｌ１ ");
    let outcome = expect(&workbook, &[]);
    let secrets = outcome.secrets.expect("secrets");
    assert_eq!(secrets.root_password.expose(), "Two  inner \u{3000}SPACES1");
    assert_eq!(secrets.fisheye_password.expose(), "20250820");
    assert_eq!(secrets.ssh_password.expose(), "ｆｕｌｌ１ ");
}
