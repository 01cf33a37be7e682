//! What CloudTower answers, read with tolerance: objects and arrays, missing and surplus fields.

use gantry_proto::result::NamedId;
use serde_json::Value;

/// The longest id or name that is taken, characters: what stands in facts must fit in a line of the journal.
const NAME_MAX: usize = 1_024;

/// Whether and how CloudTower has been set up (`cloudtower.md` 4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupState {
    /// Its organisations.
    pub organizations: Vec<NamedId>,
    /// Whether there is a root user.
    pub root_created: bool,
}

/// A task of the REST interface (`cloudtower.md` 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// How far it is.
    pub state: TaskState,
    /// Why it failed; empty when it did not say.
    pub error: String,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Not visible yet, waiting or at work.
    Running,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
}

impl SetupState {
    /// Reads `data` of `checkTowerIsSetup`.
    pub(super) fn read(data: &Value) -> Option<Self> {
        let root_created = data.get("userCreated")?.get("created")?.as_bool()?;
        let organizations = data.get("organizations")?.as_array()?;
        Some(Self { organizations: organizations.iter().filter_map(named_id).collect(), root_created })
    }
}

impl Task {
    /// Reads the answer of `get-tasks`; an empty list means that it is not visible yet.
    pub(super) fn read(answer: &Value) -> Self {
        let task = answer.get(0).unwrap_or(&Value::Null);
        let text = |key: &str| task.get(key).and_then(Value::as_str).unwrap_or_default();
        let state = match text("status") {
            "SUCCESSED" | "SUCCEEDED" => TaskState::Succeeded,
            "FAILED" => TaskState::Failed,
            _ => TaskState::Running,
        };
        let error = [text("error_code"), text("error_message")].into_iter().filter(|part| !part.is_empty());
        Self { state, error: error.collect::<Vec<_>>().join(": ") }
    }
}

/// `{"id", "name"}`, each cut at [`NAME_MAX`].
pub(super) fn named_id(value: &Value) -> Option<NamedId> {
    let text = |key: &str| Some(value.get(key)?.as_str()?.chars().take(NAME_MAX).collect());
    Some(NamedId { id: text("id")?, name: text("name")? })
}

/// The first of an array, or the object itself (C30).
pub(super) fn first(value: &Value) -> &Value {
    match value {
        Value::Array(items) => items.first().unwrap_or(&Value::Null),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_set_up_state_needs_both_halves() {
        let data = json!({"organizations": [{"id": "a", "name": "b"}, {"id": 5}], "userCreated": {"created": true}});
        let state = SetupState::read(&data).unwrap();
        assert_eq!((state.organizations.len(), state.root_created), (1, true));
        for wrong in [json!(null), json!({}), json!({"organizations": [], "userCreated": null}), json!([])] {
            assert_eq!(SetupState::read(&wrong), None);
        }
    }

    #[test]
    fn names_are_cut() {
        let long = "名".repeat(5_000);
        let found = named_id(&json!({"id": long, "name": long})).unwrap();
        assert_eq!((found.id.chars().count(), found.name.chars().count()), (NAME_MAX, NAME_MAX));
    }

    #[test]
    fn tasks_in_every_state() {
        let state = |answer: Value| Task::read(&answer).state;
        assert_eq!(state(json!([])), TaskState::Running);
        assert_eq!(state(json!([{"status": "EXECUTING"}])), TaskState::Running);
        assert_eq!(state(json!([{"status": "SUCCESSED"}])), TaskState::Succeeded);
        let failed = Task::read(&json!([{"status": "FAILED", "error_code": "E", "error_message": "why"}]));
        assert_eq!(failed, Task { state: TaskState::Failed, error: "E: why".to_owned() });
    }

    #[test]
    fn objects_and_arrays_are_the_same() {
        assert_eq!(first(&json!([{"a": 1}])), &json!({"a": 1}));
        assert_eq!(first(&json!({"a": 1})), &json!({"a": 1}));
        assert_eq!(first(&json!([])), &Value::Null);
    }
}
