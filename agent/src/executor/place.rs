//! Where a job stands in its table of steps. Pure.

use gantry_proto::{
    Failure, JobView, StepId, StepInfo,
    view::{Phase, StepState, StepView},
};

/// Where a job stands.
pub(super) struct Place {
    /// The first step that is not done.
    pub(super) next: usize,
    /// The walk forward has ended already: the step and its failure; no step when it was cancelled between two.
    pub(super) halted: Option<(Option<StepId>, Failure)>,
    /// Something has been removed.
    pub(super) removed: bool,
    /// The restart fell between two attempts of this step.
    pub(super) resumed_between: Option<usize>,
    /// Attempt to be made of `next`, and the failure after which it is still to be undone.
    resume: (u32, Option<Failure>),
    steps: Vec<StepPlace>,
}

#[derive(Clone, Copy, Default)]
struct StepPlace {
    /// May have made something.
    touched: bool,
    /// All of that has been removed.
    undone: bool,
}

impl Place {
    /// Before the first step; steps that an earlier epoch has done may be undone like any other.
    pub(super) fn beginning(table: &[StepInfo], kept: &[StepId]) -> Self {
        let is_kept = |info: &StepInfo| kept.contains(&info.id);
        Self {
            next: table.iter().position(|info| !is_kept(info)).unwrap_or(table.len()),
            halted: None,
            removed: false,
            resumed_between: None,
            resume: (1, None),
            steps: table.iter().map(|info| StepPlace { touched: is_kept(info), undone: false }).collect(),
        }
    }

    /// Where the journal says.
    pub(super) fn of(view: &JobView, table: &[StepInfo]) -> Self {
        let seen = |info: &StepInfo| view.steps.iter().find(|step| step.info.id == info.id);
        let states: Vec<Option<&StepView>> = table.iter().map(seen).collect();
        let done = |step: &Option<&StepView>| step.is_some_and(|step| step.state == StepState::Done);
        let next = states.iter().position(|step| !done(step)).unwrap_or(table.len());
        let place = |step: &Option<&StepView>| StepPlace {
            touched: step.is_some_and(|step| step.attempt > 0),
            undone: step.is_some_and(|step| step.state == StepState::Undone),
        };
        let resume = states.get(next).copied().flatten().map_or((1, None), resume);
        Self {
            next,
            halted: halted(view),
            // An undo that a restart has interrupted may have removed something without coming to tell of it.
            removed: view.steps.iter().any(|step| !step.removed.is_empty() || step.state == StepState::Undoing),
            resumed_between: resume.1.is_some().then_some(next),
            resume,
            steps: states.iter().map(place).collect(),
        }
    }

    /// The attempt to be made of this step, and the failure after which it is still to be undone.
    pub(super) fn attempt(&mut self, index: usize) -> (u32, Option<Failure>) {
        if index == self.next { std::mem::replace(&mut self.resume, (1, None)) } else { (1, None) }
    }

    /// The step begins.
    pub(super) fn touch(&mut self, index: usize) {
        self.steps[index] = StepPlace { touched: true, undone: false };
    }

    /// Every step may have made something, but for those that are undone already.
    pub(super) fn touch_all(&mut self) {
        self.steps.iter_mut().for_each(|step| step.touched = true);
    }

    /// Everything that the step made is gone.
    pub(super) fn undone(&mut self, index: usize) {
        self.steps[index].undone = true;
    }

    /// Steps that may have made something, newest first.
    pub(super) fn to_undo(&self) -> Vec<usize> {
        (0..self.steps.len()).rev().filter(|index| self.steps[*index].touched && !self.steps[*index].undone).collect()
    }
}

fn halted(view: &JobView) -> Option<(Option<StepId>, Failure)> {
    let failed = view.steps.iter().find(|step| step.state == StepState::Failed);
    if failed.is_none() && view.phase != Phase::Undoing {
        return None;
    }
    let failed = failed.or_else(|| view.steps.iter().find(|step| step.failure.is_some()));
    let Some(step) = failed else { return Some((None, Failure::default())) };
    Some((Some(step.info.id.clone()), step.failure.clone().unwrap_or_default()))
}

fn resume(step: &StepView) -> (u32, Option<Failure>) {
    match (step.state, &step.failure) {
        (StepState::Undone, Some(_)) => (step.attempt.saturating_add(1), None),
        (StepState::Retrying | StepState::Undoing | StepState::UndoFailed, Some(failure)) => {
            (step.attempt, Some(failure.clone()))
        }
        _ => (step.attempt.max(1), None),
    }
}
