//! A crash at every write: of the agent's journal, and of the controller's store.

use super::{Crashes, How, Ran, Scenario, run};

/// Writes of a resumed life among which the second death falls.
const RESUMED: u64 = 11;

/// Which of ours dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// At a write of its journal.
    Agent,
    /// At a change of its store.
    Controller,
    /// The second agent, at a write of its journal.
    Second,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Controller => "controller",
            Self::Second => "second agent",
        })
    }
}

/// Every place at which a run of this scenario can be hit, with each way to die there.
///
/// # Errors
/// When the scenario does not hold without a crash.
pub async fn places(scenario: &Scenario, who: Who) -> anyhow::Result<Vec<Crashes>> {
    let Ran { agent_writes, second_writes, controller_changes, .. } = run(scenario, &Crashes::default()).await?;
    let (count, ways): (u64, &[How]) = match who {
        Who::Agent => (agent_writes, &[How::Before, How::Torn, How::After]),
        Who::Second => (second_writes, &[How::Before, How::Torn, How::After]),
        Who::Controller => (controller_changes, &[How::Before, How::After]),
    };
    let all = (1..=count).flat_map(|at| ways.iter().map(move |how| (at, *how)));
    Ok(all.map(|place| at(who, vec![place])).collect())
}

/// One way to die at each place, each way in its turn.
pub fn one_way(places: Vec<Crashes>) -> Vec<Crashes> {
    let place = |crashes: &Crashes| {
        let lives = [&crashes.agent, &crashes.second, &crashes.controller];
        lives.into_iter().flatten().next().map(|(at, _)| *at)
    };
    let mut ways = places.chunk_by(|one, next| place(one) == place(next));
    (0..).map_while(|number: usize| ways.next().map(|same| same[number % same.len()].clone())).collect()
}

/// A second death in what follows the first one: every place of the first, one of the first few writes of the life after it.
pub fn and_again(places: &[Crashes]) -> Vec<Crashes> {
    let again = |(number, crashes): (u64, &Crashes)| {
        let mut more = crashes.clone();
        let next = (1 + number % RESUMED, [How::Torn, How::After, How::Before][(number % 3) as usize]);
        let lives = if more.agent.is_empty() { &mut more.controller } else { &mut more.agent };
        lives.push(next);
        more
    };
    (0..).zip(places).map(again).collect()
}

fn at(who: Who, places: Vec<(u64, How)>) -> Crashes {
    match who {
        Who::Agent => Crashes { agent: places, ..Crashes::default() },
        Who::Second => Crashes { second: places, ..Crashes::default() },
        Who::Controller => Crashes { controller: places, ..Crashes::default() },
    }
}
