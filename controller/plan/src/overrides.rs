//! The mistakes in `--set key=value` that concern the key: unknown, a secret, a fixed field, a blank value.

use std::collections::BTreeMap;

use crate::{
    fields::{Access, FIELDS, Field},
    finding::{Finding, Findings, Place},
    text,
};

/// How many similar keys are offered.
const OFFERED: usize = 3;

/// Every key that an override may name, in the order of the help text.
pub fn settable() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| field.access == Access::Settable)
}

/// Reports overrides that cannot be used.
pub(crate) fn check(overrides: &BTreeMap<String, String>, findings: &mut Findings) {
    for (key, value) in overrides {
        let shown = text::shown(key);
        let place = Place::setting(&shown);
        match FIELDS.iter().find(|field| field.key == key) {
            Some(field) if field.access == Access::Settable => {
                if text::clean(value).is_empty() {
                    let phrase = format!("is blank: expected {}", field.expects);
                    findings.add(Finding::error("blank_override", "SET", &place, phrase));
                }
            }
            Some(Field { access: Access::Fixed, .. }) => findings.add(
                Finding::error("fixed_field", "SET", &place, "cannot be set: its value comes from the workbook only")
                    .remedy("change the workbook"),
            ),
            _ if names_a_secret(key) => findings.add(
                Finding::error(
                    "secret_on_command_line",
                    "SET",
                    &place,
                    "is a secret and cannot be set here: everybody on the machine can read a command line",
                )
                .remedy("write it into the workbook, or into the controller's settings"),
            ),
            _ => findings.add(
                Finding::error("unknown_key", "SET", &place, format!("there is no value called \"{shown}\""))
                    .remedy(format!("did you mean {}?", similar(key).join(", "))),
            ),
        }
    }
}

fn names_a_secret(key: &str) -> bool {
    let secret = FIELDS.iter().any(|field| field.access == Access::Secret && field.key == key);
    secret || ["password", "passwd", "secret", "token"].iter().any(|word| key.to_lowercase().contains(word))
}

/// The keys that are nearest by letters, the nearest first.
fn similar(key: &str) -> Vec<&'static str> {
    let wanted: String = key.to_lowercase().chars().take(80).collect();
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let mut keys: Vec<_> = settable()
        .map(|field| {
            let whole = distance(&wanted, field.key);
            // `vlan_id` means `management_network.vlan_id`.
            (whole.min(distance(&last(&wanted), &last(field.key)) + 1), field.key)
        })
        .collect();
    keys.sort_unstable();
    keys.into_iter().take(OFFERED).map(|(_, key)| key).collect()
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, d) in other.iter().enumerate() {
            let changed = diagonal + usize::from(c != *d);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_keys_are_offered() {
        assert_eq!(similar("cloudtower.i").first(), Some(&"cloudtower.ip"));
        assert_eq!(similar("vlan_id").first(), Some(&"management_network.vlan_id"));
        assert_eq!(similar("Organisation").first(), Some(&"organization"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
