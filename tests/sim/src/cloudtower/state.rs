//! What one CloudTower holds. No password is kept, only its digest.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Cluster, Configured, Datacenter, Inspection, LicenseMode, Modes, Options};
use crate::rng::{Chance, hex};
use crate::transcript::token_digest;

/// Tokens a tower remembers; the oldest go first.
const MAX_TOKENS: usize = 1000;
/// Tasks a tower remembers; the oldest go first.
const MAX_TASKS: usize = 1000;
/// Virtual time a task waits, and is done after.
const TASK_START: Duration = Duration::from_millis(500);
pub(super) const TASK_END: Duration = Duration::from_secs(2);
/// Virtual time a task stays invisible, in that mode.
const TASK_HIDDEN: Duration = Duration::from_secs(1);
/// Virtual time from set-up to a late licence.
const LICENSE_DELAY: Duration = Duration::from_secs(20);
/// A trial lasts 90 days.
const TRIAL: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The state of one CloudTower.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tower {
    /// Where it listens.
    pub address: Option<IpAddr>,
    /// The certificate that it shows, DER; not told over the control port.
    #[serde(skip)]
    pub certificate: Option<Vec<u8>>,
    /// When it first accepted connections.
    pub opened_at: Option<Timestamp>,
    /// When both root user and organisation were there; virtual time since the start.
    pub ready_at: Option<Duration>,
    /// Users.
    pub users: Vec<User>,
    /// Organisations.
    pub organizations: Vec<Organization>,
    /// NTP servers, in order.
    pub ntp: Vec<String>,
    /// Identity of the deploy record.
    pub deploy_id: String,
    /// Identity of the licence.
    pub license_id: String,
    /// Serial number of the licence.
    pub license_serial: String,
    /// When the licence was signed.
    pub signed_at: Option<Timestamp>,
    /// Tokens handed out.
    pub tokens: Vec<Token>,
    /// Tasks of changing calls.
    pub tasks: Vec<Task>,
    /// Datacenters.
    pub datacenters: Vec<Datacenter>,
    /// Clusters that were connected, with those that were removed again.
    pub clusters: Vec<Cluster>,
    /// What is configured for the clusters.
    pub configured: Configured,
    /// Inspections.
    pub inspections: Vec<Inspection>,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// Identity.
    pub id: String,
    /// Login name.
    pub username: String,
    /// SHA-256 of the password, hexadecimal.
    pub password_sha256: String,
    /// How it was created: `rest`, `graphql plain`, `graphql encoded` or `planted`.
    pub created_by: String,
}

/// An organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Organization {
    /// Identity.
    pub id: String,
    /// Name.
    pub name: String,
}

/// A session token, known by its digest only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// As in the transcript.
    pub digest: String,
    /// When it was handed out; virtual time since the start.
    pub issued: Duration,
}

/// A task of a changing REST call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Identity.
    pub id: String,
    /// What it does.
    pub description: String,
    /// What it made.
    pub resource_id: String,
    /// When it was created; virtual time since the start.
    pub created: Duration,
    /// How long it is at work.
    pub lasts: Duration,
    /// Code and words with which it fails.
    pub error: Option<(String, String)>,
}

impl Tower {
    /// A fresh tower with what others planted in it.
    pub(super) fn new(options: &Options, chance: &Chance, now: Timestamp) -> Self {
        let mut tower = Tower {
            deploy_id: chance.uuid("tower.deploy"),
            license_id: cuid(chance),
            license_serial: chance.uuid("tower.serial"),
            signed_at: Some(now),
            ..Tower::default()
        };
        for name in &options.planted_organizations {
            tower.organizations.push(Organization { id: cuid(chance), name: name.clone() });
        }
        if let Some(password) = &options.planted_root_password {
            tower.add_root(chance, password, "planted");
        }
        tower
    }

    /// The root user.
    pub fn root(&self) -> Option<&User> {
        self.users.iter().find(|user| user.username == "root")
    }

    /// Whether a password is the root user's.
    pub fn root_password_is(&self, password: &str) -> bool {
        self.root().is_some_and(|root| root.password_sha256 == digest(password))
    }

    pub(super) fn add_root(&mut self, chance: &Chance, password: &str, created_by: &str) -> String {
        let id = cuid(chance);
        self.users.push(User {
            id: id.clone(),
            username: "root".to_owned(),
            password_sha256: digest(password),
            created_by: created_by.to_owned(),
        });
        id
    }

    pub(super) fn add_organization(&mut self, chance: &Chance, name: &str) -> String {
        let id = cuid(chance);
        self.organizations.push(Organization { id: id.clone(), name: name.to_owned() });
        id
    }

    /// Notes that set-up is complete, once it is.
    pub(super) fn note_ready(&mut self, now: Duration) {
        if self.ready_at.is_none() && self.root().is_some() && !self.organizations.is_empty() {
            self.ready_at = Some(now);
        }
    }

    pub(super) fn add_token(&mut self, token: &str, now: Duration) {
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(Token { digest: token_digest(token), issued: now });
    }

    /// Whether a token is known and not expired.
    pub(super) fn admits(&self, token: &str, lifetime_s: u64, now: Duration) -> bool {
        let digest = token_digest(token);
        self.tokens.iter().any(|known| {
            known.digest == digest
                && (lifetime_s == 0 || now.saturating_sub(known.issued) < Duration::from_secs(lifetime_s))
        })
    }

    /// A task; `work`: how long it lasts, and how it fails when it does.
    pub(super) fn add_task(
        &mut self,
        chance: &Chance,
        description: &str,
        resource_id: &str,
        now: Duration,
        (lasts, error): (Duration, Option<(String, String)>),
    ) -> String {
        if self.tasks.len() >= MAX_TASKS {
            self.tasks.remove(0);
        }
        let id = cuid(chance);
        self.tasks.push(Task {
            id: id.clone(),
            description: description.to_owned(),
            resource_id: resource_id.to_owned(),
            created: now,
            lasts,
            error,
        });
        id
    }

    /// The deploy records with their licence.
    pub(super) fn deploys(&self, modes: &Modes, now: Duration) -> Value {
        let there = match modes.license {
            LicenseMode::NoDeploy => return json!([]),
            LicenseMode::Trial => true,
            LicenseMode::Null => false,
            LicenseMode::Late => self.ready_at.is_some_and(|ready| now >= ready + LICENSE_DELAY),
        };
        let license = if there { self.license() } else { Value::Null };
        json!([{ "id": self.deploy_id, "version": "4.7.1", "license": license }])
    }

    pub(super) fn license(&self) -> Value {
        let signed = self.signed_at.unwrap_or(Timestamp::UNIX_EPOCH);
        json!({
            "id": self.license_id, "license_serial": self.license_serial, "type": "TRIAL",
            "software_edition": "ENTERPRISE", "vendor": "SMTX",
            "sign_date": moment(signed), "expire_date": moment(signed.saturating_add(TRIAL).unwrap_or(signed)),
            "maintenance_start_date": null, "maintenance_end_date": null,
            "max_chunk_num": 0, "max_cluster_num": 0, "max_vm_num": 0, "used_vm_num": 0,
        })
    }
}

impl Task {
    /// As `get-tasks` shows it; `None` while it is not visible yet.
    pub(super) fn shown(&self, modes: &Modes, now: Duration) -> Option<Value> {
        let age = now.saturating_sub(self.created);
        if modes.task_late && age < TASK_HIDDEN {
            return None;
        }
        let (status, progress) = match age {
            age if age < TASK_START => ("PENDING", 0.0),
            age if age < self.lasts => ("EXECUTING", 0.5),
            _ if self.error.is_some() => ("FAILED", 0.5),
            _ => ("SUCCESSED", 1.0),
        };
        let error = self.error.as_ref().filter(|_| status == "FAILED");
        Some(json!({
            "id": self.id, "status": status, "progress": progress, "description": self.description,
            "error_code": error.map(|(code, _)| code), "error_message": error.map(|(_, message)| message), "resource_id": self.resource_id, "resource_type": null,
            "started_at": null, "finished_at": null, "steps": [],
        }))
    }
}

/// SHA-256 of a password, hexadecimal.
pub(super) fn digest(password: &str) -> String {
    hex(&Sha256::digest(password.as_bytes()))
}

/// An identity of the shape that the service uses: `c` and 24 letters or digits.
pub(super) fn cuid(chance: &Chance) -> String {
    format!("c{}", chance.hex::<12>("tower.id"))
}

/// RFC 3339 in UTC with milliseconds.
fn moment(timestamp: Timestamp) -> String {
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
