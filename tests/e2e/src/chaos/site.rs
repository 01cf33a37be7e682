//! One site for one run: a simulated cluster in this process, a controller's and an agent's directory, a workbook whose
//! addresses no other run uses.

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
use gantry_sim::{Sim, SimOptions, fault::WorldAction, iso::Iso, options::Storage, workbook::Workbook};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::{Scenario, VM};
use crate::{
    canaries::Canaries,
    lab::{AGENT, ISO_NAME, SITE, cell_text},
    proxy::Proxy,
};

/// Virtual seconds in one real second.
const SCALE: f64 = 2_000.0;
/// How much longer than usual every deadline is.
const PATIENCE: f64 = 60.0;
/// Bytes of a chunk; the ISO has four of them and one byte more.
const CHUNK: u64 = 16 << 10;

/// The second agent.
pub(super) const SECOND: &str = "bastion-2";
/// The controller's port.
const PORT: u16 = 7443;

/// The site.
pub(super) struct Site {
    pub(super) sim: Sim,
    pub(super) config: Config,
    pub(super) settings: Settings,
    /// Of a second agent of the same site.
    pub(super) second: Settings,
    pub(super) workbook: Vec<u8>,
    pub(super) canaries: Canaries,
    _dir: TempDir,
    line: Option<Proxy>,
}

impl Site {
    pub(super) async fn start(scenario: &Scenario) -> anyhow::Result<Self> {
        let dir = match Path::new("/dev/shm") {
            fast if fast.is_dir() => tempfile::Builder::new().prefix("gantry-chaos-").tempdir_in(fast)?,
            _ => tempfile::Builder::new().prefix("gantry-chaos-").tempdir()?,
        };
        let net = network();
        let at = |last: u8| Ipv4Addr::new(127, net.0, net.1, last);
        let mut options = SimOptions { time_scale: SCALE, chunk_size: CHUNK, ..SimOptions::default() };
        options.seed = scenario.seed;
        options.vip = IpAddr::V4(at(10));
        options.nodes.truncate(2);
        for (node, last) in options.nodes.iter_mut().zip([11, 12]) {
            (node.management, node.storage) = (IpAddr::V4(at(last)), IpAddr::V4(at(last + 100)));
        }
        options.storage = Storage::Spool { directory: dir.path().join("spool") };
        options.latencies.factor = 0.05;
        let times = &mut options.guest_times;
        (times.bios_s, times.installing_os_s, times.first_boot_s, times.tools_install_s) = (5, 20, 5, 5);
        let guest = &mut options.guest;
        (guest.preinstall_s, guest.installer_s, guest.first_line_s) = (5, 60, Some(2));
        (guest.log_lines, guest.lines_after_success) = (20, Some(3));
        let workbook = Workbook::valid().addresses(
            at(10),
            &[at(11), at(12)],
            at(20),
            at(1),
            &format!("127.{}.{}.0/24", net.0, net.1),
        );
        options.fisheye.password = cell_text(&workbook, "主机规划!M19");
        (scenario.change)(&mut options);
        let sim = Sim::start(options).await.context("starting the simulator")?;

        let mut config = Config { data: dir.path().join("controller"), ..Config::default() };
        // A port of its own that nobody is given by chance: it must be free again when the controller comes back.
        config.listen = SocketAddr::new(at(2).into(), PORT);
        config.names = vec!["127.0.0.1".to_owned(), at(2).to_string()];
        config.drain_ms = 500;
        (config.link.heartbeat_ms, config.link.silence_ms) = (500, 2_000);

        let mut settings = Settings {
            data_dir: dir.path().join("agent"),
            iso_dir: dir.path().join("iso"),
            join_file: Some(dir.path().join("join.json")),
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
        // A deadline of minutes is a blink at this scale: here a busy machine must not meet it.
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
            *limit *= PATIENCE;
        }
        timing.https_tries = 200;
        (settings.link.retry_first_ms, settings.link.retry_cap_ms) = (5, 20);
        settings.fisheye.stall_timeout_ms = 1_000;
        settings.fisheye.request_timeout_ms = 3_000;
        // Who is told to be off and comes back asks before it goes on, however long the controller is down.
        settings.jobs.ask_first_s = 3_600.0;
        let mut second = settings.clone();
        (second.data_dir, second.iso_dir) = (dir.path().join("agent-2"), dir.path().join("iso-2"));
        second.join_file = Some(dir.path().join("join-2.json"));
        for agent in [&settings, &second] {
            std::fs::create_dir_all(&agent.iso_dir)?;
            Iso::new(4 * CHUNK + 1).seed(scenario.seed).write(&agent.iso_dir.join(ISO_NAME))?;
        }
        Ok(Self {
            sim,
            config,
            settings,
            second,
            canaries: Canaries::of(&workbook),
            workbook: workbook.bytes(),
            _dir: dir,
            line: None,
        })
    }

    /// The line to the controller, and the agents' identities, which lead through it. The agents join before there is a
    /// controller, straight into its store: how they join is no part of a run.
    pub(super) async fn join(&mut self) -> anyhow::Result<()> {
        let line = Proxy::start(self.config.listen).context("starting the line")?;
        setup::ensure_server(&self.config).context("making the controller's CA")?;
        setup::first_operator(&self.config).context("making the operator's profile")?;
        let authority = setup::authority(&self.config)?;
        let (_, server_name) = self.config.address();
        let store = SqliteStore::open(&self.config.data.join(STORE_FILE), &self.config.store).await?;
        let now = Timestamp::now();
        let expires = now + SignedDuration::from_hours(24);
        let site = SiteRow { name: SITE.to_owned(), added: now, added_by: String::new() };
        store.change_identity(IdentityChange::AddSite(site)).await?;
        for (agent, settings) in [(AGENT, &self.settings), (SECOND, &self.second)] {
            let file = settings.join_file.as_ref().context("an agent without a join file")?;
            let id: AgentId = agent.parse()?;
            let (hash, key, made_by) = (agent.to_owned(), agent.to_owned(), String::new());
            let token =
                TokenRow { hash: hash.clone(), site: SITE.to_owned(), agent: Some(id.clone()), expires, made_by };
            store.change_identity(IdentityChange::AddToken { token, now }).await?;
            let joined = store.change_identity(IdentityChange::Join(Joining { hash, wish: None, key, now, expires }));
            let joined = joined.await?;
            ensure!(matches!(joined, IdentityChanged::Agent(_)), "agent {agent} does not join: {joined:?}");
            let peer = Peer::Agent(AgentPeer { id, site: SITE.to_owned() });
            let issued = authority.issue_peer(&peer, 1).context("signing an agent's certificate")?;
            let join = JoinFile {
                controller: format!("https://{}", line.address()),
                server_name: server_name.clone(),
                ca_pem: authority.pem().to_owned(),
                cert_pem: issued.cert_pem,
                key_pem: issued.key_pem,
                agent: agent.to_owned(),
                site: SITE.to_owned(),
            };
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(file)?;
            file.write_all(&serde_json::to_vec(&join)?)?;
        }
        store.close().await;
        self.line = Some(line);
        Ok(())
    }

    /// The line between agent and controller.
    pub(super) fn line(&self) -> anyhow::Result<&Proxy> {
        self.line.as_ref().context("the site has no line yet")
    }

    /// What makes the installer fail is put right.
    pub(super) fn repair(&self) {
        let core = self.sim.core();
        let mut modes = core.modes().as_ref().clone();
        modes.guest.installer = gantry_sim::guest::InstallerMode::Succeeds;
        core.set_modes(modes);
    }

    /// Whoever has made a VM of our name removes it.
    pub(super) fn stranger_goes(&self) -> anyhow::Result<()> {
        let core = self.sim.core();
        let there = core.world().vms.values().any(|vm| vm.foreign && vm.name == VM);
        if there { core.change_world(&WorldAction::DeleteVm { vm: VM.to_owned() }) } else { Ok(()) }
    }
}

/// Two bytes of a network that no other run on this machine uses now: from the process and the run.
fn network() -> (u8, u8) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(97).wrapping_add(RUNS.fetch_add(1, Ordering::Relaxed));
    let [.., high, low] = number.to_be_bytes();
    (64 + high % 128, low)
}
