//! The CloudTower service: set-up over GraphQL, a part of the REST interface (`cloudtower.md` 3 to 5.3). Knows nothing of
//! how it was installed, only when it opens.

mod clusters;
mod configured;
mod credentials;
mod graphql;
mod inspector;
mod query;
mod rest;
mod service;
mod state;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::Core;

pub use clusters::{Cluster, Connect, Datacenter, SecondCluster, Settings};
pub use configured::{ClusterAlert, ClusterSettings, Configure, Configured, Graph, View};
pub use inspector::{Inspection, Inspector};
pub use service::serve;
pub use state::{Organization, Task, Token, Tower, User};

/// The password every installation starts with, as published (`cloudtower.md` 1.2).
const DEFAULT_PASSWORD: &str = "HC!r0cks";
/// An invented value of the shape of an encoded password (`cloudtower.md` 4.1).
const EXAMPLE_ENCODED: &str = "MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmY6WlhoaGJYQnNaUzFqYVhCb1pYSXhOZz09";

/// Settings of the service. Times are virtual.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Seconds from the installer's success line to the first accepted connection; negative = before it (-20 to 240).
    pub opens_after_success_s: i64,
    /// Seconds of 502 after opening.
    pub bad_gateway_s: u64,
    /// Seconds of 503 after those.
    pub unavailable_s: u64,
    /// Seconds a token lives; 0 = for ever.
    pub token_lifetime_s: u64,
    /// Encoded passwords that the service can read, each with its plain text.
    pub encoded_passwords: BTreeMap<String, String>,
    /// Organisations that somebody else created (W6).
    pub planted_organizations: Vec<String>,
    /// The password of a root user that somebody else created (W5).
    pub planted_root_password: Option<String>,
    /// Addresses of further clusters that CloudTower reaches, with the credentials of the one that is simulated.
    pub further_clusters: Vec<IpAddr>,
    /// Answer time of changing calls in milliseconds, `[low, high]`.
    pub change_ms: [u64; 2],
    /// Answer time of reading calls in milliseconds, `[low, high]`.
    pub read_ms: [u64; 2],
}

/// Switchable behaviours of the service; all act at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {
    /// `POST /v2/api/create-root-user` (P1).
    pub create_root_user: CreateRootUser,
    /// GraphQL `createUser` without encoding is refused (P2).
    pub plain_create_user_refused: bool,
    /// A second `createUser`.
    pub second_user: SecondUser,
    /// Passwords need 8 characters of 3 classes (W7).
    pub password_policy: bool,
    /// A second organisation of the same name.
    pub second_organization: SecondOrganization,
    /// `checkTowerIsSetup` needs a token once there are a root user and an organisation.
    pub setup_needs_token: bool,
    /// Only the operation names of `cloudtower.md` are accepted.
    pub operation_allow_list: bool,
    /// HTTP status of GraphQL errors.
    pub graphql_error_status: u16,
    /// HTTP status of a login with a wrong password.
    pub wrong_password_status: u16,
    /// HTTP status of calls with a missing or expired token.
    pub expired_token_status: u16,
    /// The form of answers to changing REST calls (W10).
    pub rest_answer: RestAnswer,
    /// Changing REST calls answer with a task of two seconds instead of `task_id: null`.
    pub tasks: bool,
    /// A task is not visible in its first second.
    pub task_late: bool,
    /// The licence (W12).
    pub license: LicenseMode,
    /// NTP servers in the answer (W11).
    pub ntp_answer: NtpAnswer,
    /// NTP servers cannot be set: unreachable.
    pub ntp_unreachable: bool,
    /// The certificate is replaced once, when the 502 end (W3).
    pub certificate_changes: bool,
    /// How a connection of a cluster goes (W13).
    pub connect: Connect,
    /// When the settings of a connected cluster are there (W14).
    pub settings: Settings,
    /// A second connection of the same cluster (W15).
    pub second_cluster: SecondCluster,
    /// How the configuration of a cluster goes (K1 to K4).
    pub configure: Configure,
    /// How an inspection goes (W18).
    pub inspector: Inspector,
}

/// `POST /v2/api/create-root-user`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateRootUser {
    /// As published.
    #[default]
    Works,
    /// 404.
    Missing,
    /// 401 without a token.
    NeedsToken,
}

/// The answer to a second `createUser`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondUser {
    /// HTTP 200 with an error.
    #[default]
    Error200,
    /// HTTP 400 with an error.
    Error400,
}

/// A second organisation of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondOrganization {
    /// There are two then.
    #[default]
    Created,
    /// An error: `already exists`.
    Refused,
}

/// The form of answers to changing REST calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestAnswer {
    /// As the request: object to object, array to array.
    #[default]
    Mirror,
    /// Always an object.
    Object,
    /// Always an array.
    Array,
}

/// The licence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenseMode {
    /// A trial licence signed at installation.
    #[default]
    Trial,
    /// No deploy record at all.
    NoDeploy,
    /// A deploy record with `license: null`.
    Null,
    /// As `Null`, then the trial licence 20 s after set-up.
    Late,
}

/// How NTP servers are repeated in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NtpAnswer {
    /// Joined by `;`.
    #[default]
    Semicolons,
    /// Joined by `; `.
    Spaced,
    /// In another order.
    Reversed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            opens_after_success_s: 15,
            bad_gateway_s: 30,
            unavailable_s: 10,
            token_lifetime_s: 30 * 60,
            encoded_passwords: BTreeMap::from([(EXAMPLE_ENCODED.to_owned(), DEFAULT_PASSWORD.to_owned())]),
            planted_organizations: Vec::new(),
            planted_root_password: None,
            further_clusters: Vec::new(),
            change_ms: [200, 2000],
            read_ms: [50, 400],
        }
    }
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            create_root_user: CreateRootUser::default(),
            plain_create_user_refused: false,
            second_user: SecondUser::default(),
            password_policy: true,
            second_organization: SecondOrganization::default(),
            setup_needs_token: false,
            operation_allow_list: false,
            graphql_error_status: 200,
            wrong_password_status: 400,
            expired_token_status: 401,
            rest_answer: RestAnswer::default(),
            tasks: false,
            task_late: false,
            license: LicenseMode::default(),
            ntp_answer: NtpAnswer::default(),
            ntp_unreachable: false,
            certificate_changes: false,
            connect: Connect::default(),
            settings: Settings::default(),
            second_cluster: SecondCluster::default(),
            configure: Configure::default(),
            inspector: Inspector::default(),
        }
    }
}

/// When the service opens, for a success line at this moment (virtual time since the start).
#[must_use]
pub fn opening(core: &Core, success: Duration) -> Duration {
    let offset = core.options.tower.opens_after_success_s;
    let distance = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { success.saturating_sub(distance) } else { success.saturating_add(distance) }
}

/// Broken invariants of the service, in words.
#[must_use]
pub fn violations(core: &Core) -> Vec<String> {
    let world = core.world();
    let mut found = Vec::new();
    for (vm, tower) in &world.towers {
        let roots = tower.users.iter().filter(|user| user.username == "root").count();
        if roots > 1 {
            found.push(format!("CloudTower of VM {vm} has {roots} root users"));
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for organization in &tower.organizations {
            *names.entry(&organization.name).or_default() += 1;
        }
        for (name, count) in names.into_iter().filter(|(_, count)| *count > 1) {
            found.push(format!("CloudTower of VM {vm} has {count} organisations named {name}"));
        }
        let mut datacenters: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for datacenter in &tower.datacenters {
            *datacenters.entry((&datacenter.organization_id, &datacenter.name)).or_default() += 1;
        }
        for ((_, name), count) in datacenters.into_iter().filter(|(_, count)| *count > 1) {
            found.push(format!("CloudTower of VM {vm} has {count} datacenters named {name}"));
        }
        let mut clusters: BTreeMap<&str, usize> = BTreeMap::new();
        for cluster in tower.clusters.iter().filter(|cluster| cluster.removed.is_none()) {
            *clusters.entry(&cluster.local_id).or_default() += 1;
        }
        for (id, count) in clusters.into_iter().filter(|(_, count)| *count > 1) {
            found.push(format!("CloudTower of VM {vm} has the cluster {id} {count} times"));
        }
        for doubled in tower.configured.doubled() {
            found.push(format!("CloudTower of VM {vm} has {doubled}"));
        }
    }
    found
}
