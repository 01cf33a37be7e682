//! The thirteen sheets of the planning workbook, edition v20250820, filled with an invented plan (`workbook.md` 2-6).
//! Labels, merged ranges and pre-filled cells are those of the published template.

use super::{Cell, Sheet};

pub(super) const BMC_PASSWORD: &str = "Si@Bmc4471v";
pub(super) const NODE_PASSWORD: &str = "Si$Node5528r";
pub(super) const ADMIN_PASSWORD: &str = "Si!Fish8806t";
const TOWER_PASSWORD: &str = "Si#Tower2957g";
const COMPONENT_PASSWORD: &str = "Si%Obs6143jjj";
/// Published: every installation has it (`cloudtower.md` 1.2).
const DEFAULT_PASSWORD: &str = "HC!r0cks";
/// The template carries about this many styled rows on each sheet.
const STYLED_ROWS: u32 = 990;

/// All sheets, in the template's order.
pub(super) fn sheets() -> Vec<Sheet> {
    vec![
        history(),
        description(),
        Sheet::new("设计调研(内部）").hidden().with("B1", "SMTX HCI 平台调研参考项（内部）").with("B3", "序号"),
        Sheet::new("配置确认表").hidden().with("A1", "配置确认表").with("C30", Cell::Date(45_691.0)),
        Sheet::new("逻辑拓扑图").with("A1", "逻辑拓扑图"),
        Sheet::new("硬件兼容评估").hidden().with("B1", "硬件兼容评估"),
        Sheet::new("机架位置").with("B1", "机架位置"),
        networks(),
        hosts(),
        components(),
        Sheet::new("端口开放需求(可选）").with("A1", "端口开放需求"),
        Sheet::new("超融合平台加固基线（可选）").with("A1", "加固基线"),
        Sheet::new("服务器端口连线(可选)").with("A1", "端口连线"),
    ]
}

fn history() -> Sheet {
    filled(
        Sheet::new("更新说明"),
        &[
            ("A1", "作者"),
            ("B1", "更新日期"),
            ("C1", "更新记录"),
            ("A2", "sim"),
            ("B2", "2025.4.24"),
            ("C2", "新增配置确认表。"),
            ("A3", "sim"),
            ("B3", "2025.8.20"),
            ("C3", "增加集群存储策略"),
        ],
    )
}

fn description() -> Sheet {
    let sheet = Sheet::new("文档描述")
        .protected()
        .styled_rows(STYLED_ROWS)
        .merged(&["B11:F14", "C15:F15", "C16:F16", "C17:F17"]);
    filled(
        sheet,
        &[
            ("B11", "文档说明：\n本文档为仿真环境的规划示例。"),
            ("B15", "客户名称："),
            ("C15", "仿真实验室"),
            ("B16", "项目名称："),
            ("C16", "仿真演练项目"),
            ("B17", "数据中心名称："),
            ("C17", "SIM-DC1"),
            ("B18", "版本日期"),
            ("C18", "版本"),
            ("D18", "作者"),
            ("E18", "联系电话"),
            ("F18", "变更记录"),
        ],
    )
}

fn networks() -> Sheet {
    let sheet = Sheet::new("虚拟网络").protected().styled_rows(STYLED_ROWS).merged(&[
        "B1:N1", "B3:B18", "C4:C5", "C8:C18", "E8:E18", "J4:J5", "J8:J18", "K4:K5", "K8:K18", "L4:L5", "L8:L18",
        "M4:M5", "M8:M18", "N8:N18", "B23:N27",
    ]);
    let mut sheet = filled(sheet.with("B1", title("-SMTX 平台虚拟交换机规划")), NETWORK_TEXTS);
    for row in [3, 4, 6] {
        sheet = sheet.with(&format!("F{row}"), 0);
    }
    for row in 9..=18 {
        sheet = sheet.with(&format!("G{row}"), "Access");
    }
    sheet
}

const NETWORK_TEXTS: &[(&str, &str)] = &[
    ("B2", "集群名称"),
    ("C2", "虚拟交换机"),
    ("D2", "虚拟网络"),
    ("E2", "网络功能说明"),
    ("F2", "VLAN ID"),
    ("G2", "VLAN类型"),
    ("H2", "SubNetwork"),
    ("I2", "Gateway"),
    ("J2", "主机端口"),
    ("K2", "网口绑定模式"),
    ("L2", "速率"),
    ("M2", "端口类型"),
    ("N2", "物理交换机配置类型"),
    ("B3", "CN-SIM-SMTX-Lab-Cls01"),
    ("C3", "（IPMI）"),
    ("D3", "（IPMI）"),
    ("E3", "带外管理流量"),
    ("G3", "Access"),
    ("H3", "127.30.39.0/24"),
    ("I3", "127.30.39.1"),
    ("J3", "IPMI/BMC/iDrac/iLO"),
    ("K3", "专用"),
    ("L3", "1G"),
    ("M3", "电口"),
    ("N3", "Access"),
    ("C4", "vDS-MgMt-Network"),
    ("D4", "default"),
    ("E4", "SMTX OS系统管理网络"),
    ("G4", "Access"),
    ("H4", "127.30.40.0/24"),
    ("I4", "127.30.40.1"),
    ("J4", "ens224,ens192"),
    ("K4", "active-backup"),
    ("L4", "10G"),
    ("M4", "光口"),
    ("N4", "Access"),
    ("D5", "Infra-network"),
    ("E5", "（可选）Cloudtower,obs等组件,客户要求需独立网段"),
    ("G5", "Access"),
    ("N5", "Access"),
    ("C6", "vDS-Storage-Network"),
    ("D6", "storage-network"),
    ("E6", "SMTX OS内部存储网络"),
    ("G6", "Access"),
    ("H6", "127.30.41.0/24"),
    ("J6", "ens256,ens161"),
    ("K6", "active-backup"),
    ("L6", "25G"),
    ("M6", "光口"),
    ("N6", "Access"),
    ("C7", "vDS-Backup-Network"),
    ("D7", "backup-network"),
    ("E7", "SMTX 备份服务互联NAS"),
    ("G7", "Access"),
    ("J7", "ens162"),
    ("K7", "active-backup"),
    ("L7", "10G"),
    ("M7", "光口"),
    ("N7", "Access"),
    ("C8", "vDS-Prod-Network"),
    ("E8", "虚拟机网络(按需提供)"),
    ("G8", "Access"),
    ("J8", "ens225,ens257"),
    ("K8", "balance-slb"),
    ("L8", "10G"),
    ("M8", "光口"),
    ("N8", "Trunk"),
    ("B23", "请注意：当前仅支持“管理&业务融合、存储独立”与“三网独立”两种网络部署模型。"),
];

fn hosts() -> Sheet {
    let sheet = Sheet::new("主机规划").protected().styled_rows(STYLED_ROWS).merged(&[
        "B1:O1", "Q2:R2", "C3:C18", "E19:G19", "J19:K19", "Q19:R19", "Q20:R20", "B20:M20", "B21:B22", "B23:L27",
        "B29:O34",
    ]);
    let mut sheet = filled(sheet.with("B1", title("-SMTX 集群节点管理地址规划")), HOST_TEXTS)
        .with("C3", Cell::TemplateFormula("虚拟网络!B3".to_owned()));
    for number in 1..=16_u32 {
        sheet = unused_host(sheet, number);
    }
    for number in 1..=3 {
        sheet = planned_host(sheet, number);
    }
    sheet
}

/// What the template leaves in every host row, used or not.
fn unused_host(sheet: Sheet, number: u32) -> Sheet {
    let row = number + 2;
    sheet
        .with(&format!("B{row}"), number)
        .with(&format!("J{row}"), "smartx")
        .with(&format!("L{row}"), "root")
        .with(&format!("O{row}"), format!("SmartX管理集群Node{number}"))
        .with(&format!("R{row}"), Cell::TemplateFormula(format!("IF(ISNUMBER(Q{row}),Q{row}+1,\"\")")))
}

fn planned_host(sheet: Sheet, number: u32) -> Sheet {
    let row = number + 2;
    sheet
        .with(&format!("E{row}"), format!("127.30.39.{}", 10 + number))
        .with(&format!("F{row}"), "root")
        .with(&format!("G{row}"), BMC_PASSWORD)
        .with(&format!("H{row}"), format!("SIM-SMTX-Lab-Node-{number:02}"))
        .with(&format!("I{row}"), format!("127.30.40.{}", 10 + number))
        .with(&format!("K{row}"), NODE_PASSWORD)
        .with(&format!("M{row}"), ADMIN_PASSWORD)
        .with(&format!("N{row}"), format!("127.30.41.{}", 10 + number))
        .with(&format!("P{row}"), "A01")
        .with(&format!("Q{row}"), number * 2 - 1)
        .mail_link(&format!("G{row}"))
}

const HOST_TEXTS: &[(&str, &str)] = &[
    ("B2", "序号"),
    ("C2", "集群名称"),
    ("D2", "设备S/N"),
    ("E2", "带外地址"),
    ("F2", "带外账号"),
    ("G2", "带外密码"),
    ("H2", "主机名"),
    ("I2", "管理地址"),
    ("J2", "SSH 用户名"),
    ("K2", "密码"),
    ("L2", "管理员账号"),
    ("M2", "密码"),
    ("N2", "存储IP"),
    ("O2", "功能描述"),
    ("P2", "机架名称"),
    ("Q2", "机架位置 U"),
    ("C19", "版本:6.2.0P4"),
    ("D19", "Cluster SN"),
    ("H19", "集群VIP"),
    ("I19", "127.30.40.10"),
    ("J19", "集群管理员"),
    ("L19", "root"),
    ("M19", ADMIN_PASSWORD),
    ("N19", "集群功能启用"),
    ("O19", "Boost"),
    ("P19", "存储架构"),
    ("Q19", "混闪-分层"),
    ("P20", "网络架构"),
    ("Q20", "三网独立"),
    ("B21", "说明："),
    ("B23", "1. 集群命名规范建议：企业简写 - 地域简写- 软件品牌-业务简写-编号"),
    ("B29", "请注意：当前自动部署平台尚不支持开启RDMA"),
];

fn components() -> Sheet {
    let sheet = Sheet::new("集群管理信息").protected().styled_rows(STYLED_ROWS).merged(&[
        "B1:N1", "N3:N19", "B6:B11", "M6:M11", "B18:B19", "C18:C19", "D18:D19", "B20:L20", "F21:N21", "F22:N24",
        "F25:N25", "F26:N26",
    ]);
    filled(sheet.with("B1", title("SMTX OS 架构平台管理规划")), COMPONENT_TEXTS)
        .with("N3", Cell::TemplateFormula("虚拟网络!B3".to_owned()))
}

const COMPONENT_TEXTS: &[(&str, &str)] = &[
    ("B2", "SmartX生产平台管理 虚拟机名称"),
    ("C2", "技术说明"),
    ("D2", "Version"),
    ("E2", "IP地址"),
    ("F2", "Web  管理员"),
    ("G2", "密码"),
    ("H2", " SSH 用户名"),
    ("I2", "SSH 密码"),
    ("J2", "系统管理员"),
    ("K2", "密码"),
    ("L2", "性能配置"),
    ("M2", "SN"),
    ("N2", "管理集群"),
    ("B3", "cloudtower-sim"),
    ("C3", "SMTX 集群统一 Web 管理平台"),
    ("D3", "4.7.1"),
    ("E3", "127.30.40.20"),
    ("F3", "root"),
    ("G3", TOWER_PASSWORD),
    ("H3", "cloudtower"),
    ("I3", DEFAULT_PASSWORD),
    ("J3", "root"),
    ("K3", DEFAULT_PASSWORD),
    ("L3", "8vCPU\\19GB-Mem\\400GB Disk"),
    ("B4", "Observability"),
    ("C4", "集群监控与告警集成组件"),
    ("D4", "1.4.1"),
    ("E4", "127.30.40.21"),
    ("F4", "N/A"),
    ("G4", "N/A"),
    ("H4", "o11y"),
    ("I4", COMPONENT_PASSWORD),
    ("J4", "admin"),
    ("K4", COMPONENT_PASSWORD),
    ("L4", "16vCPU\\32GB-Mem\\512GB Disk"),
    ("B5", "backup"),
    ("C5", "备份服务管理组件"),
    ("D5", "2.2.0"),
    ("E5", "127.30.40.22"),
    ("F5", "N/A"),
    ("G5", "N/A"),
    ("H5", "smartx"),
    ("I5", COMPONENT_PASSWORD),
    ("J5", "admin"),
    ("K5", COMPONENT_PASSWORD),
    ("L5", "4vCPU\\16GB-Mem\\40GB Disk"),
    ("B6", "ER"),
    ("C6", "ER VIP"),
    ("C7", "控制器01"),
    ("C8", "控制器02"),
    ("C9", "控制器03"),
    ("C10", "控制器04"),
    ("C11", "控制器05"),
    ("B18", "临时IP"),
    ("C18", "测试用临时IP范围"),
    ("D18", "---"),
    ("E18", "127.30.40.231"),
    ("E19", "127.30.40.239"),
    ("B20", "当有其他管理组件时，依次往后添加..."),
    ("B21", "基础架构设备名称"),
    ("C21", "技术说明"),
    ("D21", "类别"),
    ("E21", "IP地址"),
    ("F21", "说明"),
    ("B22", "NTP Server1"),
    ("C22", "集群统一时间服务器地址"),
    ("D22", "建议物理设备"),
    ("E22", "127.30.40.123"),
    ("F22", "最佳配置三个及以上 NTP服务器"),
    ("B23", "NTP Server2"),
    ("C23", "集群统一时间服务器地址"),
    ("D23", "建议物理设备"),
    ("E23", "127.30.40.124"),
    ("B24", "NTP Server3"),
    ("C24", "集群统一时间服务器地址"),
    ("D24", "建议物理设备"),
    ("E24", "ntp.sim.test"),
    ("B25", "DNS Server1"),
    ("C25", "集群DNS 解析服务器"),
    ("D25", "域名服务器"),
    ("E25", "127.30.40.53"),
    ("B26", "DNS Server2"),
    ("C26", "集群DNS 解析服务器"),
    ("D26", "域名服务器"),
];

fn title(ending: &str) -> Cell {
    Cell::TemplateFormula(format!("文档描述!C15&\"-\"&文档描述!C16&\"{ending}\""))
}

fn filled(sheet: Sheet, texts: &[(&str, &str)]) -> Sheet {
    texts.iter().fold(sheet, |sheet, (cell, text)| sheet.with(cell, *text))
}
