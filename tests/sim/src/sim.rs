//! Starting and stopping a whole simulation.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::{Core, addresses};
use crate::fault::Face;
use crate::net::{Site, bind, reserve, serve};
use crate::options::SimOptions;
use crate::world::{GUEST_EVENTS, GuestEvent};
use crate::{control, fisheye, guest};

/// Wall time that the parts of a simulation get to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running simulation. Dropping it stops it without waiting; [`Sim::stop`] waits.
#[derive(Debug)]
pub struct Sim {
    core: Core,
    control: SocketAddr,
    cancel: CancellationToken,
    tasks: TaskTracker,
    /// Keep the guest-side port numbers from being chosen by another simulation.
    _reserved: Vec<TcpSocket>,
}

/// All addresses of a running simulation: what `simulator` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// Base of the control API.
    pub control_url: String,
    /// Cluster management address.
    pub vip: IpAddr,
    /// Management addresses of the nodes.
    pub nodes: Vec<IpAddr>,
    /// Fisheye, on the VIP and each node.
    pub fisheye_port: u16,
    /// Fisheye over plain HTTP.
    pub fisheye_http_port: Option<u16>,
    /// SSH of every VM.
    pub ssh_port: u16,
    /// CloudTower on every VM.
    pub tower_port: u16,
    /// CloudTower's redirecting port.
    pub tower_http_port: u16,
}

impl Sim {
    /// Opens all ports and starts everything; returns when requests can be answered.
    ///
    /// # Errors
    /// A port is taken, or the certificate or the spool directory cannot be made.
    pub async fn start(mut options: SimOptions) -> anyhow::Result<Self> {
        let cluster = addresses(&options);
        let mut listeners = bind(&cluster, options.ports.fisheye).await.context("opening Fisheye")?;
        options.ports.fisheye = port_of(&listeners)?;
        let mut plain = Vec::new();
        if let Some(port) = options.ports.fisheye_http {
            plain = bind(&cluster, port).await.context("opening Fisheye over plain HTTP")?;
            options.ports.fisheye_http = Some(port_of(&plain)?);
        }
        let mut reserved = Vec::new();
        for port in [&mut options.ports.ssh, &mut options.ports.tower, &mut options.ports.tower_http] {
            if *port == 0 {
                let (number, socket) = reserve(options.vip, 0)?;
                *port = number;
                reserved.push(socket);
            }
        }
        let control = bind(&[options.control], options.ports.control).await.context("opening the control API")?;
        options.ports.control = port_of(&control)?;
        let at = SocketAddr::new(options.control, options.ports.control);
        let core = Core::new(options)?;
        let sim = Self {
            core,
            control: at,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _reserved: reserved,
        };
        let identity = sim.core.options.fisheye.tls.then(|| sim.core.identity.clone());
        for listener in listeners.drain(..) {
            let site = Site { face: Face::Fisheye, identity: identity.clone(), router: fisheye::router(&sim.core) };
            sim.spawn("fisheye", serve(sim.core.clone(), listener, site, sim.cancel.clone()));
        }
        for listener in plain {
            let site = Site { face: Face::Fisheye, identity: None, router: fisheye::router(&sim.core) };
            sim.spawn("fisheye over plain HTTP", serve(sim.core.clone(), listener, site, sim.cancel.clone()));
        }
        for listener in control {
            sim.spawn("control", control::serve(listener, sim.core.clone(), sim.cancel.clone()));
        }
        let (events, inbox) = mpsc::channel(GUEST_EVENTS);
        sim.spawn("director", direct(sim.core.clone(), events, sim.cancel.clone()));
        sim.spawn("guest", guest::run(sim.core.clone(), inbox, sim.cancel.clone()));
        Ok(sim)
    }

    /// Closes every port and waits until everything has ended.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("a part of the simulation did not end in time");
        }
    }

    /// The shared heart: clock, world, modes, faults, transcript.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Base of the control API, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Cluster management address.
    #[must_use]
    pub fn vip(&self) -> IpAddr {
        self.core.options.vip
    }

    /// The port of Fisheye on the VIP and each node.
    #[must_use]
    pub fn fisheye_port(&self) -> u16 {
        self.core.options.ports.fisheye
    }

    /// The port of SSH on every VM.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.core.options.ports.ssh
    }

    /// The HTTPS port of CloudTower on every VM.
    #[must_use]
    pub fn tower_port(&self) -> u16 {
        self.core.options.ports.tower
    }

    /// All addresses at once.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let options = &self.core.options;
        Addresses {
            control_url: self.control_url(),
            vip: options.vip,
            nodes: options.nodes.iter().map(|node| node.management).collect(),
            fisheye_port: options.ports.fisheye,
            fisheye_http_port: options.ports.fisheye_http,
            ssh_port: options.ports.ssh,
            tower_port: options.ports.tower,
            tower_http_port: options.ports.tower_http,
        }
    }

    fn spawn(&self, part: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(async move {
            if let Err(error) = work.await {
                tracing::error!(part, error = format!("{error:#}"), "a part of the simulation failed");
            }
        });
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Does what is due when it is due, and carries messages to the guest side.
async fn direct(core: Core, events: mpsc::Sender<GuestEvent>, cancel: CancellationToken) -> anyhow::Result<()> {
    loop {
        let (messages, next, wake) = core.world().turn();
        for message in messages {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                sent = events.send(message) => if sent.is_err() { return Ok(()) },
            }
        }
        let until = async {
            match next {
                Some(at) => core.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = until => {}
            () = wake.notified() => {}
        }
    }
}

fn port_of(listeners: &[tokio::net::TcpListener]) -> anyhow::Result<u16> {
    let first = listeners.first().context("no address to listen on")?;
    Ok(first.local_addr().context("asking a listener for its port")?.port())
}
