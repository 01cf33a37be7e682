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
    /// A second agent, where the job is to be moved.
    second: Option<Life>,
    controller: Life,
    agents: Deaths,
    seconds: Deaths,
    controllers: Deaths,
    /// How often they have died.
    pub(super) deaths: u32,
}

impl Stage {
    /// Starts the controller and then the agents.
    pub(super) async fn start(site: &mut Site, crashes: &Crashes, two: bool) -> anyhow::Result<Self> {
        let (mut agents, mut controllers) = (crashes.agent.clone().into_iter(), crashes.controller.clone().into_iter());
        let mut seconds = crashes.second.clone().into_iter();
        site.join().await?;
        let controller = parts::controller(&site.config, Fuse::new(controllers.next())).await?;
        let agent = parts::agent(&site.settings, Fuse::new(agents.next())).await?;
        let second = match two {
            true => Some(parts::agent(&site.second, Fuse::new(seconds.next())).await?),
            false => None,
        };
        Ok(Self { agent, second, controller, agents, seconds, controllers, deaths: 0 })
    }

    /// Who has died is buried and comes back.
    pub(super) async fn revive(&mut self, site: &Site) -> anyhow::Result<()> {
        if self.agent.fuse.is_blown() {
            self.deaths += 1;
            self.restart_agent(site).await?;
        }
        if let Some(second) = self.second.as_mut().filter(|second| second.fuse.is_blown()) {
            self.deaths += 1;
            second.end().await?;
            *second = parts::agent(&site.second, Fuse::new(self.seconds.next())).await?;
        }
        if self.controller.fuse.is_blown() {
            self.deaths += 1;
            self.restart_controller(site).await?;
        }
        Ok(())
    }

    /// The agent's machine loses its power.
    pub(super) async fn agent_goes_down(&mut self) -> anyhow::Result<()> {
        self.agent.kill().await
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
        let second = async {
            match &self.second {
                Some(second) => second.fuse.blown().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.agent.fuse.blown() => {}
            () = self.controller.fuse.blown() => {}
            () = second => {}
        }
    }

    /// Writes of the journals in the agents' last lives, and changes of the store in the controller's.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let second = self.second.as_ref().map_or(0, |second| second.fuse.seen());
        (self.agent.fuse.seen(), second, self.controller.fuse.seen())
    }

    /// Ends everything.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.agent.end().await?;
        if let Some(second) = &mut self.second {
            second.end().await?;
        }
        self.controller.end().await
    }
}
