//! What a simulated site is made of: a cluster in this process with a workbook for it, the settings of an agent and of
//! a controller, and how the one is let in by the other. Addresses are those of no other run on this machine.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, ensure};
use gantry_agent::config::Settings;
use gantry_controller::{
    Config, STORE_FILE,
    peer::{AgentPeer, Peer},
    setup,
    store::{IdentityChange, IdentityChanged, Joining, SiteRow, SqliteStore, Store as _, TokenRow},
};
use gantry_proto::{AgentId, JoinFile};
use gantry_sim::{Sim, SimOptions, iso::Iso, options::Storage, workbook::Workbook};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::lab::{ISO_NAME, cell_text};

/// Virtual seconds in one real second.
const SCALE: f64 = 2_000.0;
/// Bytes of a chunk; the ISO has four of them and one byte more.
const CHUNK: u64 = 16 << 10;
/// The controller's port.
const PORT: u16 = 7443;

/// A directory of a run, in memory where that is to be had.
pub(super) fn directory() -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("gantry-chaos-");
    Ok(match Path::new("/dev/shm") {
        fast if fast.is_dir() => builder.tempdir_in(fast)?,
        _ => builder.tempdir()?,
    })
}

/// A network that nobody else on this machine uses now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network(u8, u8);

impl Network {
    /// From the process and a counter.
    pub(super) fn new() -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_mul(97).wrapping_add(RUNS.fetch_add(1, Ordering::Relaxed));
        let [.., high, low] = number.to_be_bytes();
        Self(64 + high % 128, low)
    }

    fn at(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, self.1, last)
    }
}

/// A cluster, and the workbook for it.
pub(super) struct Cluster {
    pub(super) sim: Sim,
    pub(super) workbook: Workbook,
}

impl Cluster {
    /// Starts it; `change` says what is unusual about it.
    pub(super) async fn start(
        dir: &Path,
        net: Network,
        seed: u64,
        change: impl FnOnce(&mut SimOptions),
    ) -> anyhow::Result<Self> {
        let at = |last: u8| net.at(last);
        let mut options = SimOptions { time_scale: SCALE, chunk_size: CHUNK, ..SimOptions::default() };
        options.seed = seed;
        options.vip = IpAddr::V4(at(10));
        options.nodes.truncate(2);
        for (node, last) in options.nodes.iter_mut().zip([11, 12]) {
            (node.management, node.storage) = (IpAddr::V4(at(last)), IpAddr::V4(at(last + 100)));
        }
        options.storage = Storage::Spool { directory: dir.join("spool") };
        options.latencies.factor = 0.05;
        let times = &mut options.guest_times;
        (times.bios_s, times.installing_os_s, times.first_boot_s, times.tools_install_s) = (5, 20, 5, 5);
        let guest = &mut options.guest;
        (guest.preinstall_s, guest.installer_s, guest.first_line_s) = (5, 60, Some(2));
        (guest.log_lines, guest.lines_after_success) = (20, Some(3));
        let workbook = Workbook::valid().addresses(at(10), &[at(11), at(12)], at(20), at(1), &format!("{}/24", at(0)));
        options.fisheye.password = cell_text(&workbook, "主机规划!M19");
        change(&mut options);
        let sim = Sim::start(options).await.context("starting the simulator")?;
        Ok(Self { sim, workbook })
    }
}

/// What makes the installer fail is put right.
pub(super) fn repair(sim: &Sim) {
    let core = sim.core();
    let mut modes = core.modes().as_ref().clone();
    modes.guest.installer = gantry_sim::guest::InstallerMode::Succeeds;
    core.set_modes(modes);
}

/// The settings of a controller.
pub(super) fn controller(dir: &Path, net: Network) -> Config {
    let mut config = Config { data: dir.join("controller"), ..Config::default() };
    // A port of its own that nobody is given by chance: it must be free again when the controller comes back.
    config.listen = SocketAddr::new(net.at(2).into(), PORT);
    config.names = vec!["127.0.0.1".to_owned(), net.at(2).to_string()];
    config.drain_ms = 500;
    (config.link.heartbeat_ms, config.link.silence_ms) = (500, 2_000);
    config
}

/// The settings of an agent for this cluster, and its ISO.
pub(super) fn agent(dir: &Path, name: &str, sim: &Sim, (seed, patience): (u64, f64)) -> anyhow::Result<Settings> {
    let mut settings = Settings {
        data_dir: dir.join(name),
        iso_dir: dir.join(format!("{name}-iso")),
        join_file: Some(dir.join(format!("{name}-join.json"))),
        ..Settings::default()
    };
    settings.allow = vec!["127.0.0.0/8".parse().context("the simulator's range")?];
    settings.timing.time_scale = SCALE;
    settings.timing.progress_every_s = 0.5;
    settings.iso.min_bytes = 1;
    settings.fisheye.port = sim.fisheye_port();
    settings.guest.ssh_port = sim.ssh_port();
    settings.cloudtower.port = sim.tower_port();
    settings.precheck.host_ports = vec![sim.fisheye_port()];
    settings.precheck.ping = false;
    let timing = &mut settings.timing;
    for limit in [
        &mut timing.image_proof_limit_s,
        &mut timing.job_limit_s,
        &mut timing.guest_agent_limit_s,
        &mut timing.network_seen_limit_s,
        &mut timing.ssh_limit_s,
        &mut timing.ssh_reconnect_limit_s,
        &mut timing.preinstall_limit_s,
        &mut timing.installer_limit_s,
        &mut timing.ready_limit_s,
        &mut timing.undo_limit_s,
    ] {
        *limit *= patience;
    }
    timing.https_tries = 200;
    (settings.link.retry_first_ms, settings.link.retry_cap_ms) = (5, 20);
    settings.fisheye.stall_timeout_ms = 1_000;
    settings.fisheye.request_timeout_ms = 3_000;
    // Who is told to be off and comes back asks before it goes on, however long the controller is down.
    settings.jobs.ask_first_s = 3_600.0;
    std::fs::create_dir_all(&settings.iso_dir)?;
    Iso::new(4 * CHUNK + 1).seed(seed).write(&settings.iso_dir.join(ISO_NAME))?;
    Ok(settings)
}

/// An agent that is to be let in.
pub(super) struct Newcomer<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its site.
    pub(super) site: &'a str,
    /// Its settings.
    pub(super) settings: &'a Settings,
}

/// Makes the controller's identity, its first operator, and the identities of agents that reach it at `url`. The agents
/// join before there is a controller, straight into its store: how they join is no part of a run.
pub(super) async fn let_in(config: &Config, url: &str, agents: &[Newcomer<'_>]) -> anyhow::Result<()> {
    setup::ensure_server(config).context("making the controller's CA")?;
    setup::first_operator(config).context("making the operator's profile")?;
    let authority = setup::authority(config)?;
    let (_, server_name) = config.address();
    let store = SqliteStore::open(&config.data.join(STORE_FILE), &config.store).await?;
    let now = Timestamp::now();
    let expires = now + SignedDuration::from_hours(24);
    for Newcomer { name, site, settings } in agents {
        let row = SiteRow { name: (*site).to_owned(), added: now, added_by: String::new() };
        store.change_identity(IdentityChange::AddSite(row)).await?;
        let file = settings.join_file.as_ref().context("an agent without a join file")?;
        let id: AgentId = name.parse()?;
        let (hash, key, made_by) = ((*name).to_owned(), (*name).to_owned(), String::new());
        let token =
            TokenRow { hash: hash.clone(), site: (*site).to_owned(), agent: Some(id.clone()), expires, made_by };
        store.change_identity(IdentityChange::AddToken { token, now }).await?;
        let joined = store.change_identity(IdentityChange::Join(Joining { hash, wish: None, key, now, expires }));
        let joined = joined.await?;
        ensure!(matches!(joined, IdentityChanged::Agent(_)), "agent {name} does not join: {joined:?}");
        let peer = Peer::Agent(AgentPeer { id, site: (*site).to_owned() });
        let issued = authority.issue_peer(&peer, 1).context("signing an agent's certificate")?;
        let join = JoinFile {
            controller: url.to_owned(),
            server_name: server_name.clone(),
            ca_pem: authority.pem().to_owned(),
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            agent: (*name).to_owned(),
            site: (*site).to_owned(),
        };
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(file)?;
        file.write_all(&serde_json::to_vec(&join)?)?;
    }
    store.close().await;
    Ok(())
}
