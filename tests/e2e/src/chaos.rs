//! Chaos in one process: a simulated cluster, a real controller over its real store, real agents over their real journals,
//! and crashes at chosen writes of each. Everything that the product promises is looked at after each run.
//!
//! A [`Scenario`] says what goes wrong outside, what operators do, and how the job has to end; [`Crashes`] say when we die.
//! [`run`] carries one out, [`matrix`] and [`seeds`] make many.

pub mod campaign;
mod check;
mod cluster;
mod disk;
mod follow;
mod fuse;
pub mod many;
pub mod matrix;
pub mod modes;
mod operator;
mod parts;
mod run;
pub mod seeds;
mod site;
mod stage;
mod store;

use std::time::Duration;

use gantry_sim::{
    SimOptions,
    fault::{Action, Fault, Match, WorldAction},
    options::PlantedVm,
};

pub use fuse::How;
pub use run::{Ran, run};

/// How much longer than usual every deadline is: one of minutes is a blink at the scale of a run, and a busy machine must
/// not meet it.
const PATIENCE: f64 = 60.0;
/// Name of the VM in the workbook of a run.
const VM: &str = "cloudtower-sim";

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
    /// What an operator answers when the job asks, once the world is repaired.
    pub answer: &'static str,
    /// Values that win over the workbook's.
    pub overrides: &'static [(&'static str, &'static str)],
    /// How it may end.
    pub ends: &'static [End],
    /// The code of the failure, where only one is right.
    pub code: Option<&'static str>,
    /// How much longer than usual the agents' deadlines are.
    pub patience: f64,
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
    /// An operator moves the job to the second agent, as soon as the first one has let go of it.
    Move,
    /// The first agent goes down, an operator vouches for that and moves the job; then the first one comes back.
    MoveOff,
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// CloudTower is ready; one VM, one complete image.
    Succeeded,
    /// It failed and everything is removed, but for a complete image.
    FailedAndUndone,
    /// CloudTower is ready and stays; a later stage failed, and what that one has made is removed.
    FailedLater,
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
    /// Writes of the second agent's journal at which that one dies, where there is one.
    pub second: Vec<(u64, How)>,
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
            answer: "look-again",
            overrides: &[],
            ends: &[End::Succeeded],
            code: None,
            patience: PATIENCE,
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

    /// Somebody makes a VM of our name during the upload: the job asks, the VM goes, and the job is told to look again.
    pub fn asked() -> Self {
        Self { name: "asked".to_owned(), change: Box::new(stranger), ..Self::happy() }
    }

    /// The job is moved while it is at work, by its first agent's leave.
    pub fn moved() -> Self {
        let moments = vec![Moment { after: 55, what: Happening::Move }];
        Self { name: "moved".to_owned(), moments, ..Self::happy() }
    }

    /// The job is moved away from an agent that is off, and that comes back.
    pub fn moved_from_one_that_is_off() -> Self {
        let moments = vec![Moment { after: 55, what: Happening::MoveOff }];
        Self { name: "moved from an agent that is off".to_owned(), moments, ..Self::happy() }
    }

    /// Whether the job moves.
    fn moves(&self) -> bool {
        self.moments.iter().any(|moment| matches!(moment.what, Happening::Move | Happening::MoveOff))
    }

    /// An operator has the job held for a moment, in the upload and once more behind it.
    pub fn held() -> Self {
        let moments = [20, 60].map(|after| Moment { after, what: Happening::Pause }).to_vec();
        Self { name: "held twice".to_owned(), moments, ..Self::happy() }
    }
}

/// A VM of our name, made by somebody while we are uploading.
fn stranger(options: &mut SimOptions) {
    let vm = PlantedVm {
        name: VM.to_owned(),
        description: "of somebody else".to_owned(),
        vcpu: 2,
        memory: 4 << 30,
        running: true,
        count: 1,
    };
    let volume = Match::fisheye("POST", "/api/v2/images/upload/volume");
    options.faults.push(Fault::new("stranger", volume, Action::World(WorldAction::PlantVm(vm))).after().times(1));
}

fn failing_installer(options: &mut SimOptions) {
    options.modes.guest.installer = gantry_sim::guest::InstallerMode::Fails;
}
