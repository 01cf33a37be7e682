//! The sheet `虚拟网络`: the network that CloudTower goes on (row 4, or row 5 when it is in use), the hosts' own one
//! (row 4) and the storage subnet (row 6).

use std::net::Ipv4Addr;

use gantry_proto::{Severity, plan::DefaultNetwork};

use crate::{
    defaults::Defaults,
    fields::{CLUSTER_NAME, Field, GATEWAY, NETWORK, NETWORKS, STORAGE_SUBNET, SUBNET, VDS, VLAN_ID, VLAN_TYPE},
    finding::{Finding, Place},
    input::{Given, Input, State},
    read::Position,
    values::{self, Subnet},
};

/// What was read of the sheet; `None` where something is missing or wrong.
pub(crate) struct Networks {
    /// 4 or 5.
    pub(crate) row: u32,
    pub(crate) cluster_name: Option<String>,
    pub(crate) vds: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) vlan_id: Option<u16>,
    pub(crate) vlan_type: Option<String>,
    /// Subnet of the row in use.
    pub(crate) subnet: Option<Given<Subnet>>,
    /// Gateway of the row in use.
    pub(crate) gateway: Option<Given<Ipv4Addr>>,
    /// Row 4 when row 5 is in use.
    pub(crate) separate: Option<DefaultRow>,
    /// Subnet of row 6.
    pub(crate) storage: Option<Given<Subnet>>,
}

/// Row 4 when CloudTower goes on row 5.
pub(crate) struct DefaultRow {
    network: Option<String>,
    vlan_id: Option<u16>,
    subnet: Option<Given<Subnet>>,
    pub(crate) gateway: Option<Given<Ipv4Addr>>,
}

impl Networks {
    /// Subnet of row 4, in which the cluster's VIP must be.
    pub(crate) fn hosts_subnet(&self) -> Option<&Given<Subnet>> {
        match &self.separate {
            Some(row) => row.subnet.as_ref(),
            None => self.subnet.as_ref(),
        }
    }

    /// Row 4 for the plan.
    pub(crate) fn default_network(&self) -> Option<DefaultNetwork> {
        let (network, vlan_id, subnet, gateway) = match &self.separate {
            Some(row) => (&row.network, row.vlan_id, &row.subnet, &row.gateway),
            None => (&self.network, self.vlan_id, &self.subnet, &self.gateway),
        };
        Some(DefaultNetwork {
            row: 4,
            network: network.clone()?,
            vlan_id: vlan_id?,
            subnet: subnet.as_ref()?.value.to_string(),
            gateway: gateway.as_ref().map(|gateway| gateway.value),
        })
    }
}

/// Reads the sheet and checks everything that concerns it alone.
pub(crate) fn read(input: &mut Input<'_>, defaults: &Defaults) -> Networks {
    let cluster_name = cluster_name(input);
    // D5 and G5 are filled in the template, so only the subnet tells (Q9).
    let separate = input.is_filled(NETWORKS, at('H', 5));
    if !separate {
        half_filled(input);
    }
    let row = if separate { 5 } else { 4 };
    let vds = vds(input, defaults);
    let text = cell(input, &NETWORK, row);
    let text = input.or(text, defaults.network.network_name.clone(), "default");
    let network = input.parsed(text, "W23", values::free_text).given();
    let network = input.settle(&NETWORK, network);
    let text = cell(input, &VLAN_ID, row);
    let vlan_id = vlan(input, text, defaults);
    let vlan_id = input.settle(&VLAN_ID, vlan_id);
    let vlan_type = vlan_type(input, row);
    let text = cell(input, &SUBNET, row);
    let text = input.or(text, defaults.network.subnet.clone(), "");
    let subnet = required_subnet(input, text);
    let text = cell(input, &GATEWAY, row);
    let text = input.or(text, defaults.network.gateway.map(|gateway| gateway.to_string()), "");
    let gateway = required_gateway(input, text, subnet.as_ref());
    let separate = separate.then(|| default_row(input, defaults));
    let text = input.text(&STORAGE_SUBNET);
    let storage = self::subnet(input, text).given();
    let networks = Networks { row, cluster_name, vds, network, vlan_id, vlan_type, subnet, gateway, separate, storage };
    warn_of_overlaps(input, &networks);
    networks
}

fn cluster_name(input: &mut Input<'_>) -> Option<String> {
    let text = input.text(&CLUSTER_NAME);
    if let State::Blank(place) = &text {
        let phrase = "is blank: expected the name of the cluster, for the messages of this program";
        input.findings.add(Finding::notice("recommended", "N6", place, phrase));
    }
    let name = input.parsed(text, "W23", values::free_text).given();
    input.settle(&CLUSTER_NAME, name)
}

/// W29.
fn half_filled(input: &mut Input<'_>) {
    let filled: Vec<Place> = ['F', 'I']
        .into_iter()
        .filter(|column| input.is_filled(NETWORKS, at(*column, 5)))
        .map(|column| Place::cell(NETWORKS, at(column, 5), ""))
        .collect();
    if !filled.is_empty() {
        let place = Place::cell(NETWORKS, at('H', 5), label(&SUBNET, 5));
        let phrase =
            "is blank although row 5 is partly filled: the row is ignored and CloudTower goes on the network of row 4";
        let finding = Finding::warning("half_filled_row", "W29", &place, phrase).related(&filled);
        input.findings.add(finding.remedy("fill in the subnet of row 5, or clear the row"));
    }
}

/// The switch of row 5 is the one of row 4 (Q3).
fn vds(input: &mut Input<'_>, defaults: &Defaults) -> Option<String> {
    let text = input.text(&VDS);
    let text = input.or(text, defaults.network.vds_name.clone(), "");
    let state = input.parsed(text, "W17", values::vds_name);
    let vds = input.required(state, "W17", VDS.expects);
    input.settle(&VDS, vds)
}

/// W15.
fn vlan(input: &mut Input<'_>, text: State<String>, defaults: &Defaults) -> Option<Given<u16>> {
    let text = input.or(text, defaults.network.vlan_id.map(|id| id.to_string()), "0");
    let text = input.folded(text);
    input.parsed(text, "W15", values::vlan).given()
}

/// W16.
fn vlan_type(input: &mut Input<'_>, row: u32) -> Option<String> {
    let text = cell(input, &VLAN_TYPE, row);
    let text = input.or(text, None, "Access");
    let kind = input.parsed(text, "W23", values::free_text).given();
    if let Some(kind) = &kind
        && crate::text::compact(&kind.value) != "access"
    {
        let phrase = "is not \"Access\": the VM gets an untagged port of this VLAN all the same";
        input.findings.add(Finding::warning("vlan_type", "W16", &kind.place, phrase).value(&kind.typed));
    }
    input.settle(&VLAN_TYPE, kind)
}

/// W5.
fn subnet(input: &mut Input<'_>, text: State<String>) -> State<Subnet> {
    let text = input.folded(text);
    let state = input.parsed(text, "W5", values::subnet);
    let State::Given(Given { value: (subnet, host_bits), typed, place }) = state else {
        return match state {
            State::Blank(place) => State::Blank(place),
            _ => State::Wrong,
        };
    };
    if host_bits {
        let phrase = format!("is an address within the network: {subnet} is used");
        input.findings.add(Finding::warning("host_bits_set", "W5", &place, phrase).value(&typed));
    }
    State::Given(Given { value: subnet, typed, place })
}

fn required_subnet(input: &mut Input<'_>, text: State<String>) -> Option<Given<Subnet>> {
    let state = subnet(input, text);
    let given = input.required(state, "W5", SUBNET.expects);
    if let Some(given) = &given {
        input.sources.insert(SUBNET.key.to_owned(), given.place.source().clone());
    }
    given
}

/// W6.
fn required_gateway(
    input: &mut Input<'_>,
    text: State<String>,
    subnet: Option<&Given<Subnet>>,
) -> Option<Given<Ipv4Addr>> {
    let state = input.address(text);
    let expected = subnet.map_or_else(|| GATEWAY.expects.to_owned(), |subnet| subnet.value.expected());
    let given = input.required(state, "W6", &expected)?;
    input.sources.insert(GATEWAY.key.to_owned(), given.place.source().clone());
    if let Some(subnet) = subnet
        && let Some(reject) = subnet.value.refuses(given.value)
    {
        let finding = Finding::error(reject.code, "W6", &given.place, reject.phrase).value(&given.typed);
        input.findings.add(finding.related([&subnet.place]));
    }
    Some(given)
}

/// Row 4 for its own sake: overrides mean row 5, and a gateway is not needed.
fn default_row(input: &mut Input<'_>, defaults: &Defaults) -> DefaultRow {
    let mut plain =
        |field: &Field| (input.cell(NETWORKS, in_row(field, 4), &label(field, 4), Severity::Error), field.position(0));
    let (network, vlan_id, subnet_text, gateway) =
        (plain(&NETWORK).0, plain(&VLAN_ID).0, plain(&SUBNET).0, plain(&GATEWAY).0);
    let network = input.or(network, defaults.network.network_name.clone(), "default");
    let network = input.parsed(network, "W23", values::free_text).given().map(|given| given.value);
    let vlan_id = vlan(input, vlan_id, defaults).map(|given| given.value);
    let subnet = subnet(input, subnet_text);
    let subnet = input.required(subnet, "W5", SUBNET.expects);
    let gateway = input.address(gateway).given();
    DefaultRow { network, vlan_id, subnet, gateway }
}

/// W28.
fn warn_of_overlaps(input: &mut Input<'_>, networks: &Networks) {
    let default_row = networks.separate.as_ref().and_then(|row| row.subnet.as_ref());
    let all: Vec<&Given<Subnet>> =
        [default_row, networks.subnet.as_ref(), networks.storage.as_ref()].into_iter().flatten().collect();
    for (index, later) in all.iter().enumerate() {
        for earlier in &all[..index] {
            if later.value.overlaps(earlier.value) {
                let phrase = format!("overlaps {} of {}", earlier.value, earlier.place.with_label());
                let finding = Finding::warning("subnet_overlap", "W28", &later.place, phrase).value(&later.typed);
                input.findings.add(finding.related([&earlier.place]));
            }
        }
    }
}

/// The text of a field in the row in use.
fn cell(input: &mut Input<'_>, field: &Field, row: u32) -> State<String> {
    input.text_at(field, in_row(field, row), &label(field, row))
}

fn in_row(field: &Field, row: u32) -> Position {
    Position { row, column: field.position(0).map_or(1, |position| position.column) }
}

fn at(column: char, row: u32) -> Position {
    Position { row, column: u32::from(column) - u32::from('A') + 1 }
}

/// The header of the field's column and the words of the row.
fn label(field: &Field, row: u32) -> String {
    let header = field.label.split(',').next().unwrap_or_default();
    match row {
        5 => format!("{header}, （可选）Cloudtower,obs等组件"),
        _ => field.label.to_owned(),
    }
}
