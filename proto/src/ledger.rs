//! The ledger of a job: what it made, found and removed, by its log alone. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::{Body, Event, Leftover, StepId};

/// One object in the outside world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// `vm`, `image`, `volume` or `organization`.
    pub kind: String,
    /// Its id in the outside world; empty when it is not known.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The step that made or found it; `None` for what only the list of leftovers names.
    pub step: Option<StepId>,
    /// The event that told of it first.
    pub seq: u64,
    /// What is known about it.
    pub state: State,
    /// What a person does to remove it; empty unless it is left over.
    pub remedy: String,
}

/// What is known about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The job made it, and it is there.
    Made,
    /// It was there before, and is not the job's to remove.
    Found,
    /// The job asked for it and has no answer: it may be there.
    Asked,
    /// An upload that is not complete.
    Unfinished,
    /// The job made it, and has removed it.
    Removed,
    /// The job made it, or may have, and could not remove it.
    LeftOver,
}

impl Resource {
    /// Whether a sweep has something to do about it: it is the job's, and may be there.
    pub fn is_ours(&self) -> bool {
        matches!(self.state, State::Made | State::Asked | State::Unfinished | State::LeftOver)
    }
}

/// The ledger of a log, in the order in which things were told of.
pub fn ledger<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Resource> {
    let mut all = Vec::new();
    for event in events {
        match &event.body {
            Body::Fact { step, key, value: Some(value) } => {
                if let Some(told) = told(event.seq, step, key, value) {
                    take(&mut all, told);
                }
            }
            Body::Fact { key, value: None, .. } => gone(&mut all, key),
            Body::JobFinished { leftovers, .. } => {
                leftovers.iter().for_each(|left| leave(&mut all, event.seq, left));
            }
            _ => {}
        }
    }
    all
}

/// The kinds of objects that a fact of this name is about.
fn kind_of(key: &str) -> Option<&'static str> {
    match key {
        "vm" => Some("vm"),
        "image" | "asked_volume" => Some("image"),
        "organization" => Some("organization"),
        _ => None,
    }
}

fn told(seq: u64, step: &StepId, key: &str, value: &Value) -> Option<Resource> {
    let text = |at: &str| value.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (id, state) = match key {
        "vm" => {
            let id = text("uuid");
            let state = if id.is_empty() { State::Asked } else { State::Made };
            (id, state)
        }
        "image" => {
            let state = match text("state").as_str() {
                "reused" => State::Found,
                "uploaded" => State::Made,
                _ => State::Unfinished,
            };
            (text("image_uuid"), state)
        }
        "asked_volume" => (String::new(), State::Asked),
        "organization" => (text("id"), State::Made),
        _ => return None,
    };
    let (kind, name, step) = (kind_of(key)?.to_owned(), text("name"), Some(step.clone()));
    Some(Resource { kind, id, name, step, seq, state, remedy: String::new() })
}

/// Newer words about the same object replace older ones; an object that was only asked for becomes the one that is seen.
fn take(all: &mut Vec<Resource>, new: Resource) {
    let same = |old: &&mut Resource| {
        old.kind == new.kind && (old.id == new.id || (old.id.is_empty() && old.state == State::Asked))
    };
    match all.iter_mut().rev().find(same) {
        Some(old) => {
            let seq = old.seq;
            *old = Resource { seq, ..new };
        }
        None => all.push(new),
    }
}

fn gone(all: &mut Vec<Resource>, key: &str) {
    let Some(kind) = kind_of(key) else { return };
    match key {
        // The question is settled: an answer became an image, or there is nothing.
        "asked_volume" => all.retain(|old| !(old.kind == kind && old.id.is_empty() && old.state == State::Asked)),
        _ => {
            let ours = |old: &&mut Resource| old.kind == kind && old.is_ours();
            all.iter_mut().filter(ours).for_each(|old| old.state = State::Removed);
        }
    }
    if key == "vm" {
        // What was inside went with it.
        let inside = |old: &&mut Resource| old.kind == "organization" && old.is_ours();
        all.iter_mut().filter(inside).for_each(|old| old.state = State::Removed);
    }
}

fn leave(all: &mut Vec<Resource>, seq: u64, left: &Leftover) {
    let known = all.iter_mut().rev().find(|old| old.kind == left.kind && old.id == left.id);
    match known {
        Some(old) => (old.state, old.remedy) = (State::LeftOver, left.remedy.clone()),
        None => all.push(Resource {
            kind: left.kind.clone(),
            id: left.id.clone(),
            name: left.name.clone(),
            step: None,
            seq,
            state: State::LeftOver,
            remedy: left.remedy.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{JobOutcome, UndoState};

    fn fact(key: &str, value: Value) -> Body {
        Body::Fact { step: "s".into(), key: key.into(), value: (!value.is_null()).then_some(value) }
    }

    fn ended(leftovers: Vec<Leftover>) -> Body {
        let (outcome, undo) = (JobOutcome::Failed, UndoState::RollbackIncomplete);
        Body::JobFinished { outcome, undo, failure: None, leftovers, result: Value::Null }
    }

    fn states(bodies: Vec<Body>) -> Vec<(String, String, State)> {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let events: Vec<Event> =
            bodies.into_iter().zip(1..).map(|(body, seq)| Event { seq, epoch: 1, at, body }).collect();
        ledger(&events).into_iter().map(|all| (all.kind, all.id, all.state)).collect()
    }

    #[test]
    fn what_was_asked_for_becomes_what_is_seen_and_goes_with_its_fact() {
        let mut bodies = vec![
            fact("asked_volume", json!({"name": "a.iso"})),
            fact("image", json!({"image_uuid": "i", "name": "a.iso", "state": "uploading"})),
            fact("asked_volume", Value::Null),
            fact("image", json!({"image_uuid": "i", "name": "a.iso", "state": "uploaded"})),
            fact("vm", json!({"name": "tower", "uuid": null})),
        ];
        let asked = |kind: &str, id: &str, state| (kind.to_owned(), id.to_owned(), state);
        assert_eq!(states(bodies.clone()), [asked("image", "i", State::Made), asked("vm", "", State::Asked)]);
        bodies.push(fact("vm", json!({"name": "tower", "uuid": "v"})));
        bodies.push(fact("organization", json!({"id": "o", "name": "Org"})));
        bodies.push(fact("vm", Value::Null));
        let expected = [
            asked("image", "i", State::Made),
            asked("vm", "v", State::Removed),
            asked("organization", "o", State::Removed),
        ];
        assert_eq!(states(bodies), expected);
    }

    #[test]
    fn a_reused_image_is_not_ours_and_leftovers_are_told_apart() {
        let left = |kind: &str, id: &str| Leftover {
            kind: kind.into(),
            id: id.into(),
            name: "n".into(),
            remedy: "by hand".into(),
        };
        let found = states(vec![
            fact("image", json!({"image_uuid": "i", "state": "reused"})),
            fact("vm", json!({"uuid": "v"})),
            ended(vec![left("vm", "v"), left("volume", "w")]),
        ]);
        let state = found.iter().map(|(_, _, state)| *state).collect::<Vec<_>>();
        assert_eq!(state, [State::Found, State::LeftOver, State::LeftOver]);
    }
}
