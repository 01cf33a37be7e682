//! How the VM is made and what happens on failure: overrides and settings only, no cell.

use std::net::Ipv4Addr;

use gantry_proto::plan::{Deployment, IsoChoice, RollbackPolicy, Source, Stage, UploadParams, VmShape};

use crate::{
    defaults::{Defaults, VmProfile},
    fields::{
        CHUNK_SIZE, FURTHER_CLUSTERS, Field, GUEST_TOOLS, ISO_FILE, ISO_MD5, ISO_SHA256, NTP_WARNING, Need, ROLLBACK,
        STAGES, STORAGE_POLICY, TARGET_HOST, UPLOAD_DESCRIPTION, UPLOAD_DEVICE, UPLOAD_TASK, VM_DESCRIPTION, VM_DISK,
        VM_MEMORY, VM_PROFILE, VM_VCPU,
    },
    input::{Input, State},
    tower_config,
    values::{self, Reject},
};

/// Clusters that one job attaches beside its own, at most.
const CLUSTERS_MAX: usize = 32;
const PROFILES: &[(&str, VmProfile)] = &[("high", VmProfile::High), ("low", VmProfile::Low)];
const POLICIES: &[(&str, RollbackPolicy)] = &[("auto", RollbackPolicy::Auto), ("keep", RollbackPolicy::Keep)];

/// Settles every value; `None` when one of them is wrong.
pub(crate) fn read(input: &mut Input<'_>, defaults: &Defaults) -> Option<Deployment> {
    let before = input.findings.has_errors();
    let vm = vm(input, defaults);
    let file_name = optional(input, &ISO_FILE, defaults.iso.file_name.clone(), values::file_name);
    let sha256 = optional(input, &ISO_SHA256, defaults.iso.sha256.clone(), |text| values::digest(text, 64));
    let md5 = optional(input, &ISO_MD5, defaults.iso.md5.clone(), |text| values::digest(text, 32));
    let host = defaults.target_host.map(|host| host.to_string());
    let target_host = optional(input, &TARGET_HOST, host, values::ipv4);
    let storage_policy = value(input, &STORAGE_POLICY, defaults.storage_policy.clone(), values::free_text);
    let device = value(input, &UPLOAD_DEVICE, defaults.upload.device.clone(), values::free_text);
    let task_id = value(input, &UPLOAD_TASK, defaults.upload.task_id.clone(), values::free_text);
    let description = value(input, &UPLOAD_DESCRIPTION, defaults.upload.description.clone(), values::free_text);
    let chunk = value(input, &CHUNK_SIZE, defaults.upload.chunk_size_fallback.to_string(), |text| {
        values::whole(text, 64 << 10..=1 << 30)
    });
    let vm_description = value(input, &VM_DESCRIPTION, defaults.vm_description.clone(), values::free_text);
    let mut boolean =
        |field, setting: bool| value(input, field, setting.to_string(), |text| values::word(text, values::BOOLEANS));
    let require_guest_tools_in_iso = boolean(&GUEST_TOOLS, defaults.require_guest_tools_in_iso);
    let ntp_failure_is_warning = boolean(&NTP_WARNING, defaults.ntp_failure_is_warning);
    let policy = match defaults.rollback_policy {
        RollbackPolicy::Auto => "auto",
        RollbackPolicy::Keep => "keep",
    };
    let rollback_policy = value(input, &ROLLBACK, policy.to_owned(), |text| values::word(text, POLICIES));
    let chosen: Vec<&str> = defaults.stages.iter().map(|stage| stage.word()).collect();
    let stages = value(input, &STAGES, chosen.join(", "), stages);
    let further: Vec<String> = defaults.further_clusters.iter().map(Ipv4Addr::to_string).collect();
    let further = (!further.is_empty()).then(|| further.join(", "));
    let further_clusters = optional(input, &FURTHER_CLUSTERS, further, addresses);
    let tower_config = tower_config::read(input, &defaults.tower_config);
    if !before && input.findings.has_errors() {
        return None;
    }
    Some(Deployment {
        vm: vm?,
        storage_policy: storage_policy?,
        target_host,
        iso: IsoChoice { file_name, sha256, md5 },
        upload: UploadParams {
            device: device?,
            task_id: task_id?,
            description: description?,
            chunk_size_fallback: chunk?,
            extra_volume_params: defaults.upload.extra_volume_params.clone(),
            extra_image_query_params: defaults.upload.extra_image_query_params.clone(),
        },
        vm_description: vm_description?,
        require_guest_tools_in_iso: require_guest_tools_in_iso?,
        ntp_failure_is_warning: ntp_failure_is_warning?,
        rollback_policy: rollback_policy?,
        stages: stages?,
        further_clusters: further_clusters.unwrap_or_default(),
        tower_config: tower_config?,
    })
}

/// The stages in their own order, whatever the order of the words. Nothing is deployed without its pre-checks.
fn stages(text: &str) -> Result<Vec<Stage>, Reject> {
    let words: Vec<(&str, Stage)> = Stage::ALL.iter().map(|(stage, word)| (*word, *stage)).collect();
    let mut chosen = Vec::new();
    for entry in values::entries(text) {
        chosen.push(values::word(entry, &words)?);
    }
    if chosen.contains(&Stage::DeployCloudtower) {
        chosen.push(Stage::Prepare);
    }
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() { Err(Reject::new("invalid_value", "names no stage")) } else { Ok(chosen) }
}

fn addresses(text: &str) -> Result<Vec<Ipv4Addr>, Reject> {
    let entries = values::entries(text);
    if entries.len() > CLUSTERS_MAX {
        return Err(Reject::new("too_many", format!("names more than {CLUSTERS_MAX} clusters")));
    }
    entries.into_iter().map(values::ipv4).collect()
}

/// The profile, and single values that replace the profile's.
fn vm(input: &mut Input<'_>, defaults: &Defaults) -> Option<VmShape> {
    let name = PROFILES.iter().find(|(_, profile)| *profile == defaults.vm.profile).map_or("high", |(name, _)| *name);
    let profile = value(input, &VM_PROFILE, name.to_owned(), |text| values::word(text, PROFILES));
    // An override of the profile beats the single values of the settings.
    let chosen = input.sources.get(VM_PROFILE.key) == Some(&Source::Override);
    let (vcpu, memory, disk) = profile.unwrap_or_default().shape();
    let mut size = |field: &Field, setting: Option<u64>, of_profile: u64, max: u64| {
        let setting = setting.filter(|_| !chosen).unwrap_or(of_profile);
        value(input, field, setting.to_string(), |text| values::whole(text, 1..=max))
    };
    let vcpu = size(&VM_VCPU, defaults.vm.vcpu.map(u64::from), vcpu.into(), 128);
    let memory = size(&VM_MEMORY, defaults.vm.memory_gib, memory, 4096);
    let disk = size(&VM_DISK, defaults.vm.disk_gib, disk, 65_536);
    profile?;
    Some(VmShape { vcpu: u32::try_from(vcpu?).ok()?, memory_bytes: memory? << 30, disk_bytes: disk? << 30 })
}

/// Settles a value that always has a default.
pub(crate) fn value<T>(
    input: &mut Input<'_>,
    field: &Field,
    setting: String,
    parse: impl FnOnce(&str) -> Result<T, Reject>,
) -> Option<T> {
    let builtin = if let Need::Default(builtin) = field.need { builtin } else { "" };
    let text = input.text(field);
    let text = input.or(text, Some(setting), builtin);
    let given = input.parsed(text, "SET", parse).given();
    input.settle(field, given)
}

fn optional<T>(
    input: &mut Input<'_>,
    field: &Field,
    setting: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, Reject>,
) -> Option<T> {
    let text = input.text(field);
    let text = input.or(text, setting, "");
    if let State::Blank(_) = text {
        return None;
    }
    let given = input.parsed(text, "SET", parse).given();
    input.settle(field, given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_come_in_their_own_order_with_the_checks_that_they_need() {
        use Stage::{AttachCluster, DeployCloudtower, Prepare};
        for (text, expected) in [
            ("attach_cluster, deploy_cloudtower", vec![Prepare, DeployCloudtower, AttachCluster]),
            ("ATTACH_CLUSTER", vec![AttachCluster]),
            ("prepare prepare", vec![Prepare]),
        ] {
            assert_eq!(stages(text).ok(), Some(expected), "{text}");
        }
        for wrong in ["attach", ",", "prepare, attach"] {
            assert!(stages(wrong).is_err(), "{wrong}");
        }
    }
}
