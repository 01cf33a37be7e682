//! The shared context of `flow.md` 7: what a job leaves for later stages, as JSON. On failure it has `error` and no
//! `status` (R63); what was known before stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Failure, Leftover, REDACTED};

/// The whole document: one key for each stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The stage `deploy_cloudtower`.
    pub deploy_cloudtower: DeployCloudtower,
    /// The stage `attach_cluster`; absent when it was not chosen, or not reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attach_cluster: Option<AttachCluster>,
    /// The stage `cloudtower_config`, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cloudtower_config: Option<CloudtowerConfig>,
    /// The stage `check_cluster_healthy`, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_cluster_healthy: Option<CheckClusterHealthy>,
    /// The stage `cleanup`, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cleanup: Option<Cleanup>,
}

/// What the stage `deploy_cloudtower` leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeployCloudtower {
    /// `SERVICE_READY`, and only then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<String>,
    /// Why it failed; never beside `status`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<ErrorRecord>,
    /// CloudTower's address.
    pub ip: String,
    /// CloudTower's URL (C20).
    pub base_url: String,
    /// The Fisheye endpoint that was used last.
    pub fisheye_base_url: Option<String>,
    /// The ISO image.
    pub iso: Option<IsoResult>,
    /// The same object under the design document's other name (C19).
    pub iso_upload: Option<IsoResult>,
    /// The VM.
    pub vm: Option<VmResult>,
    /// Its network.
    pub network: Option<NetworkResult>,
    /// What was set up inside.
    pub cloudtower: CloudTowerResult,
    /// Log files on the agent, relative to the job's directory.
    pub logs: LogsResult,
    /// Seconds by phase.
    pub timings: TimingsResult,
    /// What could not be removed.
    pub leftovers: Vec<Leftover>,
}

/// What the stage `attach_cluster` leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachCluster {
    /// `SUCCESS`, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed; never beside `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    pub cloudtower_ip: String,
    pub datacenter: Option<NamedId>,
    /// The cluster that carries CloudTower.
    pub cluster: Option<ClusterResult>,
    /// Every cluster of the job, that one first.
    pub clusters: Vec<ClusterResult>,
}

/// A cluster inside CloudTower.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterResult {
    /// The address under which it was attached.
    pub ip: String,
    /// CloudTower's identity of it; empty as long as there is none.
    pub id: String,
    /// The cluster's own uuid.
    pub local_id: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub host_num: Option<u64>,
    /// What its settings are changed by; `None`: CloudTower has not made them in time.
    pub settings_id: Option<String>,
    /// `CONNECTED`, as CloudTower told last.
    pub connect_state: Option<String>,
    /// It was in CloudTower before.
    pub found: bool,
    /// Why it is not attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What the stage `cloudtower_config` leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudtowerConfig {
    /// `SUCCESS`, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed; never beside `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    /// What was to be configured, in order, for each cluster.
    pub operations: Vec<Operation>,
}

/// One thing that was to be configured for a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// `storage_policy`, `capacity_alert` or `dashboards`.
    pub name: String,
    /// The address of the cluster.
    pub cluster: String,
    /// What became of it.
    pub result: OperationResult,
    /// What exactly, for people.
    pub detail: String,
}

/// What became of an [`Operation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// It was changed.
    Changed,
    /// It was so before.
    Unchanged,
    /// The plan does not want it.
    Skipped,
    /// It could not be done.
    #[default]
    Failed,
}

/// What the stage `check_cluster_healthy` leaves (R84).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckClusterHealthy {
    /// `SUCCESS`, and only then: the inspection came to its end. What it found is another matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed; never beside `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    /// CloudTower's job.
    pub job_id: Option<String>,
    /// The report as CloudTower calls it.
    pub filename: Option<String>,
    /// The report on the agent, relative to the job's directory.
    pub path: Option<String>,
    /// The own uuid of the cluster that carries CloudTower.
    pub cluster_uuid: Option<String>,
    /// Those of every inspected cluster.
    pub cluster_uuids: Vec<String>,
    /// What was looked at.
    pub items: u64,
    /// How many items had which result, in CloudTower's words; empty when it does not tell.
    pub findings: BTreeMap<String, u64>,
    /// Items whose result is not a good one.
    pub conspicuous: Vec<String>,
}

/// What the stage `cleanup` leaves (R74).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cleanup {
    /// `SUCCESS`, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed; never beside `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    /// The image that was removed; `None`: it stays, and a warning says why.
    pub removed_image: Option<NamedId>,
}

/// Why the stage failed (R63, R66).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The step that failed.
    pub step: String,
    /// Stable word.
    pub code: String,
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// Everything else that is known.
    pub detail: Failure,
}

/// The ISO image (R31, R40).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IsoResult {
    pub image_uuid: String,
    pub zbs_volume_id: Option<String>,
    pub image_path: String,
    pub file_name: String,
    /// Bytes.
    pub file_size: u64,
    /// Bytes; `None` when the image was reused.
    pub chunk_size: Option<u64>,
    /// Chunks that this job has sent and had acknowledged.
    pub uploaded_chunks: u64,
    /// Their numbers, such as `0-947`.
    pub chunk_numbers: String,
    /// Of the local file, hexadecimal.
    pub sha256: String,
    /// Of the local file, hexadecimal.
    pub md5: String,
    /// An image that was there before was used; nothing was sent.
    pub skipped: bool,
    /// How the upload went; absent when nothing was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upload: Option<UploadResult>,
}

/// How an upload went, in one life of the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadResult {
    /// Real seconds.
    pub seconds: f64,
    /// Bytes of chunks that connections took, in all sendings.
    pub sent_bytes: u64,
    /// Those of them that were in vain.
    pub resent_bytes: u64,
    /// Chunks in flight at a time, at most.
    pub max_in_flight: u64,
    /// Where the time went, over all chunks in flight: seconds by kind (`disk_s`, `hashing_s`, `waiting_s`, `network_s`,
    /// `server_s`), whose sum is `seconds` times `max_in_flight`.
    pub times: BTreeMap<String, f64>,
}

/// The VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VmResult {
    pub name: String,
    pub uuid: Option<String>,
    pub storage_policy_uuid: Option<String>,
    pub os_version: Option<String>,
    pub guest_agent_state: Option<String>,
    /// Fisheye's job that made it.
    pub job_id: Option<String>,
}

/// Its network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkResult {
    pub ip: String,
    pub gateway: String,
    pub subnet_mask: String,
    pub vds_uuid: Option<String>,
    pub vlan_uuid: Option<String>,
    pub mac_address: Option<String>,
}

/// What was set up inside CloudTower.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CloudTowerResult {
    pub organization: Option<NamedId>,
    pub session: SessionResult,
    pub inputs: InputsResult,
    pub ntp: Option<ServersResult>,
    pub dns: Option<ServersResult>,
    /// As CloudTower tells it; `None` when there is none.
    pub license: Option<Value>,
    pub setup_status: Option<SetupStatus>,
    pub plan_updates: Vec<PlanUpdate>,
}

/// An object of CloudTower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedId {
    pub id: String,
    pub name: String,
}

/// The login. The token is never here (C21).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionResult {
    pub username: String,
    pub token: String,
}

impl Default for SessionResult {
    fn default() -> Self {
        Self { username: "root".to_owned(), token: REDACTED.to_owned() }
    }
}

/// What later stages need of the plan (R60, R62).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputsResult {
    pub organization_name: String,
    pub datacenter_name: String,
    pub ntp_servers: Vec<String>,
    pub dns_servers: Vec<String>,
    pub cluster_vip: Option<String>,
    pub cluster_username: String,
}

/// Servers that were set, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServersResult {
    pub servers: Vec<String>,
    pub applied: bool,
}

/// What `checkTowerIsSetup` said at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupStatus {
    pub created: bool,
    pub organizations: u64,
}

/// A value for the workbook (R83).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanUpdate {
    pub sheet: String,
    pub cell: String,
    pub value: String,
    /// Whether a workbook holds it already; the agent never writes workbooks.
    pub written: bool,
}

/// Log files, relative to the job's directory at the agent (`flow.md` 8.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsResult {
    pub stage: Option<String>,
    pub upload: Option<String>,
    pub install: Option<String>,
}

/// Seconds by phase; `None` for a phase that was not reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimingsResult {
    pub upload_s: Option<f64>,
    pub vm_create_s: Option<f64>,
    pub guest_agent_s: Option<f64>,
    pub installer_s: Option<f64>,
    pub total_s: Option<f64>,
}
