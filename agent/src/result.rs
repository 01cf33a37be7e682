//! Builds the shared context of `flow.md` 7 from plan and facts. Pure.

use std::collections::BTreeMap;

use gantry_proto::{
    Failure, JobResult, Plan, StepId,
    result::{
        CloudTowerResult, DeployCloudtower, ErrorRecord, InputsResult, IsoResult, LogsResult, NetworkResult,
        PlanUpdate, SessionResult, TimingsResult, VmResult,
    },
};
use serde_json::Value;

use crate::{
    facts::{Facts, ImageFact, ImageState},
    joblog::Chunk,
};

/// The only state of success (R61).
const SERVICE_READY: &str = "SERVICE_READY";
/// Where the workbook wants CloudTower's serial (C24).
const SERIAL_CELL: (&str, &str) = ("集群管理信息", "M3");

/// What neither plan nor facts know.
pub struct Told<'a> {
    /// Why it failed, and in which step; `None` on success.
    pub failed: Option<&'a (Option<StepId>, Failure)>,
    /// Seconds from the first event, in the time of the outside world.
    pub total_s: f64,
    /// The log files.
    pub logs: LogsResult,
    /// CloudTower's URL (C20), with its port where that is not 443.
    pub base_url: String,
}

/// The document. `chunks`: those of the image's volume that this job has sent.
pub fn build(plan: &Plan, facts: &Facts, chunks: &BTreeMap<u64, Chunk>, told: Told<'_>) -> JobResult {
    let iso = facts.image.as_ref().map(|image| iso(image, facts, chunks));
    let phase = |name: &str| facts.timings.get(name).copied();
    JobResult {
        deploy_cloudtower: DeployCloudtower {
            status: told.failed.is_none().then(|| SERVICE_READY.to_owned()),
            error: told.failed.map(error),
            ip: plan.cloudtower.ip.to_string(),
            base_url: told.base_url,
            fisheye_base_url: facts.fisheye_url.clone(),
            iso_upload: iso.clone(),
            iso,
            vm: vm(plan, facts),
            network: Some(network(plan, facts)),
            cloudtower: cloudtower(plan, facts),
            logs: told.logs,
            timings: TimingsResult {
                upload_s: phase("upload_s"),
                vm_create_s: phase("vm_create_s"),
                guest_agent_s: phase("guest_agent_s"),
                installer_s: phase("installer_s"),
                total_s: Some(told.total_s),
            },
            leftovers: facts.leftovers.clone(),
        },
    }
}

fn error((step, failure): &(Option<StepId>, Failure)) -> ErrorRecord {
    ErrorRecord {
        step: step.as_ref().map(|step| step.to_string()).unwrap_or_default(),
        code: failure.code.clone(),
        message: failure.message.clone(),
        detail: failure.clone(),
    }
}

fn iso(image: &ImageFact, facts: &Facts, chunks: &BTreeMap<u64, Chunk>) -> IsoResult {
    let file = facts.iso.clone().unwrap_or_default();
    let skipped = image.state == ImageState::Reused;
    let sent: Vec<u64> = chunks.keys().copied().filter(|_| !skipped).collect();
    IsoResult {
        image_uuid: image.image_uuid.clone(),
        zbs_volume_id: image.zbs_volume_id.clone(),
        image_path: image.image_path.clone(),
        file_name: file.file_name,
        file_size: file.size,
        chunk_size: (!skipped).then_some(image.chunk_size),
        uploaded_chunks: if skipped { 0 } else { image.uploaded_chunks.max(sent.len() as u64) },
        chunk_numbers: ranges(sent.into_iter()),
        sha256: file.sha256,
        md5: file.md5,
        skipped,
        upload: facts.upload.clone().filter(|_| !skipped),
    }
}

fn vm(plan: &Plan, facts: &Facts) -> Option<VmResult> {
    let policy = facts.place.as_ref().map(|place| place.storage_policy_uuid.clone());
    let vm = facts.vm.clone();
    if vm.is_none() && policy.is_none() {
        return None;
    }
    let vm = vm.unwrap_or_default();
    Some(VmResult {
        name: if vm.name.is_empty() { plan.cloudtower.vm_name.clone() } else { vm.name },
        uuid: vm.uuid,
        storage_policy_uuid: policy,
        os_version: vm.os_version,
        guest_agent_state: vm.guest_agent_state,
        job_id: vm.job_id,
    })
}

fn network(plan: &Plan, facts: &Facts) -> NetworkResult {
    let network = &plan.management_network;
    NetworkResult {
        ip: plan.cloudtower.ip.to_string(),
        gateway: network.gateway.to_string(),
        subnet_mask: network.netmask.to_string(),
        vds_uuid: facts.place.as_ref().map(|place| place.vds_uuid.clone()),
        vlan_uuid: facts.place.as_ref().map(|place| place.vlan_uuid.clone()),
        mac_address: facts.vm.as_ref().and_then(|vm| vm.mac.clone()),
    }
}

fn cloudtower(plan: &Plan, facts: &Facts) -> CloudTowerResult {
    CloudTowerResult {
        organization: facts.organization.clone(),
        session: SessionResult { username: plan.cloudtower.web_user.clone(), ..SessionResult::default() },
        inputs: InputsResult {
            organization_name: plan.organization.clone(),
            datacenter_name: plan.datacenter.clone(),
            ntp_servers: plan.ntp_servers.clone(),
            dns_servers: plan.dns_servers.iter().map(ToString::to_string).collect(),
            cluster_vip: plan.cluster.vip.map(|vip| vip.to_string()),
            cluster_username: plan.cluster.admin_user.clone(),
        },
        ntp: facts.ntp.clone(),
        dns: facts.dns.clone(),
        license: facts.license.clone(),
        setup_status: facts.setup.clone(),
        plan_updates: facts.license.as_ref().and_then(serial).into_iter().collect(),
    }
}

/// The serial for the workbook (R83); somebody else writes workbooks.
fn serial(license: &Value) -> Option<PlanUpdate> {
    let value = license.get("license_serial")?.as_str().filter(|serial| !serial.is_empty())?;
    let (sheet, cell) = SERIAL_CELL;
    Some(PlanUpdate { sheet: sheet.to_owned(), cell: cell.to_owned(), value: value.to_owned(), written: false })
}

/// Ascending numbers as ranges, such as `0-947` or `0-3,5`.
fn ranges(numbers: impl Iterator<Item = u64>) -> String {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match all.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => all.push((number, number)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    all.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_numbers_are_told_as_ranges() {
        assert_eq!(ranges([].into_iter()), "");
        assert_eq!(ranges([4].into_iter()), "4");
        assert_eq!(ranges([0, 1, 2, 5, 7, 8].into_iter()), "0-2,5,7-8");
    }

    #[test]
    fn the_serial_goes_to_its_cell_and_an_empty_one_nowhere() {
        let update = serial(&serde_json::json!({"license_serial": "7f2d"})).unwrap();
        assert_eq!((update.sheet.as_str(), update.cell.as_str(), update.written), ("集群管理信息", "M3", false));
        assert_eq!(serial(&serde_json::json!({"license_serial": ""})), None);
        assert_eq!(serial(&serde_json::json!({})), None);
    }
}
