//! What a simulation is started with: a scenario file in TOML or JSON holds exactly these fields.
//! The defaults match the planning workbook for loopback addresses. Modes and faults are declared beside their code.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::Fault;
use crate::modes::Modes;
use crate::{cloudtower, guest};

/// A whole scenario. Unknown keys are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimOptions {
    /// Drives uuids, jitter and random faults.
    pub seed: u64,
    /// Virtual seconds per wall second.
    pub time_scale: f64,
    /// Time stands still until `POST /clock {"advance_s": n}`; request latencies are then left out.
    pub manual_clock: bool,
    /// The virtual date at the start; the wall clock's when absent.
    pub start_at: Option<Timestamp>,
    /// Cluster management address.
    pub vip: IpAddr,
    /// The nodes, in workbook order.
    pub nodes: Vec<Node>,
    /// One port number per face, used on all addresses of that face; 0 = any free one.
    pub ports: Ports,
    /// Where the control API listens.
    pub control: IpAddr,
    /// Sessions and transport of the cluster side.
    pub fisheye: Fisheye,
    /// Virtual switches with their VLANs. The first one carries the system network.
    pub vds: Vec<Vds>,
    /// Storage policies.
    pub policies: Vec<Policy>,
    /// Images that exist before the run.
    pub images: Vec<PlantedImage>,
    /// VMs that exist before the run and belong to somebody else.
    pub vms: Vec<PlantedVm>,
    /// Bytes of one upload chunk.
    pub chunk_size: u64,
    /// Free bytes of the cluster, before replication.
    pub free_bytes: u64,
    /// Free space shrinks as chunks arrive instead of at volume creation.
    pub thin_volumes: bool,
    /// What happens to uploaded bytes.
    pub storage: Storage,
    /// Answer times; see [`Latencies`].
    pub latencies: Latencies,
    /// Life of a VM's guest; see [`GuestTimes`].
    pub guest_times: GuestTimes,
    /// Network speed; see [`Bandwidth`].
    pub bandwidth: Bandwidth,
    /// The switchable behaviours.
    pub modes: Modes,
    /// Faults armed from the start.
    pub faults: Vec<Fault>,
    /// The VM's SSH is somebody else's real server: the simulated one stays closed.
    pub external_guest: bool,
    /// The MAC announced for every new NIC instead of a seeded one.
    pub guest_mac: Option<String>,
    /// The guest side: SSH accounts, installer.
    pub guest: guest::Options,
    /// The CloudTower service.
    pub tower: cloudtower::Options,
    /// Requests kept in the transcript; the oldest go first.
    pub transcript_limit: usize,
    /// Bounds of the request-rate invariants.
    pub limits: Limits,
}

/// One cluster node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Management address; Fisheye answers here, too.
    pub management: IpAddr,
    /// Storage address; `node_ip` of a VM.
    pub storage: IpAddr,
    /// Host name.
    #[serde(default)]
    pub name: Option<String>,
    /// Memory in bytes.
    #[serde(default = "node_memory")]
    pub memory: u64,
    /// Logical CPUs.
    #[serde(default = "node_cores")]
    pub cores: u32,
}

/// Port numbers; 0 lets the simulator choose one that is free on all addresses of the face.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// Fisheye (HTTPS unless `fisheye.tls` is false).
    pub fisheye: u16,
    /// Fisheye over plain HTTP beside it; absent = not served.
    pub fisheye_http: Option<u16>,
    /// SSH of every VM.
    pub ssh: u16,
    /// CloudTower over HTTPS.
    pub tower: u16,
    /// CloudTower's redirecting HTTP port.
    pub tower_http: u16,
    /// The control API.
    pub control: u16,
}

/// The cluster's management service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fisheye {
    /// Administrator name.
    pub username: String,
    /// Administrator password.
    pub password: String,
    /// Seconds a token lives; seven days on the real one.
    pub token_lifetime_s: u64,
    /// HTTPS on the main port.
    pub tls: bool,
}

/// A virtual distributed switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vds {
    /// Its name.
    pub name: String,
    /// Its networks.
    #[serde(default)]
    pub vlans: Vec<Vlan>,
}

/// A network of a switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// Its name.
    pub name: String,
    /// 802.1Q id.
    pub vlan_id: u16,
    /// 3 = VM network.
    #[serde(rename = "type", default = "vm_network")]
    pub kind: u8,
}

/// A storage policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Copies of every byte.
    #[serde(default = "two")]
    pub replica_num: u64,
    /// Space is taken when written.
    #[serde(default = "yes")]
    pub thin_provision: bool,
}

/// An image that exists before the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedImage {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// MD5 as listed; absent = `null`.
    #[serde(default)]
    pub md5: Option<String>,
    /// Listed with an empty `path`.
    #[serde(default)]
    pub no_path: bool,
    /// Epoch seconds as listed; the start when absent.
    #[serde(default)]
    pub time: Option<i64>,
    /// Whether the ISO holds the guest tools.
    #[serde(default = "yes")]
    pub guest_tools: bool,
    /// This many copies.
    #[serde(default = "one")]
    pub count: u32,
}

/// A foreign VM that exists before the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedVm {
    /// Its name; with `count` above 1 a number is appended.
    pub name: String,
    /// Its description.
    #[serde(default)]
    pub description: String,
    /// CPUs.
    #[serde(default = "two_cpus")]
    pub vcpu: u32,
    /// Memory in bytes.
    #[serde(default = "four_gib")]
    pub memory: u64,
    /// Powered on.
    #[serde(default = "yes")]
    pub running: bool,
    /// This many of them.
    #[serde(default = "one")]
    pub count: u32,
}

/// Where uploaded bytes go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode", deny_unknown_fields)]
pub enum Storage {
    /// Only digests are kept; chunks that come out of order wait in a sparse temporary file.
    #[default]
    Digest,
    /// Every image is a sparse file `<image uuid>.iso` in this directory.
    Spool {
        /// Created when absent.
        directory: PathBuf,
    },
}

/// Answer times in virtual milliseconds as `[low, high]`, drawn by seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latencies {
    /// Multiplies every latency; 0 = answer at once.
    pub factor: f64,
    /// Login.
    pub login: [u64; 2],
    /// Lists and details.
    pub read: [u64; 2],
    /// Volume creation.
    pub create_volume: [u64; 2],
    /// One chunk; one in a hundred takes 1 to 3 s.
    pub chunk: [u64; 2],
    /// Image deletion.
    pub delete_image: [u64; 2],
    /// Calls that answer with a job.
    pub submit: [u64; 2],
    /// A job waits in `pending`.
    pub job_queue: [u64; 2],
    /// VM creation job at work.
    pub vm_create_job: [u64; 2],
    /// Network job at work.
    pub network_job: [u64; 2],
    /// Power and deletion jobs at work.
    pub power_job: [u64; 2],
    /// From the last chunk to the MD5 in the list.
    pub md5: [u64; 2],
    /// VM object visible after the call, in mode `late`.
    pub vm_visible: [u64; 2],
    /// Address visible in `guest_info` after the network job.
    pub guest_address: [u64; 2],
    /// SSH opens after the network job.
    pub ssh_open: [u64; 2],
}

/// How long each phase of the guest takes, in virtual seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestTimes {
    /// BIOS and boot menu.
    pub bios_s: u64,
    /// Operating system installation.
    pub installing_os_s: u64,
    /// Reboot and first boot.
    pub first_boot_s: u64,
    /// Guest tools installation.
    pub tools_install_s: u64,
    /// The agent's silence after a reboot.
    pub agent_return_s: u64,
}

/// Network speed in bytes per virtual second; 0 = unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bandwidth {
    /// For each connection.
    pub per_connection: u64,
    /// For all connections of the cluster together.
    pub total: u64,
    /// Added to every answer.
    pub round_trip_ms: u64,
}

/// Bounds of invariant 12.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Logins in any 60 wall seconds.
    pub logins_per_minute: usize,
    /// Fisheye requests other than chunks in any wall second.
    pub requests_per_second: usize,
}

impl SimOptions {
    /// Reads a scenario file; `.json` is JSON, everything else TOML.
    ///
    /// # Errors
    /// The file cannot be read, or holds a key or value that is not part of a scenario.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading the scenario {}", path.display()))?;
        let parsed = if path.extension().is_some_and(|ext| ext == "json") {
            serde_json::from_str(&text).map_err(anyhow::Error::from)
        } else {
            toml::from_str(&text).map_err(anyhow::Error::from)
        };
        parsed.with_context(|| format!("understanding the scenario {}", path.display()))
    }

    /// Applies one `key.path=value`; the value is JSON, or a plain string when it is not.
    ///
    /// # Errors
    /// There is no such key, or the value has the wrong type.
    pub fn set(&mut self, assignment: &str) -> anyhow::Result<()> {
        let Some((key, text)) = assignment.split_once('=') else {
            bail!("`{assignment}` is not of the form key=value");
        };
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let mut whole = serde_json::to_value(&*self)?;
        let pointer = format!("/{}", key.trim().replace('.', "/"));
        let Some(slot) = whole.pointer_mut(&pointer) else { bail!("a scenario has no key `{key}`") };
        *slot = value;
        *self = serde_json::from_value(whole).with_context(|| format!("setting `{key}`"))?;
        Ok(())
    }
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            time_scale: 1.0,
            manual_clock: false,
            start_at: None,
            vip: loopback(20, 10),
            nodes: (11..=13).map(|last| Node::new(loopback(20, last), loopback(21, last))).collect(),
            ports: Ports::default(),
            control: IpAddr::V4(Ipv4Addr::LOCALHOST),
            fisheye: Fisheye::default(),
            vds: vec![Vds {
                name: "vDS-MgMt-Network".into(),
                vlans: vec![
                    Vlan { name: "mgt-network".into(), vlan_id: 0, kind: 0 },
                    Vlan { name: "default".into(), vlan_id: 0, kind: 3 },
                ],
            }],
            policies: vec![Policy { name: "default".into(), replica_num: 2, thin_provision: true }],
            images: Vec::new(),
            vms: Vec::new(),
            chunk_size: 8 << 20,
            free_bytes: 20 << 40,
            thin_volumes: false,
            storage: Storage::default(),
            latencies: Latencies::default(),
            guest_times: GuestTimes::default(),
            bandwidth: Bandwidth::default(),
            modes: Modes::default(),
            faults: Vec::new(),
            external_guest: false,
            guest_mac: None,
            guest: guest::Options::default(),
            tower: cloudtower::Options::default(),
            transcript_limit: 200_000,
            limits: Limits::default(),
        }
    }
}

impl Node {
    /// A node with the default size.
    #[must_use]
    pub fn new(management: IpAddr, storage: IpAddr) -> Self {
        Self { management, storage, name: None, memory: node_memory(), cores: node_cores() }
    }
}

impl Default for Fisheye {
    fn default() -> Self {
        Self { username: "root".into(), password: "Lo!Fish3390m".into(), token_lifetime_s: 7 * 24 * 3600, tls: true }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            factor: 1.0,
            login: [80, 400],
            read: [20, 250],
            create_volume: [300, 3000],
            chunk: [100, 400],
            delete_image: [200, 2000],
            submit: [100, 800],
            job_queue: [500, 1500],
            vm_create_job: [4000, 15_000],
            network_job: [3000, 10_000],
            power_job: [2000, 6000],
            md5: [2000, 10_000],
            vm_visible: [2000, 4000],
            guest_address: [5000, 20_000],
            ssh_open: [5000, 90_000],
        }
    }
}

impl Default for GuestTimes {
    fn default() -> Self {
        Self { bios_s: 15, installing_os_s: 600, first_boot_s: 60, tools_install_s: 90, agent_return_s: 60 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { logins_per_minute: 60, requests_per_second: 200 }
    }
}

fn loopback(third: u8, last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, third, last))
}
fn node_memory() -> u64 {
    256 << 30
}
fn node_cores() -> u32 {
    64
}
fn vm_network() -> u8 {
    3
}
fn two() -> u64 {
    2
}
fn two_cpus() -> u32 {
    2
}
fn four_gib() -> u64 {
    4 << 30
}
fn one() -> u32 {
    1
}
fn yes() -> bool {
    true
}
