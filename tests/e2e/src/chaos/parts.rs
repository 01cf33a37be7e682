//! Our own processes, played in this one: a controller and an agent, each on a thread and a runtime of its own, so that it
//! can be killed: from one moment to the next none of its tasks runs any more, whatever it was about to do.

use std::{
    future::Future,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use gantry_agent::{
    config::Settings,
    identity::{Identity, IdentityError},
    iso,
    journal::Disk,
    link::Link,
    pipeline::PIPELINE,
    runner::Runner,
};
use gantry_controller::{Config, Controller};
use gantry_proto::Redactor;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{disk::FusedDisk, fuse::Fuse, store::FusedStore};

/// What begins or ends has to have done so within this.
const SOON: Duration = Duration::from_secs(20);

/// A process of ours.
pub(super) struct Life {
    pub(super) fuse: Arc<Fuse>,
    /// Ends it in good order.
    stop: CancellationToken,
    /// Ends it where it is.
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Life {
    /// Lives on a thread of its own; returns once `live` says that it has begun.
    async fn begin<F: Future<Output = anyhow::Result<()>>>(
        fuse: Arc<Fuse>,
        live: impl FnOnce(mpsc::Sender<()>, CancellationToken) -> F + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (stop, (kill, killed), (say, said)) = (CancellationToken::new(), oneshot::channel(), mpsc::channel());
        let token = stop.clone();
        let thread = std::thread::Builder::new().name("life".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let ended = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = killed => Ok(()),
                    ended = Box::pin(live(say, token)) => ended,
                }
            });
            // Every task of this life is dropped here; a thread that hangs in the fatal write is not waited for.
            runtime.shutdown_background();
            ended
        })?;
        let mut life = Self { fuse, stop, kill: Some(kill), thread: Some(thread) };
        match tokio::task::spawn_blocking(move || said.recv_timeout(SOON)).await? {
            Ok(()) => Ok(life),
            Err(_) => {
                life.kill = None;
                Err(life.end().await.err().unwrap_or_else(|| anyhow!("it did not begin within {SOON:?}")))
            }
        }
    }

    /// Ends it from one moment to the next.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.kill = None;
        let ended = timeout(SOON, tokio::task::spawn_blocking(move || thread.join())).await;
        self.fuse.bury();
        let ended = ended.context("one of our processes does not die")??;
        ended.map_err(|_| anyhow!("one of our processes panicked"))?
    }

    /// Ends it: in good order, or killed when its fuse has blown, before or on the way.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let mut joined = tokio::task::spawn_blocking(move || thread.join());
        self.stop.cancel();
        let in_order = async {
            tokio::select! {
                biased;
                () = self.fuse.blown() => None,
                joined = timeout(SOON, &mut joined) => Some(joined),
            }
        };
        let ended = match in_order.await {
            Some(ended) => ended,
            None => {
                self.kill = None;
                let ended = timeout(SOON, joined).await;
                // Nobody is left who could hear of it.
                self.fuse.bury();
                ended
            }
        };
        let ended = ended.context("one of our processes does not end")??;
        ended.map_err(|_| anyhow!("one of our processes panicked"))?
    }
}

/// Starts a controller.
pub(super) async fn controller(config: &Config, fuse: Fuse) -> anyhow::Result<Life> {
    let fuse = Arc::new(fuse);
    let (settings, counted) = (config.clone(), fuse.clone());
    let live = move |say: mpsc::Sender<()>, stop| async move {
        let controller = Controller::bind(settings, Redactor::new()).await.context("starting the controller")?;
        let _ = say.send(());
        let controller = controller.store_through(|inner| Arc::new(FusedStore { inner, fuse: counted }));
        controller.serve(stop).await.context("the controller")
    };
    Life::begin(fuse, live).await
}

/// Starts an agent.
pub(super) async fn agent(settings: &Settings, fuse: Fuse) -> anyhow::Result<Life> {
    let fuse = Arc::new(fuse);
    let (settings, disk) = (Arc::new(settings.clone()), FusedDisk(fuse.clone()));
    let live = move |say: mpsc::Sender<()>, stop: CancellationToken| async move {
        let identity = Arc::new(timeout(SOON, identity(&settings)).await.context("the dead agent's lock stays")??);
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let runner = Runner::start(settings.clone(), identity.clone(), Redactor::new(), PIPELINE, disk).await?;
        let listed = settings.clone();
        let link = Link::new(settings, identity, runner.clone(), Arc::new(move || iso::list(&listed)))?;
        let _ = say.send(());
        link.run(stop).await;
        ensure!(runner.shutdown(SOON).await, "the agent's jobs do not come to an end");
        Ok(())
    };
    Life::begin(fuse, live).await
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
