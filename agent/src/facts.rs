//! What the job found or made. Undo works by this alone. Holds no secret.
//!
//! Each field is one fact: its JSON is journaled as an event whenever it changes, so that the log alone tells what a
//! job made, here and at the controller.

use std::collections::{BTreeMap, BTreeSet};

use gantry_proto::{
    Failure, JobId, Leftover,
    plan::Stage,
    result::{NamedId, Operation, ServersResult, SetupStatus, UploadResult},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cloudtower::{AlertRule, StoragePolicy},
    fisheye::Vm,
};

/// All facts of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The ISO file on the agent's disk (1.1 to 1.3).
    pub iso: Option<IsoFact>,
    /// The image on the cluster (2.0 to 2.2).
    pub image: Option<ImageFact>,
    /// A volume that has been asked for without an answer yet (2.1): it may exist, only the image list can tell.
    pub asked_volume: Option<AskedVolume>,
    /// Where the VM goes (3.1).
    pub place: Option<PlaceFact>,
    /// The VM (3.2 on).
    pub vm: Option<VmFact>,
    /// The Fisheye endpoint that answered last, as a URL.
    pub fisheye_url: Option<String>,
    /// Fisheye certificates seen, SHA-256 by address: recorded at first sight and enforced from then on.
    pub fisheye_pins: BTreeMap<String, String>,
    /// The VM (uuid) that the facts about its inside belong to: what follows, up to the licence. They are dropped when
    /// another VM takes its place (`cloudtower.md` 2.1).
    pub inside_of: Option<String>,
    /// SSH host key fingerprint of the VM (C37), recorded at first sight.
    pub host_key: Option<String>,
    /// SSH account that worked (C32).
    pub ssh_user: Option<String>,
    /// DNS servers (4.2).
    pub dns: Option<ServersResult>,
    /// The installer (4.3 to 4.5).
    pub installer: Option<InstallerFact>,
    /// CloudTower's certificate, SHA-256, recorded at first sight.
    pub tower_pin: Option<String>,
    /// The certificate that was found to be the one inside the VM, too, by a look over SSH.
    pub tower_confirmed: Option<String>,
    /// That certificate has been replaced once while the service was opening; a second time is refused (W3).
    pub tower_repinned: bool,
    /// Set-up state at the end (5.1).
    pub setup: Option<SetupStatus>,
    /// Whether this job created the root user, and by which method (P1, P2, P3).
    pub root_user: Option<String>,
    /// The organisation (5.2).
    pub organization: Option<NamedId>,
    /// NTP servers (5.4).
    pub ntp: Option<ServersResult>,
    /// The licence as CloudTower tells it (5.5).
    pub license: Option<Value>,
    /// Stages that are finished: what they made is not removed any more.
    pub finished_stages: Vec<Stage>,
    /// The datacenter inside CloudTower (7.3).
    pub datacenter: Option<DatacenterFact>,
    /// The clusters inside CloudTower, by the address under which they are attached (7.4 to 7.6).
    pub clusters: BTreeMap<String, ClusterFact>,
    /// What was configured in CloudTower, by the clusters' addresses (stage 8).
    pub config: BTreeMap<String, ConfigFact>,
    /// The inspection of the clusters (stage 9).
    pub inspection: Option<InspectionFact>,
    /// The ISO image that was removed after success (R74).
    pub removed_image: Option<NamedId>,
    /// How the newest upload went.
    pub upload: Option<UploadResult>,
    /// Seconds by phase: `upload_s`, `vm_create_s`, `guest_agent_s`, `installer_s`.
    pub timings: BTreeMap<String, f64>,
    /// What could not be removed, and what may be left.
    pub leftovers: Vec<Leftover>,
}

/// The ISO file on the agent's disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IsoFact {
    /// Full path.
    pub path: String,
    /// File name.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// Device, inode, mtime and ctime (nanoseconds): tells whether it is still the same file.
    pub device: u64,
    pub inode: u64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    /// SHA-256 and MD5 of the whole file, hexadecimal.
    pub sha256: String,
    pub md5: String,
    /// Whether the guest tools are inside; `None` when that could not be found out.
    pub guest_tools: Option<bool>,
}

/// The image on the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageFact {
    pub state: ImageState,
    pub image_uuid: String,
    pub zbs_volume_id: Option<String>,
    /// The CD-ROM path for the VM.
    pub image_path: String,
    /// Name under which it is listed.
    pub name: String,
    pub chunk_size: u64,
    pub chunks: u64,
    /// Chunks acknowledged by the server, counted.
    pub uploaded_chunks: u64,
    /// The volume's first `to_upload`; only within the run that made it.
    #[serde(skip)]
    pub named_at_first: Option<Vec<i64>>,
}

/// An upload volume that has been asked for. Written before the call, taken away when its answer is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedVolume {
    pub name: String,
    pub size: u64,
    /// Images of this name and size that were listed before the call: not ours.
    pub listed_before: Vec<String>,
    /// How many times it has been asked for in this attempt of the step.
    pub times: u32,
}

/// How far the image is, and whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// Found, not made: undo leaves it alone.
    Reused,
    /// We made the volume; it is not complete: undo deletes it.
    #[default]
    Uploading,
    /// We made it, it is complete and proved: undo keeps it for reuse.
    Uploaded,
}

/// Where the VM goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaceFact {
    pub storage_policy_uuid: String,
    pub vds_uuid: String,
    /// `ovsbr_name` of the VDS.
    pub ovs: String,
    pub vlan_uuid: String,
}

/// The VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmFact {
    pub name: String,
    /// Our mark in its description; only a VM that bears it is ever deleted.
    pub mark: String,
    pub uuid: Option<String>,
    /// Fisheye's job that makes it.
    pub job_id: Option<String>,
    /// First NIC.
    pub mac: Option<String>,
    /// Volumes that were seen on it, to find orphans after deletion.
    pub volumes: Vec<String>,
    pub os_version: Option<String>,
    pub guest_agent_state: Option<String>,
    /// The address has been pushed and verified.
    pub network_done: bool,
}

/// The installer inside the VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstallerFact {
    pub preinstall_done: bool,
    pub started: bool,
    pub pid: Option<u32>,
    /// Which log file is followed, and up to which byte.
    pub log_file: Option<String>,
    pub offset: u64,
    pub finished: bool,
    /// Starts made; one automatic re-run at most, after a recognised pre-check failure.
    pub starts: u32,
    /// An operator has had the job taken up again: an installer that has ended without success is run once more.
    pub again: bool,
    /// It has failed half-way: this VM is not used again, unless an operator says so (`cloudtower.md` 2.4).
    pub failed: bool,
    /// File name of the local log under `logs/`.
    pub local_log: Option<String>,
    /// Bytes of it that belong to `offset`: what a crash has left behind them is read again.
    pub local_bytes: u64,
}

/// A datacenter inside CloudTower.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatacenterFact {
    /// Empty: it has been asked for without an answer yet; by its name it can be found.
    pub id: String,
    pub name: String,
    /// Its organisation's id.
    pub organization: String,
    /// We asked for it: undo deletes it.
    pub made: bool,
}

/// A cluster inside CloudTower.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterFact {
    /// Empty: it has been asked for without an answer yet; by its address it can be found.
    pub id: String,
    /// We attached it: undo removes it from CloudTower.
    pub made: bool,
    /// CloudTower's task that attaches it.
    pub task: Option<String>,
    pub local_id: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub host_num: Option<u64>,
    pub settings_id: Option<String>,
    /// As CloudTower told last.
    pub connect_state: Option<String>,
    /// Why it could not be attached.
    pub failure: Option<Failure>,
}

/// What was configured in CloudTower for a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigFact {
    /// The default storage policy before it was changed: undo sets it again.
    pub policy_before: Option<StoragePolicy>,
    /// The alert rule before it was changed, likewise.
    pub alert_before: Option<AlertRule>,
    /// The views and graphs (`view/metric`) that we asked for, answered or not: undo removes them.
    pub dashboards: BTreeSet<String>,
    /// What became of each operation, in order.
    pub operations: Vec<Operation>,
}

/// An inspection of the clusters by CloudTower.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectionFact {
    /// CloudTower's job.
    pub id: String,
    /// The clusters' own uuids.
    pub clusters: Vec<String>,
    /// How many items are looked at.
    pub items: u64,
    pub ended: bool,
    /// Another one is begun when the step is run again.
    pub failed: bool,
    /// How many items had which result.
    pub findings: BTreeMap<String, u64>,
    /// Items whose result is not a good one.
    pub conspicuous: Vec<String>,
    /// The report as CloudTower calls it.
    pub filename: Option<String>,
    /// The report here, relative to the job's directory.
    pub path: Option<String>,
}

impl Facts {
    /// What this job made, or may have made, and has not removed, but for a complete image, as a list for people.
    pub fn ours(&self) -> Vec<Leftover> {
        let delivered = self.finished_stages.contains(&Stage::DeployCloudtower);
        let vm = self.vm.as_ref().filter(|_| !delivered).map(VmFact::leftover);
        let unfinished = |image: &&ImageFact| image.state == ImageState::Uploading && !image.image_uuid.is_empty();
        let image = self.image.as_ref().filter(unfinished).map(|image| Leftover {
            kind: "image".to_owned(),
            id: image.image_uuid.clone(),
            name: image.name.clone(),
            remedy: format!("delete the ISO image \"{}\" in the cluster's web page", image.name),
        });
        let asked = self.asked_volume.as_ref().map(AskedVolume::leftover);
        let attached = !self.finished_stages.contains(&Stage::AttachCluster);
        let clusters = self.clusters.iter().filter(|(_, cluster)| attached && cluster.made);
        let clusters = clusters.map(|(ip, cluster)| cluster.leftover(ip));
        let datacenter = self.datacenter.as_ref().filter(|datacenter| attached && datacenter.made);
        let datacenter = datacenter.map(DatacenterFact::leftover);
        vm.into_iter().chain(image).chain(asked).chain(clusters).chain(datacenter).collect()
    }

    /// Lists something that is left, once; what was said of it first stays.
    pub fn leave(&mut self, leftover: Leftover) {
        if !self.leftovers.iter().any(|known| known.kind == leftover.kind && known.id == leftover.id) {
            self.leftovers.push(leftover);
        }
    }

    /// Lists everything of ours.
    pub fn leave_ours(&mut self) {
        self.ours().into_iter().for_each(|leftover| self.leave(leftover));
    }

    /// A new epoch begins. What is the job's again is no leftover: the epoch goes on with it, or removes it.
    pub fn take_back(&mut self) {
        for own in self.ours() {
            self.no_longer_left(&own.kind, &own.id);
        }
        if let Some(installer) = self.installer.as_mut().filter(|installer| installer.starts > 0) {
            installer.again = !installer.finished;
        }
    }

    /// Forgets what is of use only at the agent that had the job before: the file on its disk, how much it has sent of an
    /// image that is not complete, and its copy of the installer's log, which is fetched again from the beginning. And what
    /// it has found out by looking: who sends a secret has looked.
    pub fn leave_home(&mut self) {
        (self.iso, self.tower_confirmed) = (None, None);
        if let Some(image) = self.image.as_mut().filter(|image| image.state == ImageState::Uploading) {
            image.uploaded_chunks = 0;
        }
        if let Some(installer) = &mut self.installer {
            (installer.local_log, installer.local_bytes, installer.offset) = (None, 0, 0);
        }
    }

    /// Takes something off the list: it has been removed after all.
    pub fn no_longer_left(&mut self, kind: &str, id: &str) {
        self.leftovers.retain(|leftover| !(leftover.kind == kind && leftover.id == id));
    }

    /// Whether a complete image of ours is on the cluster.
    pub fn has_kept_image(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.state == ImageState::Uploaded)
    }
}

impl DatacenterFact {
    /// The datacenter; without an id it may be there or not.
    pub fn leftover(&self) -> Leftover {
        let (id, name) = (self.id.clone(), self.name.clone());
        let remedy = format!("delete the datacenter \"{name}\" in CloudTower, if it is there and empty");
        Leftover { kind: "datacenter".to_owned(), id, name, remedy }
    }
}

impl ConfigFact {
    /// Whether there is nothing for an undo.
    pub fn is_untouched(&self) -> bool {
        self.policy_before.is_none() && self.alert_before.is_none() && self.dashboards.is_empty()
    }
}

impl ClusterFact {
    /// The cluster inside CloudTower; without an id it may be there or not.
    pub fn leftover(&self, ip: &str) -> Leftover {
        let remedy =
            format!("remove the cluster {ip} from CloudTower, if it is there; the cluster itself is untouched");
        Leftover { kind: "cluster".to_owned(), id: self.id.clone(), name: ip.to_owned(), remedy }
    }
}

impl AskedVolume {
    /// A volume that may be there, without an id: only a person can tell.
    pub fn leftover(&self) -> Leftover {
        let name = self.name.clone();
        let remedy = format!(
            "look in the cluster's web page whether an unfinished ISO image \"{name}\" is there, and delete it"
        );
        Leftover { kind: "image".to_owned(), id: String::new(), name, remedy }
    }
}

impl VmFact {
    /// What the description of every VM of this job contains, and no other one's.
    pub fn mark_of(job: JobId) -> String {
        format!("deployment={job}")
    }

    /// A VM that was found, and bears our mark.
    pub fn of(vm: Vm, mark: String) -> Self {
        Self { name: vm.name, mark, uuid: Some(vm.uuid), volumes: vm.volumes, ..Self::default() }
    }

    /// The VM; where its uuid is not known it may be there or not, and only a person can tell.
    pub fn leftover(&self) -> Leftover {
        let (name, mark) = (self.name.clone(), &self.mark);
        let remedy = match &self.uuid {
            Some(_) => format!("delete the virtual machine \"{name}\" with its volumes in the cluster's web page"),
            None => format!(
                "look in the cluster's web page whether a virtual machine \"{name}\" with \"{mark}\" in its description is there, and delete it with its volumes"
            ),
        };
        Leftover { kind: "vm".to_owned(), id: self.uuid.clone().unwrap_or_default(), name, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_an_agents_disk_stays_there() {
        let mut facts = Facts {
            iso: Some(IsoFact { path: "/there/a.iso".into(), ..IsoFact::default() }),
            tower_confirmed: Some("aa".into()),
            image: Some(ImageFact { image_uuid: "i".into(), uploaded_chunks: 7, ..ImageFact::default() }),
            installer: Some(InstallerFact {
                started: true,
                log_file: Some("installer.out".into()),
                offset: 5,
                local_log: Some("there.log".into()),
                local_bytes: 9,
                ..InstallerFact::default()
            }),
            ..Facts::default()
        };
        facts.leave_home();
        let installer =
            InstallerFact { started: true, log_file: Some("installer.out".into()), ..InstallerFact::default() };
        let image = ImageFact { image_uuid: "i".into(), ..ImageFact::default() };
        assert_eq!(facts, Facts { image: Some(image), installer: Some(installer), ..Facts::default() });
    }

    #[test]
    fn what_may_be_there_is_listed_once_and_without_an_id() {
        let mut facts = Facts {
            vm: Some(VmFact { name: "tower".into(), mark: "deployment=1".into(), ..VmFact::default() }),
            asked_volume: Some(AskedVolume { name: "a.iso".into(), ..AskedVolume::default() }),
            ..Facts::default()
        };
        facts.leave_ours();
        facts.leave_ours();
        let told: Vec<_> = facts.leftovers.iter().map(|left| (left.kind.as_str(), left.id.as_str())).collect();
        assert_eq!(told, [("vm", ""), ("image", "")]);
        assert!(facts.leftovers[0].remedy.contains("deployment=1") && facts.leftovers[1].remedy.contains("a.iso"));
        facts.no_longer_left("vm", "other");
        assert_eq!(facts.leftovers.len(), 2);
        facts.no_longer_left("vm", "");
        assert_eq!(facts.leftovers.len(), 1);
    }
}
