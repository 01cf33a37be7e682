//! What the addresses of a plan must not be to one another: W9, W10, W24, W25, and the temporary range.

use std::{collections::BTreeMap, net::Ipv4Addr};

use gantry_proto::Severity;

use crate::{
    fields::{BACKUP_IP, COMPONENTS, FURTHER_IPS, OBS_IP, TEMPORARY_RANGE, TOWER_IP},
    finding::{Finding, Place},
    hosts::Cluster,
    input::{Given, Input, State},
    network::Networks,
    servers::Servers,
    tower::Tower,
};

/// Addresses of components that are not deployed here.
pub(crate) struct Others {
    pub(crate) observability: Option<Given<Ipv4Addr>>,
    pub(crate) backup: Option<Given<Ipv4Addr>>,
    /// ER controller and whatever stands in the free rows.
    further: Vec<Given<Ipv4Addr>>,
    range: Range,
}

impl Others {
    /// First and last address of the temporary range as they stand in the workbook, when both are given.
    pub(crate) fn temporary_range(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        Some((self.range.first.as_ref()?.value, self.range.last.as_ref()?.value))
    }
}

struct Range {
    first: Option<Given<Ipv4Addr>>,
    last: Option<Given<Ipv4Addr>>,
}

/// Reads rows 4 to 19 of `集群管理信息`.
pub(crate) fn read(input: &mut Input<'_>) -> Others {
    let mut address = |field, index| component(input, field, index).given();
    let (observability, backup) = (address(&OBS_IP, 0), address(&BACKUP_IP, 0));
    let further = (0..FURTHER_IPS.cells.len()).filter_map(|index| address(&FURTHER_IPS, index)).collect();
    let range = range(input);
    Others { observability, backup, further, range }
}

/// Checks everything that concerns more than one address.
pub(crate) fn check(
    input: &mut Input<'_>,
    networks: &Networks,
    cluster: &Cluster,
    tower: &Tower,
    others: &Others,
    servers: &Servers,
) {
    conflicts(input, networks, cluster, tower, others, servers);
    if let Some(ip) = &tower.ip {
        not_in_range(input, ip, &others.range);
    }
    inside_the_subnet(input, networks, others);
    special(input);
}

fn component(input: &mut Input<'_>, field: &crate::fields::Field, index: usize) -> State<Ipv4Addr> {
    let Some(position) = field.position(index) else { return State::Wrong };
    let label = if field.cells.len() > 1 {
        format!("{}, 第 {} 行", field.label, position.row)
    } else {
        field.label.to_owned()
    };
    let text = input.cell(COMPONENTS, position, &label, Severity::Error);
    let state = input.address(text);
    if let State::Given(given) = &state
        && field.cells.len() == 1
    {
        input.sources.insert(field.key.to_owned(), given.place.source().clone());
    }
    state
}

fn range(input: &mut Input<'_>) -> Range {
    let (first, last) = (component(input, &TEMPORARY_RANGE, 0), component(input, &TEMPORARY_RANGE, 1));
    if let (State::Given(given), State::Blank(blank)) | (State::Blank(blank), State::Given(given)) = (&first, &last) {
        let phrase =
            "is blank although the other end of the temporary range is given: the range is taken as that one address";
        let finding = Finding::warning("half_filled_range", "W9", blank, phrase).related([&given.place]);
        input.findings.add(finding);
    }
    if let (State::Given(from), State::Given(to)) = (&first, &last)
        && from.value > to.value
    {
        let phrase =
            format!("is before the first address {} of the range: the two are taken the other way round", from.value);
        let finding = Finding::warning("reversed_range", "W9", &to.place, phrase).value(&to.typed);
        input.findings.add(finding.related([&from.place]));
    }
    Range { first: first.given(), last: last.given() }
}

/// In which way an address takes part in W9 and W10.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// CloudTower's own: must differ from every other.
    Tower,
    /// Several gateways may be one address.
    Gateway,
    /// Must be there only once.
    Single,
    /// NTP and DNS servers: may share an address with anything but CloudTower.
    Server,
}

fn conflicts(
    input: &mut Input<'_>,
    networks: &Networks,
    cluster: &Cluster,
    tower: &Tower,
    others: &Others,
    servers: &Servers,
) {
    let default_gateway = networks.separate.as_ref().and_then(|row| row.gateway.as_ref());
    let hosts = cluster.hosts.iter().flat_map(|host| [&host.mgmt_ip, &host.storage_ip, &host.bmc_ip]).flatten();
    let singles = [&cluster.vip, &others.observability, &others.backup].into_iter().flatten();
    let all = (tower.ip.iter().map(|given| (Role::Tower, given)))
        .chain(networks.gateway.iter().chain(default_gateway).map(|given| (Role::Gateway, given)))
        .chain(singles.chain(hosts).chain(&others.further).map(|given| (Role::Single, given)))
        .chain(servers.addresses.iter().map(|given| (Role::Server, given)));
    let mut groups: BTreeMap<Ipv4Addr, Vec<(Role, &Given<Ipv4Addr>)>> = BTreeMap::new();
    for (role, given) in all {
        groups.entry(given.value).or_default().push((role, given));
    }
    for group in groups.into_values() {
        conflict(input, &group);
    }
}

/// One address, and everything that has it: at most one finding.
fn conflict(input: &mut Input<'_>, group: &[(Role, &Given<Ipv4Addr>)]) {
    let of_tower = group.iter().find(|(role, _)| *role == Role::Tower);
    let main = match of_tower {
        Some((_, tower)) => *tower,
        None => {
            let gateways = usize::from(group.iter().any(|(role, _)| *role == Role::Gateway));
            let singles = group.iter().filter(|(role, _)| *role == Role::Single).count();
            let last = group.iter().rev().find(|(role, _)| *role == Role::Single);
            let (true, Some((_, last))) = (gateways + singles > 1, last) else { return };
            *last
        }
    };
    let rest: Vec<&Place> = group
        .iter()
        .filter(|(role, given)| given.place != main.place && (of_tower.is_some() || *role != Role::Server))
        .map(|(_, given)| &given.place)
        .collect();
    if rest.is_empty() {
        return;
    }
    let names = rest.iter().map(|place| place.with_label()).collect::<Vec<_>>().join(", ");
    let (rule, expected) = match of_tower {
        Some(_) => ("W9", "expected an address that nothing else has"),
        None => ("W10", "expected each address only once"),
    };
    let phrase = format!("is also the address of {names}: {expected}");
    let finding = Finding::error("address_conflict", rule, &main.place, phrase).value(&main.typed);
    input.findings.add(finding.related(rest));
}

/// The last part of W9.
fn not_in_range(input: &mut Input<'_>, ip: &Given<Ipv4Addr>, range: &Range) {
    let ends: Vec<&Given<Ipv4Addr>> = [&range.first, &range.last].into_iter().flatten().collect();
    let values = ends.iter().map(|given| given.value);
    let (Some(from), Some(to)) = (values.clone().min(), values.max()) else { return };
    if (from..=to).contains(&ip.value) {
        let phrase = format!(
            "lies in the temporary range {from} to {to} of {}: expected an address outside it",
            ends[0].place.name()
        );
        let finding = Finding::error("in_temporary_range", "W9", &ip.place, phrase).value(&ip.typed);
        input.findings.add(finding.related(ends.iter().map(|given| &given.place)));
    }
}

/// W25: rows 4 to 11 only.
fn inside_the_subnet(input: &mut Input<'_>, networks: &Networks, others: &Others) {
    const LAST_ROW: u32 = 11;
    let Some(subnet) = &networks.subnet else { return };
    let in_rows = |given: &&Given<Ipv4Addr>| given.place.row().is_some_and(|row| row <= LAST_ROW);
    let components = [&others.observability, &others.backup].into_iter().flatten();
    for given in components.chain(others.further.iter().filter(in_rows)) {
        if !subnet.value.contains(given.value) {
            let phrase = format!("is not in the management subnet {}", subnet.value);
            let finding = Finding::warning("not_in_subnet", "W25", &given.place, phrase).value(&given.typed);
            input.findings.add(finding.related([&subnet.place]));
        }
    }
}

/// W24: one warning for each kind, at CloudTower's own address when it is among them.
fn special(input: &mut Input<'_>) {
    let found = std::mem::take(&mut input.special);
    for (code, what, loopback) in
        [("loopback_address", "a loopback address", true), ("link_local_address", "a link-local address", false)]
    {
        let all: Vec<_> = found.iter().filter(|(address, _)| address.is_loopback() == loopback).collect();
        let tower = TOWER_IP.position(0).map(|position| Place::cell(COMPONENTS, position, TOWER_IP.label));
        let own = all.iter().find(|(_, place)| Some(place) == tower.as_ref());
        let Some((address, place)) = own.or_else(|| all.first()) else { continue };
        let mut rest: Vec<&Place> = Vec::new();
        for (_, other) in &all {
            if other != place && !rest.contains(&other) {
                rest.push(other);
            }
        }
        let phrase = format!("is {what}: usual in rehearsals only");
        let finding = Finding::warning(code, "W24", place, phrase).value(&address.to_string());
        input.findings.add(finding.related(rest));
    }
}
