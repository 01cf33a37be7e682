//! The ledger of a job: what it made, found and removed, by its log alone. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::{Body, Event, Leftover, StepId};

/// One object in the outside world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// `vm`, `image`, `volume`, `organization`, `datacenter` or `cluster` (as CloudTower's).
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
    /// The job made it, and it is handed over: a stage that is finished is not undone.
    Delivered,
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
                if key == "clusters" {
                    clusters(&mut all, (event.seq, step), value);
                } else if key == "removed_image" {
                    let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
                    let it = |one: &&mut Resource| one.kind == "image" && one.id == id;
                    all.iter_mut().filter(it).for_each(|one| one.state = State::Removed);
                } else if key == "finished_stages" {
                    deliver(&mut all, value);
                } else if let Some(told) = told(event.seq, step, key, value) {
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
        "datacenter" => Some("datacenter"),
        "clusters" => Some("cluster"),
        _ => None,
    }
}

/// The kinds of objects that a stage makes, but for images: those are kept or removed for their own reasons.
fn made_by(stage: &str) -> &'static [&'static str] {
    match stage {
        "deploy_cloudtower" => &["vm", "organization"],
        "attach_cluster" => &["datacenter", "cluster"],
        _ => &[],
    }
}

/// What finished stages have made is no more the job's to remove.
fn deliver(all: &mut [Resource], stages: &Value) {
    let kinds: Vec<&str> =
        stages.as_array().into_iter().flatten().filter_map(Value::as_str).flat_map(made_by).copied().collect();
    let made = |one: &&mut Resource| one.state == State::Made && kinds.contains(&one.kind.as_str());
    all.iter_mut().filter(made).for_each(|one| one.state = State::Delivered);
}

/// The clusters inside CloudTower, by their addresses; one that is not in the map any more has been removed.
fn clusters(all: &mut Vec<Resource>, (seq, step): (u64, &StepId), value: &Value) {
    let listed = value.as_object().into_iter().flatten();
    let told = listed.filter_map(|(ip, fact)| {
        let id = fact.get("id").and_then(Value::as_str).unwrap_or_default();
        let state = match (fact.get("made").and_then(Value::as_bool), id.is_empty()) {
            (Some(true), true) => State::Asked,
            (Some(true), false) => State::Made,
            (_, false) => State::Found,
            // It could not be attached, and nothing came of it.
            (_, true) => return None,
        };
        let (kind, id, name, step) = ("cluster".to_owned(), id.to_owned(), ip.clone(), Some(step.clone()));
        Some(Resource { kind, id, name, step, seq, state, remedy: String::new() })
    });
    let told: Vec<Resource> = told.collect();
    let gone = |one: &&mut Resource| one.kind == "cluster" && one.is_ours() && !told.iter().any(|t| t.name == one.name);
    all.iter_mut().filter(gone).for_each(|one| one.state = State::Removed);
    for one in told {
        let asked = all.iter_mut().rev().find(|old| old.kind == one.kind && old.name == one.name && old.id != one.id);
        match asked.filter(|old| old.state == State::Asked) {
            Some(old) => *old = Resource { seq: old.seq, ..one },
            None => take(all, one),
        }
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
        "datacenter" => {
            let state = match (value.get("made").and_then(Value::as_bool), text("id").is_empty()) {
                (Some(true), true) => State::Asked,
                (Some(true), false) => State::Made,
                _ => State::Found,
            };
            (text("id"), state)
        }
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
    fn what_a_finished_stage_made_is_delivered_and_clusters_are_told_by_address() {
        let cluster = |id: &str, made| json!({"192.0.2.10": {"id": id, "made": made}});
        let mut bodies = vec![
            fact("vm", json!({"name": "tower", "uuid": "v"})),
            fact("organization", json!({"id": "o", "name": "Org"})),
            fact("finished_stages", json!(["prepare", "deploy_cloudtower"])),
            fact("datacenter", json!({"id": "", "name": "DC", "made": true})),
            fact("datacenter", json!({"id": "d", "name": "DC", "made": true})),
            fact("clusters", cluster("", true)),
            fact("clusters", cluster("c", true)),
        ];
        let told = |kind: &str, id: &str, state| (kind.to_owned(), id.to_owned(), state);
        let delivered = [told("vm", "v", State::Delivered), told("organization", "o", State::Delivered)];
        let attached = [told("datacenter", "d", State::Made), told("cluster", "c", State::Made)];
        assert_eq!(states(bodies.clone()), [&delivered[..], &attached[..]].concat());
        bodies.push(fact("clusters", json!({"192.0.2.10": {"id": "", "made": false, "failure": {}}})));
        bodies.push(fact("datacenter", Value::Null));
        let removed = [told("datacenter", "d", State::Removed), told("cluster", "c", State::Removed)];
        assert_eq!(states(bodies), [&delivered[..], &removed[..]].concat());
        let found = vec![fact("clusters", cluster("c", false)), fact("finished_stages", json!("junk"))];
        assert_eq!(states(found), [told("cluster", "c", State::Found)]);
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
