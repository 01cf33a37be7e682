//! Sites and operators, as tables and in JSON.

use gantry_proto::v1;
use serde_json::{Value, json};

use super::{table::table, text::clean, units, words};

/// One row a site.
pub(crate) fn sites(sites: &[v1::Site], columns: usize) -> String {
    if sites.is_empty() {
        return say!("no sites: add one with `ctl site add SITE`\n", "没有站点：用 `ctl site add SITE` 添加\n");
    }
    let row = |site: &v1::Site| {
        vec![site.site.clone(), site.agents.to_string(), time(site.added_micros), site.added_by.clone()]
    };
    let heading = [word!("SITE", "站点"), word!("AGENTS", "代理数"), word!("ADDED", "添加时间"), word!("BY", "操作人")];
    table(&heading, sites.iter().map(row), columns)
}

/// A site in JSON.
pub(crate) fn site(site: &v1::Site) -> Value {
    json!({
        "site": site.site, "agents": site.agents, "added": stamp(site.added_micros), "added_by": site.added_by,
    })
}

/// One row an operator.
pub(crate) fn operators(operators: &[v1::Operator], columns: usize) -> String {
    let row = |operator: &v1::Operator| {
        let state = if operator.revoked { word!("revoked", "已吊销") } else { word!("in", "有效") };
        vec![
            operator.operator.clone(),
            words::role(operator.role()).to_owned(),
            all_or(&operator.sites),
            state.to_owned(),
            time(operator.expires_micros),
            time(operator.added_micros),
            operator.added_by.clone(),
        ]
    };
    let heading = [
        word!("OPERATOR", "操作员"),
        word!("ROLE", "角色"),
        word!("SITES", "站点"),
        word!("STATE", "状态"),
        word!("CERTIFICATE UNTIL", "证书有效期至"),
        word!("ADDED", "添加时间"),
        word!("BY", "操作人"),
    ];
    table(&heading, operators.iter().map(row), columns)
}

/// An operator on one line.
pub(crate) fn operator_line(operator: &v1::Operator) -> String {
    let (name, role, sites) = (clean(&operator.operator), words::role(operator.role()), all_or(&operator.sites));
    say!("operator {name}: role {role}, sites: {sites}", "操作员 {name}：角色 {role}，站点：{sites}")
}

/// An operator in JSON.
pub(crate) fn operator(operator: &v1::Operator) -> Value {
    json!({
        "operator": operator.operator,
        "role": operator.role().word(),
        "sites": operator.sites,
        "revoked": operator.revoked,
        "expires": stamp(operator.expires_micros),
        "added": stamp(operator.added_micros),
        "added_by": operator.added_by,
    })
}

fn all_or(sites: &[String]) -> String {
    if sites.is_empty() { say!("all", "全部") } else { clean(&sites.join(", ")).into_owned() }
}

fn stamp(micros: i64) -> Option<String> {
    units::from_micros(micros).map(|at| at.to_string())
}

/// The day and the minute; nothing for a time that is not known.
fn time(micros: i64) -> String {
    units::from_micros(micros).map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default()
}
