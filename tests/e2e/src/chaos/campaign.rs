//! Many runs, at most so many at once, with every failure told so that it can be replayed.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Crashes, Scenario, run};

/// Runs at the same time, unless told otherwise: a run uses about one core.
pub const AT_ONCE: usize = 2;

/// Makes a scenario that is always the same.
pub type Make = fn() -> Scenario;

/// One run to be made.
#[derive(Clone)]
pub struct Case {
    /// Makes its scenario.
    pub scenario: Arc<dyn Fn() -> Scenario + Send + Sync>,
    /// When our processes die in it.
    pub crashes: Crashes,
}

impl Case {
    /// A run of a fixed scenario.
    pub fn of(scenario: Make, crashes: Crashes) -> Self {
        Self { scenario: Arc::new(scenario), crashes }
    }

    /// What this seed makes up.
    pub fn made_up(seed: u64) -> Self {
        let crashes = super::seeds::made_up(seed).1;
        Self { scenario: Arc::new(move || super::seeds::made_up(seed).0), crashes }
    }
}

/// What came of many runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs in which everything held.
    pub passed: u64,
    /// The others, each with everything that is needed to replay it.
    pub failures: Vec<String>,
    /// How often our processes died in all of them.
    pub crashes: u64,
}

/// Carries all of them out; `tell` hears of each one as it ends.
pub async fn all(cases: Vec<Case>, mut tell: impl FnMut(&Tally, Option<&str>)) -> Tally {
    let (mut running, mut tally) = (JoinSet::new(), Tally::default());
    let mut cases = cases.into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some(case) = cases.next()
        {
            running.spawn(async move { run(&(case.scenario)(), &case.crashes).await });
        }
        let Some(ended) = running.join_next().await else { return tally };
        let ended = ended.unwrap_or_else(|error| Err(anyhow::anyhow!("the run broke off: {error}")));
        match ended {
            Ok(ran) => {
                tally.passed += 1;
                tally.crashes += u64::from(ran.crashes);
                tell(&tally, None);
            }
            Err(error) => {
                tally.failures.push(format!("{error:#}"));
                tell(&tally, tally.failures.last().map(String::as_str));
            }
        }
    }
}
