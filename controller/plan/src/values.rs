//! Text to value, one function a kind. Pure: no cell, no severity; a [`Reject`] says what is wrong in words.

use std::{fmt, net::Ipv4Addr};

/// Why a text is no value of its kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    /// The stable word of the finding.
    pub(crate) code: &'static str,
    /// What is wrong and what was expected: follows the value in quotes.
    pub(crate) phrase: String,
}

impl Reject {
    pub(crate) fn new(code: &'static str, phrase: impl Into<String>) -> Self {
        Self { code, phrase: phrase.into() }
    }
}

/// W4: four decimal numbers, nothing else.
pub(crate) fn ipv4(text: &str) -> Result<Ipv4Addr, Reject> {
    const EXPECTED: &str = "expected an IPv4 address of four decimal numbers from 0 to 255, such as 192.0.2.20";
    let invalid = |why: &str| Reject::new("invalid_address", format!("{why}: {EXPECTED}"));
    if text.contains(':') && !text.contains('.') || text.matches(':').count() > 1 {
        return Err(Reject::new("ipv6_address", format!("is an IPv6 address, which is not supported: {EXPECTED}")));
    }
    if text.contains('/') {
        return Err(invalid("has a prefix length, which does not belong here"));
    }
    if text.contains(':') {
        return Err(invalid("has a port, which does not belong here"));
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 4 || parts.iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit())) {
        return Err(invalid("is not an IPv4 address"));
    }
    if parts.iter().any(|part| part.len() > 1 && part.starts_with('0')) {
        return Err(invalid("has a number with a leading zero"));
    }
    let mut octets = [0; 4];
    for (octet, part) in octets.iter_mut().zip(&parts) {
        *octet = part.parse().map_err(|_| invalid("has a number above 255"))?;
    }
    Ok(Ipv4Addr::from(octets))
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    network: u32,
    prefix: u32,
}

impl Subnet {
    fn mask(self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    pub(crate) fn netmask(self) -> Ipv4Addr {
        self.mask().into()
    }

    pub(crate) fn network(self) -> Ipv4Addr {
        self.network.into()
    }

    pub(crate) fn broadcast(self) -> Ipv4Addr {
        (self.network | !self.mask()).into()
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.network
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// Why a host cannot have this address; `None` when it can.
    pub(crate) fn refuses(self, address: Ipv4Addr) -> Option<Reject> {
        let (code, why) = if !self.contains(address) {
            ("not_in_subnet", format!("is not in the subnet {self}"))
        } else if address == self.network() {
            ("network_address", format!("is the network address of {self}"))
        } else if address == self.broadcast() {
            ("broadcast_address", format!("is the broadcast address of {self}"))
        } else {
            return None;
        };
        Some(Reject::new(code, format!("{why}: expected {}", self.expected())))
    }

    /// What an address of this network looks like.
    pub(crate) fn expected(self) -> String {
        format!("an IPv4 address in {self} other than {} and {}", self.network(), self.broadcast())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

/// W5: CIDR with a prefix of 8 to 30, or with a dotted mask. The flag tells that host bits were set.
pub(crate) fn subnet(text: &str) -> Result<(Subnet, bool), Reject> {
    const EXPECTED: &str = "expected an IPv4 network with a prefix length from 8 to 30, such as 192.0.2.0/24";
    let invalid = |why: &str| Reject::new("invalid_subnet", format!("{why}: {EXPECTED}"));
    let Some((address, length)) = text.split_once('/') else {
        return Err(invalid("is not a network in CIDR form (the prefix length is missing)"));
    };
    let (address, length) = (address.trim(), length.trim());
    let address = ipv4(address).map_err(|_| invalid("is not a network in CIDR form"))?;
    let prefix = if length.contains('.') {
        let mask = u32::from(ipv4(length).map_err(|_| invalid("has a netmask that is none"))?);
        if mask.leading_ones() + mask.trailing_zeros() != 32 {
            return Err(invalid("has a netmask that is none"));
        }
        mask.leading_ones()
    } else if !length.is_empty() && length.len() <= 2 && length.bytes().all(|b| b.is_ascii_digit()) {
        length.parse().map_err(|_| invalid("has no prefix length"))?
    } else {
        return Err(invalid("has no valid prefix length"));
    };
    if !(8..=30).contains(&prefix) {
        return Err(invalid("has a prefix length out of range"));
    }
    let network = u32::from(address) & (u32::MAX << (32 - prefix));
    Ok((Subnet { network, prefix }, network != u32::from(address)))
}

/// W24: ranges that no machine can have as its address.
pub(crate) fn unusable(address: Ipv4Addr) -> Option<Reject> {
    let range = match address.octets()[0] {
        0 => "of 0.0.0.0/8 (\"this network\")",
        224..=239 => "a multicast address",
        240..=255 => "of the reserved range 240.0.0.0/4",
        _ => return None,
    };
    Some(Reject::new("unusable_address", format!("is {range}: expected an address that a machine can have")))
}

/// W15.
pub(crate) fn vlan(text: &str) -> Result<u16, Reject> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse::<u16>().ok()).flatten();
    number.filter(|id| *id <= 4094).ok_or_else(|| {
        Reject::new("invalid_vlan", "is not a VLAN id: expected a whole number from 0 (untagged) to 4094")
    })
}

/// W18, the text already in lower case.
pub(crate) fn vm_name(text: &str) -> Result<String, Reject> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = text.len() <= 63 && text.chars().all(allowed) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if fits {
        return Ok(text.to_owned());
    }
    Err(Reject::new(
        "invalid_name",
        "cannot be the name of a VM: expected 1 to 63 letters, digits, '.', '_' or '-', the first one a letter or digit",
    ))
}

/// W23 and other free text.
pub(crate) fn free_text(text: &str) -> Result<String, Reject> {
    if text.chars().any(char::is_control) {
        return Err(Reject::new("control_character", "contains a control character: expected plain text"));
    }
    if text.chars().count() > 255 {
        return Err(Reject::new("too_long", "is too long: expected at most 255 characters"));
    }
    Ok(text.to_owned())
}

/// W17.
pub(crate) fn vds_name(text: &str) -> Result<String, Reject> {
    if crate::text::compact(text) == "(ipmi)" {
        return Err(Reject::new(
            "invalid_vds",
            "marks the BMC network, not a virtual switch: expected the name of the switch that carries the management network",
        ));
    }
    free_text(text)
}

/// W19: an address or a host name.
pub(crate) fn server(text: &str) -> Result<String, Reject> {
    if let Ok(address) = ipv4(text) {
        return Ok(address.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only looks like an address and can be no name.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if text.len() <= 253 && text.split('.').all(label) && !numeric {
        return Ok(text.to_owned());
    }
    Err(Reject::new("invalid_server", "is neither an IPv4 address nor a host name"))
}

/// N10: one cell may hold several servers.
pub(crate) fn entries(text: &str) -> Vec<&str> {
    let separator = |c: char| matches!(c, ',' | '，' | ';' | '；' | '、') || c.is_whitespace();
    text.split(separator).filter(|entry| !entry.is_empty()).collect()
}

/// A whole number within a range.
pub(crate) fn whole(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Reject> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| range.contains(number)).ok_or_else(|| {
        let (from, to) = range.into_inner();
        Reject::new("invalid_value", format!("is not acceptable: expected a whole number from {from} to {to}"))
    })
}

/// The words for a switch.
pub(crate) const BOOLEANS: &[(&str, bool)] = &[("true", true), ("false", false)];

/// One of some words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Reject> {
    let found = words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        Reject::new("invalid_value", format!("is not acceptable: expected {}", words.join(" or ")))
    })
}

/// A digest of this many hexadecimal digits, in lower case.
pub(crate) fn digest(text: &str, digits: usize) -> Result<String, Reject> {
    if text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Reject::new("invalid_value", format!("is no digest: expected {digits} hexadecimal digits")))
}

/// A file name without a folder.
pub(crate) fn file_name(text: &str) -> Result<String, Reject> {
    if text.contains(['/', '\\']) || text.starts_with('.') {
        return Err(Reject::new("invalid_value", "is not acceptable: expected a file name without a folder"));
    }
    free_text(text)
}

#[cfg(test)]
mod tests;
