//! `agent doctor`: looks at everything that the agent needs, one check after the other, and says of each what was seen
//! and what to do. It writes nothing, takes no lock and opens no session: an agent that runs does not notice.
//!
//! A check that needs what an earlier one did not find is skipped by name, so that the first failure is the one to look
//! at.

mod chain;
mod cluster;
mod line;
mod local;
mod report;

use std::{sync::Arc, time::Duration};

use gantry_proto::JoinFile;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

pub(crate) use local::size;
pub use report::{Check, Finding, Report, Verdict};

use crate::config::Settings;

/// The checks that there always are; each Fisheye address adds one.
const ALWAYS: usize = 13;

/// What a check says, and what it hands on to the next one.
type Looked<T> = (Finding, Option<T>);

/// Looks at everything. `fisheye`: addresses of clusters, `host` or `host:port`; without any, those of the jobs that lie
/// in the data directory. `tell` hears of each check as soon as it has ended.
pub async fn examine(settings: Settings, fisheye: Vec<String>, tell: impl FnMut(&Check)) -> Report {
    let settings = Arc::new(settings);
    let known = settings.clone();
    let limit = Duration::from_millis(settings.doctor.check_timeout_ms);
    let clusters = if fisheye.is_empty() {
        let looked = timeout(limit, spawn_blocking(move || cluster::known(&known.data_dir))).await;
        looked.ok().and_then(Result::ok).unwrap_or_default()
    } else {
        fisheye
    };
    let total = ALWAYS + clusters.len().max(1);
    let mut doctor = Doctor { limit, total, checks: Vec::new(), tell };
    doctor.here(&settings).await;
    doctor.clusters(&settings, &clusters).await;
    Report { checks: doctor.checks }
}

struct Doctor<F> {
    limit: Duration,
    total: usize,
    checks: Vec<Check>,
    tell: F,
}

impl<F: FnMut(&Check)> Doctor<F> {
    /// This machine, and the way to the controller.
    async fn here(&mut self, settings: &Arc<Settings>) {
        let of = settings.clone();
        let join = self.blocking("identity", move || local::identity(&of)).await;
        self.certificate(settings, join.as_ref()).await;
        self.controller(settings, join.as_ref()).await;
        let of = settings.clone();
        self.blocking("disk", move || local::disk(&of)).await;
        let of = settings.clone();
        let newest = self.blocking("iso", move || local::isos(&of)).await;
        match newest {
            Some(file) => {
                let (of, limit) = (settings.clone(), self.limit / 2);
                self.blocking("reading", move || local::reading(&of, &file, limit)).await;
            }
            None => self.skip("reading", "iso"),
        }
    }

    async fn certificate(&mut self, settings: &Settings, join: Option<&JoinFile>) {
        let Some(join) = join else { return self.skip("certificate", "identity") };
        let looked = local::certificate(join, settings.doctor.certificate_days);
        self.look("certificate", std::future::ready((looked, None::<()>))).await;
    }

    async fn controller(&mut self, settings: &Settings, join: Option<&JoinFile>) {
        const NAMES: [&str; 8] = ["proxy", "name", "route", "tunnel", "tls", "alpn", "welcome", "clock"];
        let Some(join) = join else { return self.skip_all(&NAMES, "identity") };
        let Some(dialer) = self.look("proxy", std::future::ready(line::dialer(join, settings))).await else {
            return self.skip_all(&NAMES[1..], "proxy");
        };
        let Some(addresses) = self.look("name", line::name(&dialer)).await else {
            return self.skip_all(&NAMES[2..], "name");
        };
        if self.look("route", line::route(&dialer, &addresses)).await.is_none() {
            return self.skip_all(&NAMES[3..], "route");
        }
        let Some(stream) = self.look("tunnel", Box::pin(line::tunnel(&dialer))).await else {
            return self.skip_all(&NAMES[4..], "tunnel");
        };
        let Some(shaken) = self.look("tls", Box::pin(line::tls(&dialer, stream))).await else {
            return self.skip_all(&NAMES[5..], "tls");
        };
        let Some(stream) = self.look("alpn", std::future::ready(line::alpn(shaken))).await else {
            return self.skip_all(&NAMES[6..], "alpn");
        };
        let Some(heard) = self.look("welcome", line::welcome(&dialer, stream, settings)).await else {
            return self.skip_all(&NAMES[7..], "welcome");
        };
        self.look("clock", std::future::ready((line::clock(&heard, settings), None::<()>))).await;
    }

    async fn clusters(&mut self, settings: &Settings, addresses: &[String]) {
        if addresses.is_empty() {
            let seen = "no cluster is known: name one with --fisheye ADDRESS".to_owned();
            self.done("fisheye", Finding::skip(seen), Instant::now());
        }
        for address in addresses {
            self.look("fisheye", cluster::sight(settings, address)).await;
        }
    }

    /// One check; what takes too long fails.
    async fn look<T>(&mut self, name: &'static str, check: impl Future<Output = Looked<T>>) -> Option<T> {
        let began = Instant::now();
        let (finding, value) = timeout(self.limit, check).await.unwrap_or_else(|_| {
            let seen = format!("nothing within {} ms", self.limit.as_millis());
            (Finding::fail(seen, report::slow(name)), None)
        });
        self.done(name, finding, began);
        value
    }

    /// One check that blocks.
    async fn blocking<T: Send + 'static>(
        &mut self,
        name: &'static str,
        check: impl FnOnce() -> Looked<T> + Send + 'static,
    ) -> Option<T> {
        let check = async {
            let ended = spawn_blocking(check).await;
            ended.unwrap_or_else(|error| {
                (Finding::fail(format!("the check broke off: {error}"), "report this as an error of the agent"), None)
            })
        };
        self.look(name, check).await
    }

    fn skip(&mut self, name: &'static str, needs: &str) {
        let seen = format!("not looked at: it needs what the check `{needs}` did not find");
        self.done(name, Finding::skip(seen), Instant::now());
    }

    fn skip_all(&mut self, names: &[&'static str], needs: &str) {
        for name in names {
            self.skip(name, needs);
        }
    }

    fn done(&mut self, name: &'static str, finding: Finding, began: Instant) {
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let check = Check { number: self.checks.len() + 1, total: self.total, name, finding, took_ms };
        (self.tell)(&check);
        self.checks.push(check);
    }
}
