//! Every switchable behaviour of the cluster. Where the real one is unknown, the default is the hardest on the client
//! without being absurd. Modes of the guest and of CloudTower are declared in their own modules.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{cloudtower, guest};

/// Declares a mode enum with snake_case wire names.
macro_rules! mode {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vmeta])* $variant),+ }
    };
}

mode! {
    /// What `to_upload` says after a chunk (C4); the first five are honest readings, the rest lie.
    ToUpload {
        /// Sorted missing indices.
        #[default]
        Remaining,
        /// The index just sent, even after the last one.
        Echo,
        /// `[n]` while incomplete, `[]` at the end.
        SingleThenEmpty,
        /// Indices received so far, `[]` when complete.
        Growing,
        /// No such key.
        Absent,
        /// Always every index (U11).
        NeverShrinks,
        /// One stored index is reported missing until it is sent again (U12).
        RepeatOnce,
        /// `[]` from the first chunk on (U13).
        EmptyAfterFirst,
        /// Indices beyond the last one (U14).
        OutOfRange,
        /// Negative indices (U14).
        Negative,
        /// Numbers as strings (U14).
        Strings,
        /// A million indices (U14).
        Huge,
        /// `null` (U14).
        Null,
    }
}
mode! {
    /// `to_upload` of the volume answer (U15).
    InitialToUpload { #[default] All, Subset, Unsorted, Absent, Null }
}
mode! {
    /// An image that is still being uploaded, in the list.
    Unfinished { #[default] ListedWithoutMd5, Hidden, ListedWithPartialMd5 }
}
mode! {
    /// The body of a 401.
    UnauthorizedBody { #[default] Cycle, Empty, Html, Envelope, V3 }
}
mode! {
    /// The HTTP status beside an `ec` that is not `EOK`.
    EcStatus { #[default] BySeed, Ok200, Client4xx, Server5xx }
}
mode! {
    /// When the VM object appears after an accepted creation.
    VmVisible { #[default] Late, AtOnce, AtDone }
}
mode! {
    /// A second VM of the same name.
    Duplicate { #[default] BySeed, RefuseAtCall, RefuseInJob, Allow }
}
mode! {
    /// What the creation answers.
    CreateAnswer { #[default] JobOnly, JobAndVm }
}
mode! {
    /// What `resources` of a job holds (C46).
    JobResources { #[default] VolumeFirst, VmOnly, Empty, TwoVms }
}
mode! {
    /// The shape of the VLAN list.
    VlansShape { #[default] Entities, Array }
}
mode! {
    /// `vlan_id` on the wire.
    VlanId { #[default] Number, String }
}
mode! {
    /// Volumes of a VM deleted without `include_volumes`.
    DeleteVolumes {
        /// They stay as orphans.
        #[default]
        Orphan,
        /// They go as well.
        Removed,
        /// They stay even with `include_volumes` (V21).
        AlwaysOrphan,
    }
}
mode! {
    /// The order in which chunks must come.
    ChunkOrder { #[default] Any, Ascending }
}
mode! {
    /// How many chunks of a volume may be on their way at once.
    AtOnce { #[default] Any, One }
}
mode! {
    /// The shape of the image list.
    ImageList { #[default] Images, Entities, Array, Items, List, Records, Results, Null }
}
mode! {
    /// A chunk of an image that is finished and listed.
    Resend { #[default] Accept, Error }
}
mode! {
    /// The page number of the first page of a list.
    FirstPage { #[default] One, Zero }
}
mode! {
    /// `total_entities` of a list (V22).
    ListTotal { #[default] Right, TooHigh, Zero, Absent }
}
mode! {
    /// An unknown job id.
    UnknownJob { #[default] NotFound404, EcError }
}
mode! {
    /// Whether the installed system brings the guest agent.
    GuestTools {
        /// Decided by the ISO: the uploaded content in `spool` storage, present otherwise.
        #[default]
        FromIso,
        /// Always.
        Present,
        /// Never: the stock ISO (V11).
        Absent,
    }
}
mode! {
    /// `guest_info` before and after the agent runs (V14).
    GuestInfo { #[default] Normal, AlwaysNull, Missing, WrongType }
}
mode! {
    /// The network card of a new VM (V20).
    Nics { #[default] Normal, None, NoMac }
}
mode! {
    /// What the image list says of `md5` when an image is finished.
    Md5 { #[default] Present, AlwaysNull, Absent }
}
mode! {
    /// How the ending words of jobs are spelled (V8).
    JobWords { #[default] DoneFailed, SuccessError, SucceedAborted, FinishedFailed, Shouting, Weird }
}
mode! {
    /// Deletion of a VM that runs.
    RunningVmDelete { #[default] JobFails, Allowed }
}

/// All modes, with the defaults of a default scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {
    /// Refuse unknown query parameters, wrong `device` and a `Host` other than the address connected to.
    pub strict: bool,
    /// A token header on the login request is answered with 401 (C34).
    pub reject_token_on_login: bool,
    /// Every use of a token renews it.
    pub sliding_tokens: bool,
    /// Five failed logins in five minutes lock the account for five minutes (403).
    pub lock_out: bool,
    /// The body of a 401.
    pub unauthorized_body: UnauthorizedBody,
    /// The status beside an error `ec`.
    pub ec_status: EcStatus,
    /// The login answer carries its fields inside `data`.
    pub token_in_data: bool,
    /// What `to_upload` says.
    pub to_upload: ToUpload,
    /// What the first `to_upload` says.
    pub initial_to_upload: InitialToUpload,
    /// Unfinished images in the list.
    pub unfinished: Unfinished,
    /// Shape of the image list.
    pub image_list: ImageList,
    /// MD5 in the list.
    pub md5: Md5,
    /// Same-name volumes are refused.
    pub unique_image_names: bool,
    /// Chunk order.
    pub chunk_order: ChunkOrder,
    /// Chunks at once.
    pub chunks_at_once: AtOnce,
    /// Re-sent chunks of finished images.
    pub resend: Resend,
    /// Seconds an unfinished volume lives after its last chunk; 0 = for ever.
    pub volume_ttl_s: u64,
    /// The volume answer lacks `image_path`.
    pub no_image_path: bool,
    /// Deleting a mounted image succeeds.
    pub delete_mounted_image: bool,
    /// `error` of a success is `null` instead of `{}` on every call (it always is on volume creation).
    pub null_error: bool,
    /// The VM object's appearance.
    pub vm_visible: VmVisible,
    /// Same-name VMs.
    pub duplicate: Duplicate,
    /// The creation's answer.
    pub create_answer: CreateAnswer,
    /// `resources` of jobs.
    pub job_resources: JobResources,
    /// Spelling of job states.
    pub job_words: JobWords,
    /// Seconds a finished job is kept; 0 = for ever.
    pub job_ttl_s: u64,
    /// Unknown job ids.
    pub unknown_job: UnknownJob,
    /// VLAN list shape.
    pub vlans_shape: VlansShape,
    /// `vlan_id` type.
    pub vlan_id: VlanId,
    /// Volumes of deleted VMs.
    pub delete_volumes: DeleteVolumes,
    /// Deleting a running VM.
    pub running_vm_delete: RunningVmDelete,
    /// First page of lists.
    pub first_page: FirstPage,
    /// `total_entities` of lists.
    pub list_total: ListTotal,
    /// The name of every host's CPU.
    pub cpu_brand: String,
    /// The host list gives usage numbers.
    pub host_usage: bool,
    /// The host list does not exist (404).
    pub no_host_list: bool,
    /// The guest agent of the installed system.
    pub guest_tools: GuestTools,
    /// Shape of `guest_info`.
    pub guest_info: GuestInfo,
    /// The word for a running agent (V13).
    pub agent_word: String,
    /// The agent stops for 30 s once, 30 s after it first ran (V12).
    pub agent_flaps: bool,
    /// `guest_info` says `NotInstalled` at first boot instead of staying `null`.
    pub not_installed_word: bool,
    /// The VM powers off in the middle of the OS installation this many times (V15).
    pub power_off_during_install: u32,
    /// The guest shows its address after the network job.
    pub guest_shows_address: bool,
    /// The address pushed belongs to another host already (V19).
    pub address_conflict: bool,
    /// NICs of new VMs.
    pub nics: Nics,
    /// Graceful stops never end (`JOB_VM_SHUTDOWN_TIMEOUT`).
    pub graceful_stop_fails: bool,
    /// Modes of the VM's SSH and installer.
    pub guest: guest::Modes,
    /// Modes of the CloudTower service.
    pub tower: cloudtower::Modes,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            strict: false,
            reject_token_on_login: false,
            sliding_tokens: false,
            lock_out: true,
            unauthorized_body: UnauthorizedBody::default(),
            ec_status: EcStatus::default(),
            token_in_data: false,
            to_upload: ToUpload::default(),
            initial_to_upload: InitialToUpload::default(),
            unfinished: Unfinished::default(),
            image_list: ImageList::default(),
            md5: Md5::default(),
            unique_image_names: false,
            chunk_order: ChunkOrder::default(),
            chunks_at_once: AtOnce::default(),
            resend: Resend::default(),
            volume_ttl_s: 0,
            no_image_path: false,
            delete_mounted_image: false,
            null_error: false,
            vm_visible: VmVisible::default(),
            duplicate: Duplicate::default(),
            create_answer: CreateAnswer::default(),
            job_resources: JobResources::default(),
            job_words: JobWords::default(),
            job_ttl_s: 0,
            unknown_job: UnknownJob::default(),
            vlans_shape: VlansShape::default(),
            vlan_id: VlanId::default(),
            delete_volumes: DeleteVolumes::default(),
            running_vm_delete: RunningVmDelete::default(),
            first_page: FirstPage::default(),
            list_total: ListTotal::default(),
            cpu_brand: "Intel(R) Xeon(R) Gold 5218 CPU @ 2.30GHz".into(),
            host_usage: false,
            no_host_list: false,
            guest_tools: GuestTools::default(),
            guest_info: GuestInfo::default(),
            agent_word: "Running".into(),
            agent_flaps: false,
            not_installed_word: true,
            power_off_during_install: 0,
            guest_shows_address: true,
            address_conflict: false,
            nics: Nics::default(),
            graceful_stop_fails: false,
            guest: guest::Modes::default(),
            tower: cloudtower::Modes::default(),
        }
    }
}

impl Modes {
    /// These modes with the given keys changed (a JSON object, nested objects merged).
    ///
    /// # Errors
    /// A key is unknown or a value is not one of its mode's.
    pub fn patched(&self, patch: &Value) -> anyhow::Result<Self> {
        let mut whole = serde_json::to_value(self)?;
        merge(&mut whole, patch);
        serde_json::from_value(whole).context("changing the modes")
    }
}

/// Lays `patch` over `target`, object by object.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let modes = Modes::default().patched(&json!({"to_upload": "echo", "lock_out": false})).unwrap();
        assert_eq!(modes.to_upload, ToUpload::Echo);
        assert!(!modes.lock_out);
        assert!(modes.guest_shows_address);
    }

    #[test]
    fn unknown_modes_and_values_are_refused() {
        assert!(Modes::default().patched(&json!({"no_such_mode": 1})).is_err());
        assert!(Modes::default().patched(&json!({"to_upload": "sideways"})).is_err());
    }
}
