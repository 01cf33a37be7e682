//! One mistake, one error: what every rule of `workbook.md` 8 says to a workbook that breaks it.

use gantry_sim::workbook::{Cell, Saving, Sheet, Workbook};

use crate::{errors, expect, expect_one, only, plan};

const IP: &str = "集群管理信息!E3";
const VIP: &str = "主机规划!I19";
const ROOT: &str = "集群管理信息!G3";

/// Cell, what is typed there, and the errors: `sheet!cell code`.
type Case = (&'static str, fn() -> Cell, &'static [&'static str]);

const SINGLE_CELLS: &[Case] = &[
    // W4, W24: every address
    (IP, || "127.30.40.999".into(), &["集群管理信息!E3 invalid_address"]),
    (IP, || "127.30.40.020".into(), &["集群管理信息!E3 invalid_address"]),
    (IP, || "127.30.40.20/24".into(), &["集群管理信息!E3 invalid_address"]),
    (IP, || "127.30.40.20:443".into(), &["集群管理信息!E3 invalid_address"]),
    (IP, || "127.30.40".into(), &["集群管理信息!E3 invalid_address"]),
    (IP, || "127.30.40. 20".into(), &["集群管理信息!E3 invalid_address"]),
    (IP, || "2001:db8::20".into(), &["集群管理信息!E3 ipv6_address"]),
    (IP, || Cell::Number(127.3), &["集群管理信息!E3 invalid_address"]),
    (IP, || "224.0.0.5".into(), &["集群管理信息!E3 unusable_address"]),
    (IP, || "0.0.0.0".into(), &["集群管理信息!E3 unusable_address"]),
    (IP, || "255.255.255.255".into(), &["集群管理信息!E3 unusable_address"]),
    (VIP, || "127.30.40.x".into(), &["主机规划!I19 invalid_address"]),
    ("主机规划!E4", || "bmc".into(), &["主机规划!E4 invalid_address"]),
    ("主机规划!N5", || "127.30.41.300".into(), &["主机规划!N5 invalid_address"]),
    ("集群管理信息!E5", || "::1".into(), &["集群管理信息!E5 ipv6_address"]),
    ("集群管理信息!E18", || "x".into(), &["集群管理信息!E18 invalid_address"]),
    // W5
    ("虚拟网络!H4", || "127.30.40.0".into(), &["虚拟网络!H4 invalid_subnet"]),
    ("虚拟网络!H4", || "127.30.40.0/31".into(), &["虚拟网络!H4 invalid_subnet"]),
    ("虚拟网络!H4", || "127.30.40.0/7".into(), &["虚拟网络!H4 invalid_subnet"]),
    ("虚拟网络!H4", || "127.30.40.0/255.0.255.0".into(), &["虚拟网络!H4 invalid_subnet"]),
    ("虚拟网络!H4", || "".into(), &["虚拟网络!H4 required"]),
    ("虚拟网络!H6", || "storage".into(), &["虚拟网络!H6 invalid_subnet"]),
    // W6
    ("虚拟网络!I4", || "".into(), &["虚拟网络!I4 required"]),
    ("虚拟网络!I4", || "127.30.99.1".into(), &["虚拟网络!I4 not_in_subnet"]),
    ("虚拟网络!I4", || "127.30.40.0".into(), &["虚拟网络!I4 network_address"]),
    ("虚拟网络!I4", || "127.30.40.255".into(), &["虚拟网络!I4 broadcast_address"]),
    // W7, W8
    (IP, || " \u{3000}\u{200B}".into(), &["集群管理信息!E3 required"]),
    (IP, || "127.30.99.20".into(), &["集群管理信息!E3 not_in_subnet"]),
    (IP, || "127.30.40.0".into(), &["集群管理信息!E3 network_address"]),
    (IP, || "127.30.40.255".into(), &["集群管理信息!E3 broadcast_address"]),
    // W9
    (IP, || "127.30.40.1".into(), &["集群管理信息!E3 address_conflict"]),
    (IP, || "127.30.40.10".into(), &["集群管理信息!E3 address_conflict"]),
    (IP, || "127.30.40.12".into(), &["集群管理信息!E3 address_conflict"]),
    (IP, || "127.30.40.21".into(), &["集群管理信息!E3 address_conflict"]),
    (IP, || "127.30.40.53".into(), &["集群管理信息!E3 address_conflict"]),
    (IP, || "127.30.40.123".into(), &["集群管理信息!E3 address_conflict"]),
    (IP, || "127.30.40.231".into(), &["集群管理信息!E3 in_temporary_range"]),
    (IP, || "127.30.40.239".into(), &["集群管理信息!E3 in_temporary_range"]),
    (IP, || "127.30.40.240".into(), &[]),
    ("集群管理信息!E9", || "127.30.40.20".into(), &["集群管理信息!E3 address_conflict"]),
    ("集群管理信息!E14", || "127.30.40.20".into(), &["集群管理信息!E3 address_conflict"]),
    // W10
    ("主机规划!I4", || "127.30.40.11".into(), &["主机规划!I4 address_conflict"]),
    ("主机规划!N4", || "127.30.41.11".into(), &["主机规划!N4 address_conflict"]),
    ("主机规划!E4", || "127.30.40.11".into(), &["主机规划!E4 address_conflict"]),
    (VIP, || "127.30.40.1".into(), &["主机规划!I19 address_conflict"]),
    ("集群管理信息!E25", || "127.30.40.1".into(), &[]),
    ("集群管理信息!E25", || "127.30.40.123".into(), &[]),
    // W11
    ("主机规划!I4", || "".into(), &["主机规划!I4 required"]),
    ("主机规划!I4", || "127.30.40".into(), &["主机规划!I4 invalid_address"]),
    ("主机规划!H10", || "SIM-SMTX-Lab-Node-08".into(), &["主机规划!I10 required"]),
    // W12
    (VIP, || "127.30.99.10".into(), &["主机规划!I19 not_in_subnet"]),
    (VIP, || "".into(), &[]),
    // W13
    (ROOT, || "".into(), &["集群管理信息!G3 required"]),
    (ROOT, || "  ".into(), &["集群管理信息!G3 required"]),
    (ROOT, || "Abc12#".into(), &["集群管理信息!G3 password_policy"]),
    (ROOT, || "abcdefgh1".into(), &["集群管理信息!G3 password_policy"]),
    (ROOT, || 12_345_678.into(), &["集群管理信息!G3 password_policy"]),
    (ROOT, || Cell::from("Abcdef12\u{7}"), &["集群管理信息!G3 password_policy"]),
    (ROOT, || "HC!r0cks".into(), &[]),
    // W14
    ("主机规划!M19", || "".into(), &["主机规划!M19 required"]),
    ("主机规划!M19", || "x".into(), &[]),
    ("主机规划!M19", || 20_250_820.into(), &[]),
    // W15
    ("虚拟网络!F4", || 20.5.into(), &["虚拟网络!F4 invalid_vlan"]),
    ("虚拟网络!F4", || 4095.into(), &["虚拟网络!F4 invalid_vlan"]),
    ("虚拟网络!F4", || (-1).into(), &["虚拟网络!F4 invalid_vlan"]),
    ("虚拟网络!F4", || "VLAN20".into(), &["虚拟网络!F4 invalid_vlan"]),
    ("虚拟网络!F4", || 4094.into(), &[]),
    ("虚拟网络!F4", || "20".into(), &[]),
    // W17
    ("虚拟网络!C4", || "".into(), &["虚拟网络!C4 required"]),
    ("虚拟网络!C4", || "（IPMI）".into(), &["虚拟网络!C4 invalid_vds"]),
    // W18
    ("集群管理信息!B3", || "Cloud Tower".into(), &["集群管理信息!B3 invalid_name"]),
    ("集群管理信息!B3", || "-tower".into(), &["集群管理信息!B3 invalid_name"]),
    ("集群管理信息!B3", || "云塔".into(), &["集群管理信息!B3 invalid_name"]),
    ("集群管理信息!B3", || "t".repeat(64).into(), &["集群管理信息!B3 invalid_name"]),
    // W19, W20
    ("集群管理信息!E22", || "ntp_1.example".into(), &["集群管理信息!E22 invalid_server"]),
    ("集群管理信息!E23", || "127.30.40.300".into(), &["集群管理信息!E23 invalid_server"]),
    ("集群管理信息!E24", || "a.example, -b, c_d".into(), &["集群管理信息!E24 invalid_server"]),
    ("集群管理信息!E22", || "224.0.1.1".into(), &["集群管理信息!E22 unusable_address"]),
    ("集群管理信息!E25", || "dns.example".into(), &["集群管理信息!E25 invalid_address"]),
    ("集群管理信息!E26", || "127.30.40.54；dns".into(), &["集群管理信息!E26 invalid_address"]),
    // W23
    ("文档描述!C15", || "a\u{7}b".into(), &["文档描述!C15 control_character"]),
    ("文档描述!C17", || "长".repeat(256).into(), &["文档描述!C17 too_long"]),
    ("文档描述!C17", || "长".repeat(255).into(), &[]),
    // N7, N8, N11
    (IP, || Cell::formula("A1"), &["集群管理信息!E3 formula_without_value"]),
    (IP, || Cell::formula_with("A1", "127.30.40.77"), &[]),
    (IP, || Cell::error("#REF!"), &["集群管理信息!E3 error_value"]),
    (IP, || Cell::formula_with("A1", Cell::error("#N/A")), &["集群管理信息!E3 error_value"]),
    (IP, || Cell::Date(45_691.0), &["集群管理信息!E3 wrong_type"]),
    ("文档描述!C15", || true.into(), &["文档描述!C15 wrong_type"]),
    ("文档描述!C17", || Cell::Date(45_691.0), &["文档描述!C17 wrong_type"]),
    ("文档描述!C17", || 2031.into(), &[]),
    ("虚拟网络!F4", || Cell::formula("A1"), &["虚拟网络!F4 formula_without_value"]),
    ("主机规划!I3", || Cell::error("#VALUE!"), &["主机规划!I3 error_value"]),
    (ROOT, || Cell::formula("A1"), &["集群管理信息!G3 formula_without_value"]),
    (ROOT, || Cell::error("#NAME?"), &["集群管理信息!G3 error_value"]),
    ("主机规划!M19", || true.into(), &["主机规划!M19 wrong_type"]),
    (IP, || "1".repeat(40_000).into(), &["集群管理信息!E3 too_long"]),
    // nothing of this flow needs these cells
    ("集群管理信息!D3", || Cell::error("#REF!"), &[]),
    ("集群管理信息!L3", || Cell::formula("A1"), &[]),
    ("集群管理信息!M3", || "3f2b8e1c-0000-4000-8000-000000000000".into(), &[]),
    ("主机规划!K3", || Cell::error("#REF!"), &[]),
];

#[test]
fn every_single_cell_gives_exactly_its_error() {
    for (index, (cell, value, expected)) in SINGLE_CELLS.iter().enumerate() {
        let value = value();
        let saving = [Saving::Openpyxl, Saving::Spreadsheet][index % 2];
        let workbook = Workbook::valid().set(cell, value.clone());
        let outcome = std::panic::catch_unwind(|| expect_one(&workbook, saving, expected));
        assert!(outcome.is_ok(), "{cell} = {value:?}");
    }
}

#[test]
fn all_mistakes_are_found_in_one_pass_and_sorted() {
    let workbook = Workbook::valid()
        .clear("集群管理信息!E3")
        .clear("集群管理信息!G3")
        .set("虚拟网络!F4", 4095)
        .set("主机规划!I4", "x")
        .set("文档描述!C15", true)
        .set("集群管理信息!E25", "dns.example");
    expect(
        &workbook,
        &[
            "文档描述!C15 wrong_type",
            "虚拟网络!F4 invalid_vlan",
            "主机规划!I4 invalid_address",
            "集群管理信息!E3 required",
            "集群管理信息!G3 required",
            "集群管理信息!E25 invalid_address",
        ],
    );
    // The workbook's own order of sheets counts.
    let outcome = plan(&workbook.reverse_sheets().bytes());
    assert_eq!(errors(&outcome)[0], "集群管理信息!E3 required");
    assert_eq!(errors(&outcome)[5], "文档描述!C15 wrong_type");
}

#[test]
fn a_finding_says_what_a_person_needs() {
    let outcome = expect(&Workbook::valid().set(IP, "127.30.99.20"), &["集群管理信息!E3 not_in_subnet"]);
    let problem = only(&outcome, "not_in_subnet");
    assert_eq!((problem.rule.as_str(), problem.label.as_str()), ("W8", "IP地址, CloudTower"));
    assert_eq!(problem.value.as_deref(), Some("127.30.99.20"));
    assert_eq!(problem.related, ["虚拟网络!H4"]);
    assert_eq!(
        problem.message,
        "\"127.30.99.20\" is not in the subnet 127.30.40.0/24: expected an IPv4 address in 127.30.40.0/24 other than \
         127.30.40.0 and 127.30.40.255 (虚拟网络!H4)"
    );

    let outcome = expect(&Workbook::valid().set(IP, "127.30.40.12"), &["集群管理信息!E3 address_conflict"]);
    let problem = only(&outcome, "address_conflict");
    assert_eq!((problem.rule.as_str(), problem.related.as_slice()), ("W9", &["主机规划!I4".to_owned()][..]));
    assert!(problem.message.contains("主机规划!I4 (管理地址, SIM-SMTX-Lab-Node-02)"), "{}", problem.message);

    let outcome = expect(&Workbook::valid().set(IP, "127.30.40.x\u{A0}y"), &["集群管理信息!E3 invalid_address"]);
    assert_eq!(only(&outcome, "invalid_address").value.as_deref(), Some("127.30.40.x<U+00A0>y"));

    let outcome = expect(&Workbook::valid().set(IP, Cell::formula("A1")), &["集群管理信息!E3 formula_without_value"]);
    assert!(only(&outcome, "formula_without_value").remedy.contains("save it"));
}

#[test]
fn a_wrong_input_does_not_make_a_second_error() {
    // Without a subnet nothing can be outside it.
    expect(&Workbook::valid().set("虚拟网络!H4", "x").set(IP, "10.9.9.9"), &["虚拟网络!H4 invalid_subnet"]);
    // Three cells with one address are one finding that names the others.
    let workbook = Workbook::valid().set("主机规划!I4", "127.30.40.11").set("主机规划!I5", "127.30.40.11");
    let outcome = expect(&workbook, &["主机规划!I5 address_conflict"]);
    assert_eq!(only(&outcome, "address_conflict").related, ["主机规划!I3", "主机规划!I4"]);
    let workbook = Workbook::valid().set(IP, "127.30.40.10").set("主机规划!I3", "127.30.40.10");
    let outcome = expect(&workbook, &["集群管理信息!E3 address_conflict"]);
    assert_eq!(only(&outcome, "address_conflict").related, ["主机规划!I19", "主机规划!I3"]);
}

#[test]
fn a_plan_needs_the_vip_or_a_host() {
    let mut none = Workbook::valid();
    for row in 3..=5 {
        for column in ["E", "H", "I", "N"] {
            none = none.clear(&format!("主机规划!{column}{row}"));
        }
    }
    let outcome = expect(&none, &[]);
    assert!(outcome.plan.expect("a plan").hosts.is_empty());
    expect(&none.clear(VIP), &["主机规划!I19 required"]);
}

#[test]
fn hosts_need_not_be_contiguous_and_may_be_sixteen() {
    let moved = Workbook::valid().clear("主机规划!E4").clear("主机规划!H4").clear("主机规划!I4").clear("主机规划!N4");
    let moved = moved.set("主机规划!I18", "127.30.40.18");
    let rows = |workbook: &Workbook| {
        expect(workbook, &[]).plan.expect("a plan").hosts.iter().map(|host| host.row).collect::<Vec<_>>()
    };
    assert_eq!(rows(&moved), [3, 5, 18]);
    let nodes: Vec<_> = (100..116).map(|last| [127, 30, 40, last].into()).collect();
    let full = Workbook::valid().addresses(
        [127, 30, 40, 10].into(),
        &nodes,
        [127, 30, 40, 20].into(),
        [127, 30, 40, 1].into(),
        "127.30.40.0/24",
    );
    assert_eq!(rows(&full), (3..=18).collect::<Vec<_>>());
}

#[test]
fn row_five_carries_cloudtower_when_its_subnet_is_filled() {
    let separate = Workbook::valid()
        .set("虚拟网络!H5", "127.30.50.0/25")
        .set("虚拟网络!I5", "127.30.50.126")
        .set("虚拟网络!F5", 50)
        .set(IP, "127.30.50.20")
        .set("集群管理信息!E4", "127.30.50.21")
        .set("集群管理信息!E5", "127.30.50.22");
    let plan = expect(&separate, &[]).plan.expect("a plan");
    let network = &plan.management_network;
    assert_eq!((network.row, network.vlan_id, network.network.as_str()), (5, 50, "Infra-network"));
    assert_eq!((network.vds.as_str(), network.subnet.as_str()), ("vDS-MgMt-Network", "127.30.50.0/25"));
    assert_eq!(network.netmask.to_string(), "255.255.255.128");
    assert_eq!(plan.default_management_network.subnet, "127.30.40.0/24");
    assert_eq!(
        plan.sources["management_network.vlan_id"],
        serde_json::from_value(serde_json::json!({"from": "workbook", "cell": "虚拟网络!F5"})).unwrap()
    );

    // The VIP stays in row 4, CloudTower must be in row 5, and row 4 needs no gateway.
    expect(&separate.clone().set(IP, "127.30.40.20"), &["集群管理信息!E3 not_in_subnet"]);
    expect(&separate.clone().set(VIP, "127.30.50.10"), &["主机规划!I19 not_in_subnet"]);
    expect(&separate.clone().set(IP, "127.30.50.127"), &["集群管理信息!E3 broadcast_address"]);
    expect(&separate.clone().clear("虚拟网络!I4"), &[]);
    expect(&separate.clone().clear("虚拟网络!I5"), &["虚拟网络!I5 required"]);
    expect(&separate.clone().set("虚拟网络!F5", 4095), &["虚拟网络!F5 invalid_vlan"]);
    expect(&separate.clone().set("虚拟网络!H5", "x"), &["虚拟网络!H5 invalid_subnet"]);
    expect(&separate.clear("虚拟网络!H4"), &["虚拟网络!H4 required"]);
}

#[test]
fn small_and_large_subnets_work() {
    let small = |tower: u8| {
        Workbook::valid().addresses(
            [10, 1, 1, 5].into(),
            &[],
            [10, 1, 1, tower].into(),
            [10, 1, 1, 6].into(),
            "10.1.1.4/29",
        )
    };
    // /29 of 10.1.1.4 has host bits set: the network is 10.1.1.0.
    let outcome = expect(&small(2), &[]);
    assert_eq!(only(&outcome, "host_bits_set").cell.as_deref(), Some("H4"));
    assert_eq!(outcome.plan.expect("a plan").management_network.subnet, "10.1.1.0/29");
    expect(&small(7), &["集群管理信息!E3 broadcast_address"]);
    let mask = Workbook::valid().set("虚拟网络!H4", "127.30.40.0/255.255.255.0");
    assert_eq!(expect(&mask, &[]).plan.expect("a plan").management_network.subnet, "127.30.40.0/24");
    let wide = Workbook::valid().set("虚拟网络!H4", "127.30.0.0/16").set("虚拟网络!I4", "127.30.200.1");
    assert_eq!(expect(&wide, &[]).plan.expect("a plan").management_network.netmask.to_string(), "255.255.0.0");
}

#[test]
fn sheets_are_found_by_their_exact_name() {
    for name in ["虚拟网络", "主机规划", "集群管理信息"] {
        let code = format!("{name} missing_sheet");
        let renamed = Workbook::valid().rename_sheet(name, &format!("{name} (2)"));
        let outcome = expect(&renamed, &[&code]);
        assert!(only(&outcome, "missing_sheet").remedy.contains(&format!("{name} (2)")));
        expect(&Workbook::valid().remove_sheet(name), &[&code]);
    }
    let outcome = expect(&Workbook::valid().remove_sheet("文档描述"), &[]);
    assert_eq!(only(&outcome, "missing_sheet").rule, "W2");
    let plan = outcome.plan.expect("a plan");
    assert_eq!((plan.organization.as_str(), plan.datacenter.as_str()), ("SMTX-HCI", "SMTX-HCI-DC"));

    let foreign = Workbook::empty().insert_sheet(0, Sheet::new("Sheet1").with("A1", "x"));
    expect(&foreign, &["虚拟网络 missing_sheet", "主机规划 missing_sheet", "集群管理信息 missing_sheet"]);
    let twice = Workbook::valid().copy_sheet("集群管理信息", "集群管理信息");
    expect(&twice, &["集群管理信息 duplicate_sheet"]);
    // Order, visibility and further sheets do not matter (Q13).
    let odd = Workbook::valid()
        .reverse_sheets()
        .hide_sheet("主机规划", true)
        .copy_sheet("集群管理信息", "集群管理信息(旧)")
        .insert_sheet(0, Sheet::new("x").hidden());
    expect(&odd, &[]);
}

#[test]
fn a_moved_layout_is_one_error_a_sheet_and_repeats_no_cell() {
    let anchors = [("文档描述", "B15"), ("虚拟网络", "B2"), ("主机规划", "E2"), ("集群管理信息", "E2")];
    for (sheet, cell) in anchors {
        let code = format!("{sheet}!{cell} layout");
        expect(&Workbook::valid().insert_rows(sheet, 1, 1), &[&code]);
    }
    expect(&Workbook::valid().insert_rows("主机规划", 10, 1), &["主机规划!H19 layout"]);
    expect(&Workbook::valid().insert_rows("集群管理信息", 12, 2), &["集群管理信息!E21 layout"]);
    let outcome = expect(&Workbook::valid().insert_columns("集群管理信息", 5, 1), &["集群管理信息!E2 layout"]);
    let problem = only(&outcome, "layout");
    assert_eq!((problem.rule.as_str(), problem.value.as_deref()), ("W3", None));
    expect(&Workbook::valid().set("主机规划!I2", "别的"), &["主机规划!I2 layout"]);
    // Odd spaces, width and case in a label are no other layout (Q11).
    expect(&Workbook::valid().set("虚拟网络!F2", " ｖｌａｎ　id： "), &[]);
}
