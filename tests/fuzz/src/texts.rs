//! Texts from outside that are read without much ado: what the guest prints, files that people carry, exported logs,
//! names. The first byte chooses.

use std::{str::FromStr, time::Duration};

use gantry_agent::{
    Settings, cloudtower,
    guest::{Captured, Status, installer::Reader, quote, resolv},
    http::answer_summary,
    iso::IsoName,
};
use gantry_controller::{Config, authority::KeyRequest, peer::Shown};
use gantry_proto::{
    AgentId, JobId, JoinFile, JoinToken, OperatorProfile, REDACTED, Redactor, Secret,
    audit::{Head, Verifier},
    trace::admit,
};

use super::input::{choice, parts};

/// What can be done with a text.
const READERS: [fn(&[u8]); 8] = [installer, status, resolver, audit, join, settings, redactor, names];

pub(crate) fn run(input: &[u8]) {
    let (chosen, rest) = choice(input);
    READERS[chosen % READERS.len()](rest);
}

/// The pieces of an installer's log; it makes no difference where it was cut.
fn installer(input: &[u8]) {
    let (mut cut, mut whole, mut kept) = (Reader::default(), Reader::default(), Captured::new(256));
    for part in parts(input) {
        cut.push(part);
        kept.push(part);
    }
    whole.push(&parts(input).collect::<Vec<_>>().concat());
    assert_eq!((cut.success(), cut.tail(), cut.last_line()), (whole.success(), whole.tail(), whole.last_line()));
    assert!(kept.bytes().len() <= 1_024);
    kept.text();
    let (status, hour) = (Status::default(), Duration::from_secs(3_600));
    whole.verdict(&status, Duration::ZERO, hour);
    whole.verdict(&status, hour, hour);
    assert!(whole.failed_checks().len() <= whole.named_checks().len());
}

fn status(input: &[u8]) {
    let status = Status::parse(input);
    assert!(!(status.alive && status.has_ended()));
    Reader::default().verdict(&status, Duration::ZERO, Duration::from_secs(1));
}

fn resolver(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let planned: Vec<_> = resolv::parse(&text).iter().filter_map(|server| server.parse().ok()).collect();
    assert!(resolv::servers(&planned).len() <= 3);
    let servers = cloudtower::split_servers(&text);
    assert!(cloudtower::same_servers(&servers, &servers));
    assert!(quote(&text).len() >= text.replace('\0', "").len());
}

/// The first line is the head that is known.
fn audit(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (known, rest) = text.split_once('\n').unwrap_or(("", &text));
    let known: Option<Head> = known.parse().ok();
    let mut verifier = Verifier::new(known);
    rest.lines().for_each(|line| verifier.line(line));
    let verified = verifier.end();
    verified.faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
}

fn join(input: &[u8]) {
    if let Ok(join) = serde_json::from_slice::<JoinFile>(input) {
        assert!(join.key_pem.expose().len() < 8 || !format!("{join:?}").contains(join.key_pem.expose()));
    }
    let _not_a_profile = toml::from_str::<OperatorProfile>(&String::from_utf8_lossy(input));
    let _nobody = Shown::of(input);
    let _no_request = KeyRequest::read(input);
    let _no_token = JoinToken::parse(&String::from_utf8_lossy(input));
}

fn settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(settings) = toml::from_str::<Settings>(&text) {
        settings.timing.scaled(settings.timing.read_retry_cap_s);
    }
    if let Ok(config) = toml::from_str::<Config>(&text) {
        let _does_not_make_sense = config.check();
    }
}

/// The first part is a secret, which does not get through the others.
fn redactor(input: &[u8]) {
    let redactor = Redactor::new();
    let mut parts = parts(input);
    let secret = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    redactor.register(&Secret::new(secret.as_str()));
    // A secret of those characters could come about from what stands in its place.
    let checked = secret.len() >= 8 && !secret.contains(|c| REDACTED.contains(c));
    for part in parts {
        let clean = redactor.bytes(part);
        assert!(!(checked && clean.contains(&secret)), "a secret is shown");
        answer_summary(&redactor, part);
        if let Ok(mut value) = serde_json::from_slice(part) {
            redactor.json(&mut value);
        }
    }
}

fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(name) = IsoName::parse(&text) {
        assert!(name.is_version(&name.version));
    }
    if let Ok(agent) = AgentId::from_str(&text) {
        assert!(!agent.as_str().contains('/') && !agent.as_str().starts_with('.'));
    }
    if let Ok(job) = JobId::from_str(&text) {
        assert_eq!(job.to_string().parse(), Ok(job));
    }
    admit([(text.to_string(), text.to_string()), ("traceparent".to_owned(), text.to_string())]);
}
