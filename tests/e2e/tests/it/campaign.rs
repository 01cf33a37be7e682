//! `ctl campaign` over fifty simulated sites: the real `ctl`, a real controller, a real agent and a simulated cluster
//! for each site. `ctl` is killed on the way, the failure budget stops it, an operator repairs, and it goes on to the
//! end.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use gantry_e2e::{
    binaries::Binaries,
    chaos::many::{Many, site},
    lab::text,
    process::command,
};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

/// Sites in all.
const SITES: usize = 50;
/// Jobs at a time.
const MAX_PARALLEL: usize = 4;
/// At these sites the installer fails: the second one spends the budget.
const FAILING: [usize; 2] = [9, 20];
/// `ctl` is killed once so many jobs have succeeded.
const KILLED_AFTER: u64 = 5;
/// No run of `ctl` takes longer.
const LIMIT: Duration = Duration::from_secs(200);

struct Operator {
    ctl: std::path::PathBuf,
    many: Many,
}

impl Operator {
    fn command(&self, args: &[&str]) -> Command {
        let mut ctl = command(&self.ctl, args);
        ctl.env("GANTRY_PROFILE", self.many.profile()).env("GANTRY_CONTROLLER", self.many.url()).env("NO_COLOR", "1");
        ctl.current_dir(self.many.dir()).stdin(Stdio::null()).kill_on_drop(true);
        ctl
    }

    /// Runs `ctl`; gives its exit code and stdout as JSON.
    async fn ctl(&self, args: &[&str]) -> anyhow::Result<(i32, Value)> {
        let output = timeout(LIMIT, self.command(&[&["-o", "json"], args].concat()).output()).await??;
        let document =
            serde_json::from_slice(&output.stdout).with_context(|| format!("{args:?}: {}", text(&output)))?;
        Ok((output.status.code().context("killed")?, document))
    }

    async fn jobs(&self) -> anyhow::Result<Vec<Value>> {
        let (_, jobs) = self.ctl(&["jobs", "--limit", "1000"]).await?;
        Ok(jobs["jobs"].as_array().context("no jobs")?.clone())
    }

    async fn all_agents_are_there(&self) -> anyhow::Result<()> {
        let all = async {
            while self.ctl(&["agents"]).await?.1["agents"].as_array().map_or(0, Vec::len) < SITES {}
            anyhow::Ok(())
        };
        timeout(LIMIT, all).await?
    }
}

/// Most jobs that were at work at the same time, by the controller's own times.
fn most_at_once(jobs: &[Value]) -> usize {
    let time = |job: &Value, what: &str| job[what].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let mut turns: Vec<(jiff::Timestamp, bool)> = Vec::new();
    for job in jobs {
        turns.extend(time(job, "created").map(|at| (at, true)));
        turns.extend(time(job, "finished").map(|at| (at, false)));
    }
    // Of two at the same time the end goes first.
    turns.sort();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in turns {
        now = if begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sites_are_deployed_once_each_whatever_happens_to_ctl() -> anyhow::Result<()> {
    let binaries = tokio::task::spawn_blocking(Binaries::build).await??;
    let operator = Operator { ctl: binaries.path("ctl"), many: Many::start(SITES, &FAILING).await? };
    operator.all_agents_are_there().await?;

    // The first run is killed in the middle.
    let max_parallel = MAX_PARALLEL.to_string();
    let options = ["campaign", "run", "sites", "--canary", "2", "--max-failures", "2", "--max-parallel", &max_parallel];
    let mut first = operator.command(&options).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let some = async {
        loop {
            let output = operator.command(&["-o", "json", "campaign", "status", "sites"]).output().await?;
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status["counts"]["succeeded"].as_u64() >= Some(KILLED_AFTER) {
                return anyhow::Ok(status);
            }
        }
    };
    let status = timeout(LIMIT, some).await.context("the first sites are not deployed")??;
    ensure!(status["is_run"] == true, "{status}");
    first.kill().await?;
    let before = operator.jobs().await?.len();
    ensure!(before < SITES, "it was killed too late: {before} jobs");

    // The same command goes on, with the options of the first time, until the budget is spent.
    let (code, stopped) = operator.ctl(&["campaign", "run", "sites"]).await?;
    ensure!((code, &stopped["ended"]) == (4, &json!("failure_budget")), "{code} {stopped}");
    let failed: Vec<&Value> = stopped["sites"].as_array().context("no sites")?.iter().collect();
    let failed: Vec<&Value> = failed.into_iter().filter(|site| site["state"] == "failed").collect();
    ensure!(failed.iter().map(|one| one["site"].as_str()).eq(FAILING.map(site).iter().map(|name| Some(name.as_str()))));
    ensure!(failed.iter().all(|site| site["left_over"] == false && site["code"].is_string()), "{failed:?}");
    // What was at work when the last one failed was followed to its end, and a further run begins nothing.
    let jobs = operator.jobs().await?;
    ensure!(jobs.len() < SITES && jobs.iter().all(|job| job["finished"].is_string()), "{} jobs", jobs.len());
    ensure!(most_at_once(&jobs) <= MAX_PARALLEL, "{} at once", most_at_once(&jobs));
    let (code, again) = operator.ctl(&["campaign", "run", "sites"]).await?;
    ensure!((code, &again["ended"]) == (4, &json!("failure_budget")), "{code} {again}");
    ensure!(operator.jobs().await?.len() == jobs.len(), "a job has begun behind the budget");

    // An operator repairs what failed and takes the jobs up again; then the campaign goes on by itself.
    for (number, site) in FAILING.iter().zip(&failed) {
        operator.many.repair(*number);
        let job = site["job_id"].as_str().context("a site without a job")?;
        let retried = timeout(LIMIT, operator.command(&["retry", job, "--watch"]).output()).await??;
        ensure!(retried.status.success(), "{}", text(&retried));
    }
    let (code, done) = operator.ctl(&["campaign", "run", "sites"]).await?;
    ensure!(
        (code, &done["ended"], &done["counts"]["succeeded"]) == (0, &json!("done"), &json!(SITES)),
        "{code} {done}"
    );
    let mut sites: Vec<Value> = operator.jobs().await?.iter().map(|job| job["site"].clone()).collect();
    sites.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    ensure!(sites == (1..=SITES).map(|number| json!(site(number))).collect::<Vec<_>>(), "one job a site: {sites:?}");
    operator.many.all_deployed()?;
    operator.many.end().await
}
