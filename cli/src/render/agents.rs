//! The list of agents with the ISO files that they offer.

use gantry_proto::v1;
use jiff::Timestamp;

use super::{table::table, units};

/// One row an agent; its ISO files below one another.
pub(crate) fn text(agents: &[v1::Agent], now: Timestamp, columns: usize) -> String {
    if agents.is_empty() {
        return "no agents\n".to_owned();
    }
    table(&["AGENT", "SITE", "CONTACT", "VERSION", "JOBS", "ISO FILES"], agents.iter().map(|a| row(a, now)), columns)
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
