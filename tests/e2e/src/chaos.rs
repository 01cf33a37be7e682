//! Chaos in one process: a simulated cluster, a real controller over its real store, a real agent over its real journal,
//! and crashes at chosen writes of either. Everything that the product promises is looked at after each run.
//!
//! A [`Scenario`] says what goes wrong outside and how the job has to end; [`Crashes`] say when we die. [`run`] carries one
//! out, [`matrix`] and [`seeds`] make many.

pub mod campaign;
mod check;
mod disk;
mod fuse;
pub mod matrix;
mod parts;
mod run;
pub mod seeds;
mod site;
mod store;

use gantry_sim::SimOptions;

pub use fuse::How;
pub use run::{Ran, run};

/// What goes wrong outside of our own processes, and how the job has to end.
pub struct Scenario {
    /// For people.
    pub name: String,
    /// Of the simulator.
    pub seed: u64,
    /// What the outside world does.
    pub change: Box<dyn Fn(&mut SimOptions) + Send + Sync>,
    /// Whether an operator cancels: after so many events.
    pub cancel_after: Option<u64>,
    /// How it may end.
    pub ends: &'static [End],
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
            cancel_after: None,
            ends: &[End::Succeeded],
        }
    }

    /// The installer fails: everything is undone.
    pub fn undone() -> Self {
        let change = |options: &mut SimOptions| options.modes.guest.installer = gantry_sim::guest::InstallerMode::Fails;
        Self {
            name: "the installer fails".to_owned(),
            change: Box::new(change),
            ends: &[End::FailedAndUndone],
            ..Self::happy()
        }
    }

    /// An operator cancels in the middle.
    pub fn cancelled() -> Self {
        let ends = &[End::CancelledAndUndone, End::Succeeded];
        Self { name: "cancelled".to_owned(), cancel_after: Some(60), ends, ..Self::happy() }
    }
}
