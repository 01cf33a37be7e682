//! The controller: plans, the job log, which agents there are and what each was told.
//!
//! Operators talk to [`service`], by gRPC or through the [`web`] pages, agents to [`gateway`]; all of them only translate for
//! [`jobs`] and [`agents`], and what must survive is in the [`store`]. The controller knows no Fisheye, SSH or CloudTower: it hands a plan and sealed secrets to
//! an agent, and folds what the agent tells. A secret is in clear only between the planner and the seal.

pub mod access;
pub mod agents;
pub mod audit;
pub mod authority;
pub mod config;
pub mod files;
pub mod gateway;
pub mod jobs;
mod metrics;
pub mod peer;
pub mod refusal;
mod server;
pub mod service;
pub mod setup;
pub mod store;
pub mod telemetry;
pub mod web;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use gantry_proto::{Redactor, v1::Role};
use jiff::Timestamp;
use prometheus::Registry;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::{Config, ConfigError};

use crate::{
    access::Access,
    agents::Agents,
    audit::{Audit, AuditApi},
    authority::Authority,
    config::ms,
    files::FileError,
    gateway::Gateway,
    jobs::Jobs,
    server::TlsError,
    service::OperatorApi,
    setup::SetupError,
    store::{IdentityChange, OperatorRow, SqliteStore, Store, StoreError},
    telemetry::{AgentTelemetry, Recorder, RecorderError},
    web::Sessions,
};

/// File name of the store in the data directory.
pub const STORE_FILE: &str = "gantry.db";

/// Why the controller could not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// CA or certificates.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error("opening the store {}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The port.
    #[error("listening on {address}: choose another `listen`, or end what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Telemetry.
    #[error(transparent)]
    Telemetry(#[from] RecorderError),
    /// The ready file.
    #[error(transparent)]
    Ready(#[from] FileError),
    /// The server.
    #[error("serving failed")]
    Serve(#[from] tonic::transport::Error),
}

/// A controller that is bound to its port and not yet serving.
pub struct Controller {
    config: Arc<Config>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    authority: Authority,
    store: Arc<SqliteStore>,
    /// What the jobs see of it: the store itself, or something laid over it.
    over: Arc<dyn Store>,
    redactor: Redactor,
    watched: Watched,
}

/// Who takes telemetry in, and where metrics can be read. Made before everything else that has something to tell.
#[derive(Clone)]
pub struct Watched {
    /// Keeps traces and hands telemetry on.
    pub recorder: Arc<Recorder>,
    /// What `/metrics` shows.
    pub metrics: Registry,
}

impl Watched {
    /// Opens what is kept in the data directory (blocking).
    ///
    /// # Errors
    /// See [`RecorderError`].
    pub fn open(config: &Config) -> Result<Self, RecorderError> {
        let data = files::private_dir(&config.data);
        data.map_err(RecorderError::from)?;
        Ok(Self { recorder: Arc::new(Recorder::open(config)?), metrics: Registry::new() })
    }
}

/// Binds and serves until `shutdown`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    config: Config,
    redactor: Redactor,
    watched: Watched,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    Controller::bind_watched(config, redactor, watched).await?.serve(shutdown).await
}

impl Controller {
    /// Makes what is missing in the data directory, opens the store and binds the port.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn bind(config: Config, redactor: Redactor) -> Result<Self, RunError> {
        config.check()?;
        let own = config.clone();
        let watched = tokio::task::spawn_blocking(move || Watched::open(&own)).await;
        let watched = watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Self::bind_watched(config, redactor, watched).await
    }

    /// The same, with telemetry that is at work.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn bind_watched(config: Config, redactor: Redactor, watched: Watched) -> Result<Self, RunError> {
        config.check()?;
        let set = [&config.plan.cluster_password, &config.plan.ssh.password, &config.plan.root_password_encoded];
        set.into_iter().flatten().for_each(|secret| redactor.register(&secret.0));
        let config = Arc::new(config);
        let own = config.clone();
        // Files and keys are slow; they have no place among the runtime's threads.
        let prepared = tokio::task::spawn_blocking(move || prepare(&own)).await;
        let (tls, authority) = prepared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let path = config.data.join(STORE_FILE);
        let store = SqliteStore::open(&path, &config.store).await;
        let store = Arc::new(store.map_err(|source| RunError::Store { path, source })?);
        let listen = |source| RunError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let recorded = audit::started(&*store, authority.pem()).await;
        let failed = |source| RunError::Store { path: config.data.join(STORE_FILE), source };
        recorded.map_err(failed)?;
        store.change_identity(IdentityChange::FirstAdmin(first_admin(&config))).await.map_err(failed)?;
        Ok(Self { config, listener, address, tls, authority, over: store.clone(), store, redactor, watched })
    }

    /// Lays something over the store: a rehearsal of what happens when it fails at a chosen moment.
    pub fn store_through(mut self, over: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        self.over = over(self.over);
        self
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then ends streams, waits for calls within the limit, and closes the store.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { config, listener, address, tls, authority, store, over: dyn_store, redactor, watched } = self;
        let Watched { recorder, metrics: registry } = watched;
        let path = config.data.join(STORE_FILE);
        let agents = Agents::open(dyn_store.clone()).await.map_err(|source| RunError::Store { path, source })?;
        let agents = Arc::new(agents);
        let (tasks, streams) = (TaskTracker::new(), CancellationToken::new());
        let (kept, log) = (config.audit.clone(), dyn_store.clone());
        let audit = Arc::new(Audit::new(log, redactor.clone(), kept, tasks.clone(), streams.clone()));
        tasks.spawn(audit.clone().keep());
        let jobs =
            Jobs::new(dyn_store.clone(), agents.clone(), config.clone(), redactor, tasks.clone(), streams.clone());
        let jobs = Arc::new(jobs);
        let (log, known) = (dyn_store.clone(), agents.clone());
        let access = Arc::new(Access::new(&config, address.port(), authority, log, known, audit.clone()));
        let gateway = Gateway {
            jobs: jobs.clone(),
            agents: agents.clone(),
            access: access.clone(),
            store: dyn_store.clone(),
            telemetry: AgentTelemetry::new(recorder.clone(), dyn_store.clone()),
            settings: config.link.clone(),
            tasks: tasks.clone(),
            stop: streams.clone(),
        };
        tasks.spawn(recorder.clone().forward(streams.clone()));
        tasks.spawn(metrics::refresh(dyn_store.clone(), agents.clone(), recorder.clone(), streams.clone()));
        let sessions = Arc::new(Sessions::new(config.web.clone()));
        let operators = OperatorApi { jobs, agents, audit: audit.clone(), sessions, recorder };
        let shown = server::Shown { store: dyn_store, access: access.clone(), metrics: registry };
        let routes = server::routes(&config, gateway, operators, AuditApi { audit }, access, shown);
        if let Some(file) = &config.ready_file {
            files::replace(file, format!("{address}\n").as_bytes(), files::PUBLIC)?;
        }
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "controller listens");

        let stop = CancellationToken::new();
        let serving = server::serve(listener, tls, routes, &config.limits, stop.clone());
        tokio::pin!(serving);
        let served = tokio::select! {
            served = &mut serving => Some(served),
            () = shutdown.cancelled() => None,
        };
        tracing::info!("controller drains");
        streams.cancel();
        stop.cancel();
        tasks.close();
        let drained = timeout(ms(config.drain_ms), async {
            tasks.wait().await;
            match served {
                Some(served) => served,
                None => serving.await,
            }
        })
        .await;
        store.close().await;
        if let Some(file) = &config.ready_file {
            let _ = std::fs::remove_file(file);
        }
        match drained {
            Ok(served) => Ok(served?),
            Err(_) => {
                tracing::warn!(limit_ms = config.drain_ms, "some connections did not end in time and were cut");
                Ok(())
            }
        }
    }
}

/// First start without `init` makes the same things.
fn prepare(config: &Config) -> Result<(Arc<rustls::ServerConfig>, Authority), RunError> {
    let mut made = setup::ensure_server(config)?;
    if made.iter().any(|made| made.new) {
        made.push(setup::first_operator(config)?);
    }
    for made in made.iter().filter(|made| made.new) {
        tracing::info!(what = made.what, path = %made.path.display(), "made");
    }
    // The engine would make it readable for everyone; its side files take its mode.
    let store = config.data.join(STORE_FILE);
    if !store.exists() {
        files::write_new(&store, &[], files::PRIVATE)?;
    }
    let files = setup::server_files(&config.data)?;
    Ok((server::tls(&files)?, setup::authority(config)?))
}

/// The operator of [`setup::first_operator`]: let in when nobody is, so also when a store was lost.
fn first_admin(config: &Config) -> OperatorRow {
    let now = Timestamp::now();
    OperatorRow {
        name: setup::FIRST_OPERATOR.to_owned(),
        role: Role::Admin,
        sites: Vec::new(),
        revoked: false,
        valid_from: Timestamp::UNIX_EPOCH,
        expires: access::later(now, u64::from(config.certificates.operator_days) * 24 * 3600),
        added: now,
        added_by: String::new(),
    }
}
