//! Chaos in one process: a simulated cluster, a real controller over its real store, real agents over their real journals,
//! and crashes at chosen writes of each. Everything that the product promises is looked at after each run.
//!
//! A [`Scenario`] says what goes wrong outside, what operators do, and how the job has to end; [`Crashes`] say when we die.
//! [`run`] carries one out, [`matrix`] and [`seeds`] make many.

pub mod campaign;
mod check;
mod disk;
mod follow;
mod fuse;
pub mod matrix;
mod operator;
mod parts;
mod run;
pub mod seeds;
mod site;
mod stage;
mod store;

use std::time::Duration;

use gantry_sim::SimOptions;

pub use fuse::How;
pub use run::{Ran, run};

/// What goes wrong outside of our own processes, what is done with the job, and how it has to end.
pub struct Scenario {
    /// For people.
    pub name: String,
    /// Of the simulator.
    pub seed: u64,
    /// What the outside world does.
    pub change: Box<dyn Fn(&mut SimOptions) + Send + Sync>,
    /// What happens while the job is at work, in this order.
    pub moments: Vec<Moment>,
    /// What was made is kept when the job fails; then the world is repaired and the job taken up again.
    pub retried: bool,
    /// How it may end.
    pub ends: &'static [End],
}

/// Something that happens once the job's log has so many events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Events; 0: as soon as the job is stored.
    pub after: u64,
    /// What happens.
    pub what: Happening,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// An operator cancels.
    Cancel,
    /// An operator has the job held, and lets it go on as soon as it is.
    Pause,
    /// The connections between agents and controller are reset.
    Cut,
    /// Nothing passes between agents and controller for so long.
    Silence(Duration),
    /// The agent is restarted in good order.
    RestartAgent,
    /// The controller is restarted in good order.
    RestartController,
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// CloudTower is ready; one VM, one complete image.
    Succeeded,
    /// It failed and everything is removed, but for a complete image.
    FailedAndUndone,
    /// It was cancelled and everything is removed, but for a complete image.
    CancelledAndUndone,
}

/// When our own processes die. Numbers count from 1 and begin anew with each process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// Writes of the agent's journal at which it dies, one for each of its lives.
    pub agent: Vec<(u64, How)>,
    /// Changes of the controller's store at which it dies, one for each of its lives.
    pub controller: Vec<(u64, How)>,
}

impl Scenario {
    /// Nothing goes wrong.
    pub fn happy() -> Self {
        Self {
            name: "happy path".to_owned(),
            seed: 1,
            change: Box::new(|_| {}),
            moments: Vec::new(),
            retried: false,
            ends: &[End::Succeeded],
        }
    }

    /// The installer fails: everything is undone.
    pub fn undone() -> Self {
        Self {
            name: "the installer fails".to_owned(),
            change: Box::new(failing_installer),
            ends: &[End::FailedAndUndone],
            ..Self::happy()
        }
    }

    /// The installer fails, what was made is kept, and the job is taken up again.
    pub fn retried() -> Self {
        let change = Box::new(failing_installer);
        Self { name: "failed, kept and retried".to_owned(), change, retried: true, ..Self::happy() }
    }

    /// An operator cancels in the middle.
    pub fn cancelled() -> Self {
        let ends = &[End::CancelledAndUndone, End::Succeeded];
        let moments = vec![Moment { after: 60, what: Happening::Cancel }];
        Self { name: "cancelled".to_owned(), moments, ends, ..Self::happy() }
    }

    /// An operator has the job held for a moment, in the upload and once more behind it.
    pub fn held() -> Self {
        let moments = [20, 60].map(|after| Moment { after, what: Happening::Pause }).to_vec();
        Self { name: "held twice".to_owned(), moments, ..Self::happy() }
    }
}

fn failing_installer(options: &mut SimOptions) {
    options.modes.guest.installer = gantry_sim::guest::InstallerMode::Fails;
}
