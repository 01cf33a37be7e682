//! NTP and DNS servers: rows 22 to 26 of `集群管理信息`.

use std::{collections::BTreeSet, net::Ipv4Addr};

use gantry_proto::{Severity, plan::Source};

use crate::{
    defaults::Defaults,
    fields::{DNS, Field, NTP},
    finding::{Finding, Place},
    input::{Given, Input, State},
    text,
    values::{self, Reject},
};

/// The servers in order, without duplicates.
pub(crate) struct Servers {
    pub(crate) ntp: Vec<String>,
    pub(crate) dns: Vec<Ipv4Addr>,
    /// The addresses among them, for W9.
    pub(crate) addresses: Vec<Given<Ipv4Addr>>,
}

/// Reads both lists.
pub(crate) fn read(input: &mut Input<'_>, defaults: &Defaults) -> Servers {
    let mut addresses = Vec::new();
    let ntp = list(input, &NTP, &defaults.ntp_servers, &mut addresses);
    let configured: Vec<String> = defaults.dns_servers.iter().map(Ipv4Addr::to_string).collect();
    let dns = list(input, &DNS, &configured, &mut addresses);
    if let (Some(ntp), Some(place)) = (&ntp, place(&NTP, 0))
        && ntp.len() == 2
    {
        let phrase = "exactly two NTP servers are given: when they disagree, nobody can tell which one is right";
        input
            .findings
            .add(Finding::warning("two_ntp_servers", "W21", &place, phrase).remedy("give one, or three or more"));
    }
    let dns = dns.unwrap_or_default().iter().filter_map(|entry| entry.parse().ok()).collect();
    Servers { ntp: ntp.unwrap_or_default(), dns, addresses }
}

/// The good entries of one list; `None` when an entry is wrong or the sheet cannot be used.
fn list(
    input: &mut Input<'_>,
    field: &Field,
    configured: &[String],
    addresses: &mut Vec<Given<Ipv4Addr>>,
) -> Option<Vec<String>> {
    let mut texts = texts(input, field);
    if texts.iter().all(|text| matches!(text, State::Blank(_))) {
        let first = place(field, 0)?;
        if configured.is_empty() {
            let (code, what) = if field.key == NTP.key { ("no_ntp", "NTP") } else { ("no_dns", "DNS") };
            let phrase = format!("no {what} server is given: the step that sets them is left out");
            input.findings.add(Finding::warning(code, "W22", &first, phrase));
            return Some(Vec::new());
        }
        texts = vec![input.filled(first, configured.join(", "), Source::Configuration)];
    }
    let wrong = texts.iter().any(|text| matches!(text, State::Wrong));
    let (mut servers, mut seen, mut good) = (Vec::new(), BTreeSet::new(), !wrong);
    for given in texts.into_iter().filter_map(State::given) {
        input.sources.entry(field.key.to_owned()).or_insert_with(|| given.place.source().clone());
        match entries(input, field, &given) {
            Some(entries) => {
                let new = entries.into_iter().filter(|(server, _)| seen.insert(server.to_lowercase()));
                for (server, address) in new {
                    if let Some(value) = address {
                        addresses.push(Given { value, typed: given.typed.clone(), place: given.place.clone() });
                    }
                    let key = format!("{}[{}]", field.key, servers.len());
                    input.sources.insert(key, given.place.source().clone());
                    servers.push(server);
                }
            }
            None => good = false,
        }
    }
    good.then_some(servers)
}

/// The override alone, or every cell of the field.
fn texts(input: &mut Input<'_>, field: &Field) -> Vec<State<String>> {
    let Some(position) = field.position(0) else { return Vec::new() };
    let first = input.text_at(field, position, &label(field, 0));
    if matches!(&first, State::Given(given) if *given.place.source() == Source::Override) {
        return vec![first];
    }
    let mut all = vec![first];
    for index in 1..field.cells.len() {
        if let Some(position) = field.position(index) {
            all.push(input.cell(field.sheet, position, &label(field, index), Severity::Error));
        }
    }
    all
}

/// The servers in one cell (N10); one finding for all of its wrong entries.
fn entries(input: &mut Input<'_>, field: &Field, given: &Given<String>) -> Option<Vec<(String, Option<Ipv4Addr>)>> {
    let folded = text::fold(&given.value);
    if values::entries(&folded) != values::entries(&given.value) {
        let phrase = format!("is read as \"{}\"", input.shown(&values::entries(&folded).join(", ")));
        input.findings.add(Finding::notice("normalised", "N2", &given.place, phrase).value(&given.typed));
    }
    let (mut servers, mut wrong) = (Vec::new(), Vec::new());
    let mut first: Option<(Reject, &str)> = None;
    for entry in values::entries(&folded) {
        match server(field, entry) {
            Ok(server) => servers.push(server),
            Err((reject, rule)) => {
                wrong.push(format!("{} {}", input.shown(entry), why(field, entry, &reject)));
                first.get_or_insert((reject, rule));
            }
        }
    }
    let Some((reject, rule)) = first else {
        for (_, address) in &servers {
            if let Some(address) = address {
                input.note_special(*address, &given.place);
            }
        }
        return Some(servers);
    };
    let expected = if field.key == DNS.key { "IPv4 addresses" } else { "IPv4 addresses or host names" };
    let reject =
        Reject { code: reject.code, phrase: format!("holds a wrong entry: {}; expected {expected}", wrong.join(", ")) };
    input.reject(&reject, rule, &given.place, &given.typed);
    None
}

/// What is wrong with one entry. What is expected is said once, behind all of them.
fn why<'a>(field: &Field, entry: &str, reject: &'a Reject) -> &'a str {
    if field.key == DNS.key && reject.code == "invalid_address" && values::server(entry).is_ok() {
        return "is a name: name servers must be IPv4 addresses";
    }
    reject.phrase.split_once(": expected").map_or(reject.phrase.as_str(), |(why, _)| why)
}

/// W19, W20, W24 for one entry, with the rule that refuses it.
fn server(field: &Field, entry: &str) -> Result<(String, Option<Ipv4Addr>), (Reject, &'static str)> {
    let address = if field.key == DNS.key {
        Some(values::ipv4(entry).map_err(|reject| (reject, "W20"))?)
    } else {
        values::server(entry).map_err(|reject| (reject, "W19"))?.parse().ok()
    };
    match address.and_then(values::unusable) {
        Some(reject) => Err((reject, "W24")),
        None => Ok((entry.to_owned(), address)),
    }
}

fn place(field: &Field, index: usize) -> Option<Place> {
    Some(Place::cell(field.sheet, field.position(index)?, label(field, index)))
}

fn label(field: &Field, index: usize) -> String {
    format!("{}{}", field.label, index + 1)
}
