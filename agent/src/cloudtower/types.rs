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

/// A cluster as CloudTower tells it (`cloudtower.md` 5.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub id: String,
    /// The cluster's own uuid.
    pub local_id: Option<String>,
    pub name: Option<String>,
    /// The addresses under which it is known here.
    pub addresses: Vec<String>,
    pub version: Option<String>,
    pub host_num: Option<u64>,
    pub settings_id: Option<String>,
    pub state: ConnectState,
    /// Why it is disconnected, in CloudTower's word.
    pub reason: Option<String>,
}

/// How far a cluster is connected. Words that do not exist by what is known are none of these (C29).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConnectState {
    #[default]
    Initializing,
    Connected,
    Disconnected,
    Removing,
    /// Another word.
    Unknown(String),
}

impl ConnectState {
    /// CloudTower's word.
    pub fn word(&self) -> &str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Connected => "CONNECTED",
            Self::Disconnected => "DISCONNECTED",
            Self::Removing => "REMOVING",
            Self::Unknown(word) => word,
        }
    }
}

impl Cluster {
    /// Reads one; `None`: it has no id.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(short);
        let at = |pointer: &str| value.pointer(pointer).and_then(text);
        let mut addresses: Vec<String> = ["/ip", "/management_vip"].into_iter().filter_map(at).collect();
        addresses.dedup();
        let state = match at("/connect_state").unwrap_or_default() {
            word if word == "INITIALIZING" => ConnectState::Initializing,
            word if word == "CONNECTED" => ConnectState::Connected,
            word if word == "DISCONNECTED" => ConnectState::Disconnected,
            word if word == "REMOVING" => ConnectState::Removing,
            word => ConnectState::Unknown(word),
        };
        Some(Self {
            id: at("/id")?,
            local_id: at("/local_id"),
            name: at("/name"),
            addresses,
            version: at("/version"),
            host_num: value.get("host_num").and_then(Value::as_u64),
            settings_id: at("/settings/id"),
            state,
            reason: at("/disconnected_reason"),
        })
    }
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
    let text = |key: &str| value.get(key)?.as_str().map(short);
    Some(NamedId { id: text("id")?, name: text("name")? })
}

/// At most [`NAME_MAX`] characters of it.
pub(super) fn short(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
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
    fn clusters_are_read_with_what_they_have() {
        let full = json!({
            "id": "c", "local_id": "l", "name": "n", "ip": "192.0.2.10", "management_vip": "192.0.2.11", "host_num": 3,
            "version": "6.2.0", "settings": {"id": "s"}, "connect_state": "CONNECTED", "disconnected_reason": null,
        });
        let read = Cluster::read(&full).unwrap();
        assert_eq!((read.state.word(), read.settings_id.as_deref(), read.host_num), ("CONNECTED", Some("s"), Some(3)));
        assert_eq!(read.addresses, ["192.0.2.10", "192.0.2.11"]);
        let poor = json!({"id": "c", "connect_state": "WEIRD", "settings": null, "host_num": "3", "ip": 5});
        let read = Cluster::read(&poor).unwrap();
        let unknown = ConnectState::Unknown("WEIRD".to_owned());
        assert_eq!((read.state, read.addresses.len(), read.host_num, read.settings_id), (unknown, 0, None, None));
        for none in [json!({}), json!(null), json!({"id": 5}), json!([])] {
            assert_eq!(Cluster::read(&none), None);
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
