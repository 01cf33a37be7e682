//! Many sites in this process: a simulated cluster, a workbook and an agent for each, and one controller over all of
//! them. `ctl` comes from outside.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use gantry_agent::config::Settings;
use gantry_controller::Config;
use gantry_proto::join::OPERATOR_PROFILE_FILE;
use gantry_sim::{Sim, SimOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::{
    End, check,
    cluster::{self, Cluster, Network, Newcomer},
    failing_installer,
    fuse::Fuse,
    parts::{self, Life},
};

/// The sites.
pub struct Many {
    dir: TempDir,
    config: Config,
    controller: Life,
    sites: Vec<OneSite>,
}

struct OneSite {
    name: String,
    sim: Sim,
    settings: Settings,
    agent: Life,
}

/// The name of a site, from 1.
pub fn site(number: usize) -> String {
    format!("site-{number:02}")
}

impl Many {
    /// Starts so many; at those of these numbers the installer fails until it is repaired.
    pub async fn start(count: usize, failing: &[usize]) -> anyhow::Result<Self> {
        as_many_files_as_allowed()?;
        let dir = cluster::directory()?;
        let workbooks = dir.path().join("sites");
        std::fs::create_dir_all(&workbooks)?;
        let mut config = cluster::controller(dir.path(), Network::new());
        // Many share two cores: late is not silent.
        (config.link.heartbeat_ms, config.link.silence_ms) = (2_000, 20_000);
        let mut made = Vec::with_capacity(count);
        for number in 1..=count {
            let (name, seed) = (site(number), number as u64);
            let place = dir.path().join(&name);
            let change = |options: &mut SimOptions| {
                if failing.contains(&number) {
                    failing_installer(options);
                }
            };
            let Cluster { sim, workbook } = Cluster::start(&place, Network::new(), seed, change).await?;
            std::fs::write(workbooks.join(format!("{name}.xlsx")), workbook.bytes())?;
            let mut settings = cluster::agent(&place, "agent", &sim, (seed, super::PATIENCE))?;
            (settings.fisheye.stall_timeout_ms, settings.fisheye.request_timeout_ms) = (20_000, 30_000);
            made.push((name, sim, settings));
        }
        let agents = made.iter().map(|(name, _, settings)| Newcomer { name, site: name, settings }).collect::<Vec<_>>();
        cluster::let_in(&config, &format!("https://{}", config.listen), &agents).await?;
        let controller = parts::controller(&config, Fuse::new(None)).await?;
        let mut sites = Vec::with_capacity(count);
        for (name, sim, settings) in made {
            let agent = parts::agent(&settings, Fuse::new(None)).await.with_context(|| format!("agent of {name}"))?;
            sites.push(OneSite { name, sim, settings, agent });
        }
        Ok(Self { dir, config, controller, sites })
    }

    /// The directory with the workbooks.
    pub fn workbooks(&self) -> PathBuf {
        self.dir.path().join("sites")
    }

    /// A place for whoever runs the campaign.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The operator's profile.
    pub fn profile(&self) -> PathBuf {
        self.config.data.join("operators/admin").join(OPERATOR_PROFILE_FILE)
    }

    /// The controller's address.
    pub fn url(&self) -> String {
        format!("https://{}", self.config.listen)
    }

    /// The installer of a site works from now on.
    pub fn repair(&self, number: usize) {
        if let Some(site) = self.sites.get(number.saturating_sub(1)) {
            cluster::repair(&site.sim);
        }
    }

    /// Every site has one VM and one image, and nothing was done twice.
    ///
    /// # Errors
    /// What is not as promised, and where.
    pub fn all_deployed(&self) -> anyhow::Result<()> {
        for site in &self.sites {
            check::world(&site.sim, &site.settings, End::Succeeded, &HashSet::new()).context(site.name.clone())?;
        }
        Ok(())
    }

    /// Ends everything in good order.
    ///
    /// # Errors
    /// When something of it does not end.
    pub async fn end(mut self) -> anyhow::Result<()> {
        for site in &mut self.sites {
            site.agent.end().await.context(site.name.clone())?;
        }
        self.controller.end().await?;
        for site in self.sites {
            site.sim.stop().await;
        }
        Ok(())
    }
}

/// A site takes some twenty open files, and all of them are in one process.
fn as_many_files_as_allowed() -> anyhow::Result<()> {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    setrlimit(Resource::Nofile, raised).context("raising the number of files that may be open")
}
