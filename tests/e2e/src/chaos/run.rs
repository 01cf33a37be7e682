//! One run: starts everything, submits a job, lets our processes die as planned and come back, does what operators do,
//! waits for the end, checks.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use gantry_proto::{JobId, v1};
use tokio::time::{Instant, sleep};

use super::{
    Crashes, End, Happening, Moment, Scenario, check,
    follow::Follower,
    operator::{Asked, Operator},
    site::Site,
    stage::Stage,
};
use crate::proxy::Mode;

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Before something that had no answer is asked again.
const AGAIN: Duration = Duration::from_millis(5);

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How the job ended.
    pub end: End,
    /// Writes of the journal in the agent's last life.
    pub agent_writes: u64,
    /// The same of the second agent's.
    pub second_writes: u64,
    /// Changes of the store in the controller's last life.
    pub controller_changes: u64,
    /// How often our processes died.
    pub crashes: u32,
    /// Real time.
    pub took: Duration,
}

/// Carries one run out.
///
/// # Errors
/// Whatever the product has not kept: told with what was seen.
pub async fn run(scenario: &Scenario, crashes: &Crashes) -> anyhow::Result<Ran> {
    let what = || format!("{} (seed {}), {:?}, {crashes:?}", scenario.name, scenario.seed, scenario.moments);
    let began = Instant::now();
    let at = At::default();
    let ran = tokio::time::timeout(LIMIT, Box::pin(carry_out(scenario, crashes, &at))).await;
    let mut ran = ran.with_context(|| format!("not done after {LIMIT:?}, {at}: {}", what()))?.with_context(what)?;
    ran.took = began.elapsed();
    Ok(ran)
}

/// Where a run is, for one that hangs.
#[derive(Default)]
struct At(Mutex<String>);

impl At {
    fn set(&self, place: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = place.into();
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last seen {}", self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn carry_out(scenario: &Scenario, crashes: &Crashes, at: &At) -> anyhow::Result<Ran> {
    at.set("starting the site");
    let mut site = Site::start(scenario).await?;
    at.set("starting our processes");
    let mut stage = Stage::start(&mut site, crashes, scenario.moves()).await?;
    at.set("submitting the job");
    let job = JobId::new();
    let mut operator = Operator::new(&site, job)?;
    while operator.submit(&site, scenario).await? == Asked::Lost {
        stage.revive(&site).await?;
        or_death(&stage, sleep(AGAIN)).await;
    }
    let follower = Follower::start(operator.watcher(), job);
    let mut play = Play { scenario, follower, operator, due: Vec::new(), next: 0 };
    play.until_over(&mut stage, &site, at).await?;
    at.set("after the end of the job");
    // A process that dies of the job's last words comes back once more.
    let row = loop {
        stage.revive(&site).await?;
        match play.operator.job().await? {
            Some(row) => break row,
            None => or_death(&stage, sleep(AGAIN)).await,
        }
    };
    let (agent_writes, second_writes, controller_changes) = stage.counts();
    let deaths = stage.deaths;
    stage.end().await?;
    let end = check::check(&site, scenario, job, &row, &play.follower.events()).await?;
    site.sim.stop().await;
    Ok(Ran { end, agent_writes, second_writes, controller_changes, crashes: deaths, took: Duration::ZERO })
}

/// Whether a job in this state has ended.
pub(super) fn is_over(state: v1::JobState) -> bool {
    matches!(state, v1::JobState::Succeeded | v1::JobState::Failed | v1::JobState::Cancelled)
}

async fn or_death(stage: &Stage, other: impl Future<Output = ()>) {
    tokio::select! {
        () = stage.death() => {}
        () = other => {}
    }
}

/// The operators' part of a run.
struct Play<'a> {
    scenario: &'a Scenario,
    follower: Follower,
    operator: Operator,
    /// What is to be asked, and has no answer yet.
    due: Vec<(Wish, String)>,
    /// The first moment that has not come.
    next: usize,
}

/// What is asked of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Cancel,
    Pause,
    Resume,
    Retry,
    /// The answer to the event of this number.
    Decide(u64),
    Move {
        off: bool,
    },
}

impl Play<'_> {
    async fn until_over(&mut self, stage: &mut Stage, site: &Site, at: &At) -> anyhow::Result<()> {
        let (mut released, mut answered) = (0, 0);
        let mut retried = !self.scenario.retried;
        loop {
            at.set(format!("reviving, {} deaths so far", stage.deaths));
            stage.revive(site).await?;
            let seen = self.follower.seen();
            at.set(format!(
                "at event {}, job {:?}, {} deaths, {} writes of the agent, due {:?}",
                seen.last_seq,
                seen.job.as_ref().map(|job| (job.state(), job.agent_in_contact)),
                stage.deaths,
                stage.counts().0,
                self.due
            ));
            if let Some(broken) = seen.broken {
                bail!("{broken}");
            }
            let state = seen.job.as_ref().map(v1::Job::state);
            if seen.ended {
                let failed = state == Some(v1::JobState::Failed);
                if failed && !retried {
                    retried = true;
                    site.repair();
                    self.wish(Wish::Retry);
                } else if !self.due.iter().any(|(wish, _)| *wish == Wish::Retry) {
                    match self.operator.job().await? {
                        Some(job) if is_over(job.state()) => return Ok(()),
                        // A move that came when it had just ended: the second agent does it anew.
                        Some(_) => self.follower.go_on(),
                        None => or_death(stage, sleep(AGAIN)).await,
                    }
                    continue;
                }
            } else {
                self.moments(seen.last_seq, stage, site).await?;
                if let Some(held_by) = seen.held_by.filter(|event| *event > released) {
                    released = held_by;
                    self.wish(Wish::Resume);
                }
                if let Some(question) = seen.asked_by.filter(|event| *event > answered) {
                    answered = question;
                    site.stranger_goes()?;
                    self.wish(Wish::Decide(question));
                }
            }
            self.ask(stage, site).await?;
            let again = async { if self.due.is_empty() { std::future::pending().await } else { sleep(AGAIN).await } };
            tokio::select! {
                () = stage.death() => {}
                () = self.follower.changed() => {}
                () = again => {}
            }
        }
    }

    fn wish(&mut self, wish: Wish) {
        let name = self.operator.wish();
        self.due.push((wish, name));
    }

    /// What is to happen when the log has so many events.
    async fn moments(&mut self, last_seq: u64, stage: &mut Stage, site: &Site) -> anyhow::Result<()> {
        while let Some(Moment { what, .. }) = self.scenario.moments.get(self.next).filter(|next| next.after <= last_seq)
        {
            self.next += 1;
            match *what {
                Happening::Cancel => self.wish(Wish::Cancel),
                Happening::Pause => self.wish(Wish::Pause),
                Happening::Cut => site.line()?.cut(),
                Happening::Silence(limit) => {
                    site.line()?.set(Mode::black_hole());
                    or_death(stage, sleep(limit)).await;
                    site.line()?.set(Mode::PASS);
                }
                Happening::RestartAgent => stage.restart_agent(site).await?,
                Happening::RestartController => stage.restart_controller(site).await?,
                Happening::Move => self.wish(Wish::Move { off: false }),
                Happening::MoveOff => {
                    stage.agent_goes_down().await?;
                    self.wish(Wish::Move { off: true });
                }
            }
        }
        Ok(())
    }

    /// Asks what is due, in order: what has no answer stays so.
    async fn ask(&mut self, stage: &mut Stage, site: &Site) -> anyhow::Result<()> {
        while let Some((wish, name)) = self.due.first().cloned() {
            let asked = match wish {
                Wish::Cancel => self.operator.cancel(&name).await?,
                Wish::Pause => self.operator.pause(&name).await?,
                Wish::Resume => self.operator.resume(&name).await?,
                Wish::Retry => self.operator.retry(&name).await?,
                Wish::Decide(question) => self.operator.decide(&name, question, self.scenario.answer).await?,
                Wish::Move { off } => self.operator.hand_over(&name, site, off).await?,
            };
            if asked == Asked::Lost {
                return Ok(());
            }
            self.due.remove(0);
            match wish {
                Wish::Retry => self.follower.go_on(),
                // Somebody has switched the old machine on again.
                Wish::Move { off: true } => stage.restart_agent(site).await?,
                _ => {}
            }
        }
        Ok(())
    }
}
