//! CloudTower itself: row 3 of `集群管理信息`, and organisation and datacenter of `文档描述`.

use std::net::Ipv4Addr;

use gantry_proto::{
    Secret,
    plan::{Deployment, Source},
};

use crate::{
    defaults::{Defaults, PUBLISHED_PASSWORD, PasswordPolicy},
    fields::{
        DATACENTER, ORGANIZATION, ROOT_PASSWORD, SIZING, SSH_PASSWORD, SSH_USER, TOWER_IP, TOWER_SERIAL, TOWER_VERSION,
        VM_NAME, WEB_USER,
    },
    finding::{Finding, Place},
    input::{Given, Input, State},
    values::{self, Subnet},
};

/// What was read of CloudTower.
pub(crate) struct Tower {
    pub(crate) ip: Option<Given<Ipv4Addr>>,
    pub(crate) vm_name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) web_user: String,
    pub(crate) root_password: Option<Secret>,
    pub(crate) ssh_user: Option<String>,
    pub(crate) ssh_password: Option<Secret>,
    pub(crate) serial: Option<String>,
    pub(crate) sizing_text: Option<String>,
    pub(crate) organization: Option<String>,
    pub(crate) datacenter: Option<String>,
}

/// Reads CloudTower's row. `subnet` is the one of the network it goes on.
pub(crate) fn read(
    input: &mut Input<'_>,
    defaults: &Defaults,
    deployment: Option<&Deployment>,
    subnet: Option<&Given<Subnet>>,
) -> Tower {
    let (organization, datacenter) = names(input, defaults);
    let ip = ip(input, subnet);
    let vm_name = vm_name(input, defaults);
    let version = version(input, deployment);
    let web_user = web_user(input);
    let root_password = root_password(input, defaults, &web_user);
    let text = input.text(&SSH_USER);
    let text = input.or(text, Some(defaults.ssh.username.clone()), "cloudtower");
    let ssh_user = input.parsed(text, "W23", values::free_text).given();
    let ssh_user = input.settle(&SSH_USER, ssh_user);
    let ssh_password = ssh_password(input, defaults);
    let sizing_text = sizing(input, deployment);
    // A serial is no sign that CloudTower exists: the template ships with one (W27).
    let serial = input.remark(&TOWER_SERIAL);
    Tower {
        ip,
        vm_name,
        version,
        web_user,
        root_password,
        ssh_user,
        ssh_password,
        serial,
        sizing_text,
        organization,
        datacenter,
    }
}

/// W23; the datacenter's default comes from the organisation (`flow.md` 2.1).
fn names(input: &mut Input<'_>, defaults: &Defaults) -> (Option<String>, Option<String>) {
    let text = input.text(&ORGANIZATION);
    let text = input.or(text, Some(defaults.organization_name.clone()), "SMTX-HCI");
    let organization = input.parsed(text, "W23", values::free_text).given();
    let organization = input.settle(&ORGANIZATION, organization);
    let text = input.text(&DATACENTER);
    let mut text = input.or(text, defaults.datacenter_name.clone(), "");
    if let (State::Blank(place), Some(organization)) = (&text, &organization) {
        let source = Source::Derived { of: ORGANIZATION.key.to_owned() };
        text = input.filled(place.clone(), format!("{organization}-DC"), source);
    }
    let datacenter = input.parsed(text, "W23", values::free_text).given();
    let datacenter = input.settle(&DATACENTER, datacenter);
    (organization, datacenter)
}

/// W7, W8.
fn ip(input: &mut Input<'_>, subnet: Option<&Given<Subnet>>) -> Option<Given<Ipv4Addr>> {
    let text = input.text(&TOWER_IP);
    let state = input.address(text);
    let expected = subnet.map_or_else(|| TOWER_IP.expects.to_owned(), |subnet| subnet.value.expected());
    let given = input.required(state, "W7", &expected)?;
    input.sources.insert(TOWER_IP.key.to_owned(), given.place.source().clone());
    if let Some(subnet) = subnet
        && let Some(reject) = subnet.value.refuses(given.value)
    {
        let phrase = format!("{} ({})", reject.phrase, subnet.place.name());
        let finding = Finding::error(reject.code, "W8", &given.place, phrase).value(&given.typed);
        input.findings.add(finding.related([&subnet.place]));
    }
    Some(given)
}

/// W18: folded to lower case (N3), not refused.
fn vm_name(input: &mut Input<'_>, defaults: &Defaults) -> Option<String> {
    let text = input.text(&VM_NAME);
    let text = input.or(text, Some(defaults.vm_name.clone()), "cloudtower");
    let mut changed = false;
    let name = input.parsed(text, "W18", |name| {
        let lower = name.to_lowercase();
        changed = lower != name;
        values::vm_name(&lower)
    });
    let name = name.given();
    if let Some(given) = name.as_ref().filter(|_| changed) {
        let phrase = format!("is used in lower case: \"{}\"", input.shown(&given.value));
        input.findings.add(Finding::notice("lower_cased", "N3", &given.place, phrase).value(&given.typed));
    }
    input.settle(&VM_NAME, name)
}

fn version(input: &mut Input<'_>, deployment: Option<&Deployment>) -> Option<String> {
    let version = input.remark(&TOWER_VERSION)?;
    if let Some(name) = deployment.and_then(|deployment| deployment.iso.file_name.as_ref())
        && !name.contains(&version)
        && let Some(position) = TOWER_VERSION.position(0)
    {
        let place = Place::cell(TOWER_VERSION.sheet, position, TOWER_VERSION.label);
        let phrase = format!("is another version than that of the chosen ISO \"{}\"", crate::text::shown(name));
        input.findings.add(Finding::warning("version_differs", "5.1", &place, phrase).value(&version));
    }
    Some(version)
}

/// Only `root` can be created by the first set-up.
fn web_user(input: &mut Input<'_>) -> String {
    let text = input.text(&WEB_USER);
    let user = input.or(text, None, "root").given();
    if let Some(given) = &user
        && given.value != "root"
    {
        let phrase = "cannot be created: the first set-up knows the user \"root\" only, which is used";
        input.findings.add(Finding::warning("web_user", "5.1", &given.place, phrase).value(&given.typed));
        input.sources.insert(WEB_USER.key.to_owned(), Source::Default);
        return "root".to_owned();
    }
    input.settle(&WEB_USER, user).unwrap_or_else(|| "root".to_owned())
}

/// W13. Nothing of the value is told, not even which part of the policy it fails.
fn root_password(input: &mut Input<'_>, defaults: &Defaults, user: &str) -> Option<Secret> {
    let mut state = input.secret(&ROOT_PASSWORD);
    if let State::Blank(place) = &state
        && defaults.allow_default_root_password
    {
        let place = place.filled_from(Source::Default);
        let phrase = "is blank: the published default password is used, as the settings allow";
        input.findings.add(Finding::notice("default_used", "W13", &place, phrase));
        state = State::Given(Given { value: Secret::new(PUBLISHED_PASSWORD), typed: String::new(), place });
    }
    let PasswordPolicy { min_length, min_classes } = defaults.password_policy;
    let policy = format!(
        "a password of at least {min_length} characters from at least {min_classes} of lower case, upper case, digits and \
         others, without control characters and unlike the user name"
    );
    let given = input.required(state, "W13", &policy)?;
    if !satisfies(given.value.expose(), user, defaults.password_policy) {
        let phrase = format!("does not satisfy the password policy: expected {policy}");
        input.findings.add(Finding::error("password_policy", "W13", &given.place, phrase));
    } else if given.value.expose() == PUBLISHED_PASSWORD {
        let finding = Finding::warning("default_password", "W13", &given.place, "is the published default password");
        input.findings.add(finding.remedy("choose a password of your own"));
    }
    input.settle(&ROOT_PASSWORD, Some(given))
}

fn satisfies(password: &str, user: &str, policy: PasswordPolicy) -> bool {
    let kinds: [fn(char) -> bool; 4] = [
        |c| c.is_lowercase(),
        |c| c.is_uppercase(),
        |c| c.is_numeric(),
        |c| !c.is_lowercase() && !c.is_uppercase() && !c.is_numeric(),
    ];
    password.chars().count() >= policy.min_length
        && kinds.iter().filter(|kind| password.chars().any(**kind)).count() >= policy.min_classes
        && !password.chars().any(char::is_control)
        && !password.eq_ignore_ascii_case(user)
}

/// C32.
fn ssh_password(input: &mut Input<'_>, defaults: &Defaults) -> Option<Secret> {
    let mut state = input.secret(&SSH_PASSWORD);
    if let State::Blank(place) = &state {
        let (value, source, origin) = match &defaults.ssh.password {
            Some(configured) => (configured.0.clone(), Source::Configuration, "the password of the settings"),
            None => (Secret::new(PUBLISHED_PASSWORD), Source::Default, "the published default password"),
        };
        let place = place.filled_from(source);
        let phrase = format!("is blank: {origin} is used");
        input.findings.add(Finding::notice("default_used", "N6", &place.filled_from(Source::Default), phrase));
        state = State::Given(Given { value, typed: String::new(), place });
    }
    let given = state.given();
    input.settle(&SSH_PASSWORD, given)
}

/// `8vCPU\19GB-Mem\400GB Disk`: a number that differs from the VM's shape deserves a warning.
fn sizing(input: &mut Input<'_>, deployment: Option<&Deployment>) -> Option<String> {
    let text = input.remark(&SIZING)?;
    if let (Some(deployment), Some(planned)) = (deployment, sizes(&text))
        && let Some(position) = SIZING.position(0)
    {
        let vm = deployment.vm;
        let actual = (u64::from(vm.vcpu), vm.memory_bytes >> 30, vm.disk_bytes >> 30);
        if planned != actual {
            let place = Place::cell(SIZING.sheet, position, SIZING.label);
            let (vcpu, memory, disk) = actual;
            let phrase =
                format!("differs from the VM that will be made: {vcpu} vCPU, {memory} GiB memory, {disk} GiB disk");
            let finding = Finding::warning("sizing_differs", "R24", &place, phrase).value(&text);
            input.findings.add(finding.remedy("set deployment.vm.*, or correct the cell"));
        }
    }
    Some(text)
}

/// vCPU, memory and disk as worded; `None` when the text has another form.
fn sizes(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(['\\', '/', ',', '，', '、']).map(str::trim);
    let mut number = |unit: &str| {
        let part = parts.next()?.to_lowercase();
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        part[digits..].trim_start().starts_with(unit).then(|| part[..digits].parse().ok()).flatten()
    };
    Some((number("vcpu")?, number("g")?, number("g")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_wants_length_and_variety() {
        let good = |text| satisfies(text, "root", PasswordPolicy::default());
        for text in ["Abcdef12", "abcdef1!", "ABCDEF1!", "Ct#Plan2031x", "密码密码abcD1234"] {
            assert!(good(text), "{text}");
        }
        for text in ["", "Abc12!", "abcdefgh", "abcdefg1", "12345678", "Abcdef1\u{7}2", "root"] {
            assert!(!good(text), "{text}");
        }
        assert!(!satisfies("Admin#01", "admin#01", PasswordPolicy::default()));
    }

    #[test]
    fn sizes_are_read_from_their_usual_form_only() {
        assert_eq!(sizes("8vCPU\\19GB-Mem\\400GB Disk"), Some((8, 19, 400)));
        assert_eq!(sizes("4 vCPU / 12 GB / 100 GB"), Some((4, 12, 100)));
        for other in ["", "large", "8vCPU", "8vCPU\\Mem\\400GB", "19GB\\8vCPU\\400GB"] {
            assert_eq!(sizes(other), None, "{other}");
        }
    }
}
