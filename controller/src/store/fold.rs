//! From a job's view to the columns of its row. Pure.

use gantry_proto::{
    Failure, JobOutcome, JobView, UndoState,
    v1::{self, CancelStage, JobState},
    view::{Phase, StepState},
};
use jiff::Timestamp;

/// What a job's log adds up to, as far as lists and screens need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Its state.
    pub state: JobState,
    /// The highest stored sequence number.
    pub last_seq: u64,
    /// First event of the epoch.
    pub started: Option<Timestamp>,
    /// Last event of the epoch.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<JobOutcome>,
    /// What became of what it had made.
    pub undo: Option<UndoState>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Percent done, without the share of the step at work.
    pub percent: f64,
    /// The step at work or the one that failed; empty before the start.
    pub current_step: String,
    /// Percent that the whole of the step at work is worth.
    pub current_share: f64,
    /// What it cannot decide, as long as nobody has decided.
    pub question: Option<v1::OperatorQuestion>,
}

impl Progress {
    /// Of a job whose log is empty.
    pub fn queued() -> Self {
        Self::of(&JobView::default())
    }

    /// Of a folded log.
    pub fn of(view: &JobView) -> Self {
        let total: f64 = view.steps.iter().map(|step| f64::from(step.info.weight)).sum();
        let current = view.current();
        let running = current.filter(|step| step.state == StepState::Running && total > 0.0);
        Self {
            state: state(view),
            last_seq: view.last_seq,
            started: view.started,
            finished: view.finished,
            outcome: view.outcome,
            undo: view.undo,
            failure: view.failure.clone(),
            percent: view.percent(),
            current_step: current.map(|step| step.info.id.to_string()).unwrap_or_default(),
            current_share: running.map_or(0.0, |step| 100.0 * f64::from(step.info.weight) / total),
            question: question(view),
        }
    }

    /// Whether the job has ended.
    pub fn finished(&self) -> bool {
        ended(self.state)
    }
}

/// Whether a job in this state has ended.
fn ended(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

fn question(view: &JobView) -> Option<v1::OperatorQuestion> {
    let open = view.question.as_ref().filter(|asked| asked.decided.is_none())?;
    Some(v1::OperatorQuestion {
        answered: false,
        seq: open.seq,
        step: open.step.to_string(),
        failure: Some((&open.failure).into()),
        choices: open.choices.iter().cloned().map(Into::into).collect(),
    })
}

fn state(view: &JobView) -> JobState {
    match (view.phase, view.outcome) {
        (Phase::Queued, _) => JobState::Queued,
        (Phase::Paused, _) => JobState::Paused,
        (Phase::NeedsOperator, _) => JobState::NeedsOperator,
        (Phase::Running | Phase::Undoing, _) => JobState::Running,
        (Phase::Finished, Some(JobOutcome::Succeeded)) => JobState::Succeeded,
        (Phase::Finished, Some(JobOutcome::Cancelled)) => JobState::Cancelled,
        (Phase::Finished, Some(JobOutcome::Failed) | None) => JobState::Failed,
    }
}

/// How far a cancel has come by what the log says. Nothing is claimed that the log does not say, and a stage that was
/// reached stays; a job on which nobody has asked has none.
pub fn cancel_stage(now: CancelStage, view: &JobView) -> CancelStage {
    if now == CancelStage::Unspecified {
        return now;
    }
    let at_work = view.steps.iter().any(|step| step.state == StepState::Running);
    let reached = match (view.phase, view.outcome) {
        (Phase::Finished, Some(JobOutcome::Cancelled)) => CancelStage::Undone,
        (Phase::Finished, _) => CancelStage::TooLate,
        _ if view.cancelled_by.is_none() => CancelStage::Requested,
        _ if at_work => CancelStage::Delivered,
        _ => CancelStage::Stopped,
    };
    if (reached as i32) > (now as i32) { reached } else { now }
}

#[cfg(test)]
mod tests {
    use gantry_proto::{Body, Choice, Event, StepInfo};
    use serde_json::Value;

    use super::*;

    fn view(bodies: &[Body]) -> JobView {
        let at = Timestamp::from_second(1).unwrap();
        let events: Vec<_> =
            (1..).zip(bodies).map(|(seq, body)| Event { seq, epoch: 1, at, body: body.clone() }).collect();
        JobView::of(&events)
    }

    fn started() -> Body {
        let info = |id: &str, weight| StepInfo { id: id.into(), title: id.into(), weight, attempts: 1 };
        let steps = vec![info("one", 30), info("two", 10)];
        Body::JobStarted {
            agent: "a".parse().unwrap(),
            agent_version: "1".into(),
            steps,
            kept: Vec::new(),
            taken_over: None,
        }
    }

    fn finished(outcome: JobOutcome) -> Body {
        Body::JobFinished {
            outcome,
            undo: UndoState::Nothing,
            failure: None,
            leftovers: Vec::new(),
            result: Value::Null,
        }
    }

    #[test]
    fn the_columns_follow_the_log() {
        assert_eq!(Progress::queued().state, JobState::Queued);
        let run = Progress::of(&view(&[
            started(),
            Body::StepStarted { step: "one".into(), attempt: 1 },
            Body::StepSucceeded { step: "one".into(), elapsed_ms: 1 },
            Body::StepStarted { step: "two".into(), attempt: 1 },
        ]));
        assert_eq!((run.state, run.percent, run.current_share), (JobState::Running, 75.0, 25.0));
        assert_eq!((run.current_step.as_str(), run.last_seq), ("two", 4));
        let end = Progress::of(&view(&[started(), finished(JobOutcome::Succeeded)]));
        assert!(end.finished() && end.state == JobState::Succeeded && end.percent == 100.0);
    }

    #[test]
    fn a_question_is_open_until_it_is_decided() {
        let choices = vec![Choice { id: "look-again".into(), text: "look".into() }];
        let asked = Body::OperatorNeeded { step: "one".into(), failure: Failure::default(), choices };
        let decided =
            Body::OperatorDecided { question: 2, choice: "look-again".into(), by: "me".into(), reason: String::new() };
        let log = [started(), asked, decided];
        let open = Progress::of(&view(&log[..2]));
        let question = open.question.unwrap();
        assert_eq!((open.state, question.seq, question.choices.len()), (JobState::NeedsOperator, 2, 1));
        assert_eq!(Progress::of(&view(&log)).question, None);
    }

    #[test]
    fn a_cancel_claims_only_what_the_log_says() {
        let step = Body::StepStarted { step: "one".into(), attempt: 1 };
        let accepted = Body::CancelAccepted { by: "me".into(), reason: String::new() };
        let undo = Body::UndoStarted { step: "one".into() };
        let asked = CancelStage::Requested;
        assert_eq!(cancel_stage(CancelStage::Unspecified, &view(&[started()])), CancelStage::Unspecified);
        assert_eq!(cancel_stage(asked, &view(&[started(), step.clone()])), CancelStage::Requested);
        let log = [started(), step, accepted, undo, finished(JobOutcome::Cancelled)];
        assert_eq!(cancel_stage(asked, &view(&log[..3])), CancelStage::Delivered);
        assert_eq!(cancel_stage(asked, &view(&log[..4])), CancelStage::Stopped);
        assert_eq!(cancel_stage(asked, &view(&log)), CancelStage::Undone);
        let late = view(&[started(), finished(JobOutcome::Succeeded)]);
        assert_eq!(cancel_stage(CancelStage::Delivered, &late), CancelStage::TooLate);
        assert_eq!(cancel_stage(CancelStage::Stopped, &view(&log[..3])), CancelStage::Stopped);
    }
}
