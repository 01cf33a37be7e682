//! What events add up to. The one fold: controller, `ctl` and tests all read a [`JobView`].

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    StepId,
    event::{Body, Choice, Event, Failure, JobOutcome, Leftover, Level, Sample, StepInfo, UndoState},
};

/// Notes of warning level and above that a view keeps; older ones go first.
pub const NOTES_KEPT: usize = 200;

/// Everything that a screen needs about a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobView {
    /// The last event that was applied.
    pub last_seq: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Where the job stands.
    pub phase: Phase,
    /// The step table with the state of each step.
    pub steps: Vec<StepView>,
    /// First event of the epoch.
    pub started: Option<Timestamp>,
    /// Last event of the epoch.
    pub finished: Option<Timestamp>,
    /// What the job found or made, by key.
    pub facts: BTreeMap<String, Value>,
    /// Intents without outcome, by number: what each was about to do.
    pub open_intents: BTreeMap<u64, String>,
    /// Warnings and errors of this epoch, newest last.
    pub notes: VecDeque<NoteView>,
    /// Who cancelled it.
    pub cancelled_by: Option<String>,
    /// Who had it held; `None` when it is not held.
    pub paused_by: Option<String>,
    /// What it could not decide; there until the step goes on or ends.
    pub question: Option<Question>,
    /// How it ended.
    pub outcome: Option<JobOutcome>,
    /// What became of what it had made.
    pub undo: Option<UndoState>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What is left over.
    pub leftovers: Vec<Leftover>,
    /// The shared context; `None` before the end.
    pub result: Option<Value>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No event yet.
    #[default]
    Queued,
    /// Steps are walked.
    Running,
    /// Held at a safe point.
    Paused,
    /// Waits for an operator's decision.
    NeedsOperator,
    /// Steps are undone.
    Undoing,
    /// Ended.
    Finished,
}

/// What a job could not decide by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    /// The number of the event that asked.
    pub seq: u64,
    /// The step.
    pub step: StepId,
    /// What cannot be decided, and why.
    pub failure: Failure,
    /// The answers that it understands.
    pub choices: Vec<Choice>,
    /// The id of the choice, once an operator has made it.
    pub decided: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    /// Its row of the step table.
    pub info: StepInfo,
    /// Its state.
    pub state: StepState,
    /// The attempt at work or the last one; 0 before the first.
    pub attempt: u32,
    /// When the last attempt began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The newest progress of the attempt at work.
    pub sample: Option<Sample>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// What its undo removed.
    pub removed: Vec<String>,
}

/// State of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// At work.
    Running,
    /// An attempt failed, another will follow.
    Retrying,
    /// Done.
    Done,
    /// Failed for good, or stopped by a cancel.
    Failed,
    /// Its effects are being removed.
    Undoing,
    /// Its effects have been removed.
    Undone,
    /// Its effects could not all be removed.
    UndoFailed,
}

/// A note that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoteView {
    /// The event's number.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The step.
    pub step: Option<StepId>,
    /// How loud.
    pub level: Level,
    /// Stable word.
    pub code: String,
    /// For people.
    pub message: String,
}

impl JobView {
    /// The view of a log.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut view = Self::default();
        events.into_iter().for_each(|event| view.apply(event));
        view
    }

    /// Takes the next event in. An event that was taken in before changes nothing.
    pub fn apply(&mut self, event: &Event) {
        if event.seq <= self.last_seq {
            return;
        }
        self.last_seq = event.seq;
        self.epoch = event.epoch;
        match &event.body {
            Body::JobStarted { steps, kept, .. } => self.start(event.at, steps, kept),
            Body::StepStarted { step, attempt } => {
                self.go_on();
                self.change(step, |view| {
                    *view =
                        StepView { attempt: *attempt, started: Some(event.at), ..StepView::waiting(view.info.clone()) };
                    view.state = StepState::Running;
                });
            }
            Body::StepSucceeded { step, .. } => self.change(step, |view| {
                view.state = StepState::Done;
                view.finished = Some(event.at);
                view.failure = None;
            }),
            Body::StepFailed { step, failure, will_retry, .. } => {
                self.go_on();
                self.change(step, |view| {
                    view.state = if *will_retry { StepState::Retrying } else { StepState::Failed };
                    view.finished = Some(event.at);
                    view.failure = Some(failure.clone());
                });
            }
            Body::Note { .. } => self.note(event),
            Body::Intent { id, call, .. } => {
                self.open_intents.insert(*id, call.clone());
            }
            Body::IntentOutcome { intent, .. } => {
                self.open_intents.remove(intent);
            }
            Body::Fact { key, value: Some(value), .. } => {
                self.facts.insert(key.clone(), value.clone());
            }
            Body::Fact { key, value: None, .. } => {
                self.facts.remove(key);
            }
            Body::CancelAccepted { by, .. } => self.cancelled_by = Some(by.clone()),
            Body::Paused { by, .. } => {
                self.phase = Phase::Paused;
                self.paused_by = Some(by.clone());
            }
            Body::Resumed { .. } => self.go_on(),
            Body::OperatorNeeded { step, failure, choices } => {
                self.go_on();
                self.phase = Phase::NeedsOperator;
                self.question = Some(Question {
                    seq: event.seq,
                    step: step.clone(),
                    failure: failure.clone(),
                    choices: choices.clone(),
                    decided: None,
                });
            }
            Body::OperatorDecided { question, choice, .. } => {
                if let Some(asked) = self.question.as_mut().filter(|asked| asked.seq == *question) {
                    asked.decided = Some(choice.clone());
                    self.phase = Phase::Running;
                }
            }
            Body::Surrendered { .. } => {
                self.go_on();
                self.question = None;
                self.phase = Phase::Queued;
            }
            Body::UndoStarted { step } => {
                self.go_on();
                // A step that is undone in order to be tried again does not make the whole job an undo.
                let retrying = self.steps.iter().any(|s| s.info.id == *step && s.state == StepState::Retrying);
                if !retrying {
                    self.phase = Phase::Undoing;
                }
                self.change(step, |view| view.state = StepState::Undoing);
            }
            Body::UndoFinished { step, failure, removed } => self.change(step, |view| {
                view.state = if failure.is_none() { StepState::Undone } else { StepState::UndoFailed };
                view.removed.extend(removed.iter().cloned());
                view.sample = None;
            }),
            Body::JobFinished { outcome, undo, failure, leftovers, result } => {
                self.phase = Phase::Finished;
                self.paused_by = None;
                self.question = None;
                self.finished = Some(event.at);
                self.outcome = Some(*outcome);
                self.undo = Some(*undo);
                self.failure.clone_from(failure);
                self.leftovers.clone_from(leftovers);
                self.result = Some(result.clone());
            }
            Body::Unknown => {}
        }
    }

    /// Takes progress in; ignored for a step that is not at work.
    pub fn sample(&mut self, sample: &Sample) {
        self.change(&sample.step, |view| {
            let older = view.sample.as_ref().is_some_and(|old| old.at > sample.at);
            if matches!(view.state, StepState::Running | StepState::Undoing) && !older {
                view.sample = Some(sample.clone());
            }
        });
    }

    /// Percent done by the step table: what is done counts its weight, the step at work its share.
    pub fn percent(&self) -> f64 {
        if self.outcome == Some(JobOutcome::Succeeded) {
            return 100.0;
        }
        let total: f64 = self.steps.iter().map(|step| f64::from(step.info.weight)).sum();
        if total <= 0.0 {
            return 0.0;
        }
        let done: f64 = self.steps.iter().map(|step| f64::from(step.info.weight) * step.share()).sum();
        (100.0 * done / total).clamp(0.0, 100.0)
    }

    /// The step at work, or the one that failed.
    pub fn current(&self) -> Option<&StepView> {
        let at_work = |s: &&StepView| !matches!(s.state, StepState::Waiting | StepState::Done | StepState::Undone);
        self.steps.iter().find(at_work).or_else(|| self.steps.iter().rev().find(|s| s.state != StepState::Waiting))
    }

    /// Whatever held the job holds it no longer.
    fn go_on(&mut self) {
        if matches!(self.phase, Phase::Paused | Phase::NeedsOperator) {
            self.phase = Phase::Running;
        }
        self.paused_by = None;
        self.question = None;
    }

    fn start(&mut self, at: Timestamp, steps: &[StepInfo], kept: &[StepId]) {
        self.phase = Phase::Running;
        self.started = Some(at);
        self.finished = None;
        self.outcome = None;
        self.undo = None;
        self.failure = None;
        self.result = None;
        self.leftovers.clear();
        self.notes.clear();
        self.cancelled_by = None;
        self.paused_by = None;
        self.question = None;
        let step = |info: &StepInfo| {
            let view = StepView::waiting(info.clone());
            // Done in an earlier epoch: what it made is this job's, so it counts as tried.
            if kept.contains(&info.id) { StepView { state: StepState::Done, attempt: 1, ..view } } else { view }
        };
        self.steps = steps.iter().map(step).collect();
    }

    fn change(&mut self, step: &StepId, change: impl FnOnce(&mut StepView)) {
        if let Some(view) = self.steps.iter_mut().find(|view| view.info.id == *step) {
            change(view);
        }
    }

    fn note(&mut self, event: &Event) {
        let Body::Note { step, level, code, message, .. } = &event.body else { return };
        if *level < Level::Warning {
            return;
        }
        if self.notes.len() == NOTES_KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back(NoteView {
            seq: event.seq,
            at: event.at,
            step: step.clone(),
            level: *level,
            code: code.clone(),
            message: message.clone(),
        });
    }
}

impl StepView {
    fn waiting(info: StepInfo) -> Self {
        Self {
            info,
            state: StepState::Waiting,
            attempt: 0,
            started: None,
            finished: None,
            sample: None,
            failure: None,
            removed: Vec::new(),
        }
    }

    /// How much of the step is done, 0 to 1.
    pub fn share(&self) -> f64 {
        match (self.state, &self.sample) {
            (StepState::Done, _) => 1.0,
            (StepState::Running, Some(sample)) if sample.total > 0 => {
                (sample.done as f64 / sample.total as f64).clamp(0.0, 1.0)
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [(&str, u32); 2] = [("upload-iso", 30), ("create-vm", 10)];

    /// Numbers bodies from 1, one second apart.
    fn log(bodies: Vec<Body>) -> Vec<Event> {
        let at = |seq: u64| Timestamp::from_second(1_000 + seq as i64).unwrap();
        bodies.into_iter().zip(1..).map(|(body, seq)| Event { seq, epoch: 1, at: at(seq), body }).collect()
    }

    fn started() -> Body {
        let info = |(id, weight): (&str, u32)| StepInfo { id: id.into(), title: id.into(), weight, attempts: 2 };
        Body::JobStarted {
            agent: "a".parse().unwrap(),
            agent_version: "1".into(),
            steps: STEPS.map(info).to_vec(),
            kept: Vec::new(),
            taken_over: None,
        }
    }

    fn sample(done: u64, at: i64) -> Sample {
        Sample {
            job: crate::JobId::new(),
            step: "upload-iso".into(),
            at: Timestamp::from_second(at).unwrap(),
            done,
            total: 100,
            unit: "bytes".into(),
            per_second: 10.0,
            text: String::new(),
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn percent_comes_from_the_step_table_and_the_newest_sample() {
        let mut view = JobView::of(&log(vec![started(), Body::StepStarted { step: "upload-iso".into(), attempt: 1 }]));
        view.sample(&sample(50, 2_000));
        view.sample(&sample(10, 1_999));
        assert_eq!(view.percent(), 37.5);
    }

    #[test]
    fn an_event_twice_is_an_event_once() {
        let events = log(vec![started(), Body::StepStarted { step: "upload-iso".into(), attempt: 1 }]);
        let mut view = JobView::of(&events);
        let once = view.clone();
        events.iter().for_each(|event| view.apply(event));
        assert_eq!(view, once);
    }

    #[test]
    fn a_retry_undoes_its_step_without_undoing_the_job() {
        let step = || StepId::from("upload-iso");
        let failed =
            |will_retry| Body::StepFailed { step: step(), attempt: 1, failure: Failure::default(), will_retry };
        let undo = || {
            vec![
                Body::UndoStarted { step: step() },
                Body::UndoFinished { step: step(), failure: None, removed: vec!["image".into()] },
            ]
        };
        let mut bodies = vec![started(), Body::StepStarted { step: step(), attempt: 1 }, failed(true)];
        bodies.extend(undo());
        let view = JobView::of(&log(bodies.clone()));
        assert_eq!((view.phase, view.steps[0].state), (Phase::Running, StepState::Undone));

        bodies.extend([Body::StepStarted { step: step(), attempt: 2 }, failed(false)]);
        bodies.extend(undo());
        let view = JobView::of(&log(bodies));
        assert_eq!((view.phase, view.steps[0].attempt), (Phase::Undoing, 2));
    }

    #[test]
    fn a_new_epoch_begins_anew_but_for_facts_and_what_is_kept() {
        let Body::JobStarted { agent, agent_version, steps, .. } = started() else { unreachable!() };
        let again = Body::JobStarted { agent, agent_version, steps, kept: vec!["upload-iso".into()], taken_over: None };
        let fact = Body::Fact { step: "create-vm".into(), key: "vm".into(), value: Some(1.into()) };
        let cancel = Body::CancelAccepted { by: "op".into(), reason: String::new() };
        let ended = Body::JobFinished {
            outcome: JobOutcome::Cancelled,
            undo: UndoState::Kept,
            failure: Some(Failure::default()),
            leftovers: Vec::new(),
            result: Value::Null,
        };
        let view = JobView::of(&log(vec![started(), fact, cancel, ended, again]));
        assert_eq!((view.phase, view.outcome, view.cancelled_by.as_ref()), (Phase::Running, None, None));
        assert_eq!(view.steps.iter().map(|step| step.state).collect::<Vec<_>>(), [StepState::Done, StepState::Waiting]);
        assert_eq!((view.facts.len(), view.percent()), (1, 75.0));
    }

    #[test]
    fn a_pause_holds_until_something_goes_on() {
        let pause = || Body::Paused { by: "op".into(), reason: String::new() };
        let mut bodies = vec![started(), pause()];
        let view = JobView::of(&log(bodies.clone()));
        assert_eq!((view.phase, view.paused_by.as_deref()), (Phase::Paused, Some("op")));
        bodies.push(Body::Resumed { by: "op".into() });
        let view = JobView::of(&log(bodies.clone()));
        assert_eq!((view.phase, view.paused_by), (Phase::Running, None));
        bodies.extend([pause(), Body::UndoStarted { step: "upload-iso".into() }]);
        assert_eq!(JobView::of(&log(bodies)).phase, Phase::Undoing, "a cancel goes through a pause");
    }

    #[test]
    fn a_question_stands_until_the_step_goes_on_or_ends() {
        let step = || StepId::from("create-vm");
        let choice = Choice { id: "look-again".into(), text: "look again".into() };
        let asked = Body::OperatorNeeded { step: step(), failure: Failure::default(), choices: vec![choice] };
        let decided = |question| Body::OperatorDecided {
            question,
            choice: "look-again".into(),
            by: "op".into(),
            reason: String::new(),
        };
        let mut bodies = vec![started(), Body::StepStarted { step: step(), attempt: 1 }, asked, decided(2)];
        let view = JobView::of(&log(bodies.clone()));
        assert_eq!(view.phase, Phase::NeedsOperator, "an answer to another question is none");
        bodies.push(decided(3));
        let view = JobView::of(&log(bodies.clone()));
        let chosen = view.question.as_ref().and_then(|asked| asked.decided.as_deref());
        assert_eq!((view.phase, chosen), (Phase::Running, Some("look-again")));
        bodies.push(Body::StepStarted { step: step(), attempt: 2 });
        let view = JobView::of(&log(bodies.clone()));
        assert_eq!((view.phase, view.question), (Phase::Running, None));
        bodies.push(Body::Surrendered { by: "op".into(), to: "b".parse().unwrap() });
        assert_eq!(JobView::of(&log(bodies)).phase, Phase::Queued, "until the other agent begins");
    }

    #[test]
    fn facts_and_open_intents_follow_the_log() {
        let fact = |value| Body::Fact { step: "create-vm".into(), key: "vm".into(), value };
        let intent =
            Body::Intent { step: "create-vm".into(), id: 1, call: "create_vm".into(), detail: Default::default() };
        let mut bodies = vec![started(), intent, fact(Some(1.into()))];
        let view = JobView::of(&log(bodies.clone()));
        assert_eq!((view.facts.len(), view.open_intents.len()), (1, 1));
        let result = crate::event::IntentResult::Done;
        bodies.push(Body::IntentOutcome { step: "create-vm".into(), intent: 1, result, detail: Default::default() });
        bodies.push(fact(None));
        let view = JobView::of(&log(bodies));
        assert_eq!((view.facts.len(), view.open_intents.len()), (0, 0));
    }

    #[test]
    fn notes_are_bounded() {
        let note = |n: usize| Body::Note {
            step: None,
            level: Level::Warning,
            code: format!("c{n}"),
            message: String::new(),
            extra: Default::default(),
        };
        let view = JobView::of(&log((0..NOTES_KEPT + 5).map(note).collect()));
        assert_eq!(view.notes.len(), NOTES_KEPT);
        assert_eq!(view.notes[0].code, "c5");
    }
}
