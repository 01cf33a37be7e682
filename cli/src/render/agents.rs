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
        return say!("no agents\n", "没有代理\n");
    }
    let heading = [
        word!("AGENT", "代理"),
        word!("SITE", "站点"),
        word!("CONTACT", "联系"),
        word!("VERSION", "版本"),
        word!("JOBS", "作业数"),
        word!("ISO FILES", "ISO 文件"),
    ];
    let mut text = table(&heading, agents.iter().map(|a| row(a, now)), columns);
    for agent in agents {
        for note in notes(agent, now) {
            let _ = writeln!(text, "{}{}{note}", clean(&agent.agent_id), word!(": ", "："));
        }
    }
    text
}

/// What an operator should know of its identity, and what to do.
fn notes(agent: &v1::Agent, now: Timestamp) -> Vec<String> {
    let (id, site) = (clean(&agent.agent_id), clean(&agent.site));
    if agent.revoked {
        return vec![say!(
            "shut out; to let it in again: ctl agent token --site {site} --agent {id}",
            "已吊销；重新加入：ctl agent token --site {site} --agent {id}"
        )];
    }
    let mut notes = Vec::new();
    if !agent.asks_to_return.is_empty() {
        let key = clean(&agent.asks_to_return);
        notes.push(say!(
            "asks to come back; compare the key with its log, then: ctl agent approve {id} --key {key}",
            "申请恢复；请与其日志核对密钥后执行：ctl agent approve {id} --key {key}"
        ));
    }
    let Some(end) = units::from_micros(agent.expires_micros) else { return notes };
    let until = units::time(end);
    if end <= now && agent.asks_to_return.is_empty() {
        notes.push(say!(
            "its certificate has expired on {until}: it asks to come back as soon as it reaches the controller",
            "证书已于 {until} 过期：连上控制器后会自动申请恢复"
        ));
    } else if end <= now {
        notes.push(say!("its certificate has expired on {until}", "证书已于 {until} 过期"));
    } else if end.duration_since(now) < NEAR {
        notes.push(say!(
            "its certificate expires on {until}: it renews it when it is in contact",
            "证书将于 {until} 到期：恢复联系后会自动续期"
        ));
    }
    notes
}

fn row(agent: &v1::Agent, now: Timestamp) -> Vec<String> {
    let contact = match units::from_micros(agent.seen_micros) {
        _ if agent.in_contact => say!("yes", "在线"),
        Some(seen) => {
            let since = units::duration(units::between(seen, now));
            say!("lost {since} ago", "已失联 {since}")
        }
        None => say!("never", "从未联系"),
    };
    let isos: Vec<_> = agent.isos.iter().map(|iso| format!("{} ({})", iso.name, units::bytes(iso.size))).collect();
    let isos = if isos.is_empty() { say!("none", "无") } else { isos.join(", ") };
    vec![
        agent.agent_id.clone(),
        agent.site.clone(),
        contact,
        agent.version.clone(),
        agent.active_jobs.to_string(),
        isos,
    ]
}
