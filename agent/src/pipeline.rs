//! The deployment, readable in one screen. The executor, the progress view and the tests read this table.

use crate::{
    step::Step,
    steps::{
        configure_network::ConfigureNetwork, configure_services::ConfigureServices, create_vm::CreateVm,
        finish::Finish, initial_setup::InitialSetup, install::Install, preflight::Preflight, upload_iso::UploadIso,
        verify_https::VerifyHttps, wait_guest_agent::WaitGuestAgent,
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
    &Finish,
];
