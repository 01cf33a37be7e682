//! The sheet `主机规划`: the hosts (rows 3 to 18), the cluster's VIP and its administrator.

use std::net::Ipv4Addr;

use gantry_proto::{
    Secret, Severity,
    plan::{Host, Source},
};

use crate::{
    defaults::Defaults,
    fields::{
        ADMIN_PASSWORD, ADMIN_USER, CLUSTER_FUNCTION, CLUSTER_SERIAL, HOST_BMC_IP, HOST_BMC_USER, HOST_FIRST_ROW,
        HOST_IP, HOST_LAST_ROW, HOST_NAME, HOST_SSH_USER, HOST_STORAGE_IP, HOSTS, HostColumn, NETWORK_ARCHITECTURE,
        SOFTWARE_VERSION, STORAGE_ARCHITECTURE, VIP,
    },
    finding::{Finding, Place},
    input::{Given, Input, State},
    read::Position,
    values::{self, Subnet},
};

/// What was read of the sheet.
pub(crate) struct Cluster {
    pub(crate) hosts: Vec<HostRow>,
    pub(crate) vip: Option<Given<Ipv4Addr>>,
    pub(crate) admin_user: Option<String>,
    pub(crate) admin_password: Option<Secret>,
    pub(crate) serial: Option<String>,
    pub(crate) function: Option<String>,
    pub(crate) storage_architecture: Option<String>,
    pub(crate) network_architecture: Option<String>,
    pub(crate) software_version_text: Option<String>,
}

/// One row in use.
pub(crate) struct HostRow {
    row: u32,
    hostname: Option<String>,
    pub(crate) mgmt_ip: Option<Given<Ipv4Addr>>,
    pub(crate) storage_ip: Option<Given<Ipv4Addr>>,
    pub(crate) bmc_ip: Option<Given<Ipv4Addr>>,
    bmc_user: Option<String>,
    ssh_user: Option<String>,
}

impl HostRow {
    /// The host for the plan; `None` when its address is missing or wrong.
    pub(crate) fn host(&self) -> Option<Host> {
        Some(Host {
            row: self.row,
            hostname: self.hostname.clone(),
            mgmt_ip: self.mgmt_ip.as_ref()?.value,
            storage_ip: self.storage_ip.as_ref().map(|given| given.value),
            bmc_ip: self.bmc_ip.as_ref().map(|given| given.value),
            bmc_user: self.bmc_user.clone(),
            ssh_user: self.ssh_user.clone(),
        })
    }
}

/// Reads the sheet. `subnet` is the one of row 4 of `虚拟网络`.
pub(crate) fn read(input: &mut Input<'_>, defaults: &Defaults, subnet: Option<&Given<Subnet>>) -> Cluster {
    let rows = (HOST_FIRST_ROW..=HOST_LAST_ROW).filter(|row| is_host(input, *row)).collect::<Vec<_>>();
    let hosts: Vec<HostRow> = rows.into_iter().map(|row| host(input, row, subnet)).collect();
    let vip = vip(input, defaults, subnet, hosts.is_empty());
    let text = input.text(&ADMIN_USER);
    let text = input.or(text, Some(defaults.cluster_username.clone()), "root");
    let admin_user = input.parsed(text, "W23", values::free_text).given();
    let admin_user = input.settle(&ADMIN_USER, admin_user);
    Cluster {
        hosts,
        vip,
        admin_user,
        admin_password: admin_password(input, defaults),
        // Empty or `XXXX…` before the deployment (Q12).
        serial: input.remark(&CLUSTER_SERIAL).filter(|text| !text.chars().all(|c| matches!(c, 'X' | 'x'))),
        function: input.remark(&CLUSTER_FUNCTION),
        storage_architecture: input.remark(&STORAGE_ARCHITECTURE),
        network_architecture: input.remark(&NETWORK_ARCHITECTURE),
        software_version_text: input.remark(&SOFTWARE_VERSION),
    }
}

/// Never "the row is not empty": the template fills B, J, L, O and R of every row (Q5).
fn is_host(input: &Input<'_>, row: u32) -> bool {
    [HOST_BMC_IP, HOST_NAME, HOST_IP, HOST_STORAGE_IP].iter().any(|column| input.is_filled(HOSTS, at(column, row)))
}

fn host(input: &mut Input<'_>, row: u32, subnet: Option<&Given<Subnet>>) -> HostRow {
    let hostname = text(input, &HOST_NAME, row, "", Severity::Error);
    let hostname = input.parsed(hostname, "W23", values::free_text).given().map(|given| given.value);
    let name = hostname.clone().unwrap_or_else(|| format!("主机 {}", row - HOST_FIRST_ROW + 1));
    let mgmt_ip = text(input, &HOST_IP, row, &name, Severity::Error);
    let mgmt_ip = input.address(mgmt_ip);
    let expected = subnet.map_or_else(|| "an IPv4 address".to_owned(), |subnet| subnet.value.expected());
    // A host is never left out because a cell is bad (W11).
    let mgmt_ip = input.required(mgmt_ip, "W11", &expected);
    if let (Some(given), Some(subnet)) = (&mgmt_ip, subnet)
        && let Some(reject) = subnet.value.refuses(given.value)
    {
        let finding = Finding::warning(reject.code, "W11", &given.place, reject.phrase).value(&given.typed);
        input.findings.add(finding.related([&subnet.place]));
    }
    let mut optional = |column: &HostColumn| {
        let state = text(input, column, row, &name, Severity::Error);
        input.address(state).given()
    };
    let (storage_ip, bmc_ip) = (optional(&HOST_STORAGE_IP), optional(&HOST_BMC_IP));
    let mut remark = |column: &HostColumn| text(input, column, row, &name, Severity::Warning).given().map(|g| g.value);
    let (bmc_user, ssh_user) = (remark(&HOST_BMC_USER), remark(&HOST_SSH_USER));
    HostRow { row, hostname, mgmt_ip, storage_ip, bmc_ip, bmc_user, ssh_user }
}

/// W12. Never replaced by CloudTower's address.
fn vip(
    input: &mut Input<'_>,
    defaults: &Defaults,
    subnet: Option<&Given<Subnet>>,
    no_hosts: bool,
) -> Option<Given<Ipv4Addr>> {
    let text = input.text(&VIP);
    let text = input.or(text, defaults.cluster_vip.map(|vip| vip.to_string()), "");
    let state = input.address(text);
    let expected = subnet.map_or_else(|| VIP.expects.to_owned(), |subnet| subnet.value.expected());
    match &state {
        State::Blank(place) if no_hosts => {
            let first = Place::cell(HOSTS, at(&HOST_IP, HOST_FIRST_ROW), HOST_IP.label);
            let phrase =
                format!("is blank, and there is no host either: expected {expected}, or at least one host address");
            input.findings.add(Finding::error("required", "W12", place, phrase).related([&first]));
        }
        State::Blank(place) => {
            let phrase = format!(
                "is blank: expected {expected}; the hosts' addresses are used instead, and attaching the cluster later needs it"
            );
            input.findings.add(Finding::warning("no_vip", "W12", place, phrase));
        }
        State::Given(given) => {
            if no_hosts {
                let place = Place::cell(HOSTS, at(&HOST_IP, HOST_FIRST_ROW), HOST_IP.label);
                let phrase = "there is no host: the cluster can be reached through its VIP only";
                input.findings.add(Finding::warning("no_hosts", "W11", &place, phrase));
            }
            if let Some(subnet) = subnet
                && let Some(reject) = subnet.value.refuses(given.value)
            {
                let finding = Finding::error(reject.code, "W12", &given.place, reject.phrase).value(&given.typed);
                input.findings.add(finding.related([&subnet.place]));
            }
        }
        State::Wrong => {}
    }
    let given = state.given()?;
    input.sources.insert(VIP.key.to_owned(), given.place.source().clone());
    Some(given)
}

/// W14: an existing password, so no policy.
fn admin_password(input: &mut Input<'_>, defaults: &Defaults) -> Option<Secret> {
    let mut state = input.secret(&ADMIN_PASSWORD);
    if let (State::Blank(place), Some(configured)) = (&state, &defaults.cluster_password) {
        let place = place.filled_from(Source::Configuration);
        let phrase = "is blank: the password of the settings is used";
        input.findings.add(Finding::notice("default_used", "N6", &place.filled_from(Source::Default), phrase));
        state = State::Given(Given { value: configured.0.clone(), typed: String::new(), place });
    }
    let given = input.required(state, "W14", ADMIN_PASSWORD.expects);
    input.settle(&ADMIN_PASSWORD, given)
}

fn text(input: &mut Input<'_>, column: &HostColumn, row: u32, host: &str, severity: Severity) -> State<String> {
    let label = if host.is_empty() { column.label.to_owned() } else { format!("{}, {host}", column.label) };
    input.cell(HOSTS, at(column, row), &label, severity)
}

fn at(column: &HostColumn, row: u32) -> Position {
    Position { row, column: column.letter.bytes().next().map_or(1, |letter| u32::from(letter - b'A') + 1) }
}
