//! The deployment, readable in one screen. The executor, the progress view and the tests read this table.

use gantry_proto::Plan;

use crate::{
    step::Step,
    steps::{
        attach_cluster::AttachCluster, check_cluster_healthy::CheckClusterHealthy, cleanup::Cleanup,
        cloudtower_config::CloudtowerConfig, configure_network::ConfigureNetwork,
        configure_services::ConfigureServices, create_vm::CreateVm, finish::Finish, initial_setup::InitialSetup,
        install::Install, preflight::Preflight, upload_iso::UploadIso, verify_https::VerifyHttps,
        wait_guest_agent::WaitGuestAgent,
    },
};

/// A table of steps, in the order in which they are walked.
pub type Pipeline = &'static [&'static dyn Step];

/// The deployment of a CloudTower (`flow.md` 3).
pub const PIPELINE: Pipeline = &[
    &Preflight,
    &UploadIso,
    &CreateVm,
    &WaitGuestAgent,
    &ConfigureNetwork,
    &Install,
    &VerifyHttps,
    &InitialSetup,
    &ConfigureServices,
    &AttachCluster,
    &CloudtowerConfig,
    &CheckClusterHealthy,
    &Cleanup,
    &Finish,
];

/// The steps of the stages that a plan wants.
pub fn chosen(pipeline: Pipeline, plan: &Plan) -> Vec<&'static dyn Step> {
    let wanted = |step: &&&'static dyn Step| step.stage().is_none_or(|stage| plan.deployment.stages.contains(&stage));
    pipeline.iter().filter(wanted).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_has_an_id_of_its_own_and_a_sane_row() {
        let table: Vec<_> = PIPELINE.iter().map(|step| step.info()).collect();
        let ids: BTreeSet<_> = table.iter().map(|info| info.id.as_str().to_owned()).collect();
        assert_eq!(ids.len(), table.len());
        for info in table {
            assert!(info.attempts >= 1 && !info.title.is_empty() && !info.id.as_str().contains(' '), "{info:?}");
        }
    }
}
