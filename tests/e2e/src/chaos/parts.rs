//! Our own processes, played in this one: a controller and an agent that can die and be started again.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use gantry_agent::{
    config::Settings,
    identity::{Identity, IdentityError},
    iso,
    journal::Disk,
    link::Link,
    pipeline::PIPELINE,
    runner::Runner,
};
use gantry_controller::Controller;
use gantry_proto::Redactor;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{disk::FusedDisk, fuse::Fuse, store::FusedStore};

/// What is dead has to be gone within this.
const GONE: Duration = Duration::from_secs(20);

/// A running controller.
pub(super) struct ControllerLife {
    pub(super) fuse: Arc<Fuse>,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
}

impl ControllerLife {
    /// Starts it; the port that it gets stays its port.
    pub(super) async fn start(config: &mut gantry_controller::Config, fuse: Fuse) -> anyhow::Result<Self> {
        let fuse = Arc::new(fuse);
        let controller = Controller::bind(config.clone(), Redactor::new()).await.context("starting the controller")?;
        config.listen = controller.address();
        let counted = fuse.clone();
        let controller = controller.store_through(|inner| Arc::new(FusedStore { inner, fuse: counted }));
        let (shutdown, mut serving) = (CancellationToken::new(), JoinSet::new());
        let stop = shutdown.clone();
        // An end with an error is what a dead store does; the check at the end sees what it means.
        serving.spawn(async move { drop(controller.serve(stop).await) });
        Ok(Self { fuse, shutdown, serving })
    }

    /// Ends it; behind a blown fuse it changes nothing any more.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        timeout(GONE, self.serving.join_next()).await.context("the controller does not end")?;
        Ok(())
    }
}

/// A running agent.
pub(super) struct AgentLife {
    pub(super) fuse: Arc<Fuse>,
    runner: Arc<Runner>,
    stop: CancellationToken,
    link: JoinSet<()>,
}

impl AgentLife {
    pub(super) async fn start(settings: &Settings, fuse: Fuse) -> anyhow::Result<Self> {
        let fuse = Arc::new(fuse);
        let settings = Arc::new(settings.clone());
        let identity = timeout(GONE, identity(&settings)).await.context("the dead agent's lock stays")??;
        let identity = Arc::new(identity);
        let disk: Arc<dyn Disk> = Arc::new(FusedDisk(fuse.clone()));
        let runner = Runner::start(settings.clone(), identity.clone(), Redactor::new(), PIPELINE, disk).await?;
        let listed = settings.clone();
        let link = Link::new(settings, identity, runner.clone(), Arc::new(move || iso::list(&listed)))?;
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let token = stop.clone();
        tasks.spawn(async move { link.run(token).await });
        Ok(Self { fuse, runner, stop, link: tasks })
    }

    /// Ends it: dead when its fuse has blown, in good order otherwise.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        // First nobody hears it any more, then it may find out that it is dead.
        self.link.abort_all();
        while self.link.join_next().await.is_some() {}
        self.fuse.bury();
        self.stop.cancel();
        ensure!(self.runner.shutdown(GONE).await, "the agent's jobs do not come to an end");
        Ok(())
    }
}

/// Who the agent is. The lock of the one that has died goes with the last of its threads.
async fn identity(settings: &Arc<Settings>) -> anyhow::Result<Identity> {
    loop {
        let load = settings.clone();
        match tokio::task::spawn_blocking(move || Identity::load(&load)).await? {
            Err(IdentityError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
            loaded => return loaded.context("the agent's identity"),
        }
    }
}
