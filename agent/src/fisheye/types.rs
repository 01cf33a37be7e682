//! What Fisheye tells, read tolerantly: numbers may come as text, lists in every shape of `fisheye.md` 4.1, unknown
//! fields do not matter. Pure.

use serde_json::Value;

use super::jobs::{JobFailure, JobState};

/// Keys under which a list may hide (`fisheye.md` 4.1).
const LIST_KEYS: &[&str] = &["entities", "items", "list", "records", "results"];

/// The longest text that is taken, characters; of a longer one the beginning: what stands in facts must fit in a line of
/// the journal.
const TEXT_MAX: usize = 4_096;
/// The longest description, characters; of a longer one the end, where our mark stands.
const DESCRIPTION_MAX: usize = 16 << 10;
/// Entries that are taken of a VM's disks, NICs and addresses, and of what a job works on.
const PARTS_MAX: usize = 64;

/// An image (4.1). `uuid` and `path` may be empty: such an entry is no use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub uuid: String,
    pub name: String,
    /// The CD-ROM path for a VM.
    pub path: String,
    /// Bytes, as declared at creation.
    pub size: Option<u64>,
    /// Lower-case hexadecimal; there when the image is finished.
    pub md5: Option<String>,
    /// Upload time, seconds since 1970.
    pub time: u64,
    pub zbs_volume_id: Option<String>,
    /// VMs that mount it.
    pub vms_count: u64,
}

/// An upload volume (5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub image_uuid: String,
    pub zbs_volume_id: String,
    /// Empty when the answer lacked it.
    pub image_path: String,
    /// `None` when the answer lacked it; 0 is the server's own.
    pub chunk_size: Option<u64>,
    /// What `to_upload` says, as far as it is a list of numbers.
    pub to_upload: Option<Vec<i64>>,
}

/// The answer to a chunk (6.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkAck {
    /// The chunk that was written.
    pub chunk_num: Option<u64>,
    /// What `to_upload` says, as far as it is a list of numbers.
    pub to_upload: Option<Vec<i64>>,
}

/// A storage policy (8.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub uuid: String,
    pub name: String,
    /// Copies that are kept; `None`: not told.
    pub replicas: Option<u64>,
    /// Whether space is taken only as it is written; `None`: not told.
    pub thin: Option<bool>,
}

/// A virtual switch (8.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vds {
    pub uuid: String,
    pub name: String,
    pub ovsbr_name: String,
}

/// A network of a switch (8.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    pub uuid: String,
    pub name: String,
    pub vlan_id: Option<u64>,
    /// 3 is a VM network.
    pub kind: Option<u64>,
}

/// A host (8.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInfo {
    pub name: String,
    pub management_ip: String,
    pub data_ip: String,
    /// Bytes.
    pub memory_total: Option<u64>,
    /// Free bytes by the server's own count, with the name of the field that says so.
    pub memory_free: Option<(u64, &'static str)>,
    /// Logical CPUs.
    pub cores: Option<u64>,
    /// The CPU's name, such as `Intel(R) Xeon(R) Gold 5218`.
    pub cpu_brand: Option<String>,
}

/// A VM (7.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vm {
    pub uuid: String,
    pub name: String,
    pub description: String,
    /// `running`, `stopped`, `suspended`; empty when missing.
    pub status: String,
    /// Bytes.
    pub memory: Option<u64>,
    /// Storage address of the host that runs it.
    pub node_ip: String,
    pub nics: Vec<VmNic>,
    /// Volumes of its disks.
    pub volumes: Vec<String>,
    /// State of the guest agent, as it is spelled.
    pub ga_state: Option<String>,
    pub ga_version: Option<String>,
    pub os_version: Option<String>,
    /// What the guest told is stale.
    pub guest_expired: bool,
    /// Every address that the guest shows.
    pub guest_addresses: Vec<String>,
}

/// A NIC of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmNic {
    pub mac: Option<String>,
    pub ip: Option<String>,
}

/// The answer to a call that starts a job (7.2, 7.7, 7.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    pub job_id: Option<String>,
    pub vm_uuid: Option<String>,
}

/// A job of Fisheye (9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    pub state: JobState,
    /// The state as it is spelled.
    pub word: String,
    /// What it works on: type, uuid and name.
    pub resources: Vec<(String, String, String)>,
    /// Why it failed (9.3).
    pub failure: JobFailure,
}

/// A volume (7.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeInfo {
    pub uuid: String,
    pub name: String,
    /// How many VMs it is mounted to.
    pub mounted_by: usize,
}

/// Compares image names: without case, with or without `.iso` (C3).
pub fn same_image_name(a: &str, b: &str) -> bool {
    let plain = |name: &str| {
        let name = name.trim().to_lowercase();
        name.strip_suffix(".iso").map_or(name.clone(), str::to_owned)
    };
    plain(a) == plain(b)
}

impl Image {
    pub(super) fn read(value: &Value) -> Self {
        Self {
            uuid: text(value, "uuid"),
            name: text(value, "name"),
            path: text(value, "path"),
            size: number(value, "size"),
            md5: maybe_text(value, "md5").map(|md5| md5.to_ascii_lowercase()),
            time: number(value, "time").unwrap_or_default(),
            zbs_volume_id: maybe_text(value, "zbs_volume_id"),
            vms_count: number(value, "vms_count").unwrap_or_default(),
        }
    }
}

impl Volume {
    /// The wrappers of `fisheye.md` 5 are looked through: `data`, `result`, `payload`, `response`, a one-element array.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut value = value;
        for _ in 0..4 {
            if value.get("image_uuid").is_some() {
                break;
            }
            value = match value {
                Value::Array(items) if items.len() == 1 => &items[0],
                _ => ["data", "result", "payload", "response"].iter().find_map(|key| value.get(*key))?,
            };
        }
        let (image_uuid, zbs_volume_id) = (text(value, "image_uuid"), text(value, "zbs_volume_id"));
        (!image_uuid.is_empty() && !zbs_volume_id.is_empty()).then(|| Self {
            image_uuid,
            zbs_volume_id,
            image_path: text(value, "image_path"),
            chunk_size: number(value, "chunk_size"),
            to_upload: indices(value),
        })
    }
}

impl ChunkAck {
    pub(super) fn read(value: &Value) -> Self {
        Self { chunk_num: number(value, "chunk_num"), to_upload: indices(value) }
    }
}

impl Policy {
    pub(super) fn read(value: &Value) -> Self {
        let replicas = value.get("replica_num").and_then(Value::as_u64);
        let thin = value.get("thin_provision").and_then(Value::as_bool);
        Self { uuid: text(value, "uuid"), name: text(value, "name"), replicas, thin }
    }
}

impl Vds {
    pub(super) fn read(value: &Value) -> Self {
        Self { uuid: text(value, "uuid"), name: text(value, "name"), ovsbr_name: text(value, "ovsbr_name") }
    }
}

impl Vlan {
    pub(super) fn read(value: &Value) -> Self {
        let (vlan_id, kind) = (number(value, "vlan_id"), number(value, "type"));
        Self { uuid: text(value, "uuid"), name: text(value, "name"), vlan_id, kind }
    }
}

impl HostInfo {
    pub(super) fn read(value: &Value) -> Self {
        let memory = value.get("memory").unwrap_or(&Value::Null);
        let total = number(memory, "total").or_else(|| memory.as_u64());
        let free = ["available", "free"].iter().find_map(|key| number(memory, key).map(|bytes| (bytes, *key)));
        let used = number(memory, "used").zip(total).map(|(used, total)| (total.saturating_sub(used), "used"));
        Self {
            name: text(value, "name"),
            management_ip: text(value, "management_ip"),
            data_ip: text(value, "data_ip"),
            memory_total: total,
            memory_free: free.or(used),
            cores: value.get("cpu").and_then(|cpu| number(cpu, "num_cores")),
            cpu_brand: value.get("cpu").map(|cpu| text(cpu, "brand")).filter(|brand| !brand.is_empty()),
        }
    }
}

impl Vm {
    pub(super) fn read(value: &Value) -> Self {
        let value = value.get("vm").filter(|vm| vm.is_object()).unwrap_or(value);
        let guest = value.get("guest_info").filter(|guest| guest.is_object()).unwrap_or(&Value::Null);
        let nics = |from: &Value| from.get("nics").and_then(Value::as_array).cloned().unwrap_or_default();
        let guest_addresses = nics(guest)
            .iter()
            .filter_map(|nic| nic.get("ip_addresses").and_then(Value::as_array))
            .flatten()
            .filter_map(|address| address.as_str().map(cut).or_else(|| maybe_text(address, "ip_address")))
            .take(PARTS_MAX)
            .collect();
        let disks = value.get("disks").and_then(Value::as_array).cloned().unwrap_or_default();
        Self {
            uuid: text(value, "uuid"),
            name: maybe_text(value, "vm_name").unwrap_or_else(|| text(value, "name")),
            description: description(value),
            status: text(value, "status").to_ascii_lowercase(),
            memory: number(value, "memory"),
            node_ip: text(value, "node_ip"),
            nics: nics(value).iter().take(PARTS_MAX).map(VmNic::read).collect(),
            volumes: disks.iter().filter_map(|disk| maybe_text(disk, "volume_uuid")).take(PARTS_MAX).collect(),
            ga_state: maybe_text(guest, "ga_state"),
            ga_version: maybe_text(guest, "ga_version").or_else(|| number(guest, "ga_version").map(|n| n.to_string())),
            os_version: maybe_text(guest, "os_version"),
            guest_expired: guest.get("expired").and_then(Value::as_bool).unwrap_or(false),
            guest_addresses,
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }

    /// Whether its guest agent is there, by the only value that says so (R46, C15).
    pub fn agent_runs(&self) -> bool {
        !self.guest_expired && self.ga_state.as_deref().is_some_and(|state| state.eq_ignore_ascii_case("running"))
    }
}

impl VmNic {
    fn read(value: &Value) -> Self {
        let mac = maybe_text(value, "mac_address").or_else(|| maybe_text(value, "mac"));
        Self { mac, ip: maybe_text(value, "ip_address") }
    }
}

impl Created {
    pub(super) fn read(value: &Value) -> Self {
        let vm = value.get("vm").unwrap_or(&Value::Null);
        let job_id = maybe_text(value, "job_id");
        Self { job_id, vm_uuid: maybe_text(vm, "uuid").or_else(|| maybe_text(value, "vm_uuid")) }
    }
}

impl Job {
    pub(super) fn read(value: &Value) -> Self {
        let value = value.get("job").filter(|job| job.is_object()).unwrap_or(value);
        let word = text(value, "state");
        let resources = value.get("resources").and_then(Value::as_object);
        let resources = resources.into_iter().flatten().take(PARTS_MAX).map(|(key, resource)| {
            let uuid = maybe_text(resource, "uuid").unwrap_or_else(|| cut(key));
            let name = maybe_text(resource, "vm_name").unwrap_or_else(|| text(resource, "name"));
            (text(resource, "type"), uuid, name)
        });
        let state = JobState::of(&word);
        let (resources, failure) = (resources.collect(), JobFailure::read(value));
        Self { id: text(value, "job_id"), state, word, resources, failure }
    }
}

impl VolumeInfo {
    pub(super) fn read(value: &Value) -> Self {
        let mounted = value.get("mounting_vm_list").and_then(Value::as_array).map_or(0, Vec::len);
        let uuid = maybe_text(value, "uuid").unwrap_or_else(|| text(value, "volume_uuid"));
        Self { uuid, name: text(value, "name"), mounted_by: mounted }
    }
}

/// The entries of a list in any of its shapes; `null` is an empty one, anything else is `None`.
pub(super) fn list(data: &Value, own_key: &str) -> Option<Vec<Value>> {
    match data {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => Some(items.clone()),
        Value::Object(map) => {
            let under = |key: &str| match map.get(key)? {
                Value::Array(items) => Some(items.clone()),
                Value::Null => Some(Vec::new()),
                _ => None,
            };
            under(own_key).or_else(|| LIST_KEYS.iter().find_map(|key| under(key)))
        }
        _ => None,
    }
}

/// How many entries there are over all pages, when that is told.
pub(super) fn total(data: &Value) -> Option<u64> {
    number(data, "total_entities")
}

/// A text; empty when it is missing or something else.
pub(super) fn text(value: &Value, key: &str) -> String {
    maybe_text(value, key).unwrap_or_default()
}

/// A text that is not empty, cut at [`TEXT_MAX`].
pub(super) fn maybe_text(value: &Value, key: &str) -> Option<String> {
    trimmed(value, key).map(cut)
}

/// A text that is not empty, as long as it is: for what never gets into the log.
pub(super) fn whole_text(value: &Value, key: &str) -> Option<String> {
    trimmed(value, key).map(str::to_owned)
}

fn trimmed<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

fn description(value: &Value) -> String {
    let text = trimmed(value, "description").unwrap_or_default();
    text.chars().skip(text.chars().count().saturating_sub(DESCRIPTION_MAX)).collect()
}

/// A number, or a text that is one.
pub(super) fn number(value: &Value, key: &str) -> Option<u64> {
    let value = value.get(key)?;
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// `to_upload`, when it is a list; entries that are no numbers count as -1, so that they are seen as out of range.
fn indices(value: &Value) -> Option<Vec<i64>> {
    let items = value.get("to_upload")?.as_array()?;
    let index = |item: &Value| item.as_i64().or_else(|| item.as_str()?.trim().parse().ok()).unwrap_or(-1);
    Some(items.iter().map(index).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_match_without_case_and_suffix() {
        assert!(same_image_name("CloudTower-v4.ISO", "cloudtower-v4"));
        assert!(!same_image_name("cloudtower-v4.iso", "cloudtower-v4.1.iso"));
    }

    #[test]
    fn lists_come_in_every_shape() {
        let entry = json!([{"uuid": "a"}]);
        for data in [
            entry.clone(),
            json!({"images": entry}),
            json!({"entities": entry}),
            json!({"items": entry}),
            json!({"list": entry}),
            json!({"records": entry}),
            json!({"results": entry}),
        ] {
            assert_eq!(list(&data, "images").unwrap().len(), 1, "{data}");
        }
        assert_eq!(list(&Value::Null, "images"), Some(vec![]));
        for odd in [json!("x"), json!(3), json!({}), json!({"images": "x"})] {
            assert_eq!(list(&odd, "images"), None, "{odd}");
        }
    }

    #[test]
    fn volumes_come_in_every_wrapper() {
        let inner =
            json!({"image_uuid": "i", "zbs_volume_id": "z", "chunk_size": "8388608", "to_upload": [0, "1", "x", -3]});
        for wrapped in [
            inner.clone(),
            json!({"data": inner}),
            json!({"result": {"data": inner}}),
            json!({"payload": inner}),
            json!({"response": inner}),
            json!([inner]),
        ] {
            let volume = Volume::read(&wrapped).unwrap();
            assert_eq!(volume.chunk_size, Some(8 << 20));
            assert_eq!(volume.to_upload, Some(vec![0, 1, -1, -3]));
        }
        for odd in [json!({"image_uuid": "i"}), json!({"image_uuid": "", "zbs_volume_id": "z"}), json!([]), json!(1)] {
            assert_eq!(Volume::read(&odd), None, "{odd}");
        }
    }

    #[test]
    fn a_vm_is_read_whatever_its_guest_info_is() {
        for guest in [json!(null), json!("x"), json!(7), json!([]), json!({}), json!({"ga_state": 5, "nics": {"a": 1}})]
        {
            let vm = Vm::read(&json!({"uuid": "u", "vm_name": "n", "guest_info": guest}));
            assert!(!vm.agent_runs(), "{guest}");
        }
        let guest = json!({"ga_state": "RUNNING", "nics": [{"ip_addresses": [{"ip_address": "192.0.2.20"}]}]});
        let vm =
            Vm::read(&json!({"vm": {"uuid": "u", "vm_name": "n", "nics": [{"mac": "52:54"}], "guest_info": guest}}));
        assert!(vm.agent_runs());
        assert_eq!(vm.guest_addresses, ["192.0.2.20"]);
        assert_eq!(vm.nics[0].mac.as_deref(), Some("52:54"));
        let stale = Vm::read(&json!({"guest_info": {"ga_state": "Running", "expired": true}}));
        assert!(!stale.agent_runs());
    }

    #[test]
    fn what_is_taken_is_bounded_and_the_mark_at_the_end_stays() {
        let long = "é".repeat(100_000);
        let disks: Vec<Value> = (0..1_000).map(|n| json!({"volume_uuid": n.to_string()})).collect();
        let vm = Vm::read(&json!({
            "uuid": long, "vm_name": long, "description": format!("{long}; our mark"), "disks": disks,
            "guest_info": {"nics": [{"ip_addresses": vec![long.clone(); 100]}]},
        }));
        assert_eq!((vm.uuid.chars().count(), vm.name.chars().count(), vm.volumes.len()), (4_096, 4_096, 64));
        assert!(vm.description.ends_with("; our mark") && vm.description.chars().count() == 16 << 10);
        assert_eq!((vm.guest_addresses.len(), vm.guest_addresses[0].chars().count()), (64, 4_096));
        let ours = format!("{}; our mark", "d".repeat(8_000));
        assert_eq!(Vm::read(&json!({"description": ours})).description, ours);
    }

    #[test]
    fn vlan_ids_come_as_numbers_or_text() {
        assert_eq!(Vlan::read(&json!({"vlan_id": "12"})).vlan_id, Some(12));
        assert_eq!(Vlan::read(&json!({"vlan_id": 12, "type": 3})).kind, Some(3));
    }

    #[test]
    fn free_memory_prefers_what_the_server_counts() {
        let host = |memory: Value| HostInfo::read(&json!({"memory": memory})).memory_free;
        assert_eq!(host(json!({"total": 10})), None);
        assert_eq!(host(json!({"total": 10, "used": 4})), Some((6, "used")));
        assert_eq!(host(json!({"total": 10, "used": 4, "available": 5})), Some((5, "available")));
    }
}
