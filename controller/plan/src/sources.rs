//! The sources of values that come from a fixed cell and from nowhere else: hosts, the networks beside CloudTower's,
//! the temporary range. Values that may come from several places note their source where they settle.

use std::collections::BTreeMap;

use gantry_proto::plan::{Plan, Source};

/// Notes the cell of every value that has exactly one.
pub(crate) fn note_fixed_cells(plan: &mut Plan) {
    let mut found = BTreeMap::new();
    let mut note = |key: String, cell: String| found.insert(key, Source::Workbook { cell });
    for (index, host) in plan.hosts.iter().enumerate() {
        let columns = [
            ("hostname", "H", host.hostname.is_some()),
            ("mgmt_ip", "I", true),
            ("storage_ip", "N", host.storage_ip.is_some()),
            ("bmc_ip", "E", host.bmc_ip.is_some()),
        ];
        for (name, column, _) in columns.iter().filter(|(_, _, given)| *given) {
            note(format!("hosts[{index}].{name}"), format!("主机规划!{column}{}", host.row));
        }
    }
    if plan.storage_subnet.is_some() {
        note("storage_subnet".to_owned(), "虚拟网络!H6".to_owned());
    }
    if plan.temporary_range.is_some() {
        note("temporary_range[0]".to_owned(), "集群管理信息!E18".to_owned());
        note("temporary_range[1]".to_owned(), "集群管理信息!E19".to_owned());
    }
    // Row 4 is CloudTower's own network when row 5 is not in use, and then an override may have won.
    let own = plan.management_network.row == 4;
    let rows = [("subnet", "H4", true), ("gateway", "I4", plan.default_management_network.gateway.is_some())];
    for (name, cell, _) in rows.iter().filter(|(_, _, given)| *given) {
        let settled = plan.sources.get(&format!("management_network.{name}")).filter(|_| own).cloned();
        let source = settled.unwrap_or_else(|| Source::Workbook { cell: format!("虚拟网络!{cell}") });
        found.insert(format!("default_management_network.{name}"), source);
    }
    for (key, source) in found {
        plan.sources.entry(key).or_insert(source);
    }
}

#[cfg(test)]
mod tests {
    use gantry_sim::workbook::Workbook;

    use super::*;

    #[test]
    fn hosts_ranges_and_each_server_name_their_cells() {
        let outcome = crate::plan(&Workbook::valid().bytes(), &crate::Defaults::default(), &BTreeMap::new());
        let servers = outcome.plan.as_ref().map(|plan| (plan.ntp_servers.len(), plan.dns_servers.len()));
        assert_eq!(servers, Some((3, 1)));
        let sources = outcome.plan.unwrap().sources;
        let cell = |key: &str| match &sources[key] {
            Source::Workbook { cell } => cell.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(cell("hosts[1].mgmt_ip"), "主机规划!I4");
        assert_eq!(cell("temporary_range[1]"), "集群管理信息!E19");
        assert_eq!(
            ["E22", "E23", "E24"].map(|at| format!("集群管理信息!{at}")),
            [0, 1, 2].map(|i| cell(&format!("ntp_servers[{i}]")))
        );
        assert_eq!(cell("dns_servers[0]"), "集群管理信息!E25");
        assert_eq!(cell("default_management_network.subnet"), "虚拟网络!H4");
    }
}
