//! Asking an agent to look at its site: one question at a time, bound to the session, and taken back when nobody waits any
//! more.

use std::{sync::Arc, time::Duration};

use gantry_proto::{AgentId, Code, SURVEY, v1};
use tokio::sync::oneshot;

use super::Agents;
use crate::refusal::Refusal;

/// What may wait to be told to one agent: a question, the end of the one before, and as many again.
pub(super) const ASKS: usize = 4;
/// Of a code or a message of an agent, characters.
const WORDS_MAX: usize = 1_000;

/// What a session tells its agent.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Look.
    Look(Box<v1::SurveyRequest>),
    /// Look no further.
    Cancel(String),
}

/// Who waits for the answer.
pub(super) struct Waiting {
    survey: String,
    answer: oneshot::Sender<v1::SurveyReport>,
}

/// A question that was asked. Dropped before its answer has come, it is taken back.
pub struct Looking {
    agents: Arc<Agents>,
    agent: AgentId,
    survey: String,
    answer: oneshot::Receiver<v1::SurveyReport>,
}

impl Agents {
    /// Asks an agent in contact to look.
    ///
    /// # Errors
    /// [`Code::AgentState`] when it is not in contact, [`Code::Incompatible`] when it is too old for that,
    /// [`Code::Busy`] when it is looking already.
    pub fn survey(self: &Arc<Self>, agent: &AgentId, request: v1::SurveyRequest) -> Result<Looking, Refusal> {
        let survey = request.survey_id.clone();
        let answer = self.with(agent, |live| {
            let Some(held) = &live.session else {
                let message = format!(
                    "agent \"{agent}\" is not in contact, so it cannot look at its site: see `ctl agents`, start it, and \
                     ask again once it is in contact"
                );
                return Err(Refusal::new(Code::AgentState, message));
            };
            if !held.capabilities.iter().any(|word| word == SURVEY) {
                let message = format!("agent \"{agent}\" is too old to look at its site: update it, then ask again");
                return Err(Refusal::new(Code::Incompatible, message));
            }
            let busy = || {
                let message = format!("agent \"{agent}\" is looking at its site for somebody else: ask again in a moment");
                Refusal::new(Code::Busy, message)
            };
            if live.waiting.is_some() {
                return Err(busy());
            }
            held.asks.try_send(Ask::Look(Box::new(request))).map_err(|_| busy())?;
            let (answer, answered) = oneshot::channel();
            live.waiting = Some(Waiting { survey: survey.clone(), answer });
            Ok(answered)
        })?;
        Ok(Looking { agents: self.clone(), agent: agent.clone(), survey, answer })
    }

    /// An agent has looked. An answer that nobody waits for is dropped.
    pub fn surveyed(&self, agent: &AgentId, report: v1::SurveyReport) {
        let waiting = self.with(agent, |live| live.waiting.take_if(|waiting| waiting.survey == report.survey_id));
        if let Some(waiting) = waiting {
            // Who has gone meanwhile does not want it.
            let _ = waiting.answer.send(report);
        }
    }
}

impl Looking {
    /// Waits for the answer.
    ///
    /// # Errors
    /// Why there is none: the agent's own reason, contact that was lost, or the time that is over.
    pub async fn diff(mut self, limit: Duration) -> Result<v1::SiteDiff, Refusal> {
        let agent = self.agent.clone();
        let answer = tokio::time::timeout(limit, &mut self.answer).await.map_err(|_| {
            let message = format!(
                "agent \"{agent}\" has not looked at its site within {} s (limits.survey_ms of the controller): look at \
                 the agent's log, then ask again",
                limit.as_secs_f64()
            );
            Refusal::new(Code::AgentState, message)
        })?;
        let report = answer.map_err(|_| {
            let message = format!("contact with agent \"{agent}\" was lost while it looked: ask again once it is back");
            Refusal::new(Code::AgentState, message)
        })?;
        report.diff.ok_or_else(|| {
            let words = |text: &str| text.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect::<String>();
            let code = if report.code == Code::Busy.word() { Code::Busy } else { Code::AgentState };
            Refusal::new(code, format!("agent \"{agent}\" does not look at its site: {}", words(&report.message)))
        })
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.agents.with(&self.agent, |live| {
            // Answered, or of another session: then there is nothing to take back.
            if live.waiting.take_if(|waiting| waiting.survey == self.survey).is_some()
                && let Some(held) = &live.session
            {
                // Where there is no room the agent's own limit ends it.
                let _ = held.asks.try_send(Ask::Cancel(self.survey.clone()));
            }
        });
    }
}
