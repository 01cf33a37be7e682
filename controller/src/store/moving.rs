//! A job on its way from one agent to another: what is asked for, what became of it, and what its log hands over. Pure.

use std::collections::BTreeMap;

use gantry_proto::{
    AgentId, Body, Event, JobId, JobView, Leftover, UndoState,
    ledger::{self, Resource, State},
    v1,
    view::Phase,
};

use super::JobRow;

/// A wish to move a job.
#[derive(Clone, Debug)]
pub struct Relocate {
    /// The job.
    pub job: JobId,
    /// Its epoch when it was looked at.
    pub epoch: u32,
    /// Its agent when it was looked at.
    pub from: AgentId,
    /// The agent that gets it.
    pub to: AgentId,
    /// See [`super::Cancel::request`].
    pub request: String,
    /// Tells the agent that has it to let go; number and epoch are given by the store.
    pub surrender: v1::Order,
    /// Tells the agent that gets it to go on. What the log says is filled in when it is due.
    pub take_over: v1::Order,
    /// The operator vouches that the agent that has it is off.
    pub old_agent_is_off: bool,
}

/// What became of a [`Relocate`].
#[derive(Clone, Debug, PartialEq)]
pub enum Relocated {
    /// The new epoch is stored, with its order.
    Moved(JobRow),
    /// The agent that has it is to let go first.
    Asked(JobRow),
    /// It is on its way to another agent already; nothing was stored.
    Elsewhere(JobRow),
    /// The same request had been stored before.
    Known(JobRow),
    /// The job has moved on meanwhile: another epoch, another agent, or it has succeeded.
    Overtaken(JobRow),
    /// This unfinished job has the same CloudTower or VM.
    TargetBusy(JobRow),
}

/// What a job's log hands over to its next agent.
#[derive(Default)]
pub(in crate::store) struct Carry {
    /// What it adds up to.
    pub(in crate::store) view: JobView,
    /// It was being undone when its agent let go of it.
    pub(in crate::store) undoing: bool,
    last_intent: u64,
    open_intents: BTreeMap<u64, v1::Intent>,
}

impl Carry {
    /// Takes the next event in.
    pub(in crate::store) fn apply(&mut self, event: &Event) {
        self.view.apply(event);
        match &event.body {
            Body::Surrendered { .. } => return,
            Body::Intent { id, .. } => {
                self.last_intent = self.last_intent.max(*id);
                if let Some(v1::event::Body::Intent(intent)) = v1::Event::from(event).body {
                    self.open_intents.insert(*id, intent);
                }
            }
            Body::IntentOutcome { intent, .. } => {
                self.open_intents.remove(intent);
            }
            _ => {}
        }
        self.undoing = self.view.phase == Phase::Undoing;
    }

    /// Puts it into the order.
    pub(in crate::store) fn fill(self, order: &mut v1::TakeOverJob) {
        order.last_seq = self.view.last_seq;
        order.last_intent = self.last_intent;
        order.facts = self.view.facts.into_iter().map(|(key, value)| (key, value.to_string())).collect();
        order.open_intents = self.open_intents.into_values().collect();
    }
}

/// The end of a job that no agent has: what its log says was made, and was not removed, is left over.
pub(in crate::store) fn end_with_leftovers(body: Body, log: &[Event]) -> Body {
    let left: Vec<Leftover> = ledger::ledger(log).into_iter().filter(is_left).map(leftover).collect();
    match body {
        Body::JobFinished { outcome, failure, mut result, .. } if !left.is_empty() => {
            if let Some(stage) = result.get_mut("deploy_cloudtower").and_then(serde_json::Value::as_object_mut) {
                stage.insert("leftovers".to_owned(), serde_json::json!(left));
            }
            Body::JobFinished { outcome, undo: UndoState::RollbackIncomplete, failure, leftovers: left, result }
        }
        body => body,
    }
}

/// A complete image is kept for reuse; nobody calls it litter.
fn is_left(one: &Resource) -> bool {
    one.is_ours() && !(one.kind == "image" && one.state == State::Made)
}

fn leftover(one: Resource) -> Leftover {
    let remedy = match one.remedy.is_empty() {
        true => {
            format!("no agent has the job: look for this {} in the cluster's web page, and delete it there", one.kind)
        }
        false => one.remedy,
    };
    Leftover { kind: one.kind, id: one.id, name: one.name, remedy }
}

#[cfg(test)]
mod tests {
    use gantry_proto::{JobOutcome, event::IntentResult};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn log(bodies: Vec<Body>) -> Vec<Event> {
        let event = |(seq, body)| Event { seq, epoch: 1, at: Timestamp::UNIX_EPOCH, body };
        (1..).zip(bodies).map(event).collect()
    }

    fn intent(id: u64) -> Body {
        Body::Intent { step: "create-vm".into(), id, call: "create_vm".into(), detail: serde_json::Map::new() }
    }

    fn fact(key: &str, value: serde_json::Value) -> Body {
        Body::Fact { step: "create-vm".into(), key: key.into(), value: Some(value) }
    }

    #[test]
    fn a_log_hands_over_its_facts_its_open_intents_and_that_it_was_being_undone() {
        let mut carry = Carry::default();
        let outcome = Body::IntentOutcome {
            step: "create-vm".into(),
            intent: 1,
            result: IntentResult::Done,
            detail: serde_json::Map::new(),
        };
        let undo = Body::UndoStarted { step: "create-vm".into() };
        let gone = Body::Surrendered { by: "op".into(), to: "b".parse().unwrap() };
        let bodies = vec![intent(1), outcome, intent(2), fact("vm", json!({"uuid": "v"})), undo, gone];
        log(bodies).iter().for_each(|event| carry.apply(event));
        assert!(carry.undoing, "though the view itself is queued again");
        let mut order = v1::TakeOverJob::default();
        carry.fill(&mut order);
        assert_eq!((order.last_seq, order.last_intent), (6, 2));
        assert_eq!(order.open_intents.iter().map(|intent| intent.id).collect::<Vec<_>>(), [2]);
        assert_eq!(order.facts.get("vm").map(String::as_str), Some(r#"{"uuid":"v"}"#));
    }

    #[test]
    fn what_the_log_says_was_made_is_left_over_but_for_a_complete_image() {
        let end = |log: &[Event]| {
            let body = Body::JobFinished {
                outcome: JobOutcome::Cancelled,
                undo: UndoState::Nothing,
                failure: None,
                leftovers: Vec::new(),
                result: json!({"deploy_cloudtower": {"leftovers": []}}),
            };
            match end_with_leftovers(body, log) {
                Body::JobFinished { undo, leftovers, result, .. } => (undo, leftovers, result),
                other => panic!("{other:?}"),
            }
        };
        let image = fact("image", json!({"image_uuid": "i", "name": "a.iso", "state": "uploaded"}));
        let (undo, left, _) = end(&log(vec![image.clone()]));
        assert_eq!((undo, left.len()), (UndoState::Nothing, 0));
        let (undo, left, result) = end(&log(vec![image, fact("vm", json!({"uuid": "v", "name": "tower"}))]));
        assert_eq!((undo, left[0].id.as_str()), (UndoState::RollbackIncomplete, "v"));
        assert!(!left[0].remedy.is_empty());
        assert_eq!(result["deploy_cloudtower"]["leftovers"][0]["kind"], "vm");
    }
}
