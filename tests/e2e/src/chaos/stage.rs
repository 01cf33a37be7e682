//! Our own processes on one site: each one that has died comes back, as often as it dies.

use super::{
    Crashes, How,
    fuse::Fuse,
    parts::{self, Life},
    site::Site,
};

/// The deaths that are still to come, one for each life.
type Deaths = std::vec::IntoIter<(u64, How)>;

/// The processes.
pub(super) struct Stage {
    agent: Life,
    controller: Life,
    agents: Deaths,
    controllers: Deaths,
    /// How often they have died.
    pub(super) deaths: u32,
}

impl Stage {
    /// Starts the controller and then the agent.
    pub(super) async fn start(site: &mut Site, crashes: &Crashes) -> anyhow::Result<Self> {
        let (mut agents, mut controllers) = (crashes.agent.clone().into_iter(), crashes.controller.clone().into_iter());
        let controller = parts::controller(&site.config, Fuse::new(controllers.next())).await?;
        site.join()?;
        let agent = parts::agent(&site.settings, Fuse::new(agents.next())).await?;
        Ok(Self { agent, controller, agents, controllers, deaths: 0 })
    }

    /// Who has died is buried and comes back.
    pub(super) async fn revive(&mut self, site: &Site) -> anyhow::Result<()> {
        if self.agent.fuse.is_blown() {
            self.deaths += 1;
            self.restart_agent(site).await?;
        }
        if self.controller.fuse.is_blown() {
            self.deaths += 1;
            self.restart_controller(site).await?;
        }
        Ok(())
    }

    /// Ends the agent in good order, unless it is dead, and starts it again.
    pub(super) async fn restart_agent(&mut self, site: &Site) -> anyhow::Result<()> {
        self.agent.end().await?;
        self.agent = parts::agent(&site.settings, Fuse::new(self.agents.next())).await?;
        Ok(())
    }

    /// Ends the controller in good order, unless it is dead, and starts it again.
    pub(super) async fn restart_controller(&mut self, site: &Site) -> anyhow::Result<()> {
        self.controller.end().await?;
        self.controller = parts::controller(&site.config, Fuse::new(self.controllers.next())).await?;
        Ok(())
    }

    /// Waits until somebody dies.
    pub(super) async fn death(&self) {
        tokio::select! {
            () = self.agent.fuse.blown() => {}
            () = self.controller.fuse.blown() => {}
        }
    }

    /// Writes of the journal in the agent's last life, and changes of the store in the controller's.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.agent.fuse.seen(), self.controller.fuse.seen())
    }

    /// Ends everything.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.agent.end().await?;
        self.controller.end().await
    }
}
