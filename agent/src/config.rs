//! All settings of the agent, with their defaults beside them. Unknown keys are refused by name.
//!
//! Waits and deadlines of the outside world (`flow.md` 4) are divided by `time_scale`, so that a rehearsal against the
//! simulator takes a minute instead of an hour. Time-outs of real sockets are never scaled.

mod allow;
mod differing;
mod doctor;
mod iso;
mod proxy;
mod survey;
mod upload;

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use allow::{AllowError, AllowFile, parse_ranges};
pub use doctor::Doctor;
pub use iso::Iso;
pub use proxy::Proxy;
pub use survey::Survey;
pub use upload::Upload;

/// Name of the settings file in the data directory when none is named.
const SETTINGS_FILE: &str = "agent.toml";
/// The largest settings file that is read, bytes.
const SETTINGS_MAX: u64 = 1 << 20;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The disk says no.
    #[error("the settings file {0} cannot be read")]
    Read(String, #[source] io::Error),
    /// Not TOML, an unknown key or a value of another type; the source says which.
    #[error("the settings file {0} cannot be used")]
    Form(String, #[source] Box<toml::de::Error>),
    /// A value that makes no sense.
    #[error("the setting {key} is {value}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

/// The settings file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where journals, keys and logs go. Mode 0700.
    pub data_dir: PathBuf,
    /// Where the ISO files lie.
    pub iso_dir: PathBuf,
    /// Made by `agent join`: address, CA and certificate. Default: `join.json` in `data_dir`.
    pub join_file: Option<PathBuf>,
    /// Ranges that plans may lead the agent to: Fisheye, hosts, their BMCs and CloudTower. A plan with an address outside
    /// of them is refused. Default: the private ranges, without loopback (the bastion itself) and link-local (where clouds
    /// hand out credentials). It does not bind the link to the controller.
    pub allow: Vec<IpNet>,
    /// The ISO files.
    pub iso: Iso,
    /// The cluster's Fisheye.
    pub fisheye: Fisheye,
    /// The upload of the ISO.
    pub upload: Upload,
    /// The new VM, over SSH.
    pub guest: Guest,
    /// CloudTower, over HTTPS.
    pub cloudtower: CloudTower,
    /// Pre-checks.
    pub precheck: Precheck,
    /// Waits and deadlines.
    pub timing: Timing,
    /// The link with the controller.
    pub link: Link,
    /// How many jobs.
    pub jobs: Jobs,
    /// Looks at a site that change nothing.
    pub survey: Survey,
    /// `agent doctor`.
    pub doctor: Doctor,
    /// Logs, traces and metrics: they go to the controller, which hands them on.
    pub telemetry: gantry_telemetry::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/gantry-agent".into(),
            iso_dir: "/var/lib/gantry-agent/iso".into(),
            join_file: None,
            allow: private_ranges(),
            iso: Iso::default(),
            fisheye: Fisheye::default(),
            upload: Upload::default(),
            guest: Guest::default(),
            cloudtower: CloudTower::default(),
            precheck: Precheck::default(),
            timing: Timing::default(),
            link: Link::default(),
            jobs: Jobs::default(),
            survey: Survey::default(),
            doctor: Doctor::default(),
            telemetry: gantry_telemetry::Settings::default(),
        }
    }
}

/// RFC 1918, the shared space of RFC 6598, and the unique local addresses of RFC 4193.
fn private_ranges() -> Vec<IpNet> {
    let v4 = |a, b, bits| Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), bits).into();
    let local = Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
    vec![v4(10, 0, 8), v4(172, 16, 12), v4(192, 168, 16), v4(100, 64, 10), local.into()]
}

impl Settings {
    /// Reads the settings file: the one that is named, or `agent.toml` in the data directory if there is one. `data` and
    /// `join` win over it. With another data directory and no `iso_dir`, the ISO files lie in `iso` inside it.
    pub fn load(file: Option<&Path>, data: Option<&Path>, join: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let in_data = data.unwrap_or(&default.data_dir).join(SETTINGS_FILE);
        let file = file.or_else(|| in_data.exists().then_some(in_data.as_path()));
        let mut settings = file.map(read).transpose()?.unwrap_or_else(Self::default);
        if let Some(data) = data {
            data.clone_into(&mut settings.data_dir);
        }
        if let Some(join) = join {
            settings.join_file = Some(join.to_owned());
        }
        if settings.iso_dir == default.iso_dir {
            settings.iso_dir = settings.data_dir.join("iso");
        }
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bad =
            |key, value: &dyn ToString, expected| Err(ConfigError::Value { key, value: value.to_string(), expected });
        let scale = self.timing.time_scale;
        if !(scale.is_finite() && (0.001..=1_000_000.0).contains(&scale)) {
            return bad("timing.time_scale", &scale, "it must be between 0.001 and 1000000");
        }
        let counts = [
            ("jobs.concurrent", self.jobs.concurrent, 64),
            ("jobs.unfinished", self.jobs.unfinished, 1_000),
            ("link.batch_events", self.link.batch_events, 10_000),
            ("link.window_events", self.link.window_events, 1_000_000),
            ("allow", self.allow.len(), allow::RANGES_MAX),
            ("upload.in_flight_max", self.upload.in_flight_max, 16),
            ("iso.piece_bytes", self.iso.piece_bytes, 1 << 20),
        ];
        for (key, value, most) in counts {
            if value == 0 || value > most {
                return bad(key, &value, "it must be at least 1, and of a sane size");
            }
        }
        if self.link.clock_tolerance_s > 86_400 {
            return bad("link.clock_tolerance_s", &self.link.clock_tolerance_s, "it must not be more than 86400");
        }
        let ask_first = self.jobs.ask_first_s;
        if !(0.0..=3_600.0).contains(&ask_first) {
            return bad("jobs.ask_first_s", &ask_first, "it must be between 0 and 3600");
        }
        // The peer reads messages of at most 4 MiB, and one event may be as long as a journal's line.
        if !(1 << 10..=2 << 20).contains(&self.link.batch_bytes) {
            return bad("link.batch_bytes", &self.link.batch_bytes, "it must be between 1 KiB and 2 MiB");
        }
        if self.link.retry_cap_ms < self.link.retry_first_ms {
            return bad("link.retry_cap_ms", &self.link.retry_cap_ms, "it must not be less than link.retry_first_ms");
        }
        self.iso.check()?;
        self.link.proxy.check()?;
        self.survey.check()?;
        self.doctor.check()
    }
}

fn read(file: &Path) -> Result<Settings, ConfigError> {
    let name = || file.display().to_string();
    let failed = |error| ConfigError::Read(name(), error);
    if fs::metadata(file).map_err(failed)?.len() > SETTINGS_MAX {
        return Err(failed(io::Error::other("it is longer than 1 MiB")));
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    toml::from_str(&text).map_err(|error| ConfigError::Form(name(), Box::new(error)))
}

/// How a server's self-signed certificate is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificatePolicy {
    /// Recorded in the job when first seen, enforced from then on (C14).
    #[default]
    FirstSight,
    /// Must be the fingerprint of the settings.
    Pinned,
    /// Anything is taken; each job warns of it.
    AcceptAny,
}

/// The cluster's Fisheye.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fisheye {
    /// `https`; `http` sends the password in clear and is for loopback only.
    pub scheme: String,
    pub port: u16,
    pub certificate: CertificatePolicy,
    /// SHA-256 of the certificate, hexadecimal, for `pinned`.
    pub fingerprint: Option<String>,
    /// Whole normal request, milliseconds; not for chunks (C41).
    pub request_timeout_ms: u64,
    /// TCP and TLS, milliseconds.
    pub connect_timeout_ms: u64,
    /// A chunk fails after so many milliseconds in which no byte was accepted.
    pub stall_timeout_ms: u64,
    /// Largest answer that is read, bytes.
    pub max_response_bytes: usize,
}

impl Default for Fisheye {
    fn default() -> Self {
        Self {
            scheme: "https".to_owned(),
            port: 443,
            certificate: CertificatePolicy::FirstSight,
            fingerprint: None,
            request_timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            stall_timeout_ms: 30_000,
            max_response_bytes: 32 << 20,
        }
    }
}

/// The new VM, over SSH. Paths are settings of the agent, never of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guest {
    pub ssh_port: u16,
    /// TCP, key exchange and login together, milliseconds.
    pub connect_timeout_ms: u64,
    /// Keep-alive, milliseconds; three without answer end the connection.
    pub keepalive_ms: u64,
    /// Tried once when the plan's account is refused (C32).
    pub fallback_user: Option<String>,
    pub preinstall: String,
    /// Working directory of the installer.
    pub installer_dir: String,
    /// Command within `installer_dir`.
    pub installer: String,
    /// Its arguments.
    pub installer_args: Vec<String>,
    /// Directory of our log and marker files; also where a manually started `nohup.out` would be.
    pub work_dir: String,
    /// The resolver file.
    pub resolv_conf: String,
    /// Where the interfaces' addresses are read.
    pub sys_class_net: String,
    /// Most that is read of the installer's log in one poll, bytes.
    pub log_poll_bytes: u64,
    /// Most that is kept of one command's output, bytes.
    pub max_output_bytes: usize,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            ssh_port: 22,
            connect_timeout_ms: 30_000,
            keepalive_ms: 30_000,
            fallback_user: Some("smartx".to_owned()),
            preinstall: "/usr/share/smartx/tower/preinstall.sh".to_owned(),
            installer_dir: "/usr/share/smartx/tower/installer".to_owned(),
            installer: "./binary/installer".to_owned(),
            installer_args: vec!["deploy".to_owned()],
            work_dir: "/home/cloudtower".to_owned(),
            resolv_conf: "/etc/resolv.conf".to_owned(),
            sys_class_net: "/sys/class/net".to_owned(),
            log_poll_bytes: 4 << 20,
            max_output_bytes: 1 << 20,
        }
    }
}

/// CloudTower, over HTTPS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudTower {
    pub port: u16,
    pub certificate: CertificatePolicy,
    /// SHA-256 of the certificate, hexadecimal, for `pinned`.
    pub fingerprint: Option<String>,
    /// With `first-sight`: before a secret is sent to CloudTower, the certificate that was seen is compared with the one
    /// that the service shows inside the VM, by a look over SSH.
    pub confirm_over_ssh: bool,
    pub request_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    /// Largest answer that is read, bytes.
    pub max_response_bytes: usize,
    /// Version of the inspection centre's interface: it belongs to CloudTower's release.
    pub inspector_version: String,
    /// The report of an inspection: how long its download may take, milliseconds, and its largest size, bytes.
    pub report_timeout_ms: u64,
    pub report_max_bytes: usize,
}

impl Default for CloudTower {
    fn default() -> Self {
        Self {
            port: 443,
            certificate: CertificatePolicy::FirstSight,
            fingerprint: None,
            confirm_over_ssh: true,
            request_timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            max_response_bytes: 8 << 20,
            inspector_version: "1.1.1-rc.11".to_owned(),
            report_timeout_ms: 120_000,
            report_max_bytes: 32 << 20,
        }
    }
}

/// Pre-checks (`flow.md` 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Precheck {
    /// A host that answers on none of these ports within the time is unreachable (1.4).
    pub host_ports: Vec<u16>,
    pub host_timeout_ms: u64,
    pub vip_timeout_ms: u64,
    pub cloudtower_timeout_ms: u64,
    /// Use the system's `ping` where it exists.
    pub ping: bool,
    /// Kept free on a host for its own services, percent of its memory (`fisheye.md` 8.4).
    pub host_reserve_percent: u64,
    /// The same as an absolute minimum, bytes; the larger one counts.
    pub host_reserve_bytes: u64,
    /// Warning above this difference to the server's clock, seconds (1.11).
    pub clock_skew_s: u64,
}

impl Default for Precheck {
    fn default() -> Self {
        Self {
            host_ports: vec![80, 443],
            host_timeout_ms: 2_000,
            vip_timeout_ms: 1_000,
            cloudtower_timeout_ms: 3_000,
            ping: true,
            host_reserve_percent: 30,
            host_reserve_bytes: 24 << 30,
            clock_skew_s: 300,
        }
    }
}

/// Waits and deadlines (`flow.md` 4), in seconds at scale 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// Everything below is divided by this.
    pub time_scale: f64,
    /// Reads: attempts in all and the longest wait between them.
    pub read_attempts: u32,
    pub read_retry_first_s: f64,
    pub read_retry_cap_s: f64,
    /// Chunks: retries after the first attempt, waits doubling from the first to the cap.
    pub chunk_retries: u32,
    pub chunk_retry_first_s: f64,
    pub chunk_retry_cap_s: f64,
    /// Rounds over what `to_upload` still names after the first pass.
    pub upload_rounds: u32,
    /// Wait between two looks at the image list for the final proof, and how long in all for the server's MD5.
    pub image_proof_poll_s: f64,
    pub image_proof_limit_s: f64,
    pub vm_create_retries: u32,
    pub vm_create_retry_s: f64,
    pub job_poll_s: f64,
    pub job_limit_s: f64,
    pub guest_agent_poll_s: f64,
    pub guest_agent_limit_s: f64,
    /// A state that does not change is told again after so long.
    pub still_waiting_note_s: f64,
    pub network_retries: u32,
    pub network_retry_s: f64,
    pub network_seen_poll_s: f64,
    pub network_seen_limit_s: f64,
    pub ssh_poll_s: f64,
    pub ssh_limit_s: f64,
    /// After a lost connection.
    pub ssh_reconnect_limit_s: f64,
    pub preinstall_limit_s: f64,
    pub installer_poll_s: f64,
    pub installer_warn_s: f64,
    pub installer_limit_s: f64,
    /// A missing log is normal for so long (R52).
    pub installer_log_grace_s: f64,
    pub https_tries: u32,
    pub https_wait_s: f64,
    pub ready_poll_s: f64,
    pub ready_limit_s: f64,
    /// Between two looks at a cluster that is being attached to CloudTower, how long in all, and how long it may tell
    /// `DISCONNECTED` at the beginning.
    pub attach_poll_s: f64,
    pub attach_limit_s: f64,
    pub attach_grace_s: f64,
    /// The same for its settings; late ones are a warning.
    pub cluster_settings_poll_s: f64,
    pub cluster_settings_limit_s: f64,
    /// The same for an inspection, and for the export of its report.
    pub inspection_poll_s: f64,
    pub inspection_limit_s: f64,
    /// Consecutive failed polls that are borne.
    pub poll_failures: u32,
    /// Attempts at each action of an undo.
    pub undo_attempts: u32,
    pub undo_retry_s: f64,
    /// The whole undo of one step.
    pub undo_limit_s: f64,
    /// At most one progress event in so long (real time).
    pub progress_every_s: f64,
    /// Longer than this is a warning (R80, C27).
    pub total_warn_s: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            time_scale: 1.0,
            read_attempts: 3,
            read_retry_first_s: 1.0,
            read_retry_cap_s: 5.0,
            chunk_retries: 3,
            chunk_retry_first_s: 1.0,
            chunk_retry_cap_s: 5.0,
            upload_rounds: 3,
            image_proof_poll_s: 5.0,
            image_proof_limit_s: 120.0,
            vm_create_retries: 3,
            vm_create_retry_s: 5.0,
            job_poll_s: 5.0,
            job_limit_s: 1_200.0,
            guest_agent_poll_s: 10.0,
            guest_agent_limit_s: 1_800.0,
            still_waiting_note_s: 60.0,
            network_retries: 3,
            network_retry_s: 30.0,
            network_seen_poll_s: 10.0,
            network_seen_limit_s: 120.0,
            ssh_poll_s: 5.0,
            ssh_limit_s: 600.0,
            ssh_reconnect_limit_s: 300.0,
            preinstall_limit_s: 600.0,
            installer_poll_s: 30.0,
            installer_warn_s: 1_800.0,
            installer_limit_s: 2_400.0,
            installer_log_grace_s: 180.0,
            https_tries: 3,
            https_wait_s: 10.0,
            ready_poll_s: 10.0,
            ready_limit_s: 300.0,
            attach_poll_s: 10.0,
            attach_limit_s: 900.0,
            attach_grace_s: 30.0,
            cluster_settings_poll_s: 5.0,
            cluster_settings_limit_s: 60.0,
            inspection_poll_s: 5.0,
            inspection_limit_s: 600.0,
            poll_failures: 12,
            undo_attempts: 3,
            undo_retry_s: 5.0,
            undo_limit_s: 900.0,
            progress_every_s: 3.0,
            total_warn_s: 2_700.0,
        }
    }
}

impl Timing {
    /// A wait of `seconds` in the time scale.
    pub fn scaled(&self, seconds: f64) -> Duration {
        let scale = if self.time_scale.is_finite() && self.time_scale > 0.0 { self.time_scale } else { 1.0 };
        Duration::try_from_secs_f64(seconds / scale).unwrap_or(Duration::MAX)
    }

    /// Real time told as time of the outside world, for figures in results and messages.
    pub fn told(&self, real: Duration) -> f64 {
        real.as_secs_f64() * if self.time_scale > 0.0 { self.time_scale } else { 1.0 }
    }
}

/// The link with the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    pub connect_timeout_ms: u64,
    /// Welcome must come within this.
    pub hello_timeout_ms: u64,
    /// Reconnect: full jitter between zero and a delay that doubles from the first to the cap, milliseconds.
    pub retry_first_ms: u64,
    pub retry_cap_ms: u64,
    /// Events in one message, at most.
    pub batch_events: usize,
    /// Bytes of events in one message, about: a slow line must carry it in a fraction of the silence that counts as dead.
    pub batch_bytes: usize,
    /// Events that may be unacknowledged on the line, at most.
    pub window_events: usize,
    /// The newest progress of a job is sent at most once in so long, milliseconds.
    pub sample_every_ms: u64,
    /// After a session of this length the delay between reconnects starts from its beginning, milliseconds.
    pub healthy_ms: u64,
    /// The longest delay that the controller may ask for, milliseconds.
    pub goodbye_cap_ms: u64,
    /// A renewal of the certificate that was refused or not answered is asked for again after so long, seconds; at the
    /// latest after a tenth of the certificate's life.
    pub renew_again_s: u64,
    /// An agent that the controller does not let in dials again after so long, milliseconds.
    pub refused_again_ms: u64,
    /// Telemetry is handed over at most so fast, bytes of OTLP a second before compression: the line is the jobs' first.
    pub telemetry_bytes_per_s: u64,
    /// A batch of telemetry that is not answered for so long is handed over again later, milliseconds.
    pub telemetry_timeout_ms: u64,
    /// An order is taken so long after its time, seconds: the clocks of controller and bastion differ.
    pub clock_tolerance_s: u32,
    /// The HTTP proxy on the way to the controller.
    pub proxy: Proxy,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            hello_timeout_ms: 10_000,
            retry_first_ms: 500,
            retry_cap_ms: 30_000,
            batch_events: 200,
            batch_bytes: 64 << 10,
            window_events: 1_000,
            sample_every_ms: 500,
            healthy_ms: 60_000,
            goodbye_cap_ms: 300_000,
            renew_again_s: 3_600,
            refused_again_ms: 60_000,
            telemetry_bytes_per_s: 128 << 10,
            telemetry_timeout_ms: 30_000,
            clock_tolerance_s: 300,
            proxy: Proxy::default(),
        }
    }
}

/// How many jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// At work at the same time; the others wait.
    pub concurrent: usize,
    /// Accepted and not finished, at most; more are refused.
    pub unfinished: usize,
    /// Finished jobs whose journal and logs are kept; the oldest go at the agent's start, and only when the controller
    /// has stored all their events.
    pub keep_finished: usize,
    /// How long the agent waits at its end for jobs to reach a safe point, seconds.
    pub drain_limit_s: u64,
    /// After a start, jobs that have not ended wait so long for the controller to say whether another agent has them by
    /// now, seconds at scale 1: a machine that was said to be off and comes back must not work beside its successor.
    /// When the controller cannot be reached in that time they go on; 0: at once.
    pub ask_first_s: f64,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { concurrent: 4, unfinished: 64, keep_finished: 200, drain_limit_s: 30, ask_first_s: 30.0 }
    }
}
