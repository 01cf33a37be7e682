//! Answers to the question of a job that cannot decide by itself.

use tokio_util::sync::CancellationToken;

use super::JobLog;
use crate::journal::DecideRecord;

impl JobLog {
    /// An operator has answered.
    pub fn request_decision(&self, decision: DecideRecord) {
        self.decision.send_replace(Some(decision));
    }

    /// Waits for the answer to the event `question`, for as long as it takes. `None`: `cancel` was cancelled before.
    pub async fn decision(&self, question: u64, cancel: &CancellationToken) -> Option<DecideRecord> {
        let mut news = self.decision.subscribe();
        let answers = |answer: &Option<DecideRecord>| answer.as_ref().is_some_and(|answer| answer.question == question);
        tokio::select! {
            // An answer that is on disk has been given, whatever came after it.
            biased;
            // The sender lives as long as `self`.
            answer = news.wait_for(answers) => answer.ok().and_then(|answer| answer.clone()),
            () = cancel.cancelled() => None,
        }
    }
}
