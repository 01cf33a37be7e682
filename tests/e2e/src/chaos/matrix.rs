//! A crash at every write: of the agent's journal, and of the controller's store.

use super::{Crashes, How, Ran, Scenario, run};

/// Which of ours dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// At a write of its journal.
    Agent,
    /// At a change of its store.
    Controller,
}

/// Every place at which a run of this scenario can be hit, with each way to die there.
///
/// # Errors
/// When the scenario does not hold without a crash.
pub async fn places(scenario: &Scenario, who: Who) -> anyhow::Result<Vec<Crashes>> {
    let Ran { agent_writes, controller_changes, .. } = run(scenario, &Crashes::default()).await?;
    let (count, ways): (u64, &[How]) = match who {
        Who::Agent => (agent_writes, &[How::Before, How::Torn, How::After]),
        Who::Controller => (controller_changes, &[How::Before, How::After]),
    };
    let all = (1..=count).flat_map(|at| ways.iter().map(move |how| (at, *how)));
    Ok(all.map(|place| at(who, vec![place])).collect())
}

/// The same with a second death in the life after the first.
pub fn and_again(crashes: &Crashes, who: Who, at_write: u64, how: How) -> Crashes {
    let mut more = crashes.clone();
    match who {
        Who::Agent => more.agent.push((at_write, how)),
        Who::Controller => more.controller.push((at_write, how)),
    }
    more
}

fn at(who: Who, places: Vec<(u64, How)>) -> Crashes {
    match who {
        Who::Agent => Crashes { agent: places, ..Crashes::default() },
        Who::Controller => Crashes { controller: places, ..Crashes::default() },
    }
}
