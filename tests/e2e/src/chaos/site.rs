//! One site for one run: a simulated cluster in this process, a controller's and two agents' directories.

use anyhow::Context as _;
use gantry_agent::config::Settings;
use gantry_controller::Config;
use gantry_sim::{Sim, fault::WorldAction};
use tempfile::TempDir;

use super::{
    Scenario, VM,
    cluster::{self, Cluster, Network, Newcomer},
};
use crate::{
    canaries::Canaries,
    lab::{AGENT, SITE},
    proxy::Proxy,
};

/// The second agent.
pub(super) const SECOND: &str = "bastion-2";

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
        let (dir, net) = (cluster::directory()?, Network::new());
        let Cluster { sim, workbook } = Cluster::start(dir.path(), net, scenario.seed, &scenario.change).await?;
        let config = cluster::controller(dir.path(), net);
        let settings = cluster::agent(dir.path(), AGENT, &sim, (scenario.seed, scenario.patience))?;
        let second = cluster::agent(dir.path(), SECOND, &sim, (scenario.seed, scenario.patience))?;
        let canaries = Canaries::of(&workbook);
        Ok(Self { sim, config, settings, second, canaries, workbook: workbook.bytes(), _dir: dir, line: None })
    }

    /// The line to the controller, and the agents' identities, which lead through it.
    pub(super) async fn join(&mut self) -> anyhow::Result<()> {
        let line = Proxy::start(self.config.listen).context("starting the line")?;
        let agents = [(AGENT, &self.settings), (SECOND, &self.second)];
        let agents = agents.map(|(name, settings)| Newcomer { name, site: SITE, settings });
        cluster::let_in(&self.config, &format!("https://{}", line.address()), &agents).await?;
        self.line = Some(line);
        Ok(())
    }

    /// The line between agent and controller.
    pub(super) fn line(&self) -> anyhow::Result<&Proxy> {
        self.line.as_ref().context("the site has no line yet")
    }

    /// What makes the installer fail is put right.
    pub(super) fn repair(&self) {
        cluster::repair(&self.sim);
    }

    /// Whoever has made a VM of our name removes it.
    pub(super) fn stranger_goes(&self) -> anyhow::Result<()> {
        let core = self.sim.core();
        let there = core.world().vms.values().any(|vm| vm.foreign && vm.name == VM);
        if there { core.change_world(&WorldAction::DeleteVm { vm: VM.to_owned() }) } else { Ok(()) }
    }
}
