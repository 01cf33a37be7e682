//! Builds the shared context of `flow.md` 7 from plan and facts. Pure.

use std::collections::BTreeMap;

use gantry_proto::{
    Failure, JobResult, Plan, StepId,
    plan::Stage,
    result::{
        AttachCluster, CheckClusterHealthy, Cleanup, CloudTowerResult, CloudtowerConfig, ClusterResult,
        DeployCloudtower, ErrorRecord, InputsResult, IsoResult, LogsResult, NamedId, NetworkResult, PlanUpdate,
        SessionResult, TimingsResult, VmResult,
    },
};
use serde_json::Value;

use crate::{
    facts::{Facts, ImageFact, ImageState},
    joblog::Chunk,
};

/// The only state of success (R61).
const SERVICE_READY: &str = "SERVICE_READY";
/// The same of the later stages.
const SUCCESS: &str = "SUCCESS";
/// Where the workbook wants CloudTower's serial (C24).
const SERIAL_CELL: (&str, &str) = ("集群管理信息", "M3");

/// What neither plan nor facts know.
pub struct Told<'a> {
    /// Why it failed, and in which step; `None` on success.
    pub failed: Option<&'a (Option<StepId>, Failure)>,
    /// The stage of that step, where it belongs to one.
    pub stage: Option<Stage>,
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
    let stages = Stages::of(plan, facts, &told);
    JobResult {
        attach_cluster: stages.reached(Stage::AttachCluster).map(|ended| attach(plan, facts, ended)),
        cloudtower_config: stages.reached(Stage::CloudtowerConfig).map(|ended| config(plan, facts, ended)),
        check_cluster_healthy: stages.reached(Stage::CheckClusterHealthy).map(|ended| inspection(facts, ended)),
        cleanup: stages.reached(Stage::Cleanup).map(|ended| {
            let (status, error) = ended.told(SUCCESS);
            Cleanup { status, error, removed_image: facts.removed_image.clone() }
        }),
        deploy_cloudtower: DeployCloudtower {
            status: stages.reached(Stage::DeployCloudtower).and_then(|ended| ended.told(SERVICE_READY).0),
            error: stages.deployment_failed().map(error),
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

/// How the stages of a job ended.
struct Stages<'a> {
    chosen: &'a [Stage],
    /// Stages before this one are finished, this one has failed; `None`: all are finished.
    failed: Option<(Stage, &'a (Option<StepId>, Failure))>,
}

/// How one stage that was reached has ended.
#[derive(Clone, Copy)]
enum EndOf<'a> {
    Success,
    Failure(&'a (Option<StepId>, Failure)),
}

impl<'a> Stages<'a> {
    fn of(plan: &'a Plan, facts: &Facts, told: &Told<'a>) -> Self {
        let chosen = plan.deployment.stages.as_slice();
        let failed = told.failed.map(|failed| {
            // Between two steps, or in one that belongs to no stage: the first stage that is not finished.
            let open = chosen.iter().find(|stage| !facts.finished_stages.contains(stage));
            (told.stage.or(open.copied()).unwrap_or(Stage::DeployCloudtower), failed)
        });
        Self { chosen, failed }
    }

    /// `None`: it was not chosen, or not reached.
    fn reached(&self, stage: Stage) -> Option<EndOf<'a>> {
        if !self.chosen.contains(&stage) {
            return None;
        }
        match self.failed {
            Some((failed, why)) if failed == stage => Some(EndOf::Failure(why)),
            Some((failed, _)) if failed < stage => None,
            _ => Some(EndOf::Success),
        }
    }

    /// What failed in the deployment or before it.
    fn deployment_failed(&self) -> Option<&'a (Option<StepId>, Failure)> {
        self.failed.filter(|(stage, _)| *stage <= Stage::DeployCloudtower).map(|(_, why)| why)
    }
}

impl EndOf<'_> {
    /// `status` and `error`: exactly one of them (R63).
    fn told(self, word: &str) -> (Option<String>, Option<ErrorRecord>) {
        match self {
            Self::Success => (Some(word.to_owned()), None),
            Self::Failure(why) => (None, Some(error(why))),
        }
    }
}

fn attach(plan: &Plan, facts: &Facts, ended: EndOf<'_>) -> AttachCluster {
    let addresses = clusters(plan);
    let cluster = |ip: &String| {
        let fact = facts.clusters.get(ip)?;
        Some(ClusterResult {
            ip: ip.clone(),
            id: fact.id.clone(),
            local_id: fact.local_id.clone(),
            name: fact.name.clone(),
            version: fact.version.clone(),
            host_num: fact.host_num,
            settings_id: fact.settings_id.clone(),
            connect_state: fact.connect_state.clone(),
            found: !fact.made,
            failure: fact.failure.clone(),
        })
    };
    let clusters: Vec<ClusterResult> = addresses.iter().filter_map(cluster).collect();
    let datacenter = facts.datacenter.as_ref().filter(|datacenter| !datacenter.id.is_empty());
    let (status, error) = ended.told(SUCCESS);
    AttachCluster {
        status,
        error,
        cloudtower_ip: plan.cloudtower.ip.to_string(),
        datacenter: datacenter.map(|found| NamedId { id: found.id.clone(), name: found.name.clone() }),
        cluster: clusters.first().filter(|first| Some(&first.ip) == addresses.first()).cloned(),
        clusters,
    }
}

fn config(plan: &Plan, facts: &Facts, ended: EndOf<'_>) -> CloudtowerConfig {
    let (status, error) = ended.told(SUCCESS);
    let facts = clusters(plan).into_iter().filter_map(|ip| facts.config.get(&ip));
    CloudtowerConfig { status, error, operations: facts.flat_map(|fact| fact.operations.clone()).collect() }
}

fn inspection(facts: &Facts, ended: EndOf<'_>) -> CheckClusterHealthy {
    let fact = facts.inspection.clone().unwrap_or_default();
    let (status, error) = ended.told(SUCCESS);
    CheckClusterHealthy {
        status,
        error,
        job_id: Some(fact.id).filter(|id| !id.is_empty()),
        filename: fact.filename,
        path: fact.path,
        cluster_uuid: fact.clusters.first().cloned(),
        cluster_uuids: fact.clusters,
        items: fact.items,
        findings: fact.findings,
        conspicuous: fact.conspicuous,
    }
}

/// The addresses under which the plan's clusters are attached, that of its own cluster first: the VIP, or a host's
/// where there is none.
pub fn clusters(plan: &Plan) -> Vec<String> {
    let own = plan.cluster.vip.or_else(|| plan.hosts.first().map(|host| host.mgmt_ip));
    let mut all: Vec<String> = Vec::new();
    for ip in own.into_iter().chain(plan.deployment.further_clusters.iter().copied()).map(|ip| ip.to_string()) {
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    all
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
