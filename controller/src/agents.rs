//! Which agents there are, which of them are in contact, and which one gets a job.

mod survey;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use gantry_proto::{AgentId, Code, v1};
use gantry_telemetry::{Loss, Signal};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use survey::{Ask, Looking};

use crate::{
    metrics::metrics,
    refusal::Refusal,
    store::{AgentRow, Store, StoreError},
};
use survey::{ASKS, Waiting};

/// Names that a message lists at most.
const LISTED: usize = 20;

/// The agents. What is stored survives; contact is in memory.
pub struct Agents {
    store: Arc<dyn Store>,
    /// One entry for each agent that has dialled or is being waited for: certificates and jobs bound it.
    live: Mutex<HashMap<AgentId, Live>>,
}

struct Live {
    in_contact: watch::Sender<bool>,
    orders: watch::Sender<u64>,
    seen: Option<Timestamp>,
    session: Option<Held>,
    sessions: u64,
    /// Who waits for a survey of this session.
    waiting: Option<Waiting>,
    /// What was lost of its telemetry, and how much of it waits, as it last told.
    telemetry: Option<(v1::TelemetryLoss, u64)>,
}

/// The newest session, and how it is ended from outside.
struct Held {
    number: u64,
    replaced: CancellationToken,
    recalled: CancellationToken,
    shut_out: CancellationToken,
    asks: mpsc::Sender<Ask>,
    /// What the agent can do beyond the protocol's version.
    capabilities: Vec<String>,
}

/// A session's hold on its agent: there is one at a time, and the newest wins.
pub struct Session {
    /// Number of the session of this agent.
    pub number: u64,
    /// Changes when there may be a new order.
    pub orders: watch::Receiver<u64>,
    /// Cancelled when a newer session takes over.
    pub replaced: CancellationToken,
    /// Cancelled when the agent has to say Hello again, because what its Welcome said holds no more.
    pub recalled: CancellationToken,
    /// Cancelled when the agent's certificate counts no more.
    pub shut_out: CancellationToken,
    /// What is asked of the agent beside orders.
    pub asks: mpsc::Receiver<Ask>,
}

fn loss(told: &v1::TelemetryLoss) -> Loss {
    Loss { spans: told.spans, log_records: told.log_records, data_points: told.data_points }
}

impl Agents {
    /// The agents of the store; nobody is in contact yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let known = store.agents().await?;
        let agents = Self { store, live: Mutex::default() };
        for (row, _) in known {
            agents.with(&row.id, |live| live.seen = Some(row.seen));
        }
        Ok(agents)
    }

    /// Begins a session; an older one of the same agent is told to end.
    pub fn connect(&self, agent: &AgentId, capabilities: &[String]) -> Session {
        let (asks, asked) = mpsc::channel(ASKS);
        self.with(agent, |live| {
            if let Some(older) = live.session.take() {
                tracing::warn!(%agent, session = older.number, "a newer session of the same agent takes over");
                older.replaced.cancel();
            }
            live.sessions += 1;
            live.seen = Some(Timestamp::now());
            let number = live.sessions;
            let held = Held {
                number,
                replaced: CancellationToken::new(),
                recalled: CancellationToken::new(),
                shut_out: CancellationToken::new(),
                asks,
                capabilities: capabilities.to_vec(),
            };
            let session = Session {
                number,
                orders: live.orders.subscribe(),
                replaced: held.replaced.clone(),
                recalled: held.recalled.clone(),
                shut_out: held.shut_out.clone(),
                asks: asked,
            };
            live.waiting = None;
            live.session = Some(held);
            live.in_contact.send_replace(true);
            session
        })
    }

    /// Ends a session, unless a newer one has taken over. Returns when the agent was last heard.
    pub fn disconnect(&self, agent: &AgentId, session: u64) -> Option<Timestamp> {
        self.with(agent, |live| {
            if live.session.as_ref().is_some_and(|held| held.number == session) {
                (live.session, live.waiting) = (None, None);
                live.in_contact.send_replace(false);
            }
            live.seen
        })
    }

    /// Has the agent say Hello again at once, if it is in contact.
    pub fn recall(&self, agent: &AgentId) {
        self.with(agent, |live| live.session.iter().for_each(|held| held.recalled.cancel()));
    }

    /// Ends the agent's session, if it has one: whoever holds it is to be looked at again.
    pub fn shut_out(&self, agent: &AgentId) {
        self.with(agent, |live| live.session.iter().for_each(|held| held.shut_out.cancel()));
    }

    /// The agent has said something.
    pub fn heard(&self, agent: &AgentId) {
        self.with(agent, |live| live.seen = Some(Timestamp::now()));
    }

    /// The agent has told what was lost of its telemetry, ever, and how much of it waits. What was lost since it last told
    /// is counted and logged; at the first time that cannot be said.
    pub fn told_telemetry(&self, agent: &AgentId, lost: v1::TelemetryLoss, waiting: u64) {
        let before = self.with(agent, |live| live.telemetry.replace((lost, waiting)));
        let Some((before, _)) = before else { return };
        let (before, now) = (loss(&before), loss(&lost));
        let more = |signal| now.of(signal).saturating_sub(before.of(signal));
        for signal in Signal::ALL {
            metrics().lost(signal, "agent", more(signal));
        }
        let (spans, records, points) = (more(Signal::Traces), more(Signal::Logs), more(Signal::Metrics));
        if spans + records + points > 0 {
            tracing::warn!(%agent, spans, records, points, "telemetry of the agent was lost: its spool was full");
        }
    }

    /// There may be a new order for the agent.
    pub fn wake(&self, agent: &AgentId) {
        self.with(agent, |live| live.orders.send_modify(|count| *count += 1));
    }

    /// Whether the agent is in contact, and when it was last heard.
    pub fn contact(&self, agent: &AgentId) -> (bool, Option<Timestamp>) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(agent).map_or((false, None), |live| (live.session.is_some(), live.seen))
    }

    /// Tells when contact is made or lost.
    pub fn watch(&self, agent: &AgentId) -> watch::Receiver<bool> {
        self.with(agent, |live| live.in_contact.subscribe())
    }

    /// All agents that have joined, or those of a site, also if they have never been in contact.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, site: &str) -> Result<Vec<v1::Agent>, StoreError> {
        let mut seen: HashMap<AgentId, _> =
            self.store.agents().await?.into_iter().map(|row| (row.0.id.clone(), row)).collect();
        let enrolled = self.store.enrollments().await?;
        let rows = enrolled.into_iter().filter(|row| site.is_empty() || row.site == site);
        Ok(rows
            .map(|enrolled| {
                let agent = match seen.remove(&enrolled.agent) {
                    Some((row, active_jobs)) => self.describe(row, active_jobs),
                    None => v1::Agent { agent_id: enrolled.agent.to_string(), ..v1::Agent::default() },
                };
                v1::Agent {
                    site: enrolled.site,
                    revoked: enrolled.revoked,
                    expires_micros: enrolled.expires.as_microsecond(),
                    asks_to_return: enrolled.returning,
                    ..agent
                }
            })
            .collect())
    }

    /// The agent that gets a job: the one that is named, the only one of a site, or the only one there is. Only agents of
    /// `sites` are looked at, unless that is empty.
    ///
    /// # Errors
    /// [`Code::AgentUnknown`], [`Code::NoAgent`] or [`Code::AgentAmbiguous`], with the names to choose from.
    pub async fn choose(&self, agent: &str, site: &str, sites: &[String]) -> Result<AgentRow, Refusal> {
        let shut_out: HashSet<AgentId> =
            self.store.enrollments().await?.into_iter().filter(|row| row.revoked).map(|row| row.agent).collect();
        let all = self.store.agents().await?.into_iter().map(|(row, _)| row);
        let open = |row: &AgentRow| !shut_out.contains(&row.id) && (sites.is_empty() || sites.contains(&row.site));
        let all: Vec<AgentRow> = all.filter(open).collect();
        if agent.is_empty() {
            return choose_by_site(all, site);
        }
        let Some(row) = all.into_iter().find(|row| row.id.as_str() == agent) else {
            let message = format!(
                "agent \"{}\" has never been in contact or was shut out, so no secret can be sealed to it: start it, or \
                 choose one of `ctl agents`",
                shortened(agent)
            );
            return Err(Refusal::new(Code::AgentUnknown, message));
        };
        if !site.is_empty() && row.site != site {
            let message = format!("agent \"{agent}\" is at site \"{}\", not at \"{}\"", row.site, shortened(site));
            return Err(Refusal::new(Code::NoAgent, message));
        }
        Ok(row)
    }

    fn describe(&self, row: AgentRow, active_jobs: u32) -> v1::Agent {
        let (in_contact, heard) = self.contact(&row.id);
        let telemetry = self.with(&row.id, |live| live.telemetry);
        v1::Agent {
            agent_id: row.id.to_string(),
            site: row.site,
            in_contact,
            seen_micros: heard.map_or(row.seen, |heard| heard.max(row.seen)).as_microsecond(),
            version: row.version,
            isos: row.isos,
            active_jobs,
            remote_address: row.remote_address,
            telemetry_waiting_bytes: telemetry.as_ref().map_or(0, |(_, waiting)| *waiting),
            telemetry_lost: telemetry.map(|(lost, _)| lost),
            ..v1::Agent::default()
        }
    }

    fn with<T>(&self, agent: &AgentId, act: impl FnOnce(&mut Live) -> T) -> T {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        act(live.entry(agent.clone()).or_insert_with(|| Live {
            in_contact: watch::Sender::new(false),
            orders: watch::Sender::new(0),
            seen: None,
            session: None,
            sessions: 0,
            waiting: None,
            telemetry: None,
        }))
    }
}

fn choose_by_site(mut all: Vec<AgentRow>, site: &str) -> Result<AgentRow, Refusal> {
    let names = |rows: &[AgentRow]| {
        let mut names: Vec<String> =
            rows.iter().take(LISTED).map(|row| format!("{} (site {})", row.id, row.site)).collect();
        if rows.len() > LISTED {
            names.push(format!("and {} more", rows.len() - LISTED));
        }
        names.join(", ")
    };
    let everyone = names(&all);
    if !site.is_empty() {
        all.retain(|row| row.site == site);
    }
    match all.len() {
        1 => Ok(all.remove(0)),
        0 if everyone.is_empty() => Err(Refusal::new(
            Code::NoAgent,
            "no agent has ever been in contact: make a token with `ctl agent token --site SITE`, and run `agent join TOKEN` \
             on the bastion host",
        )),
        0 => Err(Refusal::new(
            Code::NoAgent,
            format!("no agent of site \"{}\" has ever been in contact; there are: {everyone}", shortened(site)),
        )),
        _ => Err(Refusal::new(
            Code::AgentAmbiguous,
            format!("several agents could take the job: choose one with --agent (or --site): {}", names(&all)),
        )),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, site: &str) -> AgentRow {
        AgentRow {
            id: id.parse().unwrap(),
            site: site.to_owned(),
            version: String::new(),
            boot_id: String::new(),
            sealing_key: Vec::new(),
            isos: Vec::new(),
            remote_address: String::new(),
            seen: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_only_agent_needs_no_choice_and_several_are_listed() {
        let code = |rows: &[AgentRow], site| choose_by_site(rows.to_vec(), site).map_err(|refused| refused.code);
        let (a, b, c) = (row("a", "s1"), row("b", "s1"), row("c", "s2"));
        assert_eq!(code(std::slice::from_ref(&a), ""), Ok(a.clone()));
        assert_eq!(code(&[a.clone(), c.clone()], "s2"), Ok(c.clone()));
        assert_eq!(code(&[], ""), Err(Code::NoAgent));
        assert_eq!(code(std::slice::from_ref(&a), "s9"), Err(Code::NoAgent));
        let refused = choose_by_site(vec![a, b, c], "s1").unwrap_err();
        assert_eq!(refused.code, Code::AgentAmbiguous);
        assert!(refused.message.contains("a (site s1), b (site s1)") && !refused.message.contains("s2"));
    }
}
