//! The question to an operator: a job that cannot decide by itself stops, names the choices, and waits, through restarts
//! and for as long as it takes.

use gantry_proto::{Body, Failure, StepId, event, view::Question};
use serde_json::Value;

use super::{Halt, Next, Walk};
use crate::journal::DecideRecord;

/// Word in the details of a failure: nothing may be removed after it.
const HANDS_OFF: &str = "hands_off";
/// Word in the details of a failure: what was made is to be removed after it, whatever the policy says.
const UNDO: &str = "undo";

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The step is run again, and looks first.
    LookAgain,
    /// The job fails, and what it made is removed.
    Undo,
    /// The job fails, and nothing is removed.
    Keep,
}

impl Choice {
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::LookAgain, "look-again", "the step is run again, and looks at what is there before it makes anything"),
        (Self::Undo, "undo", "the job fails, and what it is known to have made is removed"),
        (Self::Keep, "keep", "the job fails, and nothing is removed; it can be retried or swept later"),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, id, _)| *id == word).map(|(choice, ..)| *choice)
    }

    fn named() -> Vec<event::Choice> {
        Self::ALL.iter().map(|(_, id, text)| event::Choice { id: (*id).to_owned(), text: (*text).to_owned() }).collect()
    }

    /// What a failure says is to become of what was made; `None`: it follows from the policy.
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        let says = |word: &str| failure.detail.get(word) == Some(&Value::Bool(true));
        if says(HANDS_OFF) {
            return Some(Self::Keep);
        }
        says(UNDO).then_some(Self::Undo)
    }

    /// The failure with the word in its details, by which it is known again after a restart.
    pub(super) fn noted(self, mut failure: Failure) -> Failure {
        match self {
            Self::LookAgain => None,
            Self::Undo => failure.detail.insert(UNDO.to_owned(), true.into()),
            Self::Keep => failure.detail.insert(HANDS_OFF.to_owned(), true.into()),
        };
        failure
    }
}

impl Walk {
    /// Asks, waits, and goes by the answer.
    pub(super) async fn ask(&mut self, index: usize, attempt: u32, failure: Failure) -> Result<Next, Halt> {
        let (step, failure) = (self.table[index].id.clone(), self.job.log.clean(failure));
        let (asked, choices) = (failure.clone(), Choice::named());
        let seq = self.append(Body::OperatorNeeded { step: step.clone(), failure, choices: choices.clone() }).await?;
        let question = Question { seq, step, failure: asked, choices, decided: None };
        self.answered(index, attempt, question).await
    }

    /// The question of this step that a restart has found open, or answered without its consequence; once.
    pub(super) fn open_question(&mut self, index: usize) -> Option<Question> {
        let step = &self.table[index].id;
        let open = self.job.view.question.as_ref().is_some_and(|question| question.step == *step);
        if open { self.job.view.question.take() } else { None }
    }

    /// Waits for the answer, tells it, and goes by it.
    pub(super) async fn answered(&mut self, index: usize, attempt: u32, question: Question) -> Result<Next, Halt> {
        let Question { seq, step, failure, decided, .. } = question;
        let choice = match decided {
            Some(told) => told,
            None => match self.job.log.decision(seq, &self.job.cancel).await {
                Some(decision) => self.told(decision).await?,
                None => return self.not_waited_for(step, attempt).await,
            },
        };
        match Choice::parse(&choice) {
            // The runner takes no other word; one of another version is the careful one.
            None | Some(Choice::Keep) => self.failed(&step, attempt, failure, false, Some(Choice::Keep)).await,
            Some(Choice::Undo) => self.failed(&step, attempt, failure, false, Some(Choice::Undo)).await,
            Some(Choice::LookAgain) => {
                self.place.touch(index);
                Ok(Next::Again)
            }
        }
    }

    async fn told(&self, decision: DecideRecord) -> Result<String, Halt> {
        let DecideRecord { question, choice, by, reason, .. } = decision;
        self.append(Body::OperatorDecided { question, choice: choice.clone(), by, reason }).await?;
        Ok(choice)
    }

    /// The agent stops: the question stands again at its next start. Or the job was cancelled: that is an answer, too.
    async fn not_waited_for(&mut self, step: StepId, attempt: u32) -> Result<Next, Halt> {
        if self.job.log.is_stopping() {
            return Err(Halt::Stopped);
        }
        let failure = self.cancel_failure();
        self.failed(&step, attempt, failure, false, None).await
    }
}
