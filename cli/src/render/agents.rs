//! The list of agents with the ISO files that they offer.

use std::fmt::Write as _;

use gantry_proto::v1;
use jiff::{SignedDuration, Timestamp};

use super::{table::table, text::clean, units};

/// An agent that does not renew its certificate of 30 days so near to its end is out of contact for long.
const NEAR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One row an agent; its ISO files below one another.
pub(crate) fn text(agents: &[v1::Agent], now: Timestamp, columns: usize) -> String {
    if agents.is_empty() {
        return "no agents\n".to_owned();
    }
    let heading = ["AGENT", "SITE", "CONTACT", "VERSION", "JOBS", "ISO FILES"];
    let mut text = table(&heading, agents.iter().map(|a| row(a, now)), columns);
    for agent in agents {
        for note in notes(agent, now) {
            let _ = writeln!(text, "{}: {note}", clean(&agent.agent_id));
        }
    }
    text
}

/// What an operator should know of its identity, and what to do.
fn notes(agent: &v1::Agent, now: Timestamp) -> Vec<String> {
    let (id, site) = (clean(&agent.agent_id), clean(&agent.site));
    if agent.revoked {
        return vec![format!("shut out; to let it in again: ctl agent token --site {site} --agent {id}")];
    }
    let mut notes = Vec::new();
    if !agent.asks_to_return.is_empty() {
        let key = clean(&agent.asks_to_return);
        notes
            .push(format!("asks to come back; compare the key with its log, then: ctl agent approve {id} --key {key}"));
    }
    match units::from_micros(agent.expires_micros) {
        Some(end) if end <= now && agent.asks_to_return.is_empty() => notes.push(format!(
            "its certificate has expired on {}: it asks to come back as soon as it reaches the controller",
            units::time(end)
        )),
        Some(end) if end <= now => notes.push(format!("its certificate has expired on {}", units::time(end))),
        Some(end) if end.duration_since(now) < NEAR => {
            notes.push(format!("its certificate expires on {}: it renews it when it is in contact", units::time(end)))
        }
        _ => {}
    }
    notes
}

fn row(agent: &v1::Agent, now: Timestamp) -> Vec<String> {
    let contact = match units::from_micros(agent.seen_micros) {
        _ if agent.in_contact => "yes".to_owned(),
        Some(seen) => format!("lost {} ago", units::duration(units::between(seen, now))),
        None => "never".to_owned(),
    };
    let isos: Vec<_> = agent.isos.iter().map(|iso| format!("{} ({})", iso.name, units::bytes(iso.size))).collect();
    let isos = if isos.is_empty() { "none".to_owned() } else { isos.join(", ") };
    vec![
        agent.agent_id.clone(),
        agent.site.clone(),
        contact,
        agent.version.clone(),
        agent.active_jobs.to_string(),
        isos,
    ]
}
