//! An operator's answer to a job that cannot decide. The agent takes it, and only its events say that the job goes on.

use gantry_proto::{Code, v1};

use super::{
    Jobs,
    hold::{ended, not_stopping},
    short,
};
use crate::{
    refusal::Refusal,
    store::{JobRow, OrderKind, Wished},
};

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Id of one of the question's choices.
    pub choice: String,
    /// Number of the event that asked; 0: whichever question is open.
    pub question: u64,
    /// Why; may be empty.
    pub reason: String,
    /// The operator, by the certificate.
    pub by: String,
    /// Chosen by who asks: the same one twice is one wish.
    pub request: String,
}

impl Jobs {
    /// Answers the question of a job that waits for an operator.
    ///
    /// # Errors
    /// [`Code::JobFinished`], or [`Code::JobState`] when the job does not wait, another question is open, the choice is
    /// none of the question's, or the question has an answer on its way.
    pub async fn decide(&self, row: &JobRow, wish: Decision) -> Result<JobRow, Refusal> {
        if self.store.requested(row.id, short(&wish.request)).await? {
            return Ok(row.clone());
        }
        not_stopping(row)?;
        let question = open_question(row, wish.question)?;
        if !question.choices.iter().any(|choice| choice.id == wish.choice) {
            return Err(no_such_choice(row, question, &wish.choice));
        }
        let order = v1::order::Kind::Decide(v1::DecideOrder {
            question: question.seq,
            choice: wish.choice,
            by: wish.by,
            reason: wish.reason.chars().take(500).collect(),
        });
        match self.wish(row, OrderKind::Decide, order, &wish.request).await? {
            Wished::Stored(row) => Ok(row),
            Wished::Ended(row) => Err(ended(&row)),
            Wished::Answered(row) => {
                open_question(&row, question.seq)?;
                let message = format!(
                    "the question of job {} has been answered already, and the answer is on its way to agent {}: follow \
                     it with `ctl watch {}`",
                    row.id, row.agent, row.id
                );
                Err(Refusal::new(Code::JobState, message))
            }
        }
    }
}

/// The question that is open, if it is the one that is meant.
fn open_question(row: &JobRow, wanted: u64) -> Result<&v1::OperatorQuestion, Refusal> {
    if row.finished() {
        return Err(ended(row));
    }
    let Some(question) = &row.progress.question else {
        let message = format!("job {} does not wait for an operator: see `ctl show {}`", row.id, row.id);
        return Err(Refusal::new(Code::JobState, message));
    };
    if wanted != 0 && wanted != question.seq {
        let message = format!(
            "question {wanted} of job {} is not open any more, question {} is: look at it with `ctl decide {}`",
            row.id, question.seq, row.id
        );
        return Err(Refusal::new(Code::JobState, message));
    }
    Ok(question)
}

fn no_such_choice(row: &JobRow, question: &v1::OperatorQuestion, choice: &str) -> Refusal {
    let choice: String = choice.chars().take(80).collect();
    let named: Vec<String> = question.choices.iter().map(|one| format!("{} ({})", one.id, one.text)).collect();
    let message = format!(
        "\"{choice}\" is no answer to the question of job {}: choose one of {}; answer with `ctl decide {} CHOICE`",
        row.id,
        named.join(", "),
        row.id
    );
    Refusal::new(Code::JobState, message)
}
