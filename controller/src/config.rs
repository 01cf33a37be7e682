//! All settings of the controller, their defaults beside them. One TOML file; an unknown key is refused by name.
//!
//! `deploy/config/controller.toml` shows every key; a test holds it to this file.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_telemetry::{LogFormat, Settings};
use serde::Deserialize;

/// Name of the settings file that `init` writes into the data directory, and that `run --data` looks for.
pub const CONFIG_FILE: &str = "controller.toml";

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the store, the CA and the certificates; mode 0700.
    pub data: PathBuf,
    /// Address of the one TLS port. Port 0: the kernel chooses.
    pub listen: SocketAddr,
    /// Host names and addresses by which others reach this controller: they go into the server's certificate, beside
    /// `localhost` and `127.0.0.1`. The first one goes into join tokens and profiles.
    pub names: Vec<String>,
    /// URL that goes into join tokens and profiles; empty: made of the first name and the port of `listen`.
    pub url: String,
    /// File into which the bound address is written once the port is open; removed again at the end.
    pub ready_file: Option<PathBuf>,
    /// How long a shutdown waits for streams and calls to end, milliseconds.
    pub drain_ms: u64,
    /// The link to the agents.
    pub link: Link,
    /// The store.
    pub store: Store,
    /// Bounds.
    pub limits: Limits,
    /// Lives of certificates.
    pub certificates: Certificates,
    /// Joining and coming back.
    pub enrollment: Enrollment,
    /// The audit log.
    pub audit: Audit,
    /// The web pages.
    pub web: Web,
    /// What the planner takes where a workbook is silent (`flow.md` 2.2).
    pub plan: gantry_plan::Defaults,
    /// Logs, traces and metrics.
    pub telemetry: Telemetry,
}

/// Telemetry of this controller and of its agents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The collector to which everything goes on, such as `http://127.0.0.1:4317`; the environment variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` wins. Without one, the traces of jobs are only kept here.
    pub otlp_endpoint: Option<String>,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter such as `info` or `gantry_controller=debug`; the environment variable `RUST_LOG` wins. Default `info`.
    pub log_filter: Option<String>,
    /// The same for the log records that leave with the spans.
    pub export_filter: String,
    /// How often metrics leave, seconds.
    pub metrics_every_s: u64,
    /// What waits for the collector takes so much of the disk, MiB; at least 8. When it is full, the oldest is lost and
    /// counted.
    pub spool_mib: u64,
    /// The trace of one job takes so much of the disk, MiB.
    pub job_trace_mib: u64,
    /// The traces of all jobs; the oldest go, MiB.
    pub traces_mib: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        let Settings { log_format, log_filter, export_filter, metrics_every_s, .. } = Settings::default();
        Self {
            otlp_endpoint: None,
            log_format,
            log_filter,
            export_filter,
            metrics_every_s,
            spool_mib: 256,
            job_trace_mib: 32,
            traces_mib: 2048,
        }
    }
}

impl Telemetry {
    /// What every binary has.
    pub fn common(&self) -> Settings {
        Settings {
            log_format: self.log_format,
            log_filter: self.log_filter.clone(),
            export_filter: self.export_filter.clone(),
            metrics_every_s: self.metrics_every_s,
            spool_mib: self.spool_mib,
        }
    }
}

/// The link to the agents. Heartbeat and silence are announced to the agent in Welcome.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// How often both sides send a heartbeat, milliseconds.
    pub heartbeat_ms: u32,
    /// After this silence a side takes the line for dead, milliseconds.
    pub silence_ms: u32,
    /// How long a fresh stream may wait with its Hello, milliseconds.
    pub hello_ms: u32,
    /// When a draining controller asks agents to come back, milliseconds.
    pub retry_after_ms: u32,
    /// Messages to one agent that may wait to be sent.
    pub outgoing: usize,
    /// Largest message that is taken from an agent, bytes.
    pub message_bytes: usize,
    /// An order that an agent has not begun within so long after an operator wished it is refused, hours. Long, because it
    /// is to reach an agent that was out of contact.
    pub order_life_h: u32,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Writes that may wait for the writer.
    pub queue: usize,
    /// Writes that go into one commit at most.
    pub group: usize,
    /// Connections that read.
    pub readers: u32,
    /// Folded views of jobs that are kept in memory.
    pub views: usize,
}

/// Bounds on what peers may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// How long a TLS handshake may take, milliseconds.
    pub handshake_ms: u64,
    /// How long a connection without a certificate may live, milliseconds: enough for `/healthz`.
    pub anonymous_ms: u64,
    /// Calls and streams at once on one connection.
    pub streams_per_connection: u32,
    /// How long a call that is not a stream may take, milliseconds.
    pub call_ms: u64,
    /// How long an agent may look at its site for `ctl plan diff`, milliseconds. The agents' own limit (`survey.limit_ms`)
    /// had better be shorter.
    pub survey_ms: u64,
    /// Jobs that are watched at once.
    pub watchers: usize,
    /// Workbooks that are planned at once.
    pub planning: usize,
    /// Largest workbook, bytes.
    pub workbook_bytes: usize,
    /// Values that one submit may override.
    pub overrides: usize,
}

/// The audit log: what refused calls may cost, and who reads at once. Acts are always recorded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Refused calls are counted within windows of this length, milliseconds.
    pub window_ms: u64,
    /// Refused calls of one peer that are recorded one by one in a window; the others are only counted.
    pub refusals_per_peer: u32,
    /// The same for all peers together.
    pub refusals_in_all: u32,
    /// Peers that are counted each for itself in a window; the others are counted together.
    pub peers: usize,
    /// Calls that read the log at once.
    pub readers: usize,
}

/// The web pages: links that open them, and sessions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    /// Whether there are any.
    pub enabled: bool,
    /// How long a link of `ctl web` can be used, seconds.
    pub link_life_s: u64,
    /// Links that wait to be used; an operator has one at most.
    pub links: usize,
    /// How long the pages stay open with one link, seconds.
    pub session_life_s: u64,
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions of one operator; the oldest ends for one more.
    pub sessions_per_operator: usize,
    /// A page that follows a job hears something at least so often, milliseconds.
    pub heartbeat_ms: u64,
}

/// How agents join and come back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrollment {
    /// How long a join token can be used when nothing else is asked for, seconds.
    pub token_life_s: u64,
    /// The longest life of a token that may be asked for, seconds.
    pub token_life_max_s: u64,
    /// How long an agent that was let come back may fetch its certificate, seconds.
    pub approval_life_s: u64,
    /// When an agent that waits for its approval asks again, milliseconds.
    pub ask_again_ms: u32,
    /// Calls without a certificate that are answered for one address (one /64 of IPv6) in a minute.
    pub calls_per_minute: u32,
}

/// Lives of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// The CA's, days.
    pub ca_days: u32,
    /// The server's, days.
    pub server_days: u32,
    /// An operator's, days.
    pub operator_days: u32,
    /// An agent's, seconds. An agent renews its certificate by itself after two thirds of it.
    pub agent_life_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/gantry/controller"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443),
            names: Vec::new(),
            url: String::new(),
            ready_file: None,
            drain_ms: 10_000,
            link: Link::default(),
            store: Store::default(),
            limits: Limits::default(),
            certificates: Certificates::default(),
            enrollment: Enrollment::default(),
            audit: Audit::default(),
            web: Web::default(),
            plan: gantry_plan::Defaults::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self {
            heartbeat_ms: 10_000,
            silence_ms: 15_000,
            hello_ms: 10_000,
            retry_after_ms: 1_000,
            outgoing: 64,
            message_bytes: 4 << 20,
            order_life_h: 7 * 24,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { queue: 1024, group: 256, readers: 4, views: 256 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake_ms: 10_000,
            anonymous_ms: 30_000,
            streams_per_connection: 128,
            call_ms: 60_000,
            survey_ms: 300_000,
            watchers: 256,
            planning: 2,
            workbook_bytes: 32 << 20,
            overrides: 200,
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { window_ms: 60_000, refusals_per_peer: 10, refusals_in_all: 300, peers: 256, readers: 16 }
    }
}

impl Default for Web {
    fn default() -> Self {
        Self {
            enabled: true,
            link_life_s: 120,
            links: 64,
            session_life_s: 8 * 3600,
            sessions: 256,
            sessions_per_operator: 8,
            heartbeat_ms: 15_000,
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self { ca_days: 3650, server_days: 365, operator_days: 365, agent_life_s: 30 * 24 * 3600 }
    }
}

impl Default for Enrollment {
    fn default() -> Self {
        Self {
            token_life_s: 3600,
            token_life_max_s: 7 * 24 * 3600,
            approval_life_s: 24 * 3600,
            ask_again_ms: 15_000,
            calls_per_minute: 60,
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("reading the settings file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("the settings file {} is not usable, line {line}: {why}; `deploy/config/controller.toml` shows every key",
        path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong. Never a value: it may be a secret.
        why: String,
    },
    /// A value that makes no sense.
    #[error("the setting `{key}` is not usable: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what is expected.
        why: String,
    },
}

impl Config {
    /// Settings of `controller run`: the file that is named, else the one in the data directory if there is one, else
    /// the defaults. `data` wins over what the file says.
    pub fn load(file: Option<&Path>, data: Option<&Path>) -> Result<Self, ConfigError> {
        let beside = data.map(|data| data.join(CONFIG_FILE)).filter(|path| path.exists());
        let mut config = match file.map(Path::to_path_buf).or(beside) {
            Some(path) => Self::read(&path)?,
            None => Self::default(),
        };
        if let Some(data) = data {
            config.data = data.to_path_buf();
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses values that make no sense together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_least_one: [(&'static str, u64); 30] = [
            ("link.heartbeat_ms", self.link.heartbeat_ms.into()),
            ("link.hello_ms", self.link.hello_ms.into()),
            ("link.outgoing", self.link.outgoing as u64),
            ("store.queue", self.store.queue as u64),
            ("store.group", self.store.group as u64),
            ("store.readers", self.store.readers.into()),
            ("store.views", self.store.views as u64),
            ("limits.connections", self.limits.connections as u64),
            ("limits.streams_per_connection", self.limits.streams_per_connection.into()),
            ("limits.watchers", self.limits.watchers as u64),
            ("limits.planning", self.limits.planning as u64),
            ("limits.call_ms", self.limits.call_ms),
            ("limits.survey_ms", self.limits.survey_ms),
            ("audit.window_ms", self.audit.window_ms),
            ("audit.peers", self.audit.peers as u64),
            ("audit.readers", self.audit.readers as u64),
            ("web.link_life_s", self.web.link_life_s),
            ("web.links", self.web.links as u64),
            ("web.session_life_s", self.web.session_life_s),
            ("web.sessions", self.web.sessions as u64),
            ("web.sessions_per_operator", self.web.sessions_per_operator as u64),
            ("web.heartbeat_ms", self.web.heartbeat_ms),
            ("telemetry.metrics_every_s", self.telemetry.metrics_every_s),
            ("telemetry.job_trace_mib", self.telemetry.job_trace_mib),
            ("telemetry.traces_mib", self.telemetry.traces_mib),
            ("certificates.agent_life_s", self.certificates.agent_life_s),
            ("enrollment.token_life_s", self.enrollment.token_life_s),
            ("enrollment.approval_life_s", self.enrollment.approval_life_s),
            ("enrollment.ask_again_ms", self.enrollment.ask_again_ms.into()),
            ("enrollment.calls_per_minute", self.enrollment.calls_per_minute.into()),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Value { key, why: "it must be at least 1".to_owned() });
        }
        if self.link.silence_ms <= self.link.heartbeat_ms {
            let why = format!("it must be longer than link.heartbeat_ms ({})", self.link.heartbeat_ms);
            return Err(ConfigError::Value { key: "link.silence_ms", why });
        }
        if !(1..=24 * 366).contains(&self.link.order_life_h) {
            let why = "it must be between 1 hour and a year (8784 hours)".to_owned();
            return Err(ConfigError::Value { key: "link.order_life_h", why });
        }
        if self.link.message_bytes < 1 << 20 {
            let why = "it must be at least 1 MiB: an event may carry that much".to_owned();
            return Err(ConfigError::Value { key: "link.message_bytes", why });
        }
        if self.enrollment.token_life_max_s < self.enrollment.token_life_s {
            let why = format!("it must not be less than enrollment.token_life_s ({})", self.enrollment.token_life_s);
            return Err(ConfigError::Value { key: "enrollment.token_life_max_s", why });
        }
        Ok(())
    }

    /// Where others find this controller: URL and the name that its certificate bears.
    pub fn address(&self) -> (String, String) {
        self.address_at(self.listen.port())
    }

    /// As [`Config::address`], when the kernel has chosen the port.
    pub fn address_at(&self, port: u16) -> (String, String) {
        let name = self.names.first().cloned().unwrap_or_else(|| "localhost".to_owned());
        if !self.url.is_empty() {
            return (self.url.clone(), name);
        }
        let host = if name.contains(':') { format!("[{name}]") } else { name.clone() };
        (format!("https://{host}:{port}"), name)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            ConfigError::Parse { path: path.to_owned(), line, why: without_value(error.message()) }
        })
    }
}

/// Takes the value out of "invalid type: integer `5`, expected a string".
fn without_value(message: &str) -> String {
    let kind = ["invalid type", "invalid value"].into_iter().find(|kind| message.starts_with(kind));
    match (kind, message.rfind(", expected ")) {
        (Some(kind), Some(at)) => format!("{kind}{}", &message[at..]),
        _ => message.to_owned(),
    }
}

/// Milliseconds of a setting as a duration.
pub(crate) fn ms(value: impl Into<u64>) -> Duration {
    Duration::from_millis(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path), None).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_at_any_depth() {
        let refused = parse("drain_ms = 5\nlissten = \"127.0.0.1:1\"\n").unwrap_err();
        assert!(refused.contains("`lissten`") && refused.contains("line 2"), "{refused}");
        let refused = parse("[link]\nheartbeat = 5\n").unwrap_err();
        assert!(refused.contains("`heartbeat`") && refused.contains("heartbeat_ms"), "{refused}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_the_reason() {
        assert!(parse("[link]\nsilence_ms = 10000\n").unwrap_err().contains("longer than link.heartbeat_ms"));
        for hours in [0, 24 * 366 + 1] {
            assert!(parse(&format!("[link]\norder_life_h = {hours}\n")).unwrap_err().contains("link.order_life_h"));
        }
        assert!(parse("[store]\nreaders = 0\n").unwrap_err().contains("store.readers"));
        let refused = parse("[plan]\ncluster_password = 1234.5678\n").unwrap_err();
        assert!(refused.contains("text in quotes") && !refused.contains("1234"), "{refused}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Some(Path::new("/nowhere/c.toml")), None).unwrap_err();
        assert!(error.to_string().contains("/nowhere/c.toml"));
    }

    #[test]
    fn the_data_directory_of_the_command_line_wins_and_its_settings_are_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG_FILE), "data = \"/elsewhere\"\ndrain_ms = 7\n").unwrap();
        let config = Config::load(None, Some(dir.path())).unwrap();
        assert_eq!((config.data.as_path(), config.drain_ms), (dir.path(), 7));
    }

    #[test]
    fn the_address_is_made_of_the_first_name() {
        let config = Config { names: vec!["::1".into()], ..Config::default() };
        assert_eq!(config.address(), ("https://[::1]:7443".to_owned(), "::1".to_owned()));
        assert_eq!(Config::default().address().0, "https://localhost:7443");
    }
}
