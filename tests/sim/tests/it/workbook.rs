//! Workbooks made by the builder, read back by calamine.

use std::collections::BTreeMap;
use std::io::Cursor;

use calamine::{CellErrorType, Data, Reader, Xlsx, open_workbook_from_rs};
use gantry_sim::workbook::{Cell, Hostile, Saving, Sheet, Workbook};

type Cells = BTreeMap<(u32, u32), (Data, Option<String>)>;

fn open(bytes: Vec<u8>) -> Xlsx<Cursor<Vec<u8>>> {
    open_workbook_from_rs(Cursor::new(bytes)).expect("a readable workbook")
}

fn cells(bytes: Vec<u8>, sheet: &str) -> Cells {
    let mut workbook = open(bytes);
    let mut reader = workbook.worksheet_cells_reader(sheet).expect("the sheet");
    let mut cells = Cells::new();
    while let Some(cell) = reader.next_cell_with_formula().expect("a cell") {
        let formula = cell.formula.clone();
        cells.insert(cell.pos, (Data::from(cell.value), formula));
    }
    cells
}

/// Row and column of `E3`, from zero.
fn at(name: &str) -> (u32, u32) {
    let split = name.find(|c: char| c.is_ascii_digit()).expect("digits");
    let column = name[..split].bytes().fold(0, |sum, b| sum * 26 + u32::from(b - b'A') + 1);
    (name[split..].parse::<u32>().expect("a row") - 1, column - 1)
}

fn value(cells: &Cells, name: &str) -> Data {
    cells.get(&at(name)).map_or(Data::Empty, |(data, _)| data.clone())
}

fn text(cells: &Cells, name: &str) -> String {
    value(cells, name).to_string()
}

#[test]
fn both_saving_styles_hold_the_same_plan() {
    for saving in [Saving::Openpyxl, Saving::Spreadsheet] {
        let file = Workbook::valid().saved(saving).bytes();
        let names = open(file.clone()).sheet_names();
        assert_eq!(names.len(), 13, "{names:?}");
        let components = cells(file.clone(), "集群管理信息");
        assert_eq!(text(&components, "B3"), "cloudtower-sim");
        assert_eq!(text(&components, "E3"), "127.30.40.20");
        assert_eq!(text(&components, "H2"), " SSH 用户名", "odd spaces survive");
        assert_eq!(text(&components, "L3"), "8vCPU\\19GB-Mem\\400GB Disk");
        let hosts = cells(file.clone(), "主机规划");
        assert_eq!(text(&hosts, "I19"), "127.30.40.10");
        assert_eq!(value(&hosts, "B18"), Data::Float(16.0), "unused rows keep their number");
        assert_eq!((text(&hosts, "J18").as_str(), text(&hosts, "I18").as_str()), ("smartx", ""));
        let (stored, formula) = hosts[&at("C3")].clone();
        assert_eq!(formula.as_deref(), Some("虚拟网络!B3"));
        let networks = cells(file, "虚拟网络");
        assert_eq!(value(&networks, "F4"), Data::Float(0.0));
        if saving == Saving::Spreadsheet {
            assert_eq!(stored.to_string(), text(&networks, "B3"));
            assert_eq!(text(&networks, "B1"), "仿真实验室-仿真演练项目-SMTX 平台虚拟交换机规划");
            assert_eq!(value(&hosts, "R3"), Data::Float(2.0));
        } else {
            assert_eq!(stored, Data::Empty, "no stored result");
        }
    }
}

#[test]
fn every_anchor_of_the_layout_check_is_there() {
    let anchors: &[(&str, &[(&str, &str)])] = &[
        ("文档描述", &[("B15", "客户名称"), ("B17", "数据中心名称")]),
        (
            "虚拟网络",
            &[
                ("B2", "集群名称"),
                ("C2", "虚拟交换机"),
                ("D2", "虚拟网络"),
                ("F2", "VLAN ID"),
                ("H2", "SubNetwork"),
                ("I2", "Gateway"),
                ("E4", "SMTX OS系统管理网络"),
            ],
        ),
        (
            "主机规划",
            &[
                ("E2", "带外地址"),
                ("H2", "主机名"),
                ("I2", "管理地址"),
                ("N2", "存储IP"),
                ("H19", "集群VIP"),
                ("J19", "集群管理员"),
            ],
        ),
        (
            "集群管理信息",
            &[
                ("E2", "IP地址"),
                ("G2", "密码"),
                ("C3", "SMTX 集群统一 Web 管理平台"),
                ("E21", "IP地址"),
                ("B22", "NTP Server1"),
                ("B25", "DNS Server1"),
            ],
        ),
    ];
    for (sheet, expected) in anchors {
        let cells = cells(Workbook::valid().bytes(), sheet);
        for (cell, label) in *expected {
            assert!(text(&cells, cell).starts_with(label), "{sheet}!{cell}: {}", text(&cells, cell));
        }
    }
}

#[test]
fn cells_of_every_kind_read_back() {
    let sheet = "集群管理信息";
    for saving in [Saving::Openpyxl, Saving::Spreadsheet] {
        let file = Workbook::valid()
            .saved(saving)
            .set("集群管理信息!D3", 20_250_820)
            .set("集群管理信息!B4", true)
            .set("集群管理信息!E5", Cell::error("#REF!"))
            .set("集群管理信息!E6", Cell::rich(&["127.30.", "40.66"]))
            .set("集群管理信息!E7", Cell::formula("A1"))
            .set("集群管理信息!E8", Cell::formula_with("A1", "127.30.40.68"))
            .set("集群管理信息!E9", Cell::Date(45_691.0))
            .set("集群管理信息!G3", "a<b>&\"c\"  d ")
            .clear("集群管理信息!E3")
            .bytes();
        let cells = cells(file, sheet);
        assert_eq!(value(&cells, "D3"), Data::Float(20_250_820.0));
        assert_eq!(value(&cells, "B4"), Data::Bool(true));
        assert_eq!(value(&cells, "E5"), Data::Error(CellErrorType::Ref));
        assert_eq!(text(&cells, "E6"), "127.30.40.66");
        assert_eq!(cells[&at("E7")], (Data::Empty, Some("A1".to_owned())));
        assert_eq!(cells[&at("E8")], (Data::String("127.30.40.68".to_owned()), Some("A1".to_owned())));
        assert!(matches!(value(&cells, "E9"), Data::DateTime(_)), "{:?}", value(&cells, "E9"));
        assert_eq!(text(&cells, "G3"), "a<b>&\"c\"  d ");
        assert_eq!(value(&cells, "E3"), Data::Empty);
    }
}

#[test]
fn sheets_and_rows_move() {
    let workbook = Workbook::valid()
        .rename_sheet("虚拟网络", "网络")
        .remove_sheet("文档描述")
        .copy_sheet("集群管理信息", "集群管理信息 (2)")
        .insert_sheet(0, Sheet::new("封面").with("A1", "x"))
        .insert_rows("集群管理信息", 3, 2)
        .insert_columns("主机规划", 2, 1);
    let names = workbook.sheet_names();
    assert_eq!(names.first(), Some(&"封面"));
    assert!(names.contains(&"网络") && !names.contains(&"虚拟网络") && !names.contains(&"文档描述"));
    let file = workbook.bytes();
    assert_eq!(text(&cells(file.clone(), "集群管理信息"), "E5"), "127.30.40.20");
    assert_eq!(text(&cells(file.clone(), "集群管理信息 (2)"), "E3"), "127.30.40.20");
    assert_eq!(text(&cells(file.clone(), "主机规划"), "J19"), "127.30.40.10");
    let merged = open(file).merge_cells_by_sheet_name("集群管理信息").expect("merged ranges").to_vec();
    assert!(merged.iter().any(|range| range.start == (4, 13) && range.end == (20, 13)), "N3:N19 slid to N5:N21");
}

#[test]
fn the_plan_moves_into_any_network_without_meeting_itself() {
    let ip = |text: &str| text.parse().expect("an address");
    let nodes: Vec<_> = (11..=14).map(|last| ip(&format!("127.9.1.{last}"))).collect();
    for subnet in ["127.9.1.0/24", "127.9.0.0/16", "127.0.0.0/8", "127.9.1.0/27"] {
        let file =
            Workbook::valid().addresses(ip("127.9.1.10"), &nodes, ip("127.9.1.20"), ip("127.9.1.1"), subnet).bytes();
        let (components, hosts) = (cells(file.clone(), "集群管理信息"), cells(file.clone(), "主机规划"));
        assert_eq!(text(&components, "E3"), "127.9.1.20");
        assert_eq!(text(&hosts, "I19"), "127.9.1.10");
        assert_eq!((text(&hosts, "I6").as_str(), text(&hosts, "I7").as_str()), ("127.9.1.14", ""));
        assert_eq!(text(&cells(file, "虚拟网络"), "H4"), subnet);
        let mut seen = vec!["127.9.1.1".to_owned()];
        seen.extend(["E3", "E4", "E5", "E18", "E19", "E22", "E23", "E24", "E25"].map(|c| text(&components, c)));
        seen.push(text(&hosts, "I19"));
        for row in 3..=6 {
            seen.extend(["E", "I", "N"].map(|column| text(&hosts, &format!("{column}{row}"))));
        }
        seen.retain(|address| !address.is_empty());
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len(), "{subnet}: {seen:?}");
    }
}

#[test]
fn the_mail_link_of_a_password_lies_in_the_relations() {
    let file = Workbook::valid().bytes();
    let mut zip = zip::ZipArchive::new(Cursor::new(file)).expect("a zip");
    let mut text = String::new();
    let mut part = zip.by_name("xl/worksheets/_rels/sheet9.xml.rels").expect("relations of 主机规划");
    std::io::Read::read_to_string(&mut part, &mut text).expect("text");
    assert!(text.contains("mailto:Si@Bmc4471v"), "{text}");
}

#[test]
fn hostile_files_are_what_they_claim() {
    let read = |hostile: Hostile| open_workbook_from_rs::<Xlsx<_>, _>(Cursor::new(hostile.bytes()));
    for hostile in [Hostile::Empty, Hostile::NotAZip, Hostile::CutOff, Hostile::NoWorkbook] {
        assert!(read(hostile).is_err(), "{hostile:?} must not open");
    }
    assert!(matches!(read(Hostile::Encrypted), Err(calamine::XlsxError::Password | calamine::XlsxError::Zip(_))));
    let mut broken = read(Hostile::BrokenXml).expect("the package itself is sound");
    assert!(broken.worksheet_range("集群管理信息").is_err());
    let stray = cells(Hostile::StrayFarCell.bytes(), "集群管理信息");
    assert_eq!(stray.keys().next_back(), Some(&(1_048_575, 16_383)));
    let huge = cells(Hostile::HugeSheet { rows: 3000 }.bytes(), "集群管理信息");
    assert!(huge.len() > 6000, "{}", huge.len());
}

#[test]
fn bombs_declare_what_they_inflate_to() {
    let size = |file: Vec<u8>| {
        let mut zip = zip::ZipArchive::new(Cursor::new(file)).expect("a zip");
        zip.by_name("xl/sharedStrings.xml").expect("the strings").size()
    };
    let bomb = Hostile::Bomb { bytes: 3 << 20 }.bytes();
    assert!(bomb.len() < 200_000, "small on disk: {}", bomb.len());
    assert!(size(bomb) > 3 << 20);
    assert_eq!(size(Hostile::DeclaredBomb { bytes: 3 << 30 }.bytes()), 3 << 30);
}
